"""Raw logs as they are: kinds of columns, words for what is missing, dates, lists, and bundles."""

import importlib.util
import warnings
from datetime import datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import multiembed as me
from multiembed.base.errors import DataError, InputError
from multiembed.data.encoding import canonical
from multiembed.data.encoding.typed import category_text, settled
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare, preview
from multiembed.data.remarks import dataset_remarks
from multiembed.data.sources.column_kinds import is_identifier, tell_columns
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import Schema
from multiembed.runs.run import load_run
from multiembed.runs.unseen import UnseenWarning
from multiembed.serving import loader
from multiembed.serving.bundle import compile_field
from multiembed.serving.export import export
from multiembed.serving.tabular import read_classes, read_table

ROWS = 300
SETTINGS = me.RunConfig(
    model=me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]}),
    training=me.TrainingConfig(max_epochs=1, batch_size=64, threads=1),
)


def table(**options):
    return PrepareOptions(format="table", label="click", min_count=1, vocabulary="all", **options)


def frame(**columns):
    """Rows with labels, and columns whose values are repeated over them."""
    random = np.random.default_rng(0)
    rows = {
        name: [values[n % len(values)] for n in range(ROWS)] for name, values in columns.items()
    }
    return pd.DataFrame({"click": random.integers(0, 2, ROWS)} | rows)


def prepared(rows, folder, **options):
    rows.to_csv(folder / "rows.csv", index=False)
    return prepare(folder / "rows.csv", folder / "data", table(**options))


def bundle_ids(field, folder, values):
    """Ids of a column by the rules that a bundle carries."""
    vocabulary = open_dataset(folder / "data").vocabulary(field.name)
    compiled = compile_field(Encoder.load(folder / "data"), field, vocabulary).model_dump()
    bundle = loader.Rules(Path(canonical.__file__))
    bundle.learn(compiled, vocabulary["value"].to_list())
    return bundle.ids(compiled, pa.chunked_array([values]))[:, 0].tolist()


def kinds(schema):
    return {field.name: field.kind for field in schema.fields}


def values(folder, name):
    return set(open_dataset(folder / "data").vocabulary(name)["value"])


IDENTIFIERS = """userid USER_ID User_ID ID id uid adid AD_ID ITEMID zipcode UserId itemId user_id
zip postal_code country_code device.id ids isbn user id_user idUser user_id_1 user_id_x userid2 Id_
customer_number store_nbr memberNo phone_number msisdn ean user_hash PLZ"""
WORDS = """paid bid grid humid valid solid rapid fluid acid age price visits width mid android void
hybrid distance clicks identity idle number_of_items order_number page_number visit_number casino
bid_1 price_x humid2 x y ship zipped phones_sold"""


@pytest.mark.parametrize("name", IDENTIFIERS.split())
def test_identifiers_are_known_by_their_names(name):
    assert is_identifier(name)


@pytest.mark.parametrize("name", WORDS.split())
def test_words_that_end_as_identifiers_do_are_none(name):
    assert not is_identifier(name)


def test_integers_named_as_identifiers_are_categories(tmp_path):
    schema = prepared(frame(userid=range(9000, 9060), bid=range(1000, 1060)), tmp_path)

    assert kinds(schema) == {"userid": "categorical", "bid": "numeric"}
    assert values(tmp_path, "userid") == {str(number) for number in range(9000, 9060)}
    assert "60 whole numbers, each in 5 rows" not in schema.fields[1].remark


def test_whole_numbers_that_repeat_much_are_remarked_on(tmp_path):
    schema = prepared(frame(age=range(20, 45)), tmp_path)

    assert schema.fields[0].kind == "numeric"
    assert schema.fields[0].remark.startswith("25 whole numbers, each in 12 rows")


def test_rows_from_all_over_the_file_say_what_a_column_is(tmp_path):
    late = [row % 5 for row in range(10_500)] + [row % 5000 for row in range(2000)]
    rows = pl.DataFrame(
        {"click": [0, 1] * 6250, "bid": late, "from": [None] * 12_000 + [0.5] * 500}
    )
    rows.write_csv(tmp_path / "rows.csv")

    schema = prepare(tmp_path / "rows.csv", tmp_path / "data", table())

    assert kinds(schema) == {"bid": "numeric", "from": "numeric"}


