"""Numbers of the paper's reference code, reproduced by our models.

Each file holds a start, 20 batches and what the reference code made of them, without dropout.
Arrays are compared under the reference's names, through the mapping that reads its checkpoints.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from multiembed.models.click_model import ClickModel
from multiembed.models.reference import ArrayPlace, reference_layout
from multiembed.models.regularizers import penalty
from multiembed.tables.adam import DeferredAdam, DenseAdam

PAIRS = ["dnn", "ipnn", "nfwfm", "xdeepfm", "dcnv2", "finalmlp"]
NAMES = [
    *(f"{name}_{sets}" for name in PAIRS for sets in ("se", "me")),
    "ffm_se",
    "dcnv2_me_shared_interaction",
    "dcnv2_me_aligned_norms",
    "dcnv2_se_unitary_regularised",
    "dcnv2_me_unitary_regularised",
]
PENALTIES = {"aligned_norms": {"aligned_norms": 1.0}, "unitary_regularised": {"unitary": 1e-5}}
"""Weights in the reference code, by the ending of a name."""

RELATIVE = 1e-5
ROUNDING = 2e-7
"""Absolute error allowed beside the relative one: a gradient is a sum of 32 terms in float32."""
NO_GRADIENT = 1e-6
"""A bias that a batch norm takes away again has no gradient; what both codes find is rounding."""
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-6


@dataclass(frozen=True)
class Case:
    """One file, and our model at its start."""

    numbers: dict[str, np.ndarray]
    model: ClickModel
    places: dict[str, ArrayPlace]
    penalties: dict[str, float]

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.model.embedding.weight.device
        ids, labels = (torch.from_numpy(self.numbers[name][step]) for name in ("ids", "labels"))
        return ids.to(device), labels.to(device)

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        found = {k: v for k, v in self.numbers.items() if k.startswith(f"{prefix}/")}
        return {key.removeprefix(f"{prefix}/"): value for key, value in found.items()}

    def without_gradient(self, key: str) -> bool:
        """Whether the reference's gradient of this array is nothing but rounding."""
        return float(np.abs(self.numbers[f"grad/{key}"]).max()) < NO_GRADIENT

    def drift(self, key: str) -> float:
        """Absolute error allowed after all steps.

        Adam scales rounding up to whole steps, in any direction: a bias without a gradient may
        end that far from the reference's, and the running mean that follows it as well.
        """
        bias = re.sub(r"(\d+)\.running_mean$", lambda m: f"{int(m[1]) - 1}.bias", key)
        if f"grad/{bias}" in self.numbers and self.without_gradient(bias):
            return 2 * LEARNING_RATE * len(self.numbers["ids"])
        return ROUNDING

    def ours(self, key: str, tensors: dict[str, torch.Tensor]) -> np.ndarray:
        part = self.places[key].part(tensors)
        return part.detach().cpu().numpy().reshape(self.numbers[f"start/{key}"].shape)


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=NAMES)
def case(golden: Path, device: str, request: pytest.FixtureRequest) -> Case:
    with np.load(golden / f"{request.param}.npz") as file:
        numbers = dict(file)
    start = {k.removeprefix("start/"): v for k, v in numbers.items() if k.startswith("start/")}
    sizes = json.loads((golden / "index.json").read_text())["field_cardinalities"]
    model, places = reference_layout(request.param, start, sizes)
    penalties = [w for ending, w in PENALTIES.items() if request.param.endswith(ending)]
    return Case(numbers, model.to(device), places, penalties[0] if penalties else {})


def torch_adam(model: ClickModel) -> "Training":
    """Train tables and everything else by one dense Adam of torch."""
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return Training(model.embedding, adam.zero_grad, adam.step)


def dense_adam_tables(model: ClickModel) -> "Training":
    """Train tables by the dense `TableOptimizer`, the rest by torch."""
    return beside_torch(DenseAdam, model)


def deferred_adam_tables(model: ClickModel) -> "Training":
    """Train tables as `train` does by default, the rest by torch."""
    return beside_torch(DeferredAdam, model)


def beside_torch(kind: type[DenseAdam | DeferredAdam], model: ClickModel) -> "Training":
    tables = kind(model.embedding, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rest = [p for p in model.parameters() if p is not model.embedding.weight]
    adam = torch.optim.Adam(rest, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step() -> None:
        adam.step()
        tables.step()

    return Training(tables.lookup, adam.zero_grad, step, tables.flush)


@dataclass(frozen=True)
class Training:
    """How one way of training looks rows up and makes a step."""

    lookup: Callable[[torch.Tensor], torch.Tensor]
    zero_grad: Callable[[], None]
    step: Callable[[], None]
    flush: Callable[[], None] = lambda: None


def test_probabilities_in_evaluation_are_the_reference_s(case: Case):
    ids, _ = case.batch(0)

    probabilities = case.model.eval()(ids).sigmoid()

    expected = case.numbers["eval_probability"]
    np.testing.assert_allclose(probabilities.detach().cpu(), expected, rtol=RELATIVE)


def test_one_step_in_training_gives_the_reference_s_loss_and_gradients(case: Case):
    ids, labels = case.batch(0)
    model = case.model.train()

    embeddings = model.embedding(ids)
    logits = model.score(embeddings)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels)
    regularisation = penalty(model, embeddings, case.penalties)
    (cross_entropy + regularisation).backward()

    numbers = case.numbers
    np.testing.assert_allclose(
        logits.sigmoid().detach().cpu(), numbers["train_probability"], rtol=RELATIVE
    )
    np.testing.assert_allclose(cross_entropy.item(), numbers["train_bce"], rtol=RELATIVE)
    np.testing.assert_allclose(
        regularisation.item(), numbers["train_regularisation"], rtol=RELATIVE
    )
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for key, expected in case.under("grad").items():
        np.testing.assert_allclose(
            case.ours(key, gradients), expected, rtol=RELATIVE, atol=ROUNDING, err_msg=key
        )


@pytest.mark.parametrize("train", [torch_adam, dense_adam_tables, deferred_adam_tables])
def test_twenty_steps_of_adam_end_where_the_reference_s_do(case: Case, train):
    training = train(case.model.train())
    losses = []

    for step in range(len(case.numbers["ids"])):
        ids, labels = case.batch(step)
        training.zero_grad()
        embeddings = training.lookup(ids)
        loss = F.binary_cross_entropy_with_logits(case.model.score(embeddings), labels)
        loss = loss + penalty(case.model, embeddings, case.penalties)
        loss.backward()
        training.step()
        losses.append(loss.item())
    training.flush()

    np.testing.assert_allclose(losses, case.numbers["adam_losses"], rtol=RELATIVE)
    state = case.model.state_dict()
    for key, expected in case.under("end").items():
        if key.endswith("num_batches_tracked"):
            continue
        np.testing.assert_allclose(
            case.ours(key, state), expected, rtol=RELATIVE, atol=case.drift(key), err_msg=key
        )
