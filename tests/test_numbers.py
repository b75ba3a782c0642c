"""Numbers of a dataset that are kept as numbers: on what scale, and the same by every way in."""

import json
import re
import shutil
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import norm, rankdata

import multiembed as me
from multiembed.base.errors import ConfigError, DataError
from multiembed.data.encoding.counting import split_codes
from multiembed.data.encoding.number_scale import on_scale, scaled
from multiembed.data.encoding.values import cut_quantiles
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.schema import Field, NumberScale
from multiembed.data.store.shards import shard_name, write_shard
from multiembed.runs.compress import compress_run
from multiembed.serving.bundle import score
from multiembed.serving.export import write_embeddings

ROWS = 600
KINDS = ("linear", "plr", "soft")
NUMBERS = {"numeric_columns": ("price", "age")}


def raw_rows() -> pl.DataFrame:
    random = np.random.default_rng(0)
    price, age = random.lognormal(size=ROWS), random.gamma(2, 20, ROWS)
    click = random.random(ROWS) < 1 / (1 + np.exp(-2 * np.log(price)))
    absent = random.random(ROWS) < 0.1
    return pl.DataFrame(
        {
            "click": click.astype(int),
            "price": [None if gone else float(p) for gone, p in zip(absent, price, strict=True)],
            "site": [f"s{n}" for n in random.integers(0, 5, ROWS)],
            "age": age,
        }
    )


