"""One training step: rows of a batch, lookup, loss, gradients, updates; replayed on a GPU."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from multiembed.base.devices import has_bfloat16_products
from multiembed.base.errors import ConfigError
from multiembed.config import Precision, TrainingConfig
from multiembed.data.store.dataset import Split
from multiembed.data.store.shards import Batch
from multiembed.models.click_model import ClickModel, rounds_embeddings_first
from multiembed.models.regularizers import SPECTRAL, penalty
from multiembed.tables.adam import Adam
from multiembed.tables.table_optimizers import TABLE_OPTIMIZERS

EAGER_STEPS = 3
"""Steps before one is recorded: what happens at first sight only must not become part of it."""
SHARE = 0.25
"""Most of the free memory of a GPU that rows may take; the rest is a model's."""
ROWS_PER_COPY = 1 << 18


class ResidentBatch(NamedTuple):
    """Rows on a device."""

    ids: Int[Tensor, "batch columns"]
    labels: UInt8[Tensor, " batch"]
    weights: Float[Tensor, " batch"] | None = None
    numbers: Float[Tensor, "batch numbers"] | None = None


class ResidentRows:
    """A split that was copied to a device, batch by batch in the order of `Split.batches`."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._split = split
        self._device = device
        parts = [
            split.take(np.arange(start, min(start + ROWS_PER_COPY, split.rows)))
            for start in range(0, split.rows, ROWS_PER_COPY)
        ]
        self._columns = [
            None if of[0] is None else torch.cat([torch.from_numpy(c).to(device) for c in of])
            for of in zip(*parts, strict=True)
        ]

    def batches(
        self, size: int, *, seed: int | None = None, epoch: int = 0, start: int = 0
    ) -> Iterator[ResidentBatch]:
        """Yield what `Split.batches` yields."""
        rows = self._split.rows
        order = np.arange(rows) if seed is None else self._split.order(seed, epoch)
        places = torch.from_numpy(order.astype(np.int64)).to(self._device)
        for first in range(start * size, rows, size):
            batch = places[first : first + size]
            yield ResidentBatch._make(None if of is None else of[batch] for of in self._columns)


def resident(split: Split, device: torch.device) -> Split | ResidentRows:
    """Return a split's rows where a device finds them soonest."""
    if device.type != "cuda":
        return split
    row = split.take(np.arange(1))
    bytes_of_row = sum(column.nbytes for column in row if column is not None) + 8  # and its place
    free, _ = torch.cuda.mem_get_info(device)
    return ResidentRows(split, device) if split.rows * bytes_of_row <= SHARE * free else split


