"""Collapse watched during training: measures of every table, and a warning where it sets in."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from multiembed.models.embedding import EmbeddingSets
from multiembed.runs.directory import RunDirectory
from multiembed.spectra.catalogue import TableMeasures, TableSpectra, mean_measures, measures_of
from multiembed.spectra.summary import Summary
from multiembed.training.progress import Observer, TrainingState
from multiembed.training.trackers import Tracking

FALLS = 3
"""Observations in a row, each below the one before, that make a fall."""

FALL_SHARE = 0.2
"""Share of the abundance that a fall loses before it is worth a word, and every further word.

Learning itself orders a table: models of the paper's base size, which are healthy at the end,
lost up to 16% in a fall on flight records.
"""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What every field measures at one step of training, all sets side by side."""

    step: int
    fields: dict[str, TableMeasures]

    @property
    def mean(self) -> TableMeasures:
        """The average over fields, as in the paper's Table 2."""
        return TableMeasures(measures=mean_measures([*self.fields.values()], "training"))

    def record(self) -> dict[str, object]:
        """Return everything as one line of `collapse.jsonl`."""
        fields = {name: field.measures for name, field in self.fields.items()}
        return {"step": self.step, "mean": self.mean.measures, "fields": fields}

    def metrics(self) -> dict[str, float]:
        """Return everything under flat names, as trackers want it."""
        return {
            f"{measure}/{name}": value
            for name, field in self.fields.items()
            for measure, value in field.measures.items()
        }


class Monitor:
    """Measures the tables of a training, and tells everybody who should know.

    It draws no random numbers and changes nothing, so that training is the same without it.

    Args:
        directory: Gets one line of `collapse.jsonl` per observation.
        names: Of the fields.
        tracking: Hears of every number.
        observer: Hears of warnings.
    """

    def __init__(
        self,
        directory: RunDirectory,
        names: Sequence[str],
        tracking: Tracking,
        observer: Observer | None,
    ) -> None:
        self.directory = directory
        self.names = names
        self.tracking = tracking
        self.observer = observer

    def observe(self, embedding: EmbeddingSets, state: TrainingState) -> Observation:
        """Measure the tables as they are; of two observations at one step, the first counts."""
        observation = observe(embedding, self.names, step=state.step)
        if state.step == state.observed_step:
            return observation
        state.observed_step = state.step
        state.abundances.append(observation.mean.centered_information_abundance)
        self.directory.append_observation(observation.record())
        self.tracking.log(observation.metrics(), step=state.step)
        warning = collapse_warning(state.abundances)
        if warning is not None and self.observer is not None:
            self.observer.warned(warning)
        return observation


def observe(embedding: EmbeddingSets, names: Sequence[str], *, step: int) -> Observation:
    """Measure the tables of all fields, which are called `names`, in one pass over their rows.

    First-order weights, which some architectures keep beside an embedding, are left out.
    """
    tables = zip(names, embedding.by_field(), strict=True)
    return Observation(
        step=step,
        fields={
            name: _measured(name, embedding.row.embeddings(block, embedding.sets))
            for name, block in tables
        },
    )


def collapse_warning(history: Sequence[float]) -> str | None:
    """Say that collapse may be setting in, if the last of all observations makes it look so.

    The rule: `FALLS` observations in a row or more fell, and with the last of them the loss
    since before the first reached `FALL_SHARE`, or twice that, three times, and so on.

    Args:
        history: Of every observation, the centred abundance averaged over fields. A common mean,
            which a bias absorbs, does not move it; and what a random table would have depends
            on the tables' shapes alone, so that no fall is the shape's.
    """
    top = len(history) - 1
    while top > 0 and history[top - 1] > history[top]:
        top -= 1
    falls = len(history) - 1 - top
    if falls < FALLS:
        return None
    before, now = (int((1 - value / history[top]) / FALL_SHARE) for value in history[-2:])
    if now == (before if falls > FALLS else 0):
        return None
    return (
        f"centred abundance fell {falls} observations in a row, from {history[top]:.2f} to "
        f"{history[-1]:.2f} on average over fields: embeddings may be collapsing; see "
        "collapse.jsonl"
    )


def _measured(name: str, table: Float[Tensor, "rows columns"]) -> TableMeasures:
    spectra = TableSpectra.of(Summary.of(table, name=f"table '{name}'"))
    return TableMeasures(measures=measures_of(spectra, "training"))
