"""Updates of embedding tables."""
