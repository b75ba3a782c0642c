"""The reliability curve that training leaves with a run, and what a diagnosis makes of it."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from multiembed import diagnose
from multiembed.base.errors import DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.diagnosis.terminal import terminal_table
from multiembed.runs.compress import compress_run
from multiembed.runs.metrics import Reliability
from multiembed.runs.run import load_run
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train


def config(**training):
    model = ModelConfig(architecture="dcnv2", dim=3, options={"hidden": [8, 4]})
    settings = {"max_epochs": 3, "threads": 1, "learning_rate": 0.01, "batch_size": 256}
    return RunConfig(model=model, training=TrainingConfig(**settings | training))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reliability")
    planted = PlantedClicks(cardinalities=(20, 10, 5), ranks=2, rows=8000, base_rate=0.2)
    write_planted(folder / "dataset", planted)
    train(config(), dataset=folder / "dataset", run=folder / "run")
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    """A run of one's own, to break."""
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


def test_the_curve_is_that_of_the_kept_model_on_the_validation_split(folder):
    run = load_run(folder / "run")
    rows = run.dataset().split("valid")
    p, y = run.predict(rows.ids).astype(np.float64), np.asarray(rows.labels, float)

    curve = diagnose(folder / "run").reliability

    assert curve.split == "valid"
    assert sum(of.rows for of in curve.bins) == len(y) == 800
    # Bins are told apart by their largest prediction, so ties cannot fall on two sides.
    ends = np.cumsum([of.rows for of in curve.bins])
    rising = np.sort(p)
    which = np.searchsorted(rising[ends - 1], p)
    count = np.bincount(which)
    predicted, observed = (np.bincount(which, of) / count for of in (p, y))
    np.testing.assert_array_equal([of.rows for of in curve.bins], count)
    np.testing.assert_allclose([of.predicted for of in curve.bins], predicted, rtol=1e-12)
    np.testing.assert_allclose([of.observed for of in curve.bins], observed, rtol=1e-12)
    ties = np.unique(p, return_counts=True)[1].max()
    assert len(count) > 10
    assert np.abs(count - 800 / 15).max() <= ties + 1
    error = np.average(np.abs(predicted - observed), weights=count)
    assert curve.expected_calibration_error == pytest.approx(error, rel=1e-12)
    assert f"off by {100 * error:.2g} percentage points" in curve.finding
    assert f"where {100 * y.mean():.0f}% of the rows" in curve.finding


def test_the_error_is_that_of_evaluate_and_of_the_records(folder):
    run = load_run(folder / "run")

    error = diagnose(folder / "run").reliability.expected_calibration_error

    assert error == run.evaluate("valid")["expected_calibration_error"]
    assert error == run.best_state["expected_calibration_error"]
    assert all(0 <= of["expected_calibration_error"] < 1 for of in run.records)


class Stop:
    """Ends a training after its first evaluation."""

    def stepped(self, progress):
        pass

    def evaluated(self, record):
        raise KeyboardInterrupt

    def warned(self, message):
        pass


