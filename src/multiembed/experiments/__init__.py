"""Runs -> tables, figures and plain sentences."""
