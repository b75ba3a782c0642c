"""Cells of several values: encoded as pandas would, pooled as torch's EmbeddingBag does."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import split_rows

from multiembed.base.errors import DataError
from multiembed.config import parse_config
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare, preview
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.grid.dataset_views import subset
from multiembed.models.embedding import EmbeddingSets, Row
from multiembed.runs.compress import compress_run
from multiembed.runs.run import load_run
from multiembed.serving.export import write_embeddings
from multiembed.serving.predict import predict
from multiembed.tables.table_optimizers import TABLE_OPTIMIZERS
from multiembed.training.start import train

TABLE = PrepareOptions(format="table", label="y", min_count=1, multivalued={"tags": "|"})
SETTINGS = {
    "model": {"architecture": "dnn", "dim": 4, "sets": 2, "options": {"hidden": [8]}},
    "training": {"max_epochs": 2, "batch_size": 64, "learning_rate": 0.01, "device": "cpu"},
}


def write(folder, tags, **columns):
    labels = [row * 7 % 3 == 0 for row in range(len(tags))]
    frame = pl.DataFrame({"y": labels, "tags": tags} | columns).cast({"y": pl.Int8})
    frame.write_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def some_tags(rows, seed=0):
    random = np.random.default_rng(seed)
    sizes = random.integers(0, 6, rows)
    return ["|".join(f"t{int(tag)}" for tag in random.integers(0, 9, size)) for size in sizes]


def parts_of(cell):
    """The values of a cell, without blanks around them."""
    return [part.strip() for part in cell.split("|") if part.strip()]


def encode_by_pandas(cells, counted, limit, min_count):
    """Take cells apart, count their first values on some rows, and number them."""
    lists = pd.Series(cells).map(parts_of).map(lambda parts: parts[:limit] or [""])
    counts = lists.iloc[counted].explode().value_counts()
    kept = counts[counts >= min_count]
    ordered = sorted(kept.index, key=lambda value: (-kept[value], value.encode()))
    numbers = {value: place for place, value in enumerate(ordered, 1)}
    slots = int(lists.map(len).max())
    ids = [[numbers.get(v, 0) for v in parts] + [-1] * (slots - len(parts)) for parts in lists]
    return np.array(ids), kept.to_dict()


cell = st.lists(st.sampled_from(["a", "b", "c", "ü", "", " a", "x,y", '"']), max_size=5)


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(cell.map("|".join), min_size=10, max_size=30),
    limit=st.integers(1, 4),
    min_count=st.integers(1, 3),
    shard_rows=st.sampled_from([10, 1 << 20]),
)
def test_cells_are_encoded_as_by_pandas(cells, limit, min_count, shard_rows):
    changes = {"max_cell_values": limit, "min_count": min_count, "shard_rows": shard_rows}
    with tempfile.TemporaryDirectory() as name:
        file = write(Path(name), cells)

        schema = prepare(file, Path(name) / "dataset", TABLE.model_copy(update=changes))

        dataset = open_dataset(Path(name) / "dataset")
        rows = split_rows(len(cells), 0)
        expected, counts = encode_by_pandas(cells, rows[0], limit, min_count)
        for split, numbers in zip(("train", "valid", "test"), rows, strict=True):
            np.testing.assert_array_equal(dataset.split(split).ids, expected[numbers])
            unknown = (expected[numbers] == 0).any(axis=1).sum()
            assert schema.fields[0].other[split] == unknown
        found = dataset.vocabulary("tags").with_columns(pl.col("value").fill_null(""))
        assert dict(zip(found["value"], found["count"], strict=True)) == counts
        sizes = [len(parts_of(text)) for text in cells]
        assert schema.fields[0].cut == sum(size > limit for size in sizes)
        encoder = Encoder.load(Path(name) / "dataset")
        ids = encoder.encode(pl.DataFrame({"tags": cells}))
        np.testing.assert_array_equal(ids, expected)
        kept = [parts_of(text)[:limit] or [""] for text in cells]
        decoded = encoder.decode(ids)["tags"].to_list()
        assert decoded == [[v if v and v in counts else None for v in values] for values in kept]


def test_values_of_cells_may_be_limited_and_hashed(tmp_path):
    file = write(tmp_path, ["a|b", "a|c", "a|b", "d|a", None] * 6)
    few = TABLE.model_copy(update={"max_values": 2})
    hashed = TABLE.model_copy(update={"hash_sizes": {"tags": 3}})

    prepare(file, tmp_path / "few", few)
    schema = prepare(file, tmp_path / "hashed", hashed)

    assert open_dataset(tmp_path / "few").vocabulary("tags")["value"].to_list() == ["a", "b"]
    assert schema.fields[0].slots == 2
    places = set(open_dataset(tmp_path / "hashed").vocabulary("tags")["value"]) - {None}
    assert places <= {"0", "1", "2"}
    found = preview(file, few, tmp_path / "downloads").fields[0]
    assert (found.values, found.field.slots, found.field.cardinality) == (5, 2, 3)


def test_one_value_per_cell_is_a_category(tmp_path):
    file = write(tmp_path, [f"v{n * n % 13}" for n in range(300)], a=["p", "q", "r"] * 100)
    plain = PrepareOptions(format="table", label="y", min_count=1)
    runs = []
    for name, options in {"plain": plain, "cells": TABLE}.items():
        prepare(file, tmp_path / name, options)
        train(parse_config(SETTINGS), dataset=tmp_path / name, run=tmp_path / f"{name}_run")
        runs.append(load_run(tmp_path / f"{name}_run"))

    plain_ids, cell_ids = (run.dataset().split("train").ids for run in runs)
    np.testing.assert_array_equal(plain_ids, cell_ids)
    weights = [run.model.state_dict() for run in runs]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert runs[0].evaluate("test") == runs[1].evaluate("test")


def bags(random, rows, size, slots):
    """Draw bags of 1 to `slots` ids; return them in slots, and flat with the start of each."""
    sizes = random.integers(1, slots + 1, rows)
    ids = [random.integers(0, size, count) for count in sizes]
    matrix = np.array([[*bag, *[-1] * (slots - len(bag))] for bag in ids])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return torch.from_numpy(matrix), torch.from_numpy(np.concatenate(ids)), torch.from_numpy(starts)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("row", [Row(), Row(blocks=2, first_order=True)])
@pytest.mark.parametrize("name", [None, *TABLE_OPTIMIZERS])
def test_pooling_and_its_gradient_are_those_of_embedding_bag(name, row, pooling):
    random = np.random.default_rng(0)
    embedding = EmbeddingSets([4, 7, 5], dim=3, sets=2, row=row, slots=[1, 3, 1], pooling=pooling)
    matrix, flat, starts = bags(random, 50, 7, 3)
    single = torch.from_numpy(random.integers(0, [4, 5], (50, 2)))
    ids = torch.cat([single[:, :1], matrix, single[:, 1:]], dim=1).to(torch.int32)
    table = embedding.weight.detach().clone().requires_grad_()
    blocks = table.split([4, 7, 5])
    expected = torch.stack(
        [
            torch.nn.functional.embedding(single[:, 0], blocks[0]),
            torch.nn.functional.embedding_bag(flat, blocks[1], starts, mode=pooling),
            torch.nn.functional.embedding(single[:, 1], blocks[2]),
        ],
        dim=1,
    )
    expected = expected.view(50, 3, 2, embedding.width).transpose(1, 2)
    gradient = torch.from_numpy(random.standard_normal(expected.shape)).float()
    expected.backward(gradient)

    if name is None:
        found = embedding(ids)
        found.backward(gradient)
        gradients = embedding.weight.grad
    else:
        tables = TABLE_OPTIMIZERS[name](embedding, learning_rate=0.1, weight_decay=0.0)
        found = tables.lookup(ids)
        found.backward(gradient)
        gradients = tables.gradients()[0]

    torch.testing.assert_close(found, expected)
    wanted = table.grad
    if len(gradients) < len(wanted):  # of the rows touched, in an order of its own
        wanted = wanted[wanted.abs().sum(1) > 0]
        gradients, wanted = (part[part[:, 0].argsort()] for part in (gradients, wanted))
    torch.testing.assert_close(gradients, wanted)


@pytest.mark.parametrize("name", ["lazy_adam", "rowwise_adagrad"])
def test_slots_without_a_value_train_no_row(name):
    embedding = EmbeddingSets([6, 3], dim=2, slots=[3, 1])
    before = embedding.weight.detach().clone()
    tables = TABLE_OPTIMIZERS[name](embedding, learning_rate=0.1, weight_decay=0.1)

    ids = torch.tensor([[4, -1, -1, 1], [5, 4, -1, 1]], dtype=torch.int32)
    tables.lookup(ids).sum().backward()
    tables.step()
    tables.flush()

    changed = (embedding.weight.detach() != before).any(dim=1)
    assert changed.nonzero()[:, 0].tolist() == [4, 5, 7]


def test_deferred_adam_trains_pooled_tables_as_dense_adam_does():
    random = np.random.default_rng(1)
    tables = []
    for name in ("dense_adam", "deferred_adam"):
        torch.manual_seed(0)
        embedding = EmbeddingSets([9, 30], dim=3, sets=2, slots=[2, 4])
        tables.append(TABLE_OPTIMIZERS[name](embedding, learning_rate=0.01, weight_decay=1e-3))
    for _ in range(30):
        matrices = [bags(random, 16, size, slots)[0] for size, slots in ((9, 2), (30, 4))]
        ids = torch.cat(matrices, dim=1).to(torch.int32)
        for one in tables:
            one.lookup(ids).square().sum().backward()
            one.step()
    for one in tables:
        one.flush()

    torch.testing.assert_close(tables[0].embedding.weight, tables[1].embedding.weight)


def test_an_id_below_none_is_refused():
    embedding = EmbeddingSets([6], dim=2, slots=[2])

    for wrong in ([[-1, 2]], [[3, -2]], [[3, 6]]):
        with pytest.raises(DataError, match="must be below its cardinality 6"):
            embedding(torch.tensor(wrong))
    with pytest.raises(DataError, match="ids must have 2 fields, got 1"):
        embedding(torch.tensor([[3]]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    file = write(folder, some_tags(600), user=[f"u{n % 11}" for n in range(600)])
    prepare(file, folder / "dataset", TABLE.model_copy(update={"max_cell_values": 4}))
    config = parse_config(SETTINGS | {"model": SETTINGS["model"] | {"pooling": "sum"}})
    train(config, dataset=folder / "dataset", run=folder / "run")
    return folder


def test_raw_rows_get_the_probabilities_of_their_evaluation(trained, tmp_path):
    run = load_run(trained / "run")
    scores = run.score("test")
    rows = split_rows(600, 0)[2]

    predict(run, trained / "rows.parquet", tmp_path / "out.parquet")

    found = pl.read_parquet(tmp_path / "out.parquet")["probability"].to_numpy()[rows]
    np.testing.assert_array_equal(found, scores.probabilities)
    frame = pl.read_parquet(trained / "rows.parquet").to_pandas()
    np.testing.assert_array_equal(run.predict_proba(frame)[rows], scores.probabilities)


def test_tables_are_written_with_the_counts_of_single_values(trained, tmp_path):
    names = write_embeddings(load_run(trained / "run"), tmp_path / "tables")

    found = pl.read_parquet(tmp_path / "tables" / names[0])
    tags = pd.Series(some_tags(600)).iloc[split_rows(600, 0)[0]]
    lists = tags.str.split("|").map(lambda parts: [p for p in parts if p][:4] or [""])
    counts = lists.explode().value_counts()
    kept = found.filter(pl.col("id") > 0)
    assert kept["count"].to_list() == kept["training_count"].to_list()
    values = kept["value"].fill_null("")
    assert dict(zip(values, kept["training_count"], strict=True)) == counts.to_dict()


def test_what_needs_one_value_per_row_says_so(trained, tmp_path):
    run = load_run(trained / "run")

    with pytest.raises(DataError, match="group must be a field of one value per row, got 'tags'"):
        run.evaluate("test", group="tags")
    assert run.evaluate("test", group="user")["group_auc_rows"] > 0
    with pytest.raises(DataError, match="to be compressed, got 'tags'"):
        compress_run(trained / "run", tmp_path / "small", keep=0.9)
    with pytest.raises(DataError, match="one value per row for that, got 'tags'"):
        subset(open_dataset(trained / "dataset"), tmp_path, 0.5)
    assert not list(tmp_path.iterdir())


def test_a_part_of_bad_rows_alone_counts_nothing(tmp_path):
    bad, good = ["2,a|b"] * 10, [f"{row % 2},a|b" for row in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["y,tags", *bad, *good]) + "\n")
    options = TABLE.model_copy(update={"shard_rows": 10, "max_bad_rows": 10})

    schema = prepare(tmp_path / "rows.csv", tmp_path / "dataset", options)

    assert schema.bad_rows.count == 10
    assert sum(split.rows for split in schema.splits.values()) == 40
    assert (schema.fields[0].slots, schema.fields[0].cardinality) == (2, 3)