@pytest.mark.parametrize("word", ["NULL", "\\N", "NA", "N/A", "?", "-", "nan", "None"])
def test_numbers_with_a_word_for_missing_are_numbers(word, tmp_path):
    prices = [word if row == 0 else f"{row / 7:.4f}" for row in range(50)]
    schema = prepared(frame(price=prices), tmp_path)
    shown = preview(tmp_path / "rows.csv", table(), tmp_path).fields[0]

    assert kinds(schema) == {"price": "numeric"}
    assert schema.bad_rows.count == 0
    assert schema.fields[0].remark == f"98% numbers, else {word!r}"
    assert shown.field.remark == schema.fields[0].remark
    assert shown.missing == pytest.approx(0.02)


def test_infinity_in_text_is_a_missing_number(tmp_path):
    schema = prepared(frame(price=["inf", "-inf", *(row / 7 for row in range(48))]), tmp_path)

    assert kinds(schema) == {"price": "numeric"}
    assert None in values(tmp_path, "price")


def test_another_word_for_missing_is_an_option(tmp_path):
    schema = prepared(
        frame(price=["n.b.", *(row / 7 for row in range(49))], city=["n.b.", "Lima"]),
        tmp_path,
        missing=("n.b.",),
    )

    assert kinds(schema) == {"price": "numeric", "city": "categorical"}
    assert values(tmp_path, "city") == {None, "Lima"}
    assert Schema.load(tmp_path / "data").options["missing"] == ["n.b."]
    ids = Encoder.load(tmp_path / "data").encode(
        pl.DataFrame({"price": ["n.b.", ""], "city": ["n.b.", ""]})
    )
    assert ids[0].tolist() == ids[1].tolist()
    assert (ids > 0).all()


def test_words_among_categories_are_missing_but_namibia(tmp_path):
    prepared(frame(country=["NA", "NULL", "DE", "\\N", "none", "?"]), tmp_path)

    assert values(tmp_path, "country") == {"NA", None, "DE", "none", "?"}


@pytest.mark.parametrize(
    ("write", "remark"),
    [
        (lambda n: f"{n},50", "numbers written as '0,50'"),
        (lambda n: f"{n}.5%", "numbers written as '0.5%'"),
        (lambda n: f"{n},5 %", "numbers written as '0,5 %'"),
        (lambda n: f"${n}.5", "numbers written as '$0.5'"),
        (lambda n: f" {n}.5", ""),
        (lambda n: f"{n + 1}.234,5", "numbers written as '1.234,5'"),
        (lambda n: f"{n + 1},234.5", "numbers written as '1,234.5'"),
        (lambda n: f"{n + 1} 234", "numbers written as '1 234'"),
    ],
)
def test_numbers_in_other_dress_are_numbers(write, remark, tmp_path):
    written = [write(number) for number in range(50)]
    schema = prepared(frame(price=written), tmp_path)

    plain = [text.strip("$ %").replace(" ", "") for text in written]
    marks = plain[0].replace("0", "").strip("123456789")
    if marks.count(",") == 1 and not marks.endswith("."):
        plain = [text.replace(".", "").replace(",", ".") for text in plain]
    (tmp_path / "plain").mkdir()
    prepared(frame(price=[float(text.replace(",", "")) for text in plain]), tmp_path / "plain")
    found, expected = (open_dataset(folder / "data") for folder in (tmp_path, tmp_path / "plain"))
    assert kinds(schema) == {"price": "numeric"}
    assert schema.fields[0].remark == remark
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(found.split(split).ids, expected.split(split).ids)


def test_a_comma_where_training_had_points_is_no_number(tmp_path):
    prepared(frame(price=[row / 4 for row in range(50)]), tmp_path)

    ids = Encoder.load(tmp_path / "data").encode(pl.DataFrame({"price": ["9,43", "9.43", ""]}))

    assert ids[0, 0] == 0
    assert ids[1, 0] > 0


