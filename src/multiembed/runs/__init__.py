"""A run directory: its files, its model, its probabilities, its quality."""
