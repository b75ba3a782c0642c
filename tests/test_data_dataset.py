"""Batches of an encoded dataset: every row once, in an order that can be resumed."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from multiembed.base.errors import DataError
from multiembed.data.store import dataset as dataset_module
from multiembed.data.store.dataset import Split, open_dataset
from multiembed.data.store.schema import Schema
from multiembed.data.store.shards import Batch, map_shard, shard_name, write_shard
from multiembed.testing.planted_clicks import PlantedClicks, write_planted


def make_split(folder, sizes, fields=3):
    """Rows whose first id is the row's number, over several shards."""
    first, shards = 0, []
    for number, size in enumerate(sizes):
        ids = np.arange(first, first + size, dtype=np.int32)[:, None] * np.ones(fields, np.int32)
        path = folder / shard_name(number)
        write_shard(path, Batch(ids, (ids[:, 0] % 2).astype(np.uint8)))
        shards.append(map_shard(path, columns=fields))
        first += size
    return Split(shards)


def rows_of(batches):
    return np.concatenate([batch.ids[:, 0] for batch in batches])


@pytest.fixture
def planted(tmp_path):
    write_planted(tmp_path / "planted", PlantedClicks(rows=1000))
    return tmp_path / "planted"


@pytest.mark.parametrize("sizes", [[101], [40, 1, 60], [0, 101]])
@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_every_row_comes_once_per_epoch_with_its_label(sizes, size, tmp_path):
    split = make_split(tmp_path, sizes)

    batches = list(split.batches(size, seed=3, epoch=1))

    assert [len(batch.labels) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert sorted(rows_of(batches)) == list(range(101))
    for batch in batches:
        np.testing.assert_array_equal(batch.labels, batch.ids[:, 0] % 2)
        assert (batch.ids == batch.ids[:, :1]).all()


def test_without_a_seed_rows_come_in_the_order_of_the_file(tmp_path):
    split = make_split(tmp_path, [40, 61])

    assert rows_of(split.batches(13)).tolist() == list(range(101))


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    one = make_split(tmp_path / "one", [101])
    three = make_split(tmp_path / "three", [50, 1, 50])

    order = rows_of(one.batches(10, seed=0, epoch=0))

    np.testing.assert_array_equal(order, rows_of(three.batches(33, seed=0, epoch=0)))
    assert (order != rows_of(one.batches(10, seed=0, epoch=1))).any()
    assert (order != rows_of(one.batches(10, seed=1, epoch=0))).any()
    assert (order != np.arange(101)).any()


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("start", [0, 1, 4, 10, 11, 12])
def test_an_epoch_goes_on_where_it_stopped(seed, start, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "ROWS_PER_READ", 30)
    split = make_split(tmp_path, [60, 41])
    whole = list(split.batches(10, seed=seed, epoch=2))

    rest = list(split.batches(10, seed=seed, epoch=2, start=start))

    assert len(rest) == len(whole[start:])
    for ours, theirs in zip(rest, whole[start:], strict=True):
        np.testing.assert_array_equal(ours.ids, theirs.ids)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_batches_may_be_written_to_without_touching_the_dataset(tmp_path):
    split = make_split(tmp_path, [20])

    for seed in (None, 0):
        for batch in split.batches(20, seed=seed):
            batch.ids[:] = -1

    assert split.ids.min() == 0


def test_rows_that_are_not_there_cannot_be_taken(tmp_path):
    split = make_split(tmp_path, [10, 10])

    with pytest.raises(IndexError, match="20 rows"):
        split.take(np.array([20]))


def test_a_split_knows_its_size_and_is_mapped(tmp_path):
    split = make_split(tmp_path, [10, 11])

    assert (split.rows, split.positives) == (21, 10)
    assert [matrix.shape for matrix in split.matrices] == [(10, 3), (11, 3)]
    assert not any(matrix.flags.owndata for matrix in split.matrices)
    assert split.ids[:, 0].tolist() == list(range(21))
    assert split.labels.tolist() == [row % 2 for row in range(21)]


def test_shards_are_arrow_files_that_others_can_read(planted):
    split = open_dataset(planted).split("train")

    rows = pl.read_ipc(planted / "train" / shard_name(0))

    assert rows.schema == {"label": pl.UInt8, "ids": pl.Array(pl.Int32, 6)}
    np.testing.assert_array_equal(rows["ids"].to_numpy(), split.ids)
    np.testing.assert_array_equal(rows["label"].to_numpy(), split.labels)


def test_an_unknown_split_or_field_is_refused_by_name(planted):
    dataset = open_dataset(planted)

    with pytest.raises(DataError, match="one of train, valid, test, got 'dev'"):
        dataset.split("dev")
    with pytest.raises(DataError, match="one of f0, f1, f2, f3, f4, f5, got 'f9'"):
        dataset.vocabulary("f9")


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be an encoded dataset, got no schema\.json"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="must be an encoded dataset"):
        open_dataset(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format_version": 2}', "format_version must be 1, got 2"),
        ("{}", "format_version must be 1, got None"),
        ("[]", "must hold a JSON object, got list"),
        ("{", "must be JSON"),
        ('{"format_version": 1, "label": 3}', "label"),
    ],
)
def test_a_schema_that_is_none_is_refused(content, message, planted):
    (planted / "schema.json").write_text(content)

    with pytest.raises(DataError, match=message) as error:
        open_dataset(planted)

    assert "\n" not in str(error.value)


def test_a_damaged_dataset_is_refused(planted):
    shard = planted / "valid" / shard_name(0)
    shard.write_bytes(shard.read_bytes()[:100])
    rows = Batch(np.zeros((5, 6), np.int32), np.zeros(5, np.uint8))
    write_shard(planted / "test" / shard_name(0), rows)
    (planted / "train" / shard_name(0)).unlink()
    dataset = open_dataset(planted)

    with pytest.raises(DataError, match="must be a shard"):
        dataset.split("valid")
    with pytest.raises(DataError, match="must hold 100 rows, got 5"):
        dataset.split("test")
    with pytest.raises(DataError, match="got none"):
        dataset.split("train")


def test_a_schema_is_read_back_as_it_was_written(planted, tmp_path):
    schema = Schema.load(planted)

    schema.save(tmp_path / "copy.json")

    assert Schema.load(tmp_path / "copy.json") == schema
    assert json.loads((tmp_path / "copy.json").read_text())["splits"]["train"]["rows"] == 800


def test_opening_a_split_leaves_pandas_alone(planted):
    pytest.importorskip("pandas")
    code = (
        "import sys\n"
        "from multiembed.data.store.dataset import open_dataset\n"
        f"next(open_dataset({str(planted)!r}).split('train').batches(5))\n"
        "assert 'pandas' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("labels", [[1, 2**40], [1, None], ["a", "b"], [True, False]])
def test_a_shard_of_other_labels_is_refused_by_name(labels, tmp_path):
    path = tmp_path / shard_name(0)
    numbers = pa.array([1, 2, 3, 4], pa.int32())
    ids = pa.FixedSizeListArray.from_arrays(numbers, 2)
    batch = pa.record_batch([pa.array(labels), ids], names=["label", "ids"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)

    with pytest.raises(DataError, match=r"00000\.arrow must be a shard of an encoded dataset, got"):
        map_shard(path, columns=2)