class TrainingStep:
    """What a batch does to a model, whose optimizers it holds.

    On a GPU whole batches replay a CUDA graph: a few hundred kernels for the price of one launch.
    """

    def __init__(
        self,
        model: ClickModel,
        training: TrainingConfig,
        device: torch.device,
        *,
        mean_weight: float = 1.0,
    ) -> None:
        self.model = model
        self.mean_weight = mean_weight
        """Of all rows that train: only the ratios of weights count."""
        self.training = training
        self.device = device
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        """Of all steps since somebody set it to zero."""
        table = model.embedding.weight
        decay = training.embedding_weight_decay
        # Tables without a row, where all fields are numbers, are no optimizer's but plain torch's.
        optimizer = training.table_optimizer if len(table) else "dense_adam"
        self.tables = TABLE_OPTIMIZERS[optimizer](
            model.embedding,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay if decay is None else decay,
        )
        self.adam = Adam(
            {name: p for name, p in model.named_parameters() if p is not table},
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
        )
        self._graph_update = self.tables.graph_update
        rounds = training.precision == "bfloat16" and rounds_embeddings_first(model)
        if self._graph_update is not None and rounds and not training.regularizers:
            self._graph_update.lookup_dtype = torch.bfloat16
        # A regularizer that computes singular values waits for the device.
        spectral = SPECTRAL.intersection(training.regularizers)
        self._recordable = device.type == "cuda" and not spectral
        self._eager = 0
        self._recorded: RecordedStep | None = None

    def __call__(self, batch: Batch | ResidentBatch, learning_rate: float) -> None:
        """Train on a batch."""
        self.tables.learning_rate = self.adam.learning_rate = learning_rate
        if self._graph_update is not None:
            self._graph_update.begin_step(learning_rate)
        rows = ResidentBatch._make(None if of is None else self._on_device(of) for of in batch)
        recorded = self._recording(rows)
        if recorded is None:
            self._compute(rows)
        else:
            recorded.replay(rows)

    def _compute(self, rows: ResidentBatch) -> None:
        embedding = self.model.embedding
        found = self.tables.lookup(embedding.looked_up(rows.ids))
        embeddings = embedding.complete(found, rows.numbers)
        loss = self.loss(embeddings, rows.labels.float(), rows.weights)
        loss.backward()
        if self.training.gradient_clip is not None:
            self._clip(self.training.gradient_clip)
        self.tables.step()
        self.adam.step()
        self.loss_sum += loss.detach()

    def loss(
        self,
        embeddings: Float[Tensor, "batch sets fields dim"],
        labels: Float[Tensor, " batch"],
        weights: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy, of rows that count `weights`, and what the regularizers add.

        Weighted rows are summed and divided by their number, not by their weights: so the mean of
        the batches' gradients is that of all rows.
        """
        with products_in(self.training.precision, self.device):
            logits = self.model.score(embeddings)
        weights = None if weights is None else weights / self.mean_weight
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels, weights)
        if self.training.regularizers:
            loss = loss + penalty(self.model, embeddings, self.training.regularizers)
        return loss

    def _clip(self, limit: float) -> None:
        """Scale all gradients so that their common norm is at most `limit`."""
        gradients = self.adam.gradients() + self.tables.gradients()
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)

    def _on_device(self, part: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]) -> Tensor:
        if isinstance(part, Tensor):
            return part
        tensor = torch.from_numpy(part)
        if self.device.type == "cuda":
            # From pinned memory it is copied while the device computes the step before.
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _recording(self, rows: ResidentBatch) -> "RecordedStep | None":
        """Return the step that was recorded for such a batch, if there is or can be one."""
        update = self._graph_update
        # The last batch of an epoch is shorter, and so are thinned ones.
        if update is None or not self._recordable or len(rows.ids) != self.training.batch_size:
            return None
        if self._recorded is not None and self._recorded.address != update.address:
            self._recorded = None
        if self._recorded is None:
            self._eager += 1
            if self._eager <= EAGER_STEPS:
                return None
            self._recorded = RecordedStep(self._compute, rows, update.address)
        return self._recorded


class RecordedStep:
    """A CUDA graph of a step, and the memory that it reads a batch from."""

    def __init__(
        self,
        compute: Callable[[ResidentBatch], None],
        rows: ResidentBatch,
        address: int,
    ) -> None:
        self.address = address
        """Where tables kept what the graph reads."""
        self._rows = ResidentBatch._make(None if of is None else of.clone() for of in rows)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            compute(self._rows)

    def replay(self, rows: ResidentBatch) -> None:
        """Take the step with another batch."""
        for kept, given in zip(self._rows, rows, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)
        self._graph.replay()


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse products that the device could only emulate, slower than in float32.

    Raises:
        ConfigError: If `precision` is bfloat16 and the device has no bfloat16 products.
    """
    if precision == "bfloat16" and not has_bfloat16_products(device):
        raise ConfigError(
            f"training.precision must be float32 on this {device.type}, which has no bfloat16 "
            "products, got bfloat16"
        )


def products_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Return a context in which products are computed in this precision.

    Parameters, tables, batch norms, losses, gradients of parameters and their updates stay
    float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
