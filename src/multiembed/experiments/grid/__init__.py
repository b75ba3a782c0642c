"""A grid of runs: written out, run, measured."""
