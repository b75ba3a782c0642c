"""A preparation that stops at any moment goes on, gives the same bytes, or leaves nothing."""

import gzip
import hashlib
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from multiembed.base import files
from multiembed.base.errors import ConfigError, DataError
from multiembed.base.workplaces import workplace, workplace_of
from multiembed.data import prepare
from multiembed.data.encoding import parts, reading
from multiembed.data.encoding import sharding as encoding
from multiembed.data.encoding.journal import JOURNAL, resumable_folder
from multiembed.data.options import PrepareOptions
from multiembed.data.sources import records
from multiembed.data.store import dataset as store

PACKAGE = str(Path(files.__file__).parents[1])
OPTIONS = PrepareOptions(format="table", label="y", min_count=2, shard_rows=100, max_bad_rows=50)
ROWS = 1000


class Kill(BaseException):
    """Stands for the end of the process."""


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows in a compressed file and a plain one, some of them bad."""
    folder = tmp_path_factory.mktemp("rows") / "raw"
    folder.mkdir()
    rows = [f"{n % 2},v{n % 37},{n % 11}.5,u{n * n % 101}" for n in range(ROWS)]
    rows[5], rows[450], rows[999] = "1,too,few", "2,v1,1.5,u1", "1,v1,many,u1"
    text = ["y,a,n,u\n" + "".join(row + "\n" for row in half) for half in (rows[:600], rows[600:])]
    (folder / "1.csv.gz").write_bytes(gzip.compress(text[0].encode()))
    (folder / "2.csv").write_text(text[1])
    return folder


@pytest.fixture(scope="module")
def expected(rows, tmp_path_factory):
    """What a preparation writes that nothing stops."""
    folder = tmp_path_factory.mktemp("whole") / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BYTES_PER_READ", 500)
        prepare.prepare(rows, folder, OPTIONS)
    return digests(folder)


@pytest.fixture
def source(rows, monkeypatch):
    """The rows, read in small pieces."""
    monkeypatch.setattr(records, "BYTES_PER_READ", 500)
    return rows


@pytest.fixture
def own_source(source, tmp_path):
    """A copy that may be broken."""
    return shutil.copytree(source, tmp_path / "raw")


def dying(function, calls, moment):
    """Let a function die before or after one of its calls."""
    numbers = itertools.count(1)  # some of the calls come from several threads

    def wrapped(*arguments, **named):
        last = next(numbers) == calls
        if last and moment == "before":
            raise Kill
        result = function(*arguments, **named)
        if last:
            raise Kill
        return result

    return wrapped


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (reading, "_add", (9,)),
        (parts.PartBuilder, "write", (4,)),
        (prepare, "count_values", (1,)),
        (store, "write_shard", (8,)),
        (encoding, "_forget_parts", (5,)),
        (files.os, "replace", (6, 23)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_kill_anywhere_changes_no_byte(
    module, name, calls, moment, source, expected, tmp_path, monkeypatch
):
    for call in calls:
        target = tmp_path / f"dataset{call}"
        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying(getattr(module, name), call, moment))
            with pytest.raises(Kill):
                prepare.prepare(source, target, OPTIONS)
        assert not target.exists()

        prepare.prepare(source, target, OPTIONS)

        assert digests(target) == expected
        assert not workplace_of(target).exists()


def test_what_is_finished_is_not_done_again(source, expected, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_shard", dying(store.write_shard, 10, "after"))
        with pytest.raises(Kill):
            prepare.prepare(source, tmp_path / "dataset", OPTIONS)
    written = []
    monkeypatch.setattr(prepare, "count_values", lambda *_, **__: None)
    monkeypatch.setattr(reading, "_add", None)
    real = store.write_shard
    monkeypatch.setattr(
        store, "write_shard", lambda path, *rest: [written.append(path), real(path, *rest)]
    )

    prepare.prepare(source, tmp_path / "dataset", OPTIONS)

    assert digests(tmp_path / "dataset") == expected
    assert min(path.name for path in written) == "00003.arrow"


def test_other_options_or_another_file_begin_anew(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_shard", dying(store.write_shard, 10, "after"))
        with pytest.raises(Kill):
            prepare.prepare(source, tmp_path / "dataset", OPTIONS)
    other = OPTIONS.model_copy(update={"seed": 1})

    prepare.prepare(source, tmp_path / "dataset", other)
    prepare.prepare(source, tmp_path / "straight", other)

    assert digests(tmp_path / "dataset") == digests(tmp_path / "straight")


SCRIPT = """
import sys, types
package = types.ModuleType("multiembed")  # the data room alone: torch is slow to load
package.__path__ = [sys.argv[3]]
sys.modules["multiembed"] = package
from multiembed.data.sources import records
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.base.errors import ConfigError, DataError
from multiembed.base.workplaces import workplace, workplace_of
records.BYTES_PER_READ = 500
options = PrepareOptions.model_validate_json(sys.argv[4])
def tell(*_):
    print("", end=".", flush=True)
