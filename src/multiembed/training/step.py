"""One training step: lookup, loss, gradients, updates; recorded once and replayed on a GPU."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from multiembed.config import TrainingConfig
from multiembed.data.store.dataset import Batch
from multiembed.models.click_model import ClickModel
from multiembed.models.regularizers import SPECTRAL, penalty
from multiembed.tables.fused_adam import Adam
from multiembed.tables.table_optimizers import table_optimizer
from multiembed.training.precision import products_in
from multiembed.training.resident import ResidentBatch

EAGER_STEPS = 3
"""Steps before one is recorded: what happens at first sight only must not become part of it."""


class TrainingStep:
    """What a batch does to a model, whose optimizers it holds.

    On a GPU whole batches replay a CUDA graph: a few hundred kernels for the price of one launch.
    """

    def __init__(self, model: ClickModel, training: TrainingConfig, device: torch.device) -> None:
        self.model = model
        self.training = training
        self.device = device
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        """Of all steps since somebody set it to zero."""
        table = model.embedding.weight
        decay = training.embedding_weight_decay
        self.tables = table_optimizer(
            training.table_optimizer,
            model.embedding,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay if decay is None else decay,
        )
        self.adam = Adam(
            {name: p for name, p in model.named_parameters() if p is not table},
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
        )
        if training.precision == "bfloat16" and model.rounds and not training.regularizers:
            self.tables.lookup_dtype = torch.bfloat16
        spectral = SPECTRAL.intersection(training.regularizers)
        self._recordable = device.type == "cuda" and self.tables.recordable and not spectral
        self._eager = 0
        self._recorded: RecordedStep | None = None

    def __call__(self, batch: Batch | ResidentBatch, learning_rate: float) -> None:
        """Train on a batch."""
        self.tables.learning_rate = self.adam.learning_rate = learning_rate
        self.tables.begin_step()
        ids, labels = self._on_device(batch.ids), self._on_device(batch.labels)
        recorded = self._recording(ids, labels)
        if recorded is None:
            self._compute(ids, labels)
        else:
            recorded.replay(ids, labels)

    def _compute(
        self, ids: Integer[Tensor, "batch columns"], labels: Integer[Tensor, " batch"]
    ) -> None:
        loss = self.loss(self.tables.lookup(ids), labels.float())
        loss.backward()
        if self.training.gradient_clip is not None:
            self._clip(self.training.gradient_clip)
        self.tables.step()
        self.adam.step()
        self.loss_sum += loss.detach()

    def loss(
        self, embeddings: Float[Tensor, "batch sets fields dim"], labels: Float[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy, and what the regularizers add."""
        with products_in(self.training.precision, self.device):
            logits = self.model.score(embeddings)
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
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

    def _on_device(self, part: Integer[np.ndarray, "..."] | Integer[Tensor, "..."]) -> Tensor:
        if isinstance(part, Tensor):
            return part
        tensor = torch.from_numpy(part)
        if self.device.type == "cuda":
            # From pinned memory it is copied while the device computes the step before.
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _recording(
        self, ids: Integer[Tensor, "batch columns"], labels: Integer[Tensor, " batch"]
    ) -> "RecordedStep | None":
        """Return the step that was recorded for such a batch, if there is or can be one."""
        if not self._recordable or len(ids) != self.training.batch_size:
            return None  # the last of an epoch is shorter, and so are thinned ones
        if self._recorded is not None and self._recorded.memory != self.tables.memory:
            self._recorded = None
        if self._recorded is None:
            self._eager += 1
            if self._eager <= EAGER_STEPS:
                return None
            self._recorded = RecordedStep(self._compute, ids, labels, self.tables.memory)
        return self._recorded


class RecordedStep:
    """A CUDA graph of a step, and the memory that it reads a batch from."""

    def __init__(
        self,
        compute: Callable[[Tensor, Tensor], None],
        ids: Integer[Tensor, "batch columns"],
        labels: Integer[Tensor, " batch"],
        memory: int,
    ) -> None:
        self.memory = memory
        """Where tables kept what the graph reads."""
        self._ids, self._labels = ids.clone(), labels.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            compute(self._ids, self._labels)

    def replay(
        self, ids: Integer[Tensor, "batch columns"], labels: Integer[Tensor, " batch"]
    ) -> None:
        """Take the step with another batch."""
        self._ids.copy_(ids)
        self._labels.copy_(labels)
        self._graph.replay()
