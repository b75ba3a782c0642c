"""The only rooms that know of more than one machine."""
