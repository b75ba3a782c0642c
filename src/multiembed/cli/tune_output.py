"""What `tune` prints: a line for each trial, and the best settings beside the recipe's."""

from collections.abc import Callable, Mapping
from functools import partial

from rich.table import Table

from multiembed.base.errors import ConfigError
from multiembed.cli.console import Watcher, err, out, table_of
from multiembed.experiments.grid.pool import Jobs
from multiembed.experiments.tune.trials import Slot, TrialRecord
from multiembed.experiments.tune.tuned import Tuning
from multiembed.experiments.tune.tuning_page import setting_rows
from multiembed.training.progress import TrainingProgress


class TuneWatcher:
    """Prints a line for each trial, and draws a bar of them where there is a terminal."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._ended = 0  # several may have ended before the first of them is heard of

    def moved(self, tuning: Tuning, running: Mapping[str, TrainingProgress | None]) -> None:
        """Show what runs."""
        far = [f"epoch {progress.epoch}" for progress in running.values() if progress]
        self._watcher.advance("trials", self._ended, tuning.asked, ", ".join(far))

    def ended(self, tuning: Tuning, record: TrialRecord) -> None:
        """Say how a trial ended."""
        value = "" if record.value is None else f"  {tuning.measure} {record.value:.5f}"
        best = tuning.best
        so_far = "" if best is None else f"  best {best.value:.5f} (trial {best.number})"
        what = "" if record.state == "complete" else f"  {record.state}"
        seconds = "" if record.seconds is None else f"  {record.seconds:.1f} s"
        why = f": {record.reason}" if record.reason else ""
        self._ended += 1
        at = f"[{self._ended}/{tuning.asked}] trial {record.number}"
        err.print(f"{at}{value}{what}{so_far}{seconds}{why}", soft_wrap=True)
        self.moved(tuning, {})

    def found(self, tuning: Tuning) -> None:
        """Say how many trials are there."""
        self._ended = len(tuning.counted)
        err.print(f"{len(tuning.counted)} of {tuning.asked} trials are there")


def on_ray(address: str | None) -> Callable[[Jobs[Slot]], None] | None:
    """Return what brings trials to their end on the Ray cluster at an address, if one is given."""
    if address is None:
        return None
    try:
        from multiembed.cluster.ray_grid import run_on_ray
    except ImportError:
        raise ConfigError("ray must be installed: pip install 'multiembed[cluster]'") from None
    return partial(run_on_ray, address=address)


def show_tuning(tuning: Tuning) -> None:
    """Print what was found and where it lies."""
    name, best, recipe = tuning.measure, tuning.best or tuning.recipe, tuning.recipe
    out.print(_settings_table(tuning))
    beside = "" if recipe.value is None else f"; by the recipe {recipe.value:.5f}"
    out.print(f"best on validation: {name} {best.value:.5f} (trial {best.number}){beside}")
    out.print(f"its run: {tuning.run_path}", soft_wrap=True)
    out.print(
        f"{tuning.folder}/best.toml trains it again (train --config); report.html shows all",
        soft_wrap=True,
    )


def _settings_table(tuning: Tuning) -> Table:
    """Return one line per setting that was varied, those first that mattered most."""
    table = table_of(("setting",), ("recipe", "best", "matters"), open_=True)
    for row in setting_rows(tuning):
        table.add_row(*row)
    return table
