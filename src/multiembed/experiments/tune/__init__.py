"""A recipe's settings varied, trial by trial, for the best of them on the validation split."""