def options(**more: object) -> me.PrepareOptions:
    return me.PrepareOptions(format="table", label="click", min_count=1, **(NUMBERS | more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Raw rows, and a dataset of them whose numbers are kept."""
    folder = tmp_path_factory.mktemp("numbers")
    raw_rows().write_csv(folder / "raw.csv")
    chosen = options(numeric_embedding={"price": "plr", "age": "linear"})
    me.prepare(folder / "raw.csv", folder / "dataset", chosen)
    return folder


def config(kind: str | None = None, **training: object) -> me.RunConfig:
    numeric = None if kind is None else {"embedding": kind, "frequencies": 3, "buckets": 4}
    model = {"architecture": "dnn", "dim": 4, "sets": 2, "options": {"hidden": [8]}}
    settings = {"batch_size": 64, "max_epochs": 2, "threads": 1, "learning_rate": 0.01}
    return me.RunConfig(
        model=me.ModelConfig(**model, numeric=numeric),
        training=me.TrainingConfig(**(settings | training)),
    )


@pytest.fixture(scope="module")
def runs(folder) -> dict[str | None, me.Run]:
    """A run of every kind on one dataset, and one of the kinds that this says."""
    dataset = me.open_dataset(folder / "dataset")
    kinds = (None, "buckets", *KINDS)
    return {k: me.train(config(k), dataset=dataset, run=folder / f"run_{k}") for k in kinds}


def scale_of(values: list[float | None]) -> Field:
    counts = pl.DataFrame({"value": values, "count": [1] * len(values)})
    scale = scaled(NumberScale(embedding="plr"), counts)
    return Field(name="x", kind="numeric", cardinality=2, min_count=1, number=scale)


def test_the_scale_is_normal_by_hand():
    scale = scale_of([4.0, 1.0, None, 2.0, 1.0]).number

    # Of few values each counts alike, however many rows it has: half of a third below the first.
    levels = [NormalDist().inv_cdf(share) for share in (1 / 6, 1 / 2, 5 / 6)]
    assert scale.values == (1, 2, 4)
    np.testing.assert_allclose(scale.levels, levels, atol=1e-6)


def test_a_value_of_most_rows_is_one_part_of_32():
    values = pl.DataFrame({"value": [0.0, *map(float, range(1, 63))], "count": [900] + [3] * 62})

    scale = scaled(NumberScale(embedding="plr"), values)
    rule, buckets = cut_quantiles(values)

    # 62 values of 3 rows are 31 parts of 6, so that 0 counts as one such part: 6 of 192.
    at = np.interp([0, 1, 62], scale.values, scale.levels)
    np.testing.assert_allclose(norm.cdf(at), [3 / 192, 7.5 / 192, 190.5 / 192], atol=1e-6)
    assert rule.edges == tuple(range(1, 63, 2))
    assert sorted(buckets["count"].to_list()) == [6] * 31 + [900]


def test_numbers_are_as_normal_as_their_ranks():
    values = np.random.default_rng(0).lognormal(0, 2, 5000)
    field = scale_of(values.tolist())

    found = on_scale(pl.Series(values), field)

    expected = norm.ppf((rankdata(values) - 0.5) / len(values))  # SciPy's
    assert np.abs(found - expected).max() < 0.08
    assert np.array_equal(np.argsort(found, kind="stable"), np.argsort(values, kind="stable"))
    assert len(field.number.values) <= 67


def test_what_lies_beyond_training_is_level_and_what_is_missing_stays_so():
    field = scale_of([1.0, 2.0, 3.0])

    found = on_scale(pl.Series([-1e300, 1.0, 2.5, 1e300, None]), field)

    low, high = field.number.levels[0], field.number.levels[-1]
    np.testing.assert_allclose(found, [low, low, high / 2, high, np.nan], atol=1e-6)
    assert np.isnan(on_scale(pl.Series([None], dtype=pl.Float64), scale_of([None]))).all()
    assert on_scale(pl.Series([3.0, 7.0]), scale_of([7.0, 7.0])).tolist() == [0, 0]


def test_a_dataset_holds_the_numbers_of_its_rows_by_the_scale_of_those_that_train(folder):
    dataset, raw = me.open_dataset(folder / "dataset"), raw_rows()
    codes = split_codes(np.arange(ROWS), 0)

    for place, name in ((0, "price"), (1, "age")):
        scale = {field.name: field.number for field in dataset.schema.fields}[name]
        counted = scale_of(raw[name].filter(codes == 0).to_list()).number
        assert (scale.values, scale.levels) == (counted.values, counted.levels)
        for code, split in enumerate(("train", "valid", "test")):
            kept = dataset.split(split).take(np.arange((codes == code).sum())).numbers[:, place]
            values = raw[name].filter(codes == code).to_numpy()
            np.testing.assert_allclose(kept, np.interp(values, scale.values, scale.levels), 1e-6)


@pytest.mark.parametrize("rule", ["log", "quantiles", "as_is"])
def test_ids_are_those_of_buckets_whether_or_not_numbers_are_kept(rule, folder, tmp_path):
    plain, kept = options(numeric_rule=rule), options(numeric_rule=rule, numeric_embedding="soft")
    first = me.prepare(folder / "raw.csv", tmp_path / "plain", plain)
    second = me.prepare(folder / "raw.csv", tmp_path / "kept", kept)

    assert first.cardinalities == second.cardinalities
    assert first.kept_numbers == (None, None, None)
    assert second.kept_numbers == ("soft", None, "soft")
    assert "number" not in json.loads((tmp_path / "plain/schema.json").read_text())["fields"][0]
    for split in ("train", "test"):
        of_plain, of_kept = (
            me.open_dataset(tmp_path / name).split(split) for name in ("plain", "kept")
        )
        np.testing.assert_array_equal(of_plain.ids, of_kept.ids)
    rows = pl.DataFrame({"price": ["7", "", "x", "1e999"], "site": ["s1"] * 4, "age": [1.5] * 4})
    encoders = [Encoder.load(tmp_path / name) for name in ("plain", "kept")]
    np.testing.assert_array_equal(encoders[0].encode(rows), encoders[1].encode(rows))
    assert np.isnan(encoders[1].read(rows).numbers[:, 0]).tolist() == [False, True, True, True]
    assert encoders[0].read(rows).numbers is None


def test_one_dataset_serves_every_kind(runs, folder):
    tables = {kind: [len(b) for b in run.model.embedding.by_field()] for kind, run in runs.items()}

    assert tables["linear"] == [3, 6, 3]
    assert tables["plr"] == [8, 6, 8]
    assert tables["soft"] == [5, 6, 5]
    assert tables[None] == [34, 6, 3]  # as the dataset says, with 16 frequencies
    assert tables["buckets"] == list(me.open_dataset(folder / "dataset").cardinalities)
    for run in runs.values():
        assert run.evaluate("valid")["auc"] > 0.6


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_scores_are_the_same_by_every_way_in(kind, runs, folder, tmp_path):
    run = runs[kind]

    me.predict(run, folder / "raw.csv", tmp_path / "scored.parquet")
    of_file = pl.read_parquet(tmp_path / "scored.parquet")["probability"].to_numpy()

    np.testing.assert_array_equal(of_file, run.predict_proba(raw_rows()))
    of_split = run.score("test").probabilities
    np.testing.assert_array_equal(of_file[split_codes(np.arange(ROWS), 0) == 2], of_split)


@pytest.fixture(scope="module")
def bundle(runs, folder) -> Path:
    """A bundle for torch, of periodic functions and a line."""
    me.export(runs[None], folder / "bundle", format="torch")
    return folder / "bundle"


STRANGE = pl.DataFrame(
    {
        "price": ["", "nan", "x", "-1e400", "1e-9", " 2 ", "1,5", None],
        "site": ["s1"] * 8,
        "age": [None, 1.0, 2.0, 3.0, 4.0, 1e9, -1e9, 50.0],
    }
)


def test_bundles_score_as_their_runs_do(runs, bundle, folder):
    np.testing.assert_allclose(
        score(bundle, STRANGE).to_numpy(), runs[None].predict_proba(STRANGE), atol=1e-6
    )
    fields = json.loads((bundle / "manifest.json").read_text())["fields"]
    assert [field.get("number", {}).get("embedding") for field in fields] == ["plr", None, "linear"]

    # An export to ONNX takes seconds: this kind has all operations but cos and sin.
    parity = me.export(runs["soft"], folder / "onnx", rows=folder / "raw.csv")

    assert parity.largest_difference < 1e-6
    found = me.diagnose(folder / "onnx")
    assert [field.name for field in found.fields] == ["site"]
    assert {one.name: one.reason for one in found.skipped}["age"].startswith("a field of numbers")


def test_fields_of_numbers_are_diagnosed_by_name_and_listed_by_number(runs, bundle, tmp_path):
    run = runs["plr"]

    found = me.diagnose(run.path)

    assert [(f.name, f.cardinality, f.rows_trained) for f in found.fields] == [
        ("price", 8, None),
        ("site", 6, 5),
        ("age", 8, None),
    ]
    block = run.model.embedding.by_field()[0].numpy().astype(float)
    assert found.fields[0].singular_values == pytest.approx(np.linalg.svd(block)[1], rel=1e-5)
    assert [f.cardinality for f in me.diagnose(bundle).fields] == [34, 6, 3]
    assert [f.cardinality for f in me.diagnose(run.model).fields] == [8, 6, 8]
    twice = me.diagnose_over_time([run.path, run.path])
    assert next(field.name for field in twice.fields) == "price"

    names = write_embeddings(run, tmp_path / "embeddings")

    table = pl.read_parquet(tmp_path / "embeddings" / names[0])
    values = table["value"].cast(pl.Float64).to_list()
    ids, numbers = run.encoder.read(
        pl.DataFrame({"price": values, "site": ["s1"] * len(values), "age": [1.0] * len(values)})
    )
    with torch.no_grad():
        rows = run.model.embedding(torch.from_numpy(ids), torch.from_numpy(numbers))
    for m in range(2):
        ours = np.array(table[f"set_{m}"].to_list())
        np.testing.assert_allclose(ours, rows[:, m, 0].numpy(), atol=1e-6)
    assert values[0] is None
    assert table["count"].null_count() == len(table)


class Killer:
    """Ends the training at its first evaluation, as a kill would."""

    def stepped(self, progress): ...

    def warned(self, message): ...

    def evaluated(self, record):
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_the_same_weights(kind, runs, folder, tmp_path):
    dataset = me.open_dataset(folder / "dataset")
    with pytest.raises(KeyboardInterrupt):
        me.train(config(kind), dataset=dataset, run=tmp_path / "run", observer=Killer())

    resumed = me.train(None, run=tmp_path / "run", resume=True)

    for file in ("best.safetensors", "last.safetensors"):
        ours, theirs = (load_file(run.path / file) for run in (resumed, runs[kind]))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("optimizer", ["deferred_adam", "rowwise_adagrad"])
def test_rows_of_numbers_alone_can_be_learned_from(optimizer, tmp_path):
    raw_rows().select("click", "price", "age").write_csv(tmp_path / "raw.csv")
    me.prepare(tmp_path / "raw.csv", tmp_path / "set", options(numeric_embedding="plr"))

    chosen = config(table_optimizer=optimizer, gradient_clip=1.0)
    run = me.train(chosen, dataset=tmp_path / "set", run=tmp_path / "run")

    assert run.model.embedding.weight.shape == (0, 8)
    assert run.evaluate("test")["auc"] > 0.7
    assert [field.name for field in me.diagnose(run.path).fields] == ["price", "age"]


def test_the_classifier_embeds_numbers():
    raw = raw_rows()
    rows, labels = raw.drop("click"), raw["click"].to_numpy()
    settings = {"max_epochs": 3, "batch_size": 64, "learning_rate": 0.01}
    options = {"dim": 3, "options": {"hidden": [4]}, "training": settings}

    model = me.ClickClassifier("dnn", numeric_embedding="linear", **options).fit(rows, labels)

    assert "linear" in repr(model)
    assert model._model.embedding.numeric["linear"].count == 3
    assert model.score(rows, labels) > 0.65
    wrong = model.set_params(numeric_embedding="plm")
    with pytest.raises(ConfigError, match=r"numeric_embedding.* must be 'linear'"):
        wrong.fit(rows, labels)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("plm", "numeric_embedding.* must be 'linear', 'plr' or 'soft', got 'plm'"),
        ("price=", "must be 'linear', 'plr' or 'soft', got 'price'"),
        ("site=plr", "must be numeric, got 'site', which is no number; numeric are: price, age"),
        ("cost=plr", "must be numeric, got 'cost', which is not there"),
    ],
)
def test_what_cannot_be_embedded_so_is_one_line(asked, message, folder, tmp_path, call):
    code, _, errors = call(
        *("prepare", folder / "raw.csv", tmp_path / "set", "--label", "click"),
        *("--numeric", "price", "--numeric", "age", "--numeric-embedding", asked),
    )

    assert code == 2
    assert re.search(message, " ".join(errors.split()))
    assert not (tmp_path / "set").exists()


def test_the_command_line_names_one_field_or_all(folder, tmp_path, call):
    start = ("prepare", folder / "raw.csv")
    end = ("--label", "click", "--numeric", "price", "--numeric", "age")
    asked = ("--numeric-embedding", "plr", "--numeric-embedding", "age=soft")
    code, shown, _ = call(*start, tmp_path / "set", *end, *asked)

    assert code == 0
    assert me.open_dataset(tmp_path / "set").schema.kept_numbers == ("plr", None, "soft")
    assert "as plr" in shown
    code, shown, _ = call(*start, "--dry-run", *end, *asked)
    assert code == 0
    assert "as soft" in shown


@pytest.mark.parametrize(
    ("format", "rule"),
    [("table", "quantiles"), ("flights", "log"), ("criteo", "log"), ("criteo_x4", "log")],
)
def test_formats_of_the_paper_have_its_buckets_and_tables_equal_ones(format, rule):
    said = me.PrepareOptions(format=format).model_dump()

    assert said["numeric_rule"] == me.PrepareOptions.model_validate(said).rule == rule
    assert me.PrepareOptions(format=format, numeric_rule="as_is").rule == "as_is"


@pytest.mark.parametrize("kind", KINDS)
def test_compressing_narrows_the_tables_and_leaves_numbers_alone(kind, runs, folder, tmp_path):
    done = compress_run(runs[kind].path, tmp_path / "small", keep=0.5)

    assert [field.name for field in done.fields] == ["site"]
    assert done.fields[0].stored < done.fields[0].columns
    small, model = me.load_run(tmp_path / "small"), me.load_run(runs[kind].path).model
    with torch.no_grad():  # the same narrowing, by NumPy
        table = model.embedding.weight
        mean = table.numpy().mean(axis=0)
        u, s, v = np.linalg.svd(table.numpy() - mean, full_matrices=False)
        kept = 1 + int(np.argmax(np.cumsum(s**2) / np.sum(s**2) >= 0.5))
        table.copy_(torch.from_numpy((u[:, :kept] * s[:kept]) @ v[:kept] + mean))
    test = me.open_dataset(folder / "dataset").split("test")
    rows = test.take(np.arange(test.rows))
    ids, numbers = rows.ids, rows.numbers
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(numbers))
    np.testing.assert_allclose(
        small.predict(ids, numbers), torch.sigmoid(expected).numpy(), atol=1e-6
    )
    assert [field.name for field in me.diagnose(tmp_path / "small").fields] == [
        *("price", "site", "age"),
    ]


def test_rows_of_numbers_alone_have_no_table_to_compress(tmp_path):
    raw_rows().select("click", "price", "age").write_csv(tmp_path / "raw.csv")
    me.prepare(tmp_path / "raw.csv", tmp_path / "set", options(numeric_embedding="plr"))
    run = me.train(config(max_epochs=1), dataset=tmp_path / "set", run=tmp_path / "run")

    with pytest.raises(DataError, match="must have tables to be compressed, got numbers alone"):
        compress_run(run.path, tmp_path / "small")


def test_numbers_that_a_dataset_has_not_are_refused_before_a_run_begins(folder, tmp_path):
    me.prepare(folder / "raw.csv", tmp_path / "plain", options())

    message = "must stand with a dataset that keeps numbers, got plr; prepare it with"
    with pytest.raises(ConfigError, match=message):
        me.train(config("plr"), dataset=tmp_path / "plain", run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_has_no_numbers_or_infinite_ones_is_refused(runs, folder, tmp_path):
    run = runs["plr"]
    with pytest.raises(DataError, match="numbers must have 2 columns, got 0"):
        run.predict(np.zeros((3, 3), np.int64))
    shutil.copytree(folder / "dataset", tmp_path / "set")
    rows = me.open_dataset(tmp_path / "set").split("train").take(np.arange(480))
    rows.numbers[7, 1] = np.inf
    write_shard(tmp_path / "set" / "train" / shard_name(0), rows)
    with pytest.raises(DataError, match="numbers of a dataset must be finite or missing"):
        me.train(config(), dataset=tmp_path / "set", run=tmp_path / "run")
