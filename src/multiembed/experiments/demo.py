"""The whole story on real data: three DCNv2 models on flight records, and their collapse."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from multiembed.base.files import write_text
from multiembed.config import ModelConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.diagnosis.diagnose import Diagnosis, diagnose
from multiembed.diagnosis.page import comparison_page
from multiembed.experiments.analysis.paired_rows import auc_difference
from multiembed.experiments.analysis.statistics import Interval
from multiembed.experiments.grid.outcome import experiment_in
from multiembed.runs.evaluation import defined
from multiembed.runs.given_config import laid_over
from multiembed.runs.recipe import RECIPES, recipe_table
from multiembed.runs.run import Run
from multiembed.training.progress import StageObserver
from multiembed.training.start import train

TITLE = "Embedding collapse on flight records"
EPOCHS = 6
"""At most; models go on getting better for some twenty, which is no demo any more."""

MODELS = {
    "single 1x": ModelConfig(architecture="dcnv2", size=1, scaling="single"),
    "single 4x": ModelConfig(architecture="dcnv2", size=4, scaling="single"),
    "multi 4x": ModelConfig(architecture="dcnv2", size=4, scaling="multi"),
}


@dataclass(frozen=True)
class DemoRow:
    """One model of the demo; abundances are means over fields."""

    model: str
    parameters: int
    test_auc: float
    test_log_loss: float
    abundance: float
    centered_abundance: float
    normalized_abundance: float
    seconds: float


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, and where its report lies."""

    rows: list[DemoRow]
    findings: list[str]
    report: Path


def run_demo(folder: Path, observer: StageObserver) -> DemoResult:
    """Prepare, train, evaluate, diagnose and compare; what an earlier demo finished is reused.

    Raises:
        DataError: If the flight records are not installed, or `folder` holds something else.
    """
    with experiment_in(folder):
        return _run_demo(folder, observer)


def _run_demo(folder: Path, observer: StageObserver) -> DemoResult:
    if not (folder / "dataset").exists():
        options = PrepareOptions(format="flights")
        prepare("flights", folder / "dataset", options, progress=observer.advance)
    dataset = open_dataset(folder / "dataset")
    runs = {name: _trained(name, dataset, folder, observer) for name in MODELS}
    diagnoses = {
        name: diagnose(run.path, split_sets=4 if name == "single 4x" else None)
        for name, run in runs.items()
    }
    test = dataset.split("test")
    multi, single = (runs[name].predict(test.ids) for name in ("multi 4x", "single 4x"))
    rows = [_row(name, runs[name], diagnoses[name]) for name in MODELS]
    gain = auc_difference(test.labels, multi, single)
    report = folder / "report.html"
    found = {name: diagnosis.to_dict() for name, diagnosis in diagnoses.items()}
    page = comparison_page(found, [asdict(row) for row in rows], title=TITLE)
    write_text(report, page)
    return DemoResult(rows, _findings(rows, gain), report)


def _trained(name: str, dataset: Dataset, folder: Path, observer: StageObserver) -> Run:
    observer.announce(name)
    model = MODELS[name].model_dump(exclude_unset=True)
    own = {"model": model, "training": {"max_epochs": EPOCHS}}
    config = laid_over(recipe_table(RECIPES[0], dataset.schema), own, source="demo")
    run = folder / name.replace(" ", "_")
    return train(config, dataset=dataset, run=run, resume=True, observer=observer)


def _row(name: str, run: Run, diagnosis: Diagnosis) -> DemoRow:
    measured = defined(run.evaluate("test"))
    fields = diagnosis.fields
    return DemoRow(
        model=name,
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        test_auc=measured["auc"],
        test_log_loss=measured["log_loss"],
        abundance=float(np.mean([f.information_abundance for f in fields])),
        centered_abundance=float(np.mean([f.centered_information_abundance for f in fields])),
        normalized_abundance=float(np.mean([f.normalized_information_abundance for f in fields])),
        seconds=run.records[-1]["seconds"],
    )


def _findings(rows: list[DemoRow], gain: Interval) -> list[str]:
    """Say in two sentences what the numbers say, whichever way they point."""
    base, wide, multi = rows
    if not gain.excludes_zero:
        verdict = "no evidence that one is better than the other"
    else:
        verdict = f"{'four sets' if gain.difference > 0 else 'one wide set'} ranked better"
    return [
        f"At four times the embedding size, four sets reach test AUC {multi.test_auc:.5f} and one "
        f"wide set {wide.test_auc:.5f} (base {base.test_auc:.5f}); the difference of "
        f"{gain.difference:+.5f} has the 95% interval {gain.low:+.5f} to {gain.high:+.5f} "
        f"over the test rows: {verdict}, from one training each.",
        f"The wide set uses {wide.normalized_abundance:.0%} of the abundance of random tables of "
        f"its shape and the four sets {multi.normalized_abundance:.0%} (base "
        f"{base.normalized_abundance:.0%}): in absolute terms {wide.abundance:.2f}, "
        f"{multi.abundance:.2f} and {base.abundance:.2f} directions on average over the fields.",
    ]
