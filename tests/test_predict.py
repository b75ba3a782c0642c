"""Raw rows to probabilities: the evaluation's own numbers, in order, whatever the format."""

import io
import json
import resource
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from multiembed.__main__ import main
from multiembed.base.errors import ConfigError, DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.encoding.counting import split_codes
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.shards import Batch
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.runs.run import load_run
from multiembed.runs.scoring import EVALUATION_BATCH, predict_batches
from multiembed.serving.export import export
from multiembed.serving.predict import predict
from multiembed.training.start import train

ROWS = 20_000
TEXTS = ["Zürich", "a,b", 'say "no"', "", "007", "7", "São Paulo", "line\nbreak", "x" * 50]


def read_text(path, separator):
    missing = {"price": [""]}
    return pd.read_csv(path, sep=separator, keep_default_na=False, na_values=missing)


READERS = {
    ".csv": lambda path: read_text(path, ","),
    ".tsv": lambda path: read_text(path, "\t"),
    ".jsonl": lambda path: pd.DataFrame(
        json.loads(line) for line in path.read_text().split("\n") if line
    ),
    ".parquet": pd.read_parquet,
    ".arrow": lambda path: pa.ipc.open_file(path).read_all().to_pandas(),
}


def table(rows: int = ROWS) -> pd.DataFrame:
    random = np.random.default_rng(0)
    city = random.choice(TEXTS, rows, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    price = np.round(random.gamma(2, 30, rows), 2)
    visits = random.poisson(3, rows)
    chance = 1 / (1 + np.exp(1 - 0.02 * price + (city == "a,b") - 0.2 * visits))
    return pd.DataFrame(
        {
            "city": city,
            "click": (random.random(rows) < chance).astype(int),
            "price": np.where(random.random(rows) < 0.1, np.nan, price),
            "visits": visits,
            "note": random.choice(["keep", "me"], rows),
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    table().to_csv(folder / "rows.csv", index=False)
    options = PrepareOptions(
        format="table", label="click", numeric_columns=("price",), categorical_columns=("visits",)
    )
    prepare(folder / "rows.csv", folder / "dataset", options)
    model = ModelConfig(architecture="dcnv2", dim=3, sets=2, options={"hidden": [16, 8]})
    training = TrainingConfig(max_epochs=2, threads=1, learning_rate=0.01)
    config = RunConfig(model=model, training=training)
    train(config, dataset=folder / "dataset", run=folder / "run")
    return folder


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained / "run")


def evaluated(run, split):
    batches = run.dataset().split(split).batches(EVALUATION_BATCH)
    return predict_batches(run.model, batches)


def test_rows_of_the_test_split_get_the_probabilities_of_its_evaluation(run, trained, tmp_path):
    chosen = split_codes(np.arange(ROWS), 0) == 2
    table()[chosen].to_csv(tmp_path / "test.csv", index=False)

    count = predict(run, tmp_path / "test.csv", tmp_path / "out.parquet")

    labels, expected = evaluated(run, "test")
    got = pl.read_parquet(tmp_path / "out.parquet")
    assert count == len(labels)
    np.testing.assert_array_equal(got["click"].cast(pl.Int64).to_numpy(), labels)
    np.testing.assert_array_equal(got["probability"].to_numpy(), expected)


def test_it_does_not_matter_among_which_rows_a_row_stands(run, trained, tmp_path):
    predict(run, trained / "rows.csv", tmp_path / "out.parquet")

    got = pl.read_parquet(tmp_path / "out.parquet")["probability"].to_numpy()
    for code, split in enumerate(("train", "valid", "test")):
        chosen = split_codes(np.arange(ROWS), 0) == code
        np.testing.assert_array_equal(got[chosen], evaluated(run, split)[1])


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"nfwfm"}))
def test_a_score_does_not_depend_on_how_many_rows_follow(name):
    torch.manual_seed(0)
    model = ClickModel(name, [50] * 7, dim=5, sets=2, embedding_init=0.3)
    ids = np.random.default_rng(0).integers(0, 50, (512, 7), dtype=np.int32)

    def scores(rows):
        labels = np.zeros(len(rows), np.uint8)
        return predict_batches(model, [Batch(rows, labels)])[1]

    whole = scores(ids)
    for first, last in ((0, 1), (0, 7), (3, 66), (100, 511)):
        np.testing.assert_array_equal(scores(ids[first:last]), whole[first:last])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".arrow"])
