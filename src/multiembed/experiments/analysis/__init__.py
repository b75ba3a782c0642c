"""What runs show: curves, laws, comparisons, advice."""
