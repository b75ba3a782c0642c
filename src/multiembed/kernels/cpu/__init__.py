"""Fast forms for a CPU: compiled loops and oneDNN."""