def test_rows_come_back_as_they_were_in_every_format(run, trained, tmp_path, suffix):
    raw = table(3000).drop(columns="click")
    raw.to_parquet(tmp_path / "rows.parquet", index=False)
    out = tmp_path / f"out{suffix}"

    predict(run, tmp_path / "rows.parquet", out)

    got = READERS[suffix](out)
    assert list(got.columns) == [*raw.columns, "probability"]
    assert got["city"].tolist() == raw["city"].tolist()
    np.testing.assert_array_equal(got["price"], raw["price"])
    assert got["visits"].tolist() == raw["visits"].tolist()
    expected = run.predict_proba(raw)
    np.testing.assert_array_equal(got["probability"].to_numpy().astype(np.float32), expected)
    assert not list(tmp_path.glob(".*"))


def test_data_frames_of_any_library_give_the_same(run, tmp_path):
    frame = table(500)
    expected = run.predict_proba(pl.read_csv(io.BytesIO(frame.to_csv(index=False).encode())))

    np.testing.assert_array_equal(run.predict_proba(frame), expected)
    np.testing.assert_array_equal(run.predict_proba(frame.set_index("click")), expected)
    np.testing.assert_array_equal(run.predict_proba(pa.Table.from_pandas(frame)), expected)
    by_category = frame.assign(city=frame["city"].astype("category"))
    np.testing.assert_array_equal(run.predict_proba(by_category), expected)


def test_unseen_and_missing_values_go_where_training_put_them(run):
    price = run.schema.field_names.index("price")
    rows = pl.DataFrame(
        {"city": ["Atlantis", None, ""], "price": ["what", "", None], "visits": [99, 3, 3]},
        strict=False,
    ).with_columns(pl.lit("keep").alias("note"))

    ids = run.encoder.encode(rows)

    assert ids[0, run.schema.field_names.index("city")] == 0
    assert ids[0, price] == 0
    missing = run.dataset().vocabulary("price").filter(pl.col("value").is_null())["id"].item()
    assert ids[1:, price].tolist() == [missing, missing]
    empty = run.dataset().vocabulary("city").filter(pl.col("value").is_null())["id"].item()
    assert ids[1:, 0].tolist() == [empty, empty]