def test_a_column_that_is_nearly_numbers_is_named(tmp_path):
    schema = prepared(frame(price=["abc", *(row / 7 for row in range(49))]), tmp_path)

    assert schema.fields[0].kind == "categorical"
    assert schema.fields[0].remark == "98% numbers, else 'abc'"


def test_a_version_that_is_a_number_is_named(tmp_path):
    schema = prepared(frame(version=["4.4.2", "1.10", "1.1"]), tmp_path)

    assert values(tmp_path, "version") == {"4.4.2", "1.1"}
    assert schema.fields[0].remark == (
        "67% numbers, else '4.4.2'; '1.10' and '1.1' are one value, as numbers are"
    )


@pytest.mark.parametrize(
    ("numbers", "remark"),
    [
        ([20240101 + day for day in range(28)], "x: one bucket in all"),
        ([row / 50 for row in range(50)], "x: one bucket in all"),
        ([None, *(row / 50 for row in range(50))], "x: two buckets in all"),
    ],
)
def test_numbers_that_the_buckets_do_not_tell_apart_are_named(numbers, remark, tmp_path):
    schema = prepared(frame(x=numbers), tmp_path, numeric_rule="log")
    shown = preview(tmp_path / "rows.csv", table(numeric_rule="log"), tmp_path)

    assert any(line.startswith(remark) for line in dataset_remarks(schema))
    assert any(line.startswith(remark) for line in shown.remarks)
    (tmp_path / "more").mkdir()
    schema = prepared(frame(x=numbers), tmp_path / "more", numeric_rule="as_is")
    assert schema.fields[0].cardinality > 20
    assert not any("in all" in line for line in dataset_remarks(schema))


def test_five_and_five_point_nought_are_one_slot(tmp_path):
    (tmp_path / "logs").mkdir()
    frame(slot=[1, 2, 3, 4, 5]).to_csv(tmp_path / "logs" / "1.csv", index=False)
    frame(slot=[5.0, None, 2.0]).to_csv(tmp_path / "logs" / "2.csv", index=False)

    prepare(tmp_path / "logs", tmp_path / "data", table(categorical_columns=("slot",)))

    assert values(tmp_path, "slot") == {"1", "2", "3", "4", "5", None}


def test_a_dataset_of_csv_encodes_parquet_alike(tmp_path):
    rows = frame(
        vip=[True, False, None],
        at=pd.date_range("2024-06-01 05:36:34.5", periods=7, freq="h", tz="Europe/Berlin"),
        price=[1.25, None],
    )
    schema = prepared(rows, tmp_path, categorical_columns=("price", "at"))
    encoder = Encoder.load(tmp_path / "data")
    rows.astype({"vip": "boolean"}).to_parquet(tmp_path / "rows.parquet")

    typed = encoder.encode(pl.read_parquet(tmp_path / "rows.parquet"))
    text = encoder.encode(pl.read_csv(tmp_path / "rows.csv", infer_schema=False))

    np.testing.assert_array_equal(typed, text)
    assert (typed > 0).all()
    assert [field.cardinality for field in schema.fields] == [4, 8, 3]


def test_labels_and_numbers_may_be_categories_of_pandas(tmp_path):
    rows = frame(price=[row / 7 for row in range(50)])
    schema = prepared(rows, tmp_path)
    odd = rows.astype({"click": "string", "price": "string"})
    odd = odd.astype({"click": "category", "price": "category"})
    odd.to_parquet(tmp_path / "odd.parquet")

    again = prepare(tmp_path / "odd.parquet", tmp_path / "odd", table())

    assert again.splits == schema.splits
    assert kinds(again) == kinds(schema)
    both = [open_dataset(tmp_path / name).split("train").ids for name in ("data", "odd")]
    np.testing.assert_array_equal(both[0], both[1])