try:
    prepare(sys.argv[1], sys.argv[2], options, progress=tell)
except DataError as error:
    sys.exit(str(error))
"""


def start(source, target, **limits):
    arguments = [str(source), str(target), PACKAGE, OPTIONS.model_dump_json()]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **limits,
    )


def test_processes_killed_at_random_moments_change_no_byte(source, expected, tmp_path):
    kills = int(os.environ.get("MULTIEMBED_KILLS", "2"))
    rng = random.Random(0)
    finished = 0
    while kills:
        process = start(source, tmp_path / "dataset")
        process.stdout.read(rng.randint(1, 80))  # so many blocks or shards are done
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills -= 1
        if (tmp_path / "dataset").exists():
            assert digests(tmp_path / "dataset") == expected
            shutil.rmtree(tmp_path / "dataset")
            finished += 1

    prepare.prepare(source, tmp_path / "dataset", OPTIONS)

    assert digests(tmp_path / "dataset") == expected


def limit_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def test_a_full_disk_is_one_line_and_what_is_finished_stays(source, expected, tmp_path):
    process = start(source, tmp_path / "dataset", preexec_fn=limit_files)
    _, said = process.communicate()

    assert process.returncode == 1
    assert said.count("\n") == 1
    assert "dataset must be writable, got: " in said
    assert not (tmp_path / "dataset").exists()
    prepare.prepare(source, tmp_path / "dataset", OPTIONS)
    assert digests(tmp_path / "dataset") == expected


def test_too_little_disk_is_refused_before_anything_is_written(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(reading.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(DataError, match=r"must have 0\.1 GB of free disk, got 0\.0 GB"):
        prepare.prepare(source, tmp_path / "dataset", OPTIONS)

    assert not list(tmp_path.glob("dataset*"))


def test_a_target_below_a_file_is_refused(source, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="must be writable, got: Not a directory"):
        prepare.prepare(source, tmp_path / "file" / "dataset", OPTIONS)


@pytest.mark.parametrize("kept", [10, 300, -5])
def test_a_truncated_file_is_refused(kept, own_source, tmp_path):
    packed = own_source / "1.csv.gz"
    packed.write_bytes(packed.read_bytes()[:kept])

    with pytest.raises(DataError) as error:
        prepare.prepare(own_source, tmp_path / "dataset", OPTIONS)

    assert f"{packed} must be readable, got: " in str(error.value)
    assert not list(tmp_path.glob("dataset*"))


def test_a_file_that_vanishes_is_refused(own_source, tmp_path):
    def remove(stage, done, total, speed):
        (own_source / "2.csv").unlink(missing_ok=True)

    with pytest.raises(DataError, match=r"2\.csv.* must be readable, got: No such file"):
        prepare.prepare(own_source, tmp_path / "dataset", OPTIONS, progress=remove)

    assert not list(tmp_path.glob("dataset*"))


def test_two_processes_do_not_write_one_dataset(source, tmp_path):
    target = tmp_path / "dataset"
    with (
        workplace(target, busy="is busy") as place,
        resumable_folder(place, target, "key") as (folder, _),
    ):
        with pytest.raises(ConfigError, match="one process at a time, got another at work"):
            prepare.prepare(source, tmp_path / "dataset", OPTIONS)

        assert (folder / JOURNAL).exists()
        pl.DataFrame({"x": [1]}).write_parquet(folder / "x")
