"""What updates embedding tables."""
