"""Tables -> singular values -> measures."""
