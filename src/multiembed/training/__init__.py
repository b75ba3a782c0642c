"""Logits -> a trained run."""