WEDNESDAY = datetime(2024, 5, 1, 23, 30)


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("iso", "2024-05-01T23:30:00+02:00"),
        ("iso", "2024-05-01 23:30:00.250000+0200"),
        ("iso", "2024-05-01T23:30:00Z"),
        ("%d/%b/%Y:%H:%M:%S %z", "01/May/2024:23:30:00 -0700"),
        ("%Y-%m-%d %H:%M:%S.%f", "2024-05-01 23:30:00.5"),
        ("us", "1714606200000000"),
        ("ns", "1714606200000000000"),
    ],
)
def test_the_hour_of_a_moment_is_the_local_one_as_written(format, text, tmp_path):
    prepared(frame(when=[text]), tmp_path, dates={"when": format})

    assert values(tmp_path, "when_hour") == {str(WEDNESDAY.hour)}
    assert values(tmp_path, "when_weekday") == {str(WEDNESDAY.isoweekday())}


def test_days_that_became_floats_beside_a_gap_are_days(tmp_path):
    days = [20240501.0, None, 20240501.0]
    prepared(frame(when=days), tmp_path, dates={"when": "%Y%m%d"})

    assert values(tmp_path, "when_weekday") == {"3", None}
    field = Schema.load(tmp_path / "data").fields[1]
    for text in ("20240501.0", "20240501"):
        assert bundle_ids(field, tmp_path, [text])[0] == bundle_ids(field, tmp_path, [20240501])[0]


def test_a_moment_that_stands_for_missing_is_missing(tmp_path):
    texts = ["2024-05-01 05:00:00", "1900-01-01 00:00:00"]
    prepared(frame(when=texts), tmp_path, dates={"when": "iso"}, missing=("1900-01-01",))

    assert values(tmp_path, "when_hour") == {"5", None}
    field = Schema.load(tmp_path / "data").fields[0]
    ids = Encoder.load(tmp_path / "data").encode(pl.DataFrame({"when": texts}))[:, 0]
    assert bundle_ids(field, tmp_path, texts) == ids.tolist()
    typed = pl.DataFrame({"when": pl.Series(texts).str.to_datetime()})
    assert Encoder.load(tmp_path / "data").encode(typed)[:, 0].tolist() == ids.tolist()


@pytest.mark.parametrize("wish", ["categorical_columns", "numeric_columns", "dates"])
def test_lists_are_of_no_kind_of_single_values(wish):
    said = ReadOptions(**{wish: {"x": "s"} if wish == "dates" else ("x",)})

    with pytest.raises(DataError, match="column 'x' must be multivalued, for it holds lists"):
        tell_columns(pl.DataFrame({"x": [[1]]}), None, said)


@pytest.mark.parametrize(
    ("format", "number", "hint"),
    [
        ("s", 1714606200000, r"\(are these milliseconds\? say ms\)"),
        ("ms", 1714606200, r"\(are these seconds\? say s\)"),
        ("iso", 1714606200, r"\(are these seconds\? say s\)"),
        ("s", 5, "got '5'"),
    ],
)
def test_moments_of_another_unit_are_refused(format, number, hint, tmp_path):
    with pytest.raises(DataError, match=rf"line 2: when must be a date or empty, got.*{hint}"):
        prepared(frame(when=[number]), tmp_path, dates={"when": format})


@pytest.mark.parametrize("format", ["%Q", "%f", "%Y %z %H", "%s", "no"])
def test_formats_that_a_bundle_cannot_read_are_refused_before_anything(format):
    with pytest.raises(ValueError, match="format of strptime"):
        table(dates={"when": format})


def test_lists_in_text_are_several_values(tmp_path):
    cells = ["[16, 16, 3]", "[7, 7]", "[]", "[3]"]
    schema = prepared(frame(seen=cells, tags=["['a', 'b c']", "['d']"]), tmp_path)
    (tmp_path / "comma").mkdir()
    prepared(frame(seen=cells), tmp_path / "comma", multivalued={"seen": ","})

    assert kinds(schema) == {"seen": "multivalued", "tags": "multivalued"}
    assert values(tmp_path, "seen") == values(tmp_path / "comma", "seen") == {"16", "3", "7", None}
    assert values(tmp_path, "tags") == {"a", "b c", "d"}


def test_lists_of_parquet_are_several_values(tmp_path):
    frame(seen=[[16, 16, 3], [7, 7], [], None]).to_parquet(tmp_path / "rows.parquet")

    schema = prepare(tmp_path / "rows.parquet", tmp_path / "data", table())

    assert kinds(schema) == {"seen": "multivalued"}
    assert values(tmp_path, "seen") == {"16", "3", "7", None}


