"""Ids to probabilities, a few hundred rows at a time on every thread."""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor

from multiembed.data.store.shards import Batch
from multiembed.models.click_model import ClickModel

EVALUATION_BATCH = 8192
ROWS_TOGETHER = 64
"""Rows are scored in multiples of this. Vectorised code may round its last few rows otherwise than
the rest; with rows of padding behind them, a row's score does not depend on how many follow."""
ROWS_IN_CACHE = 512
"""Rows that one thread of a CPU scores at once: few enough for all activations to stay in cache
(1.5 times as fast as a whole batch), many enough for fast products."""


def predict_batches(
    model: ClickModel, batches: Iterable[Batch], *, negative_rate: float = 1.0
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Return the labels and predicted probabilities of all rows, in order.

    The probabilities do not depend on the number of threads.

    Args:
        model: Put into evaluation, and left so.
        batches: Of any sizes.
        negative_rate: Share r of the negatives that the model was trained on. It sees odds 1/r
            too high: its logits get `log r`.
    """
    model.eval()
    shift = math.log(negative_rate)
    labels, probabilities = [], []
    with _scoring_threads() as pool:
        for batch in batches:
            labels.append(np.asarray(batch.labels, dtype=np.int64))
            probabilities.append(_probabilities(model, batch, shift, pool))
    if not labels:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    return np.concatenate(labels), np.concatenate(probabilities)


def predict_ids(
    model: ClickModel,
    ids: Int[np.ndarray, "rows fields"],
    numbers: Float32[np.ndarray, "rows numbers"] | None = None,
    *,
    negative_rate: float = 1.0,
) -> Float[np.ndarray, " rows"]:
    """Return the predicted probabilities of rows of ids, and of numbers where they have such."""
    rows = Batch(ids, np.zeros(len(ids), dtype=np.uint8), numbers=numbers)
    batches = (
        rows.map(lambda column, at=at: column[at : at + EVALUATION_BATCH])
        for at in range(0, len(ids), EVALUATION_BATCH)
    )
    return predict_batches(model, batches, negative_rate=negative_rate)[1]


@contextmanager
def _scoring_threads() -> Iterator[ThreadPoolExecutor]:
    """Lend as many threads as torch would use, each of which works alone.

    Torch's own threads share every single product and wait for each other by spinning: on a
    machine with other work, two of them were ten times slower than one.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        # Threads that start later would take the number that was set last.
        torch.set_num_threads(threads)


def _probabilities(
    model: ClickModel, batch: Batch, shift: float, pool: ThreadPoolExecutor
) -> Float[np.ndarray, " rows"]:
    """Score one batch; `shift` is added to its logits."""
    short = -len(batch.ids) % ROWS_TOGETHER
    device = model.embedding.limits.device

    def whole(part: Shaped[np.ndarray, "rows columns"]) -> Tensor:
        # Torch warns of arrays that cannot be written, as mapped files' are: they are copied.
        padded = np.pad(part, ((0, short), (0, 0))) if short else np.require(part, requirements="W")
        return torch.from_numpy(padded).to(device)

    @torch.inference_mode()
    def score(*part: Shaped[Tensor, "part _"]) -> Float[Tensor, " part"]:
        return torch.sigmoid(model(*part) + shift)

    rows = [whole(part) for part in (batch.ids, batch.numbers) if part is not None]
    if device.type == "cpu":
        parts = (part.split(ROWS_IN_CACHE) for part in rows)
        scores = torch.cat(list(pool.map(score, *parts)))
    else:
        scores = score(*rows)
    return scores[: len(batch.ids)].cpu().numpy()