def test_a_killed_run_goes_on_to_the_same_curve(folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(config(), dataset=folder / "dataset", run=tmp_path / "run", observer=Stop())
    early = (tmp_path / "run" / "reliability.json").read_bytes()

    train(None, run=tmp_path / "run", resume=True)

    whole = (folder / "run" / "reliability.json").read_bytes()
    assert (tmp_path / "run" / "reliability.json").read_bytes() == whole != early


def test_a_kill_while_the_best_model_is_written_leaves_no_curve_of_another(
    folder, tmp_path, monkeypatch
):
    with pytest.raises(KeyboardInterrupt):
        train(config(), dataset=folder / "dataset", run=tmp_path / "run", observer=Stop())

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("multiembed.runs.directory.save_tensors", killed)
    with pytest.raises(KeyboardInterrupt):
        train(None, run=tmp_path / "run", resume=True)

    assert diagnose(tmp_path / "run").reliability is None
    monkeypatch.undo()
    train(None, run=tmp_path / "run", resume=True)
    whole = (folder / "run" / "reliability.json").read_bytes()
    assert (tmp_path / "run" / "reliability.json").read_bytes() == whole


def test_json_holds_the_curve_or_null(folder, copied):
    found = json.loads(diagnose(folder / "run").to_json())
    (copied / "reliability.json").unlink()
    without = json.loads(diagnose(copied).to_json())

    written = json.loads((folder / "run" / "reliability.json").read_text())
    assert {key: found["reliability"][key] for key in written} == written
    assert without["reliability"] is None
    assert diagnose({"x": np.eye(3)}).reliability is None


def test_a_compressed_run_has_no_curve_of_the_tables_it_no_longer_has(folder, tmp_path):
    compress_run(folder / "run", tmp_path / "small", keep=0.5)

    assert diagnose(tmp_path / "small").reliability is None


def test_the_terminal_says_the_error_in_eighty_columns(folder, copied):
    def shown(run):
        console = Console(file=io.StringIO(), width=80)
        console.print(terminal_table(diagnose(run)))
        return console.file.getvalue().splitlines()

    error = load_run(folder / "run").evaluate("valid")["expected_calibration_error"]
    (copied / "reliability.json").unlink()

    lines = shown(folder / "run")
    assert f"Expected calibration error {error:.4f} on the validation split." in lines
    assert max(map(len, lines)) <= 80
    assert not [line for line in shown(copied) if "calibration" in line]


GOOD = {
    "split": "valid",
    "expected_calibration_error": 0.1,
    "bins": [
        {"rows": 3, "predicted": 0.1, "observed": 0.0},
        {"rows": 1, "predicted": 0.4, "observed": 0.5},
    ],
}


def test_the_finding_in_words():
    assert Reliability.model_validate(GOOD | {"bins": tuple(GOOD["bins"])}).finding == (
        "Predicted probabilities are off by 10 percentage points on average, "
        "where 12% of the rows are positive."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (b"", "must be a reliability curve"),
        (b"\xff\xfe", "must be a reliability curve"),
        (b"[" * 100_000, "must be a reliability curve"),
        (b"[1]", "must be a reliability curve"),
        (b" " * 2**21, "must be at most 1048576 bytes, got 2097152"),
        ({"bins": []}, "bins: .* at least 1 item"),
        ({"bins": [{"rows": 1}]}, r"bins\.0\.predicted: Field required"),
        ({"bins": [{"rows": 0, "predicted": 0.1, "observed": 0.1}]}, r"bins\.0\.rows"),
        ({"bins": [{"rows": 10**400, "predicted": 0.1, "observed": 0.1}]}, r"bins\.0\.rows"),
        ({"bins": [{"rows": 1, "predicted": 1.1, "observed": 0.1}]}, r"bins\.0\.predicted"),
        ({"bins": [{"rows": 1, "predicted": 0.1, "observed": float("nan")}]}, r"0\.observed"),
        ({"bins": [{"rows": 1, "predicted": "0.1", "observed": 0.1}]}, "valid number"),
        ({"bins": GOOD["bins"][::-1]}, "bins must rise"),
        ({"expected_calibration_error": 0.2}, "must be that of the bins, 0.1, got 0.2"),
        ({"split": "<script>"}, "split"),
        ({"more\nlines": 1}, r"more\\nlines: Extra inputs"),
    ],
)
def test_a_broken_curve_is_refused_in_one_line(copied, change, message):
    content = change if isinstance(change, bytes) else json.dumps(GOOD | change).encode()
    (copied / "reliability.json").write_bytes(content)

    with pytest.raises(DataError, match=message) as caught:
        diagnose(copied)

    assert "\n" not in str(caught.value)
    assert "reliability.json must be" in str(caught.value)
    assert len(str(caught.value)) < 400
