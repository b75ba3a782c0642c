"""Fast forms for a GPU, in Triton."""
