"""What is put in order before a model is measured: what no step of the training has settled."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiembed.data.store.shards import Batch
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
    counts = table_counts(embedding, row_counts)
    of_tables = zip(embedding.blocks(), embedding.tables(), counts, strict=True)
    for block, rows, of_table in of_tables:  # pretrained vectors add nothing to *other*
        block[0] = row_of_other(rows, of_table)


@torch.no_grad()
def begin_at(model: ClickModel, rate: float) -> None:
    """Let a model whose weights were just drawn predict `rate`: its logit is the head's bias.

    Otherwise the first steps, of rare positives hundreds, bring all predictions down from a half.
    """
    biases = [part for name, part in model.head.named_parameters() if name.endswith("bias")]
    last = [part for part in biases if part.numel() == 1][-1]
    last.fill_(math.log(rate / (1 - rate)))


def table_counts(
    embedding: EmbeddingSets, row_counts: Int[np.ndarray, " rows"]
) -> list[Int[Tensor, " _"]]:
    """Return the counts of every table's rows; fields of numbers have none."""
    counts = torch.from_numpy(row_counts).split(list(embedding.cardinalities))
    kinds = (None,) * len(counts) if embedding.numeric is None else embedding.numeric.kinds
    return [of_field for of_field, kind in zip(counts, kinds, strict=False) if kind is None]


def row_of_other(
    block: Float[Tensor, "rows columns"], counts: Int[Tensor, " rows"]
) -> Float[Tensor, " columns"]:
    """Return what a value that training never saw has in the table of a field.

    Args:
        block: The table.
        counts: How often training had each of its rows.
    """
    of_field = counts.to(block)
    if of_field[0] == 0 and of_field.sum() > 0:
        return (of_field @ block) / of_field.sum()
    return block[0]


@contextmanager
def other_settled(embedding: EmbeddingSets, row_counts: Int[np.ndarray, " rows"]) -> Iterator[None]:
    """Settle *other* as `settle_other` does while a model is measured, and take it back.

    Training goes on as if nobody had measured.
    """
    blocks = embedding.blocks()
    before = [block[0].clone() for block in blocks]
    settle_other(embedding, row_counts)
    yield
    for block, row in zip(blocks, before, strict=True):
        block[0] = row


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
    of_ids = model.embedding.numeric is None
    if of_ids and all(np.count_nonzero(of_field) <= 1 for of_field in counts):
        for part in model.modules():
            if isinstance(vars(part).get("dropout"), float):
                vars(part)["dropout"] = 0.0


@torch.no_grad()
def settle_norms(model: ClickModel, batches: Iterable[Batch]) -> None:
    """Measure the statistics of all batch norms anew where a unit hardly varies between rows.

    DIFFERS: torch leaves the running mean, which lags some ten steps behind the weights. Units
    that read columns of one value have no variance, so what the weights moved since is divided by
    the root of `eps`, 316 times as much: such a model's log loss was 3 to 9 instead of 0.69. Models
    all of whose units vary by more than `eps` are left as they are.

    Args:
        model: Changed in place, and left in training.
        batches: Rows of the training split; the first ones are read.
    """
    norms = [part for part in model.modules() if isinstance(part, SetBatchNorm)]
    if not any(bool((norm.running_var < norm.eps).any()) for norm in norms):
        return
    momenta = [norm.momentum for norm in norms]
    model.train()
    device = model.embedding.limits.device
    for count, batch in enumerate(islice(batches, SETTLING_BATCHES), start=1):
        for norm in norms:
            norm.momentum = 1 / count  # the mean of all batches so far
        rows = (None if of is None else torch.tensor(of, device=device) for of in batch)
        ids, _, _, numbers = rows
        model(ids, numbers)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
