"""What is put in order before a model is measured: what no step of the training has settled."""

import itertools
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int

from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.layers import SetBatchNorm

SETTLING_BATCHES = 32
"""Batches whose mean is taken where running statistics will not do."""


@torch.no_grad()
def settle_other(embedding: EmbeddingSets, row_counts: Int[np.ndarray, " rows"]) -> None:
    """Give *other* the count-weighted mean of its field, where no training row falls into it.

    A value first seen when the model serves then meets an average, not random numbers. Training
    is unaffected: no training row reads these rows.

    Args:
        embedding: Changed in place.
        row_counts: What `count_rows` gives of the training split.
    """
    counts = torch.from_numpy(row_counts)
    starts = itertools.accumulate(embedding.cardinalities, initial=0)
    for block, start in zip(embedding.by_field(), starts, strict=False):
        of_field = counts[start : start + len(block)].to(block)
        if of_field[0] == 0 and of_field.sum() > 0:
            block[0] = (of_field @ block) / of_field.sum()


def spare_dropout(
    model: ClickModel, cardinalities: Sequence[int], row_counts: Int[np.ndarray, " rows"]
) -> None:
    """Switch dropout off where all training rows are the same.

    DIFFERS: a batch norm would scale the noise of dropout up to the only variance there is, and
    the model learn its bias by that noise, which is gone when it serves.

    Args:
        model: Changed in place.
        cardinalities: Number of ids of every field.
        row_counts: How often training has each of them.
    """
    counts = np.split(row_counts, np.cumsum(cardinalities)[:-1])
    if all(np.count_nonzero(of_field) <= 1 for of_field in counts):
        for part in model.modules():
            if isinstance(vars(part).get("dropout"), float):
                vars(part)["dropout"] = 0.0


@torch.no_grad()
def settle_norms(model: ClickModel, batches: Iterable[Int[np.ndarray, "batch columns"]]) -> None:
    """Measure the statistics of all batch norms anew where a unit hardly varies between rows.

    DIFFERS: torch leaves the running mean, which lags some ten steps behind the weights. Units
    that read columns of one value have no variance, so what the weights moved since is divided by
    the root of `eps`, 316 times as much: such a model's log loss was 3 to 9 instead of 0.69. Models
    all of whose units vary by more than `eps` are left as they are.

    Args:
        model: Changed in place, and left in training.
        batches: Rows of ids of the training split; the first ones are read.
    """
    norms = [part for part in model.modules() if isinstance(part, SetBatchNorm)]
    if not any(bool((norm.running_var < norm.eps).any()) for norm in norms):
        return
    momenta = [norm.momentum for norm in norms]
    model.train()
    for count, ids in enumerate(islice(batches, SETTLING_BATCHES), start=1):
        for norm in norms:
            norm.momentum = 1 / count  # the mean of all batches so far
        model(torch.from_numpy(np.array(ids)).to(model.embedding.limits.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
