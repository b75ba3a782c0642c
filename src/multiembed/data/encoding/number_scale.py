"""The scale on which a field's numbers are kept: that of a normal distribution, by training's rows.

A straight line from quantile to quantile turns every number into the place that it has among those
of training: 0 in their middle, 1 and -1 where a normal distribution has its standard deviation.
Rows of one value count as no more than a part in `QUANTILES` of all.
Tails however long, and columns of mostly one value, come out of a size that a network can take.
"""

from statistics import NormalDist

import numpy as np
import polars as pl
from jaxtyping import Float32

from multiembed.data.store.schema import Field, NumberScale

_NORMAL = NormalDist()
_SHARES = np.array([_NORMAL.cdf(level / 8) for level in range(-32, 33)])
"""Where points of the scale are taken: even on it, and so closest where rows are rare."""
_DIGITS = 6
"""Of a level behind the point: float32 has seven in all."""
QUANTILES = 32
"""Into which the rows are cut by their numbers; a value is not more than one of them."""


def evened(counts: pl.DataFrame) -> pl.DataFrame:
    """Return counts by ascending `value`, none of which is more than a part of their sum.

    Of a column that is mostly zero, the other numbers then have their places among themselves:
    nothing is told by cutting one value twice. Missing values are left out.

    Args:
        counts: Columns `value`, a number or null, and `count`.
    """
    present = counts.drop_nulls().group_by("value").agg(pl.col("count").sum()).sort("value")
    if not present.height:
        return present
    falling = np.sort(present["count"].to_numpy().astype(np.float64))[::-1]
    # With the `capped` largest cut down to it, the most is a part of all: the rest has the others.
    capped = np.arange(min(QUANTILES, len(falling)))
    rest = falling.sum() - np.concatenate([[0.0], np.cumsum(falling)])[capped]
    most = rest / (QUANTILES - capped)
    fits = np.flatnonzero(falling[capped] <= most)
    cap = most[fits[0]] if len(fits) else falling[-1]
    return present.with_columns(pl.col("count").cast(pl.Float64).clip(upper_bound=cap))


def scaled(number: NumberScale, counts: pl.DataFrame) -> NumberScale:
    """Return the scale with its points.

    The level of a number is the normal quantile of the share of rows below it, half of those that
    have the number itself among them, as `evened` counts them.

    Args:
        number: Says how the field is embedded.
        counts: Columns `value`, a number or null, and `count`, of the rows that train.
    """
    present = evened(counts)
    if not present.height:
        return number.model_copy(update={"values": (0.0,), "levels": (0.0,)})
    values, rows = present["value"].to_numpy(), present["count"].to_numpy()
    shares = (np.cumsum(rows) - rows / 2) / rows.sum()
    places = np.searchsorted(shares, _SHARES).clip(max=len(values) - 1)
    places = np.unique([0, *places, len(values) - 1])
    levels = (round(_NORMAL.inv_cdf(share), _DIGITS) for share in shares[places].tolist())
    points = {"values": tuple(values[places].tolist()), "levels": tuple(levels)}
    return number.model_copy(update=points)


def on_scale(values: pl.Series, field: Field) -> Float32[np.ndarray, " values"]:
    """Return numbers of a field on its scale, NaN where one is missing."""
    scale = field.number
    assert scale is not None, "only a field that is kept as numbers has a scale"
    numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    levels = np.interp(numbers, scale.values, scale.levels)
    # Of a scale of one point NumPy takes what is missing for that.
    return np.where(np.isnan(numbers), np.nan, levels).astype(np.float32)
