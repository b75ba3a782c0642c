"""What protects a score: fingerprints, groups, classes, and values that training never saw."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import beta, binom
from sklearn.metrics import log_loss, roc_auc_score

import multiembed as me
from multiembed.base.errors import ConfigError, DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.encoding.counting import split_codes
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.kept import groups_of
from multiembed.data.store.schema import Schema
from multiembed.runs.calibrate import calibrate
from multiembed.runs.compress import compress_run
from multiembed.runs.evaluation import Scores, measure
from multiembed.runs.run import load_run
from multiembed.runs.unseen import CHANCE, UnseenTally, UnseenWarning, is_far_beyond
from multiembed.serving.predict import predict
from multiembed.training.start import train

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
CONFIG = RunConfig(
    model=ModelConfig(architecture="dnn", dim=2, options={"hidden": [8]}),
    training=TrainingConfig(max_epochs=1, batch_size=128, threads=1),
)


def options(**more: object) -> PrepareOptions:
    return PrepareOptions.model_validate({"format": "table", "label": "click", **more})


def clicks(seed: int = 0, rows: int = 800) -> pd.DataFrame:
    """Rows of which most users are seen once or twice."""
    random = np.random.default_rng(seed)
    user = np.where(random.random(rows) < 0.5, random.integers(0, 30, rows), 1000)
    user = np.where(user == 1000, 1000 + random.integers(0, 400, rows), user)
    store = random.integers(0, 5, rows)
    return pd.DataFrame(
        {
            "click": (random.random(rows) < 0.3 + 0.1 * store).astype(int),
            "store": [f"s{number}" for number in store],
            "price": np.round(random.gamma(2, 10, rows), 2),
            "user": [f"u{number}" for number in user],
            "account": user * 7 + 3.25,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset and a run of it."""
    folder = tmp_path_factory.mktemp("scoring")
    clicks().to_csv(folder / "june.csv", index=False)
    prepare(folder / "june.csv", folder / "data", options())
    train(CONFIG, dataset=folder / "data", run=folder / "run")
    return folder


def test_a_fingerprint_is_of_the_rows_and_not_of_their_file_or_shards(folder, tmp_path):
    frame = pl.read_csv(folder / "june.csv")
    frame.write_parquet(tmp_path / "june.parquet")
    swapped = frame.with_columns(pl.col("click").reverse())
    swapped.write_csv(tmp_path / "swapped.csv")

    def of(source: Path, **more: object):
        return prepare(source, tmp_path / "any", options(overwrite=True, **more)).fingerprint

    first = Schema.load(folder / "data").fingerprint
    assert of(tmp_path / "june.parquet") == of(folder / "june.csv", shard_rows=100) == first
    labels = of(tmp_path / "swapped.csv")
    assert labels.values == first.values and labels.rows != first.rows
    assert of(folder / "june.csv", seed=1).rows != first.rows
    assert of(folder / "june.csv", numeric_rule="log").values != first.values


def test_a_dataset_prepared_anew_under_a_run_is_refused(folder, tmp_path):
    clicks(1).to_csv(tmp_path / "july.csv", index=False)
    prepare(folder / "june.csv", tmp_path / "data", options())
    run = train(CONFIG, dataset=tmp_path / "data", run=tmp_path / "run")
    before = run.evaluate("test")
    prepare(tmp_path / "july.csv", tmp_path / "data", options(overwrite=True))

    rule = f"{tmp_path / 'data'} must be the dataset that {tmp_path / 'run'} was trained on"
    for use in (
        lambda: run.evaluate("test"),
        lambda: calibrate(run),
        lambda: compress_run(tmp_path / "run", tmp_path / "small"),
        lambda: me.diagnose(tmp_path / "run"),
        lambda: train(None, run=tmp_path / "run", resume=True),
    ):
        with pytest.raises(DataError, match=rule):
            use()
    with pytest.raises(DataError, match="must have the fields of the run"):
        run.evaluate("test", dataset=open_dataset(tmp_path / "data"))
    # Months that were prepared under one name are compared by what each run kept.
    assert me.diagnose_over_time([folder / "run", tmp_path / "run"]).fields

    prepare(folder / "june.csv", tmp_path / "data", options(overwrite=True))
    assert run.evaluate("test") == before


def test_datasets_and_runs_without_a_fingerprint_stay_usable(folder, tmp_path):
    prepare(folder / "june.csv", tmp_path / "data", options())
    run = train(CONFIG, dataset=tmp_path / "data", run=tmp_path / "run")
    for place in ("data", "run"):
        file = tmp_path / place / "schema.json"
        content = json.loads(file.read_text())
        del content["fingerprint"]
        file.write_text(json.dumps(content))

    assert load_run(run.path).evaluate("test") == run.evaluate("test")

    prepare(folder / "june.csv", tmp_path / "data", options(seed=3, overwrite=True))
    with pytest.raises(DataError, match="was trained on"):
        load_run(run.path).evaluate("test")


