"""Planted click data and contracts, for tests of this library and of what others add to it."""