def test_a_nested_column_that_nobody_can_read_is_named(tmp_path):
    frame(odd=[{"a": 1}]).to_parquet(tmp_path / "rows.parquet")

    with pytest.raises(
        DataError, match="'odd' must hold plain values or lists of them, got Struct"
    ):
        prepare(tmp_path / "rows.parquet", tmp_path / "data", table(categorical_columns=("odd",)))


ODD = {
    "timedelta": pd.to_timedelta(np.arange(40), "s"),
    "period": pd.period_range("2024-01", periods=40, freq="h"),
    "interval": pd.cut(np.arange(40.0), 4),
    "list": [[1, 2], [3]] * 20,
    "struct": [{"a": 1}] * 40,
    "complex": np.ones(40) * 1j,
    "mixed": pd.Series([1, "a", None, 2.5] * 10, dtype=object),
    "times": [time(5, 1)] * 40,
    "deltas": [timedelta(1)] * 40,
}
REFUSED = ("timedelta", "struct", "complex", "deltas")


@pytest.mark.parametrize("name", ODD)
def test_the_classifier_reads_a_column_or_names_it(name):
    model = me.ClickClassifier("dnn", dim=2, options={"hidden": [2]}, training={"max_epochs": 1})
    rows = pd.DataFrame({"a": ["x", "y"] * 20, "odd": ODD[name]})
    if name in REFUSED:
        with pytest.raises(DataError, match="column 'odd' must hold plain values"):
            model.fit(rows, [0, 1] * 20)
    else:
        assert model.fit(rows, [0, 1] * 20).predict_proba(rows).shape == (40, 2)


@pytest.mark.parametrize("label", [None, float("nan"), pd.NaT, pd.NA, 3])
def test_odd_labels_of_the_classifier_are_one_line(label):
    labels = np.array(["a", "b"] * 19 + [label, "a"], dtype=object)

    with pytest.raises(InputError, match="y must be labels"):
        me.ClickClassifier("dnn").fit(pd.DataFrame({"a": ["x", "y"] * 20}), labels)


def test_the_classifier_warns_of_values_that_fit_never_saw():
    model = me.ClickClassifier("dnn", dim=2, options={"hidden": [2]}, training={"max_epochs": 1})
    rows = pd.DataFrame({"vip": [True, False] * 40})
    model.fit(rows, [0, 1] * 40)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict_proba(rows.astype(str))
    with pytest.warns(UnseenWarning, match="vip: 100% of values never seen, 0% in training"):
        model.predict(rows["vip"].map({True: "yes", False: "no"}).to_frame())


GAPS = [
    ["a", float("nan")] * 20,
    ["a", None] * 20,
    pd.Series([True, None] * 20, dtype="boolean"),
    pd.Series(["a", None] * 20, dtype="string"),
    [[1], [1, 2]] * 20,
]


@pytest.mark.parametrize("labels", GAPS)
def test_a_gap_among_labels_is_no_class(labels):
    with pytest.raises(DataError, match=r"^y (must be|should be a 1d array of) labels"):
        read_classes(labels, rows=40)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, "a"], [float("nan"), "b"]], [["1", ""], ["a", "b"]]),
        (np.array([[True], [None]], object), [["true", ""]]),
        (np.array([[2**60 + 1], [pd.NA]], object), [[str(2**60 + 1), ""]]),
        (np.ma.array([[1.5], [2.5]], mask=[[False], [True]]), [["1.5", ""]]),
        (np.array([["2024-06-01"]], "M8[D]"), [["2024-06-01"]]),
    ],
)
def test_a_matrix_keeps_its_gaps_and_values(rows, expected):
    table = settled(read_table(rows).rows)

    assert [category_text(column).to_list() for column in table] == expected


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (pd.Series([1, 2]), r"rows must be a table, got one column; .to_frame\(\)"),
        (pl.Series([1, 2]), "rows must be a table, got one column"),
        ([[1, 2], [3]], "rows must be a table of plain values, got setting an array"),
        (np.array([[1], [2]], "m8[D]"), "column '0' must hold plain values"),
    ],
)
def test_what_is_no_table_of_plain_values_is_one_line(rows, line):
    with pytest.raises(DataError, match=line):
        settled(read_table(rows).rows)