def auc_within(frame: pd.DataFrame, column: str) -> tuple[float, int]:
    groups = [rows for _, rows in frame.groupby(column) if rows.click.nunique() == 2]
    weight = sum(map(len, groups))
    areas = [len(rows) * roc_auc_score(rows.click, rows.p) for rows in groups]
    return sum(areas) / weight, weight


def scored(path: Path, run, split: int) -> pd.DataFrame:
    frame = pd.read_csv(path)
    frame = frame[split_codes(np.arange(len(frame)), 0) == split]
    return frame.assign(p=run.predict_proba(frame))


def test_groups_are_the_raw_values_rare_ones_too(folder):
    run = load_run(folder / "run")
    expected, rows = auc_within(scored(folder / "june.csv", run, 2), "user")

    measured = run.evaluate("test", group="user")

    assert measured["group_auc"] == pytest.approx(expected, abs=1e-6)
    assert measured["group_auc_rows"] == rows
    assert measured["group_auc_left_out"] == 0


def test_rare_values_of_the_training_split_are_left_out_and_counted(folder):
    run = load_run(folder / "run")
    frame = scored(folder / "june.csv", run, 0)
    counts = frame.user.value_counts()
    rare = frame.user.isin(counts[counts < 2].index)
    expected, rows = auc_within(frame[~rare], "user")

    measured = run.evaluate("train", group="user")

    assert measured["group_auc"] == pytest.approx(expected, abs=1e-6)
    assert measured["group_auc_rows"] == rows
    assert measured["group_auc_left_out"] == rare.sum() > 0


def test_numbers_in_buckets_are_groups_only_where_they_are_kept(folder, tmp_path):
    with pytest.raises(DataError, match=r"'account', which is numbers in buckets: .*--keep acc"):
        load_run(folder / "run").evaluate("test", group="account")
    frame = clicks()
    frame.loc[::9, "account"] = np.nan
    frame["day"] = np.arange(len(frame)) // 8
    frame.to_csv(tmp_path / "rows.csv", index=False)
    asked = options(keep=("account", "day"), split_by="day", shard_rows=100)
    prepare(tmp_path / "rows.csv", tmp_path / "data", asked)
    run = train(CONFIG, dataset=tmp_path / "data", run=tmp_path / "run")
    assert "day" not in open_dataset(tmp_path / "data").field_names
    for split, rows in (("test", frame[frame.day >= 90]), ("train", frame[frame.day < 80])):
        rows = rows.assign(p=run.predict_proba(rows))
        for column in ("account", "day"):
            expected, counted = auc_within(rows, column)

            measured = run.evaluate(split, group=column)

            assert measured["group_auc"] == pytest.approx(expected, abs=1e-6)
            assert measured["group_auc_rows"] == counted
            assert measured["group_auc_left_out"] == rows[column].isna().sum()
    with pytest.raises(DataError, match=r"one of the fields and kept columns .*, got 'none'"):
        run.evaluate("test", group="none")


def test_kept_values_are_groups_however_they_are_written(tmp_path):
    user = np.random.default_rng(1).integers(0, 9, 400)
    dress = ["{}", "{}.0", " {}", "{}.00 "]
    written = [dress[row % 4].format(number) for row, number in enumerate(user)]
    for row, word in enumerate(["NULL", "None", "", "\\N", "anon"] * 8):
        written[9 * row] = word
    frame = pd.DataFrame({"click": [0, 1] * 200, "store": "s", "user": written})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    asked = options(keep=("user",), drop=("user",), missing=("anon",))

    prepare(tmp_path / "rows.csv", tmp_path / "data", asked)

    dataset = open_dataset(tmp_path / "data")
    assert dataset.field_names == ("store",)
    user[np.arange(40) * 9] = -1
    for code, split in enumerate(("train", "valid", "test")):
        here = user[split_codes(np.arange(400), 0) == code]
        groups = groups_of(dataset, split, "user")
        assert ((groups == -1) == (here == -1)).all()
        assert len(set(zip(groups, here, strict=True))) == len(set(here)) == len(set(groups))


