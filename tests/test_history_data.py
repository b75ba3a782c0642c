"""Columns of histories: prepared, trained on, scored by every way in, diagnosed, refused."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import multiembed as me
from multiembed.base.errors import ConfigError, DataError
from multiembed.data.prepare import preview
from multiembed.runs.compress import compress_run
from multiembed.serving.card import write_card
from multiembed.serving.export import write_embeddings

ROWS, LENGTH = 400, 4
OPTIONS = me.PrepareOptions(
    format="table", label="y", sequences={"seen": "item", "liked": "item"}, sequence_length=LENGTH
)


def some_rows(rows=ROWS, seed=0):
    """Histories of 0 to 7 items, oldest first, of which some are no item of any row."""
    random = np.random.default_rng(seed)
    seen = [[f"i{i}" for i in random.integers(0, 14, size)] for size in random.integers(0, 8, rows)]
    items = [f"i{i}" for i in random.integers(0, 10, rows)]
    return pl.DataFrame(
        {
            "seen": seen,
            "y": [int(item in them) for item, them in zip(items, seen, strict=True)],
            "item": items,
            "n": random.normal(size=rows),
            "liked": [them[:2] for them in seen],
        }
    )


def text(rows):
    """The same rows with histories as text."""
    return rows.with_columns(pl.col("seen").list.join("|"), pl.col("liked").list.join(" "))


TEXT = {"multivalued": {"seen": "|", "liked": " "}}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    some_rows().write_parquet(path)
    return path


@pytest.fixture(scope="module")
def dataset(file, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "set"
    me.prepare(file, path, OPTIONS)
    return me.open_dataset(path)


def config(pooling="attention", **training):
    more = {} if pooling == "mean" else {"sequence_units": (4,), "sequence_positions": True}
    model = me.ModelConfig(
        architecture="dcnv2",
        dim=2,
        sets=2,
        sequence_pooling=pooling,
        options={"hidden": [4], "cross_layers": 1},
        **more,
    )
    settings = {"max_epochs": 2, "batch_size": 64, "learning_rate": 0.01, "device": "cpu"}
    return me.RunConfig(model=model, training=me.TrainingConfig(**settings | training))


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    return me.train(config(), dataset=dataset, run=tmp_path_factory.mktemp("runs") / "run")


def all_ids(dataset):
    return np.concatenate([dataset.split(name).ids for name in ("train", "valid", "test")])


def test_the_last_values_are_kept_by_the_ids_of_their_field(dataset):
    rows = some_rows()
    fields = {field.name: field for field in dataset.schema.fields}
    assert list(fields) == ["item", "n", "seen", "liked"]  # histories come last
    assert dataset.field_names == ("item", "n")
    numbers = dict(dataset.vocabulary("item").select("value", "id").iter_rows())
    expected = [
        [
            *[numbers.get(item, 0) for item in them[-LENGTH:]],
            *[-1] * (LENGTH - len(them)),
            *[numbers.get(item, 0) for item in liked],
            *[-1] * (2 - len(liked)),
        ]
        for them, liked in rows.select("seen", "liked").iter_rows()
    ]

    found = all_ids(dataset)[:, 2:]

    assert sorted(found.tolist()) == sorted(expected)
    assert 0 in found and -1 in found[:, 0]
    seen = fields["seen"]
    assert (seen.slots, fields["liked"].slots) == (LENGTH, 2)
    assert seen.cardinality == fields["item"].cardinality == len(numbers) + 1
    assert seen.cut == sum(len(them) > LENGTH for them in rows["seen"])
    assert seen.empty == sum(len(them) == 0 for them in rows["seen"])
    # Rows of histories do not count for the vocabulary.
    assert dataset.vocabulary("item")["count"].sum() <= dataset.split("train").rows
    assert not (dataset.path / "vocabulary" / "seen.parquet").exists()


def test_lists_and_text_become_the_same_ids(dataset, tmp_path):
    rows = some_rows()
    rows.write_ndjson(tmp_path / "rows.jsonl")
    text(rows).write_csv(tmp_path / "rows.csv")
    python = pl.col("seen", "liked").map_elements(lambda them: repr(them.to_list()), pl.String)
    rows.with_columns(python).write_csv(tmp_path / "lists.csv")
    for name, options in (("rows.jsonl", {}), ("rows.csv", TEXT), ("lists.csv", {})):
        other = tmp_path / name.replace(".", "_")
        me.prepare(tmp_path / name, other, OPTIONS.model_copy(update=options))

        np.testing.assert_array_equal(all_ids(me.open_dataset(other)), all_ids(dataset))


def test_datasets_and_runs_without_histories_say_nothing_of_them(tmp_path):
    some_rows().select("y", "item").write_csv(tmp_path / "rows.csv")
    options = me.PrepareOptions(format="table", label="y")
    me.prepare(tmp_path / "rows.csv", tmp_path / "set", options)
    schema = (tmp_path / "set" / "schema.json").read_text()

    assert not re.search("sequence|shares|empty", schema)
    assert "sequence" not in me.RunConfig().to_toml()


REFUSED = {
    "sequence 'seen' must be of a categorical field (item), got 'itm'": {"seen": "itm"},
    "got 'n', which is numeric": {"seen": "n"},
    "got 'liked', which is a sequence": {"seen": "liked", "liked": "item"},
    "got 'seen', which is a sequence": {"seen": "seen"},
    "got 'tags', which is multivalued": {"seen": "tags"},
    "sequence 'n' must hold lists, or text whose delimiter --multivalued n=TEXT says": {
        "n": "item"
    },
    "sequence 'item' must hold lists, or text": {"item": "n"},
    "a column must be one of seen, item, n, liked, tags, got 'sen'": {"sen": "item"},
    "column 'deep' must": {"deep": "item"},
}


@pytest.mark.parametrize(("message", "sequences"), [(m, s) for m, s in REFUSED.items()])
def test_what_can_be_no_history_is_one_line(tmp_path, message, sequences):
    deep, tags = [[["a"], ["b"]]] * ROWS, [["a", "b"]] * ROWS
    rows = some_rows().with_columns(deep=pl.Series(deep), tags=pl.Series(tags))
    rows = rows if "deep" in sequences else rows.drop("deep")
    rows.write_parquet(tmp_path / "rows.parquet")

    with pytest.raises(DataError) as caught:
        options = OPTIONS.model_copy(update={"sequences": sequences})
        me.prepare(tmp_path / "rows.parquet", tmp_path / "set", options)

    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_the_command_line_makes_histories_and_refuses_others(call, file, tmp_path):
    target, label = tmp_path / "set", ("--label", "y")
    assert call("prepare", file, target, *label, "--sequence", "seen=itm")[0] == 2
    assert call("prepare", file, target, *label, "--sequence", "seen")[0] == 2
    code, printed, _ = call(
        *("prepare", file, target, *label, "--sequence", "seen=item", "--sequence-length", "3")
    )

    assert code == 0
    assert call("models", target, "--architectures", "dnn", "--sizes", "1")[0] == 0
    assert "history of item" in printed and "the last 3 were kept" in printed
    settings = ("--dim", "2", "--set", "model.options.hidden=[4]", "--set", "training.max_epochs=1")
    said = ("--set", "model.sequence_pooling=softmax", "--set", "model.sequence_units=[3]")
    assert call("train", target, tmp_path / "run", *settings, *said)[0] == 0
    trained = me.load_run(tmp_path / "run")
    assert trained.config.model.sequence_pooling == "softmax"
    assert trained.model.embedding.attentions[0].layers[0].weight.shape == (1, 3, 8)


def test_a_preview_counts_by_the_vocabulary_of_the_field(file, tmp_path):
    shown = {one.field.name: one for one in preview(file, OPTIONS, tmp_path).fields}
    values = some_rows()["seen"].list.tail(LENGTH).explode().drop_nulls()
    known = some_rows()["item"].unique()  # each of them is frequent

    assert shown["seen"].field.cardinality == shown["item"].field.cardinality == len(known) + 1
    assert shown["seen"].values == values.n_unique()
    assert shown["seen"].rare == pytest.approx(1 - values.is_in(known.to_list()).mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence_units": (4,)}, "sequence_units must stand with model.sequence_pooling"),
        (
            {"sequence_pooling": "mean", "sequence_positions": True},
            "sequence_positions must stand with model.sequence_pooling attention or softmax, got "
            "mean",
        ),
    ],
)
def test_layers_of_no_attention_are_refused(dataset, tmp_path, settings, message):
    bad = me.RunConfig(model=me.ModelConfig(architecture="dnn", **settings))

    with pytest.raises(ConfigError, match=message):
        me.train(bad, dataset=dataset, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pooling_of_nothing_is_refused(tmp_path):
    some_rows().select("y", "item").write_csv(tmp_path / "rows.csv")
    options = me.PrepareOptions(format="table", label="y")
    me.prepare(tmp_path / "rows.csv", tmp_path / "set", options)

    with pytest.raises(ConfigError, match="must stand with a dataset that has a history"):
        me.train(config(), dataset=tmp_path / "set", run=tmp_path / "run")


def test_one_score_by_every_way_in(run, file, tmp_path):
    rows = some_rows().with_row_index("row")
    expected = run.predict_proba(rows)
    assert np.ptp(expected) > 0 and np.isfinite(expected).all()

    np.testing.assert_allclose(run.predict_proba(rows.to_pandas()), expected, atol=1e-6)
    np.testing.assert_allclose(run.predict_proba(rows.to_arrow()), expected, atol=1e-6)
    shuffled = rows.select(reversed(rows.columns)).sample(fraction=1, shuffle=True, seed=1)
    np.testing.assert_allclose(
        run.predict_proba(shuffled), expected[shuffled["row"].to_numpy()], atol=1e-6
    )
    me.predict(run, file, tmp_path / "out.csv", column="p")
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out.csv")["p"], expected, atol=1e-6)
    found = me.export(run, tmp_path / "bundle", format="onnx")
    assert found.rows == ROWS and found.largest_difference < 1e-6


def test_a_row_alone_scores_as_among_others(run):
    rows = some_rows(40, seed=3)
    together = run.predict_proba(rows)

    alone = np.concatenate([run.predict_proba(rows[at : at + 1]) for at in range(8)])

    np.testing.assert_allclose(alone, together[:8], atol=1e-7)


def test_the_diagnosis_counts_the_shared_table_once(run, dataset, tmp_path, monkeypatch):
    found = me.diagnose(run.path)
    ids = dataset.split("train").ids
    counts = np.bincount(np.concatenate([ids[:, 0], ids[:, 2:][ids[:, 2:] >= 0]]))

    assert [field.name for field in found.fields] == ["item", "n"]
    of_item = run.directory.read_row_counts(run.schema.cardinalities)[0]
    assert of_item.tolist() == counts.tolist()
    assert [field.name for field in me.diagnose(run.model).fields] == ["0", "1"]
    assert len(write_embeddings(run, tmp_path / "tables")) == 2
    # Where the raw rows are gone, those that stand for the ids do.
    with monkeypatch.context() as away:
        away.setattr("multiembed.serving.export._source", lambda run: None)
        assert "rebuilt" in me.export(run, tmp_path / "bundle", format="torch").of
    assert [field.name for field in me.diagnose(tmp_path / "bundle").fields] == ["item", "n"]
    assert "history of `item`" in write_card(run).read_text(encoding="utf-8")
    with pytest.raises(DataError, match="one value per row to be compressed, got 'seen'"):
        compress_run(run.path, tmp_path / "small", keep=0.9)
    with pytest.raises(DataError, match="one value per row, got 'seen'"):
        run.evaluate("test", group="seen")


def test_empty_histories_far_beyond_training_are_remarked_on(run):
    rows = some_rows(300, seed=5).with_columns(seen=pl.lit([], pl.List(pl.String)))

    with pytest.warns(UserWarning, match=r"seen: 100% of values missing, \d+% in training"):
        scores = run.predict_proba(rows)
    assert np.isfinite(scores).all()


class Killer:
    def stepped(self, progress):
        if progress.step >= 4:
            raise KeyboardInterrupt

    def evaluated(self, record):
        pass

    warned = evaluated


def test_a_killed_run_goes_on_to_the_same_weights(run, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("multiembed.training.trainer.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("multiembed.training.trainer.REPORT_STEPS", 1)
    with pytest.raises(KeyboardInterrupt):
        me.train(config(), dataset=dataset, run=tmp_path / "run", observer=Killer())

    resumed = me.train(None, run=tmp_path / "run", resume=True)

    ours, theirs = (load_file(path / "last.safetensors") for path in (resumed.path, run.path))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_classifier_reads_histories(tmp_path):
    rows = some_rows().to_pandas()
    options = {"hidden": [8]}
    training = {"max_epochs": 10, "batch_size": 32, "learning_rate": 0.02}
    model = me.ClickClassifier(
        "dnn",
        dim=4,
        options=options,
        training=training,
        sequences={"seen": "item", "liked": "item"},
        sequence_pooling="attention",
    )
    model.fit(rows.drop(columns="y"), rows["y"])

    found = model.predict_proba(rows.drop(columns="y"))[:, 1]

    assert found[rows["y"] == 1].mean() > found[rows["y"] == 0].mean() + 0.2
    unseen = rows.drop(columns="y").assign(seen=[["nobody", "knows"]] * len(rows))
    with pytest.warns(UserWarning, match="seen: 100% of values never seen"):
        assert np.isfinite(model.predict_proba(unseen)).all()
