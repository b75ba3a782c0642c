"""Fits contenders and trains our recipes on the same rows, whatever befalls one; keeps each."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import ValidationError

from multiembed.base.errors import ConfigError, DataError, WriteError
from multiembed.base.files import make_folder, read_small, write_text, write_whole
from multiembed.base.validation import known_name
from multiembed.config import RecipeName, RunConfig
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.experiments.compare.compare_page import compare_page
from multiembed.experiments.compare.comparison import Comparison, compared
from multiembed.experiments.compare.contender_columns import Columns
from multiembed.experiments.compare.contenders import CONTENDERS, Contender, Fitted, Task
from multiembed.experiments.compare.fits import Result
from multiembed.experiments.grid.dataset_views import identity
from multiembed.experiments.grid.grid import RunLabels, case_of, seeded
from multiembed.experiments.grid.outcome import (
    CONTENDERS_FOLDER,
    experiment_in,
    is_finished,
)
from multiembed.experiments.grid.pool import FAILURES, one_line
from multiembed.runs.building import check_trainable
from multiembed.runs.given_config import configured
from multiembed.runs.metrics import log_loss
from multiembed.runs.recipe import RECIPES, recipe_table
from multiembed.runs.run import Run
from multiembed.training.progress import StageObserver
from multiembed.training.start import train

OURS = "multiembed"
"""What `only` calls our recipes together."""
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""What packages are called where they are installed from, if not as they are imported."""


@runtime_checkable
class CompareObserver(StageObserver, Protocol):
    """Whoever watches a comparison."""

    def ended(self, title: str, result: Result | str) -> None:
        """Hear of a contender that was fitted, or why it was not."""


@dataclass(frozen=True)
class _Entrant:
    """One fit to be had."""

    result: Result
    """What is known of it beforehand; its seconds are those of the fit alone."""
    name: str
    """Of its files: readable, and different where anything differs that it comes from."""
    fit: Callable[[], tuple[Fitted, float]]
    """Returns, beside what was fitted, seconds spent on it in earlier calls."""


def compare(
    dataset: Dataset | Path | str,
    out: Path | str,
    *,
    only: Sequence[str] = (),
    recipes: Sequence[str] = (),
    assignments: Sequence[str] = (),
    seeds: int = 1,
    observer: CompareObserver | None = None,
) -> Comparison:
    """Fit the base rate, logistic regression, LightGBM and CatBoost beside our recipes.

    All get the same rows and the same threads, stop or choose by the validation split, and are
    judged on the test split. What an earlier call finished is reused.

    Args:
        dataset: An encoded dataset.
        out: Directory to write: our runs, the probabilities of all for the test rows,
            `results.json` and `report.html`.
        only: Names of contenders, `multiembed` for our recipes; all by default.
        recipes: Which of ours; all by default.
        assignments: `training.max_epochs=5` and the like, for all of ours.
        seeds: Trainings of each that draws anything, with seeds 0, 1, …
        observer: Told of every contender and its progress.

    Raises:
        ConfigError: If a name is unknown, a package is not installed, our configuration
            contradicts itself, or `out` is another's.
        DataError: If the dataset cannot be read, a split has rows of one class, or nobody could
            be fitted.

    Example:
        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("clicks", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> found = me.compare("clicks", "compared", only=["base_rate", "logistic_regression"])
        >>> [(one.name, round(one.auc, 1)) for one in found.standings]
        [('base_rate', 0.5), ('logistic_regression', 0.7)]
    """
    opened = open_dataset(dataset)
    folder = Path(out)
    everybody = [*CONTENDERS, OURS]
    names = [known_name(of, everybody, subject="contender") for of in only or everybody]
    if (recipes or assignments) and OURS not in names:
        raise ConfigError(f"recipes and --set must stand with {OURS}, got only {', '.join(names)}")
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    _import_packages(names)
    configs = _configs(opened, folder, recipes or RECIPES, assignments) if OURS in names else {}
    threads = next((of.training.threads for of in configs.values()), None)
    columns, threads = Columns(opened), threads or torch.get_num_threads()
    entrants = [
        *_others([of for of in everybody if of in names], columns, seeds, threads, observer),
        *_ours(configs, opened, folder, seeds, threads, observer),
    ]
    with experiment_in(folder, CONTENDERS_FOLDER):
        found, failures = _all_had(entrants, columns, folder, observer)
        comparison = compared(found, opened, columns, threads=threads, failures=failures)
        _write(comparison, folder)
    return comparison


def _write(comparison: Comparison, folder: Path) -> None:
    write_text(folder / "results.json", json.dumps(comparison.to_dict(), indent=1) + "\n")
    write_text(folder / "report.html", compare_page(comparison))


def _import_packages(names: Sequence[str]) -> None:
    """Import what contenders need: before any work, and before anybody's seconds are counted."""
    for name in names:
        for package in CONTENDERS[name].packages if name != OURS else ():
            try:
                import_module(package)
            except (ImportError, OSError):  # it is not there, or a library below it is not
                raise ConfigError(
                    f"contender {name} needs the package {_distribution(package)}: "
                    "pip install 'multiembed[compare]'"
                ) from None


def _configs(
    dataset: Dataset, folder: Path, recipes: Sequence[str], assignments: Sequence[str]
) -> dict[RecipeName, RunConfig]:
    """Return what every recipe says of these rows, all of which can be trained."""
    found = {}
    for name in dict.fromkeys(recipes):
        table = recipe_table(name, dataset.schema)
        config = configured(None, assignments, {}, base=table).resolved()
        if config.dataset is not None:
            raise ConfigError("--set dataset must be left out, got one: DATASET says it")
        check_trainable(config, dataset.schema.sizes, folder)
        found[name] = config
    return found


