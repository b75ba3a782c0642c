"""Ids -> one logit per row; every tensor carries a `sets` axis."""