def test_rows_that_are_all_in_no_group_have_no_group_auc(tmp_path):
    frame = pd.DataFrame({"click": [0, 1] * 200, "store": "s", "user": [None] * 400})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    prepare(tmp_path / "rows.csv", tmp_path / "data", options(keep=("user",)))
    labels, even = np.array([0, 1] * 20), np.full(40, 0.5)

    dataset = open_dataset(tmp_path / "data")
    measured = measure(Scores(dataset, "test", labels, even), group="user")

    assert (measured["group_auc"], measured["group_auc_rows"]) == (None, 0)
    assert measured["group_auc_left_out"] == 40
    few = options(split_by_group="store")
    with pytest.raises(DataError, match=r"must have enough 'store' for every split, got 400 rows"):
        prepare(tmp_path / "rows.csv", tmp_path / "few", few)


def test_hashed_categories_are_no_groups(folder, tmp_path):
    prepare(folder / "june.csv", tmp_path / "data", options(hash_sizes={"user": 16}))
    run = train(CONFIG, dataset=tmp_path / "data", run=tmp_path / "run")

    with pytest.raises(DataError, match="'user', which is hashed"):
        run.evaluate("test", group="user")


@pytest.mark.parametrize("label", [0, 1])
def test_a_split_of_one_class_has_a_log_loss_and_no_auc(label, tmp_path):
    frame = clicks()
    frame["day"] = np.arange(len(frame)) // 8
    frame.loc[frame.day >= 90, "click"] = label
    frame.to_csv(tmp_path / "rows.csv", index=False)
    prepare(tmp_path / "rows.csv", tmp_path / "data", options(split_by="day"))
    run = train(CONFIG, dataset=tmp_path / "data", run=tmp_path / "run")

    measured = run.evaluate("test", group="user")

    test = frame[frame.day >= 90]
    p = run.predict_proba(test).astype(float)
    assert measured["rows"] == len(test)
    assert measured["auc"] is measured["normalized_entropy"] is measured["group_auc"] is None
    assert measured["log_loss"] == pytest.approx(log_loss(test.click, p, labels=[0, 1]), rel=1e-6)
    assert measured["mean_probability"] == pytest.approx(p.mean(), rel=1e-6)
    ratio = measured["calibration_ratio"]
    assert ratio is None if label == 0 else ratio == pytest.approx(p.mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("architecture", "values"),
    [("dnn", "constant"), ("dnn", "unique"), ("nfwfm", "constant"), ("finalmlp", "unique")],
)
def test_where_rows_do_not_differ_the_base_rate_is_learnt(architecture, values, tmp_path):
    random = np.random.default_rng(5)
    clicked = (random.random(1500) < 0.25).astype(int)
    names = ["x"] * 1500 if values == "constant" else [f"r{row}" for row in range(1500)]
    pd.DataFrame({"click": clicked, "k": names}).to_csv(tmp_path / "rows.csv", index=False)
    prepare(tmp_path / "rows.csv", tmp_path / "data", options())
    model = ModelConfig(architecture=architecture, dim=4, options={"hidden": [32]})
    config = RunConfig(model=model, training=TrainingConfig(batch_size=64, threads=1))

    run = train(config, dataset=tmp_path / "data", run=tmp_path / "run")

    codes = split_codes(np.arange(1500), 0)
    rate, share = clicked[codes == 0].mean(), clicked[codes == 2].mean()
    base = -(share * np.log(rate) + (1 - share) * np.log(1 - rate))
    assert run.evaluate("test")["log_loss"] == pytest.approx(base, abs=0.01)


def test_the_rows_of_a_split_are_not_remarked_on(folder, tmp_path):
    run, frame = load_run(folder / "run"), pd.read_csv(folder / "june.csv")
    frame[split_codes(np.arange(len(frame)), 0) == 2].to_csv(tmp_path / "test.csv", index=False)

    rows = predict(run, tmp_path / "test.csv", tmp_path / "out.csv", strict=True)

    assert rows == 80
    assert rows.remarks == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.predict_proba(frame)
    other = {field.name: field.other["test"] / 80 for field in run.schema.fields}
    assert {field.name: field.unseen for field in rows.fields} == pytest.approx(other)


def test_values_that_training_never_saw_are_remarked_on_field_by_field(folder, tmp_path):
    run, frame = load_run(folder / "run"), clicks(2)
    frame["store"] = frame.store.str.upper()
    frame["price"] = [f"{price:.2f}".replace(".", ",") for price in frame.price]
    frame["user"] = None
    frame.to_csv(tmp_path / "tomorrow.csv", index=False)

    rows = predict(run, tmp_path / "tomorrow.csv", tmp_path / "out.csv")

    store, price, user = rows.remarks
    assert store.startswith("store: 100% of values never seen, 0% in training; these rows have 'S")
    assert price.startswith("price: 100% of values could not be read, 0% in training; these rows")
    assert price.endswith("training had numbers")
    assert user.startswith("user: 100% of values")
    told = json.loads(rows.to_json())
    assert told["rows"] == 800 and told["remarks"] == list(rows.remarks)
    assert told["fields"]["price"]["unreadable"] == told["fields"]["store"]["unseen"] == 1
    assert told["fields"]["account"]["remark"] is None
    assert run.unseen(frame)[0].remark == store
    with pytest.warns(UnseenWarning) as caught:
        run.predict_proba(frame)
    assert [str(one.message) for one in caught] == list(rows.remarks)
    with pytest.raises(DataError, match=r"tomorrow.csv must be like training, got store: 100%"):
        predict(run, tmp_path / "tomorrow.csv", tmp_path / "strict.csv", strict=True)
    assert not (tmp_path / "strict.csv").exists()


