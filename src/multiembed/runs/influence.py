"""How far each row moves AUC and log loss: what their standard errors and intervals come from."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer
from scipy.special import expit, logit, ndtri

from multiembed.runs.metrics import row_losses

Z = float(ndtri(0.975))
"""Standard errors from the middle of a 95% interval to its ends."""


def auc_influence(
    labels: Integer[np.ndarray, " rows"],
    scores: Float[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"] | None = None,
) -> tuple[float, Float64[np.ndarray, " rows"]]:
    """Return the AUC, and what a row more like each would add to it, times the rows there are.

    The mean over rows is 0; the mean square over their number is the variance of the AUC, with
    the structural components of DeLong et al. (Biometrics 1988) times the rows' weights.

    Args:
        labels: 0 or 1, both there.
        scores: Higher where 1 is likelier.
        weights: What every row counts; the same if not given.
    """
    mass = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    positive = labels != 0
    beaten = placements(positive, scores, mass)
    share = mass / np.where(positive, mass[positive].sum(), mass[~positive].sum())
    auc = float((share * beaten)[positive].sum())
    return auc, len(labels) * share * (beaten - auc)


def placements(
    positive: Bool[np.ndarray, " rows"],
    scores: Float[np.ndarray, " rows"],
    mass: Float64[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"]:
    """Return for a positive row the share of negatives below it, for a negative of positives above.

    Ties count half.

    Args:
        positive: Which rows are, some and not all.
        scores: Higher where 1 is likelier.
        mass: What every row counts.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    sums = [np.bincount(place, mass * of, minlength=len(distinct)) for of in (positive, ~positive)]
    up_to = [np.cumsum(of) - of / 2 for of in sums]
    above = 1 - up_to[0] / sums[0].sum()
    return np.where(positive, (up_to[1] / sums[1].sum())[place], above[place])


def log_loss_influence(
    labels: Integer[np.ndarray, " rows"],
    probabilities: Float[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"] | None = None,
) -> tuple[float, Float64[np.ndarray, " rows"]]:
    """Return the log loss, and what a row more like each would add to it, times the rows."""
    losses = row_losses(labels, probabilities)
    mass = np.ones(len(losses)) if weights is None else weights.astype(np.float64)
    share = mass / mass.sum()
    loss = float(share @ losses)
    return loss, len(losses) * share * (losses - loss)


def auc_interval(
    labels: Integer[np.ndarray, " rows"],
    scores: Float[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"] | None = None,
) -> tuple[float, float] | None:
    """Return the 95% interval of the AUC over the draw of the rows, symmetric on its logit.

    None where a class has fewer than two rows, or no pair of rows is ranked otherwise than others.
    """
    positive = labels != 0
    counts = int(positive.sum()), int((~positive).sum())
    if min(counts) < 2:
        return None
    auc, influence = auc_influence(labels, scores, weights)
    parts = zip(counts, (influence[positive], influence[~positive]), strict=True)
    variance = sum(count / (count - 1) * float(of @ of) for count, of in parts) / len(labels) ** 2
    if variance == 0 or not 0 < auc < 1:
        return None
    reach = Z * variance**0.5 / (auc * (1 - auc))
    return float(expit(logit(auc) - reach)), float(expit(logit(auc) + reach))