def _others(
    names: Sequence[str],
    columns: Columns,
    seeds: int,
    threads: int,
    observer: CompareObserver | None,
) -> Iterator[_Entrant]:
    of_rows = identity(columns.dataset)
    for name in names:
        if name == OURS:
            continue
        contender = CONTENDERS[name]
        installed = {_distribution(of): version(_distribution(of)) for of in contender.packages}
        told = partial(observer.advance, contender.title) if observer is not None else _unheard
        for seed in range(seeds if contender.seeded else 1):
            result = Result(
                name=name,
                title=contender.title,
                seed=seed if contender.seeded else None,
                is_tree=contender.is_tree,
                settings={**contender.settings, "threads": threads, **installed},
            )
            content = json.dumps([of_rows, result.model_dump(mode="json")], sort_keys=True)
            digest = hashlib.sha256(content.encode()).hexdigest()[:10]
            fit = partial(_fit, contender, Task(columns, seed, threads, told))
            yield _Entrant(result, f"{name}-seed{seed}-{digest}", fit)


def _fit(contender: Contender, task: Task) -> tuple[Fitted, float]:
    return contender.fit(task), 0.0


def _unheard(done: int, most: int, note: str) -> None:
    """Hear of progress that nobody watches."""


def _distribution(package: str) -> str:
    return DISTRIBUTIONS.get(package, package)


def _ours(
    configs: dict[RecipeName, RunConfig],
    dataset: Dataset,
    folder: Path,
    seeds: int,
    threads: int,
    observer: CompareObserver | None,
) -> Iterator[_Entrant]:
    for name, config in configs.items():
        for seed in range(seeds):
            of_seed = seeded(config, seed)
            model = of_seed.model
            labels = RunLabels(
                architecture=model.architecture, size=None, scaling=model.scaling, seed=seed
            )
            case = case_of(of_seed, dataset, labels)
            run = folder / "runs" / case.name
            result = Result(
                name=name,
                title=f"{OURS} {name}",
                seed=seed,
                is_ours=True,
                settings={"run": f"runs/{case.name}", "threads": threads},
            )
            yield _Entrant(
                result,
                f"{name}-{case.name}",
                partial(_trained, case.config, dataset, run, observer),
            )


def _trained(
    config: RunConfig, dataset: Dataset, path: Path, observer: CompareObserver | None
) -> tuple[Fitted, float]:
    """Train a run, or go on with it, and score as it predicts: calibrated where it is."""
    begun = time.perf_counter()
    if is_finished(path):
        run = Run(path)
    else:
        run = train(config, dataset=dataset, run=path, resume=True, observer=observer)
    last, here = run.records[-1], time.perf_counter() - begun
    calibrated = run.calibration is not None
    valid, test = (
        run.score(split, dataset=dataset, calibrated=calibrated).probabilities
        for split in ("valid", "test")
    )
    chosen = {"epoch": int(run.best_state["epoch"])} | ({"calibrated": True} if calibrated else {})
    return Fitted(valid, test, chosen), max(0.0, last["seconds"] - here)


def _all_had(
    entrants: Sequence[_Entrant],
    columns: Columns,
    folder: Path,
    observer: CompareObserver | None,
) -> tuple[list[Result], dict[str, str]]:
    """Return all fits, and by title why others failed.

    Raises:
        DataError: If all did.
    """
    make_folder(folder / CONTENDERS_FOLDER)
    found, failures = [], {}
    for entrant in entrants:
        title = entrant.result.title
        if observer is not None:
            observer.announce(title)
        try:
            found.append(_had(entrant, columns, folder / CONTENDERS_FOLDER, observer))
        except WriteError:
            raise  # nor could any other be written
        except FAILURES as error:
            failures[title] = one_line(error)
            if observer is not None:
                observer.ended(title, failures[title])
    if not found:
        raise DataError(f"{folder}: all contenders failed: {next(iter(failures.values()))}")
    return found, failures


def _had(
    entrant: _Entrant, columns: Columns, folder: Path, observer: CompareObserver | None
) -> Result:
    """Return what an earlier call found, or fit."""
    record, file = folder / f"{entrant.name}.json", folder / f"{entrant.name}.npy"
    rows = len(columns.test.labels)
    try:
        kept = Result.model_validate_json(read_small(record))
        probabilities = np.load(file, allow_pickle=False)
        if probabilities.shape == (rows,) and np.isfinite(probabilities).all():
            return kept.judged(probabilities, columns.test)
    except (OSError, ValueError, ValidationError):
        pass  # there is none, or it is not whole
    valid = columns.valid
    begun = time.perf_counter()
    fitted, earlier = entrant.fit()
    seconds = time.perf_counter() - begun + earlier
    result = entrant.result.model_copy(
        update={
            "seconds": seconds,
            "chosen": dict(fitted.chosen),
            "valid_log_loss": log_loss(valid.labels, fitted.valid, valid.weights),
        }
    )
    judged = result.judged(fitted.test, columns.test)
    write_whole(file, lambda to: _save(to, fitted))
    write_text(record, result.model_dump_json(indent=1) + "\n")
    if observer is not None:
        observer.ended(result.title, judged)
    return judged


def _save(to: Path, fitted: Fitted) -> None:
    with to.open("wb") as file:
        np.save(file, fitted.test, allow_pickle=False)
