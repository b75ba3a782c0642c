"""Ids -> one logit per row."""
