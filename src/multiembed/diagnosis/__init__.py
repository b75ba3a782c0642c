"""Checkpoints -> fields, interaction, sets, and a verdict in words."""