def loaded(bundle):
    spec = importlib.util.spec_from_file_location("loader", bundle / "loader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Bundle(bundle)


EVERYTHING = {
    "vip": [True, False, None],
    "at": pd.date_range("2024-06-01 05:36:34.5", periods=11, freq="5h", tz="Europe/Berlin"),
    "clock": [time(5, 1), time(23, 59, 59, 500000)],
    "when": pd.date_range("2024-01-01", periods=100, freq="29h", tz="America/New_York"),
    "store": [f"s{n}" for n in range(30)],
    "tags": [["a", "b"], [], None, ["c", "a", "d"]],
    "small": np.linspace(0, 1, 7, dtype=np.float32),
    "price": [None, *(row * 1.25 for row in range(49))],
}
WISHES = {
    "categorical_columns": ("small",),
    "dates": {"when": "iso"},
    "hash_sizes": {"store": 8},
}


@pytest.mark.parametrize(("rule", "format"), [("as_is", "torch"), ("log", "onnx")])
def test_bundles_of_every_kind_of_field_agree_with_the_run(format, rule, tmp_path):
    rows = frame(**{name: list(column) for name, column in EVERYTHING.items()})
    rows.to_parquet(tmp_path / "rows.parquet")
    prepare(tmp_path / "rows.parquet", tmp_path / "data", table(numeric_rule=rule, **WISHES))
    me.train(SETTINGS, dataset=tmp_path / "data", run=tmp_path / "run")
    run = load_run(tmp_path / "run")

    parity = export(run, tmp_path / "bundle", format=format)

    assert parity.of == str(tmp_path / "rows.parquet")
    bundle, typed = loaded(tmp_path / "bundle"), pq.read_table(tmp_path / "rows.parquet")
    expected = run.encoder.encode(pl.read_parquet(tmp_path / "rows.parquet"))
    assert (expected != 0).all()
    np.testing.assert_array_equal(bundle.encode(typed), expected)
    np.testing.assert_array_equal(bundle.encode(typed.from_pandas(rows)), expected)
    np.testing.assert_allclose(bundle.predict(typed), run.predict_proba(rows), atol=1e-5)
    (tmp_path / "rows.parquet").unlink()
    made_up = export(run, tmp_path / "again", format="torch")
    assert made_up.rows == 30
    assert "rebuilt from its ids" in made_up.of


MOMENTS = ["2024-05-01T23:30:00+02:00", "2024-05-01", "2024-13-01", "", "NULL", "1714606200", "x"]


@pytest.mark.parametrize("format", ["iso", "s", "ms", "%Y-%m-%d", "%d/%b/%Y:%H:%M:%S %z"])
def test_bundles_read_moments_as_the_run_does(format, tmp_path):
    texts = [*MOMENTS, "01/May/2024:23:30:00 -0700", "1714606200000", " 2024-05-01 "]
    good = {"iso": 0, "s": 5, "ms": -2, "%Y-%m-%d": 1}.get(format, -3)
    prepared(frame(when=[texts[good], ""]), tmp_path, dates={"when": format})
    me.train(SETTINGS, dataset=tmp_path / "data", run=tmp_path / "run")
    export(load_run(tmp_path / "run"), tmp_path / "bundle", format="torch")

    rows = pl.DataFrame({"when": texts})

    expected = load_run(tmp_path / "run").encoder.encode(rows)
    assert (expected > 0).any()
    np.testing.assert_array_equal(loaded(tmp_path / "bundle").encode(rows.to_arrow()), expected)


def test_what_the_user_says_of_a_column_comes_first():
    rows = pl.DataFrame({"a_id": [1.5, 2.5], "seen": ["[1]", "[2]"], "n": ["1", "x"]})
    said = ReadOptions(numeric_columns=("a_id", "n"), categorical_columns=("seen",))

    found = {column.name: column.kind for column in tell_columns(rows, None, said)}

    assert found == {"a_id": "numeric", "seen": "categorical", "n": "numeric"}