def test_a_column_that_is_suddenly_missing_is_remarked_on(tmp_path):
    frame = clicks()
    frame.loc[::40, "store"] = None
    frame.to_csv(tmp_path / "rows.csv", index=False)
    prepare(tmp_path / "rows.csv", tmp_path / "data", options())
    run = train(CONFIG, dataset=tmp_path / "data", run=tmp_path / "run")

    shares = run.unseen(frame.assign(store=pd.Series([None] * len(frame), dtype=object)))

    assert shares[0].missing == 1 and shares[0].unseen == 0
    assert shares[0].trained_missing == pytest.approx(1 / 40, abs=0.01)
    assert shares[0].remark in {f"store: 100% of values missing, {n}% in training" for n in (2, 3)}


@pytest.mark.parametrize(
    "now, then, expected",
    [
        ((100, 100), (0, 1000), True),
        ((1, 1), (10, 1000), False),  # one row shows nothing
        ((90, 1000), (0, 1000), False),  # days differ
        ((400, 1000), (200, 1000), False),  # 2.7 times the odds
        ((500, 1000), (200, 1000), True),
        ((1000, 1000), (999, 1000), False),
        ((0, 10), (0, 10), False),
        ((10, 10), (10, 10), False),
    ],
)
def test_far_beyond_is_much_more_and_not_by_chance(now, then, expected):
    (count, rows), (before, of) = now, then
    upper = beta.ppf(0.999, before + 1, of - before) if before < of else 1.0
    by_chance = binom.sf(count - 1, rows, upper)

    assert is_far_beyond(now, then) is expected
    assert not expected or by_chance < CHANCE


def real_rows(name: str, folder: Path) -> tuple[Path, PrepareOptions, pl.DataFrame]:
    """Return a file of real rows, how to prepare it, and its rows."""
    if name == "flights":
        file = folder / "flights.parquet"
        frame = pl.read_parquet(REAL / "flights_3m/flights-3m.parquet", n_rows=40_000)
        late = (pl.col("delay") > 15).cast(pl.Int8).alias("click")
        frame = frame.select(late, pl.exclude("delay"))
        frame.write_parquet(file)
        return file, options(dates={"date": "iso"}), frame
    asked = PrepareOptions.model_validate({"format": name})
    if name == "avazu":
        file = REAL / "avazu_9k/train.csv"
        return file, asked, pl.read_csv(file, infer_schema=False)
    file = REAL / "criteo_7k/train.tsv"
    names = ["label", *(f"I{at}" for at in range(1, 14)), *(f"C{at}" for at in range(1, 27))]
    kinds = dict.fromkeys(names, pl.String)
    frame = pl.read_csv(file, separator="\t", has_header=False, schema=kinds, quote_char=None)
    return file, asked, frame


@pytest.mark.skipif(not REAL.is_dir(), reason="the real rows lie in ../shared/data")
@pytest.mark.parametrize("name", ["criteo", "avazu", "flights"])
def test_test_splits_of_real_logs_are_not_remarked_on(name, tmp_path):
    file, asked, frame = real_rows(name, tmp_path)
    schema = prepare(file, tmp_path / "data", asked)
    rows = frame.filter(pl.Series(split_codes(np.arange(frame.height), 0) == 2))
    dataset = open_dataset(tmp_path / "data")
    tally = UnseenTally(schema, {field: dataset.vocabulary(field) for field in schema.field_names})

    tally.add(rows, Encoder.load(tmp_path / "data").encode(rows))

    assert tally.rows == schema.splits["test"].rows
    assert [field.remark for field in tally.fields if field.remark] == []


def test_evaluation_by_kept_columns_refuses_those_that_are_not_there(folder, tmp_path):
    with pytest.raises(DataError, match="keep must be a column of"):
        prepare(folder / "june.csv", tmp_path / "data", options(keep=("nobody",)))
    with pytest.raises((ConfigError, DataError), match="split_by must be a column of"):
        prepare(folder / "june.csv", tmp_path / "data", options(split_by="never"))
