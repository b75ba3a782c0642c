"""Raw logs -> an encoded dataset on disk -> batches."""
