"""Nothing that is not ours is overwritten, and what is there stays until its successor is whole."""

import errno
import os
import shutil
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from multiembed.base import files, workplaces
from multiembed.base.errors import ConfigError, DataError, WriteError
from multiembed.base.files import first_foreign, new_folder, write_text, write_whole
from multiembed.base.workplaces import locked, replace_folder, workplace, workplace_of
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.grid.outcome import (
    CONTENDERS_FOLDER,
    TRIALS_FILE,
    experiment_in,
)
from multiembed.runs.directory import RunDirectory
from multiembed.runs.run import load_run
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train

MODEL = ModelConfig(architecture="dnn", dim=2, sets=2, options={"hidden": [4]})
OPTIONS = PrepareOptions(format="table", label="click")
AGAIN = OPTIONS.model_copy(update={"overwrite": True})


def config(**training):
    return RunConfig(model=MODEL, training=TrainingConfig(batch_size=256, threads=1, **training))


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.csv"
    pl.DataFrame({"click": [0, 1] * 40, "site": list("aabbc") * 16}).write_csv(file)
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and its dataset."""
    folder = tmp_path_factory.mktemp("places")
    write_planted(folder / "clicks", PlantedClicks(cardinalities=(9, 5), ranks=2, rows=2000))
    train(config(max_epochs=1), dataset=folder / "clicks", run=folder / "run")
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fails(to):
    to.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device", str(to))


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("last week's")

    with pytest.raises(WriteError, match=r"report\.html must be writable, got: No space left"):
        write_whole(target, fails)

    assert names(tmp_path) == ["report.html"]
    assert target.read_text() == "last week's"
    write_text(target, "new")
    assert target.read_text() == "new"


@pytest.mark.parametrize("message", ["I/O error: No space (os error 28)", "[Errno 28] in C++"])
def test_an_error_of_a_library_names_the_file_as_well(tmp_path, message):
    def write(to):
        raise RuntimeError(message)

    with pytest.raises(WriteError, match="weights must be writable, got: No space left on device"):
        write_whole(tmp_path / "weights", write)


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_the_mode_that_the_umask_says_whoever_writes_them(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "new", lambda to: os.close(os.open(to, os.O_CREAT, 0o600)))
    finally:
        os.umask(before)

    assert (tmp_path / "new").stat().st_mode & 0o777 == mode


def test_weights_of_a_run_have_the_mode_of_its_other_files(trained):
    modes = {file.stat().st_mode for file in (trained / "run").iterdir() if file.is_file()}

    assert len(modes) == 1


@pytest.mark.parametrize("name", ["X.partial", "X.tmp", ".X.partial", "X.replaced"])
@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_lies_beside_a_target_is_nobody_elses(tmp_path, name, kind):
    mine = tmp_path / "mine"
    mine.write_text("my only copy")
    if kind == "link":
        (tmp_path / name).symlink_to(mine)
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("my only copy")
    before = contents(tmp_path)

    write_text(tmp_path / "X", "new")
    os.unlink(tmp_path / "X")
    with new_folder(tmp_path / "X") as folder:
        (folder / "file").write_text("new")

    assert contents(tmp_path) == before | {"X/file": b"new"}
    assert (tmp_path / name).is_symlink() == (kind == "link")


def test_what_a_kill_left_is_swept_by_the_next_writer_and_nothing_else_is(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from multiembed.base import files\n"
        "files.write_whole(Path(sys.argv[1]), lambda to: (to.write_text('half'), os._exit(9)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[2])}
    killed = [sys.executable, "-c", script, str(tmp_path / "out")]
    assert subprocess.run(killed, env=environment, check=False).returncode == 9
    (left,) = names(tmp_path)
    (tmp_path / ".multiembed-notes").mkdir()
    (tmp_path / ".multiembed-0123abcd").symlink_to(tmp_path / ".multiembed-notes")

    with files.whole(tmp_path / "other") as held:
        held.write_text("being written")
        write_text(tmp_path / "out", "whole")
        assert held.read_text() == "being written"

    assert left not in names(tmp_path)
    assert names(tmp_path) == [".multiembed-0123abcd", ".multiembed-notes", "other", "out"]


def test_a_name_that_is_no_utf8_is_refused_before_any_work(rows, trained, tmp_path):
    name = tmp_path / os.fsdecode(b"b\xff") / "out"

    for act in (
        lambda: prepare(rows, name, OPTIONS),
        lambda: train(config(max_epochs=1), dataset=trained / "clicks", run=name),
        lambda: write_text(name, "text"),
        lambda: new_folder(name).__enter__(),
    ):
        with pytest.raises(ConfigError, match=r"b\\udcff.* must be UTF-8 to be written"):
            act()

    assert names(tmp_path) == ["rows.csv"]


def test_pipes_and_devices_are_written_to_and_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    write_text(tmp_path / "pipe", "through")
    write_text(Path("/dev/null"), "gone")

    assert os.read(reader, 100) == b"through"
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()
    os.close(reader)


@pytest.mark.parametrize("exchange", [True, False], ids=["at once", "in two steps"])
def test_a_folder_takes_the_place_of_another(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(workplaces, "_exchange", lambda one, other: False)
    for name in ("old", "place/new"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)

    replace_folder(tmp_path / "place" / "new", tmp_path / "old")

    assert contents(tmp_path) == {"old/file": b"place/new"}


def test_a_kill_between_two_renames_is_mended_by_the_next(tmp_path):
    target = tmp_path / "run"
    (workplace_of(target) / "replaced").mkdir(parents=True)
    (workplace_of(target) / "replaced" / "file").write_text("old")

    with workplace(target, busy="is busy"):
        assert (target / "file").read_text() == "old"

    assert names(tmp_path) == ["run"]


def test_a_lock_follows_no_link_and_empties_no_file(tmp_path):
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "notes")

    with (
        pytest.raises(ConfigError, match="must be a lock file, got a symbolic link"),
        locked(tmp_path / "link", subject=tmp_path),
    ):
        pass
    with (
        locked(tmp_path / "notes", subject=tmp_path),
        pytest.raises(ConfigError, match="is in use by another process"),
        locked(tmp_path / "notes", subject=tmp_path),
    ):
        pass

    assert (tmp_path / "notes").read_text() == "mine"


def test_first_foreign_follows_no_link_and_sees_empty_directories(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a").touch()
    assert first_foreign(tmp_path, lambda path: path == "own/a") == ""

    (tmp_path / "z").symlink_to(tmp_path / "own")
    assert first_foreign(tmp_path, lambda path: path == "own/a") == "z"
    (tmp_path / "empty").mkdir()
    assert first_foreign(tmp_path, lambda path: path == "own/a") == "empty"


FOREIGN = [
    "notes.txt",
    "train/notes.txt",
    "vocabulary/mine.parquet",
    "model.safetensors",
    "schema.json.bak",
    ".git/config",
    "trackers/notes.txt",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_dataset_with_anything_else_in_it_is_not_replaced(rows, tmp_path, name):
    prepare(rows, tmp_path / "ds", OPTIONS)
    (tmp_path / "ds" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "ds" / name).write_text("my only copy")
    before = contents(tmp_path)

    with pytest.raises(DataError, match=f"nothing else, got {name} in it"):
        prepare(rows, tmp_path / "ds", AGAIN)

    assert contents(tmp_path) == before


def test_the_source_inside_the_target_is_not_deleted(rows, tmp_path):
    prepare(rows, tmp_path / "ds", OPTIONS)
    inside = shutil.copy(rows, tmp_path / "ds" / "rows.csv")

    with pytest.raises(DataError, match=r"got rows\.csv in it"):
        prepare(inside, tmp_path / "ds", AGAIN)

    assert (tmp_path / "ds" / "rows.csv").read_bytes() == rows.read_bytes()


@pytest.mark.parametrize("leads", ["nowhere", "itself"])
def test_a_link_to_nothing_is_left_alone(rows, tmp_path, leads):
    (tmp_path / "ds").symlink_to(tmp_path / ("ds" if leads == "itself" else "gone"))

    with pytest.raises(DataError, match="got a link to nothing"):
        prepare(rows, tmp_path / "ds", AGAIN)

    assert (tmp_path / "ds").is_symlink()


def test_a_link_to_a_dataset_stays_a_link_to_the_new_one(rows, tmp_path):
    (tmp_path / "disk").mkdir()
    prepare(rows, tmp_path / "disk" / "ds", OPTIONS)
    (tmp_path / "ds").symlink_to(tmp_path / "disk" / "ds")

    prepare(rows, tmp_path / "ds", AGAIN.model_copy(update={"seed": 3}))

    assert (tmp_path / "ds").is_symlink()
    assert open_dataset(tmp_path / "ds").schema.options["seed"] == 3
    assert names(tmp_path / "disk") == ["ds"]


def test_a_dataset_that_is_read_is_not_mixed_with_the_one_that_replaces_it(rows, tmp_path):
    prepare(rows, tmp_path / "ds", OPTIONS)
    opened = open_dataset(tmp_path / "ds")
    train_split = opened.split("train")
    before = train_split.ids.copy()

    prepare(rows, tmp_path / "ds", AGAIN.model_copy(update={"seed": 3}))

    assert (train_split.ids == before).all()  # it is mapped, though its name is another's now
    with pytest.raises(DataError, match="must stay while it is read"):
        opened.split("valid")
    with pytest.raises(DataError, match="must stay while it is read"):
        opened.vocabulary("site")


@pytest.mark.parametrize("name", [*FOREIGN[:2], "best.pt", "trackers/notes.txt"])
def test_a_run_with_anything_else_in_it_is_not_overwritten(trained, run, name):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("my only copy")
    before = contents(run)

    with pytest.raises(ConfigError, match=f"nothing else, got {name} in it"):
        train(config(max_epochs=1), dataset=trained / "clicks", run=run, overwrite=True)

    assert contents(run.parent) == {f"run/{path}": content for path, content in before.items()}


@pytest.mark.parametrize("own", ["config.toml", ".lock", "schema.json", "README.md"])
def test_a_project_that_has_a_file_of_a_runs_name_is_no_run(trained, tmp_path, own):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / own).write_text("mine = 1")
    (tmp_path / "project" / "code.py").write_text("mine")
    before = contents(tmp_path)

    for way in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(ConfigError):
            train(config(), dataset=trained / "clicks", run=tmp_path / "project", **way)

    assert contents(tmp_path) == before


class Kill(BaseException):
    """Stands for the end of the process."""


class Killer:
    """An observer that ends a training at its first evaluation."""

    def stepped(self, progress):
        pass

    def evaluated(self, record):
        raise Kill

    def warned(self, message):
        pass


def test_an_old_run_stays_until_its_successor_is_finished(trained, run):
    before = contents(run)
    given = {"dataset": trained / "clicks", "run": run}
    with pytest.raises(Kill):
        train(config(max_epochs=2, seed=5), **given, overwrite=True, observer=Killer())
    assert {name: (run / name).read_bytes() for name in before} == before
    assert load_run(run).config.training.seed != 5

    resumed = train(None, run=run, resume=True)

    assert resumed.config.training.seed == 5
    fresh = train(config(max_epochs=2, seed=5), dataset=trained / "clicks", run=run.parent / "new")
    mine, other = (load_file(folder / "last.safetensors") for folder in (run, fresh.path))
    assert all(torch.equal(mine[name], other[name]) for name in other)
    assert names(run.parent) == ["new", "run"]


def test_what_is_added_while_a_run_is_overwritten_is_kept(trained, run):
    class Adds(Killer):
        def evaluated(self, record):
            (run / "notes.txt").write_text("mine")

    given = {"dataset": trained / "clicks", "run": run}
    with pytest.raises(ConfigError, match=r"got notes\.txt in it; the new run waits"):
        train(config(max_epochs=1, seed=5), **given, overwrite=True, observer=Adds())
    (run / "notes.txt").unlink()

    assert train(None, run=run, resume=True).config.training.seed == 5


def test_a_kill_right_after_the_exchange_does_not_bring_the_old_run_back(trained, run, monkeypatch):
    def killed(new, target):
        workplaces._exchange(new, target)
        raise Kill

    given = {"dataset": trained / "clicks", "run": run}
    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr("multiembed.runs.directory.replace_folder", killed)
        train(config(max_epochs=1, seed=5), **given, overwrite=True)

    assert train(None, run=run, resume=True).config.training.seed == 5


def test_a_run_that_is_read_is_not_mixed_with_the_one_that_replaces_it(trained, run):
    reading = load_run(run)
    train(config(max_epochs=1, seed=5), dataset=trained / "clicks", run=run, overwrite=True)

    with pytest.raises(DataError, match="must stay while it is read, got another run"):
        _ = reading.vocabularies
    with pytest.raises(DataError, match="must stay while it is read, got another run"):
        _ = reading.records


def test_one_training_at_a_time_writes_a_run(trained, run):
    target = RunDirectory(run)
    with locked(run / ".lock", subject=target.path):
        for way in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(ConfigError, match="is in use by another process"):
                train(config(max_epochs=1), dataset=trained / "clicks", run=run, **way)


def make(target, text, results):
    try:
        with new_folder(target) as folder:
            for number in range(50):
                (folder / str(number)).write_text(text)
        results.put(text)
    except DataError as error:
        results.put(str(error))


def test_of_two_that_make_one_folder_one_does_and_the_other_says_so(tmp_path):
    context = get_context("fork")
    for attempt in range(5):
        target, results = tmp_path / str(attempt), context.Queue()
        both = [context.Process(target=make, args=(target, text, results)) for text in "ab"]
        for process in both:
            process.start()
        said = sorted(results.get(timeout=30) for _ in both)
        for process in both:
            process.join()

        made, refused = said if len(said[0]) == 1 else said[::-1]
        assert "must be" in refused and "\n" not in refused
        assert set(contents(target).values()) == {made.encode()}
        assert len(contents(target)) == 50
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "words", ["scale {data} {out}", "reproduce table1 --dataset {data} --out {out}"]
)
def test_a_command_of_many_runs_replaces_no_report_of_somebody_else(trained, tmp_path, call, words):
    (tmp_path / "results.csv").write_text("mine")

    code, _, said = call(*words.format(data=trained / "clicks", out=tmp_path).split())

    assert code == 2
    assert "got results.csv of another" in said.replace("\n", " ")
    assert contents(tmp_path) == {"results.csv": b"mine"}


@pytest.mark.parametrize("name", ["results.csv", "report.html"])
def test_reports_of_somebody_else_are_not_replaced_by_an_experiment(tmp_path, name):
    (tmp_path / name).write_text("mine")

    with pytest.raises(ConfigError, match=f"got {name} of another"), experiment_in(tmp_path):
        pass
    with experiment_in(tmp_path / "new"):
        (tmp_path / "new" / name).write_text("ours")
        with (
            pytest.raises(ConfigError, match="is in use by another process"),
            experiment_in(tmp_path / "new"),
        ):
            pass
    with experiment_in(tmp_path / "new"):
        pass

    assert contents(tmp_path) == {name: b"mine", f"new/{name}": b"ours", "new/.lock": b""}


@pytest.mark.parametrize(
    ("there", "sign"),
    [
        ("config.toml", None),  # a run
        ("schema.json", None),  # a dataset
        ("config.toml", CONTENDERS_FOLDER),
        ("schema.json", TRIALS_FILE),
        (CONTENDERS_FOLDER, None),
        (TRIALS_FILE, None),
        (CONTENDERS_FOLDER, TRIALS_FILE),
        ("runs", CONTENDERS_FOLDER),  # of a grid
        ("results.csv", TRIALS_FILE),
    ],
)
def test_an_experiment_is_in_no_run_or_dataset_or_experiment_of_another_kind(tmp_path, there, sign):
    (tmp_path / there).write_text("mine")
    (tmp_path / ".lock").write_text("")

    with (
        pytest.raises(ConfigError, match=f"an experiment's of this kind, got {there} of another"),
        experiment_in(tmp_path, sign),
    ):
        pass

    assert contents(tmp_path) == {there: b"mine", ".lock": b""}


def test_a_comparison_in_a_run_is_refused_before_any_work(trained, call):
    before = contents(trained / "run")

    code, _, said = call("compare", trained / "clicks", trained / "run", "--only", "base_rate")

    assert (code, "got config.toml of another" in said.replace("\n", " ")) == (2, True)
    assert contents(trained / "run") == before
