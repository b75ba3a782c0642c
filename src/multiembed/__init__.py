"""Click-through-rate models that keep getting better as they grow."""
