"""Raw rows, block by block, from whatever they lie in."""