def test_an_empty_file_gives_an_empty_file(run, tmp_path):
    (tmp_path / "rows.csv").write_text("city,price,visits,note\n")

    assert predict(run, tmp_path / "rows.csv", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text().strip() == "city,price,visits,note,probability"


def test_criteo_rows_need_no_label(tmp_path):
    random = np.random.default_rng(0)
    fields = [[str(v) for v in random.integers(0, 5, 400)] for _ in range(39)]
    labels = [str(v) for v in random.integers(0, 2, 400)]
    with_label, without = tmp_path / "train.txt", tmp_path / "new.txt"
    lines = ["\t".join(row) for row in zip(*fields, strict=True)]
    with_label.write_text("".join(f"{y}\t{row}\n" for y, row in zip(labels, lines, strict=True)))
    without.write_text("".join(f"{row}\n" for row in lines))
    prepare(with_label, tmp_path / "dataset", PrepareOptions(format="criteo"))
    model = ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
    config = RunConfig(model=model, training=TrainingConfig(max_epochs=1, threads=1))
    run = train(config, dataset=tmp_path / "dataset", run=tmp_path / "run")

    predict(run, with_label, tmp_path / "a.csv")
    predict(run, without, tmp_path / "b.csv")

    a, b = (pl.read_csv(tmp_path / f"{name}.csv") for name in "ab")
    assert a.columns == ["label", *b.columns]
    assert a["probability"].equals(b["probability"])


@pytest.mark.parametrize(
    ("text", "out", "message"),
    [
        ("city,price\nx,1\n", "out.csv", "must have a column 'visits'"),
        ("city,price,visits,note\nx,1\n", "out.csv", "line 2: expected 4 comma-separated columns"),
        ("", "out.csv", "must hold column names and rows, got an empty file"),
        ("city,price,visits,note\nx,1,2,3\n", "out.xls", "must end in one of .csv,"),
        ("city,price,visits,note\nx,1,2,3\n", "no/out.csv", "must be writable"),
        ("city,price,visits,note\nx,1,2,3\n", "rows.csv", "must be another file"),
        ("city,price,visits,note,probability\nx,1,2,3,4\n", "out.csv", "must be a new name"),
        ("city,price,visits,note\n" + "x,1,2,3\n" * 9999 + "x,1\n", "out.csv", "line 10001"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_leaves_nothing(
    trained, tmp_path, monkeypatch, capsys, text, out, message
):
    (tmp_path / "rows.csv").write_text(text)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    command = ["predict", trained / "run", tmp_path / "rows.csv", tmp_path / out]
    monkeypatch.setattr(sys, "argv", ["multiembed", *map(str, command)])

    code = main()

    err = capsys.readouterr().err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".arrow"])
def test_a_mistake_after_many_rows_leaves_nothing(run, tmp_path, suffix):
    (tmp_path / "rows").mkdir()
    table(EVALUATION_BATCH + 5).to_csv(tmp_path / "rows" / "0.csv", index=False)
    (tmp_path / "rows" / "1.csv").write_text("city,click,price,visits,note\nx,1\n")

    with pytest.raises(
        DataError, match=r"1\.csv line 2: expected 5 comma-separated columns, got 2"
    ):
        predict(run, tmp_path / "rows", tmp_path / f"out{suffix}")

    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_a_full_disk_is_one_line_and_leaves_nothing(run, trained, tmp_path, suffix):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=f"out{suffix} must be writable, got: File too large"):
            predict(run, trained / "rows.csv", tmp_path / f"out{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_nothing(run, threads):
    rows = table(2500)
    before = torch.get_num_threads()
    expected = run.predict_proba(rows)

    torch.set_num_threads(threads)
    try:
        found = run.predict_proba(rows)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

    np.testing.assert_array_equal(found, expected)


def test_the_command_says_how_many_rows(trained, tmp_path, monkeypatch, capsys):
    command = ["predict", trained / "run", trained / "rows.csv", tmp_path / "out.jsonl"]
    monkeypatch.setattr(sys, "argv", ["multiembed", *map(str, [*command, "--column", "p"])])

    assert main() == 0

    assert "20,000 rows" in capsys.readouterr().out
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert 0 < first["p"] < 1


def test_weights_that_give_no_numbers_are_refused(run):
    model = load_run(run.path)
    with torch.no_grad():
        model.model.embedding.weight.fill_(float("nan"))

    with pytest.raises(DataError, match="got NaN in 5 of 5 rows"):
        model.predict_proba(table(5))


def test_frames_of_mixed_types_are_read_and_of_no_values_refused(run):
    rows = table(2)
    mixed = run.predict_proba(rows.assign(city=pd.Series([7, "a,b"], dtype=object)))
    np.testing.assert_array_equal(mixed, run.predict_proba(rows.assign(city=["7", "a,b"])))
    with pytest.raises(DataError, match="column 'city' must hold plain values"):
        run.predict_proba(rows.assign(city=[{"a": 1}, {"a": 2}]))
    with pytest.raises((DataError, ConfigError), match="must have a column 'city'"):
        run.predict_proba(pl.DataFrame({"town": ["x"]}))


def test_fields_made_of_dates_are_made_again(tmp_path):
    random = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=600, freq="7h").strftime("%Y-%m-%d %H:%M:%S")
    frame = pd.DataFrame({"at": days, "who": random.choice(["a", "b"], 600)})
    frame.assign(y=random.integers(0, 2, 600)).to_csv(tmp_path / "rows.csv", index=False)
    options = PrepareOptions(format="table", label="y", dates={"at": "iso"})
    prepare(tmp_path / "rows.csv", tmp_path / "dataset", options)
    # MKL rounds a product for four units by where its row stands; for sixteen it does not.
    model = ModelConfig(architecture="dnn", dim=2, options={"hidden": [16]})
    config = RunConfig(model=model, training=TrainingConfig(max_epochs=1, threads=1))
    run = train(config, dataset=tmp_path / "dataset", run=tmp_path / "run")
    (tmp_path / "new").mkdir()
    for part in range(2):
        frame[300 * part :][:300].to_csv(tmp_path / "new" / f"{part}.csv", index=False)

    predict(run, tmp_path / "new", tmp_path / "out.parquet")

    got = pl.read_parquet(tmp_path / "out.parquet")
    assert got["at"].to_list() == days.tolist()
    chosen = split_codes(np.arange(600), 0) == 2
    np.testing.assert_array_equal(got["probability"].to_numpy()[chosen], evaluated(run, "test")[1])
    parity = export(run, tmp_path / "bundle", format="torch")
    assert (parity.rows, parity.of) == (600, str(tmp_path / "rows.csv"))
