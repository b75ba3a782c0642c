"""Raw values -> ids, in stages that can be interrupted."""
