"""Labels however they are written, and the order that a column gives the rows."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from multiembed.base.errors import DataError
from multiembed.cli.commands import run as command
from multiembed.data.encoding import canonical
from multiembed.data.encoding.moments import read_moments, read_part
from multiembed.data.encoding.values import read_labels
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare, preview
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import DateRule


def options(**more: object) -> PrepareOptions:
    return PrepareOptions.model_validate({"format": "table", "label": "click", **more})


NAN = float("nan")
DAYS = [datetime.datetime(2023, 6, 1) + datetime.timedelta(hours=7 * row) for row in range(200)]


@pytest.mark.parametrize(
    "column, positive, expected",
    [
        (["1", "0", "1.00", "+0", "1e0", " 1", "TRUE", "false"], None, [1, 0, 1, 0, 1, 1, 1, 0]),
        (["2", "-1", "yes", "", "NULL", None], None, [None] * 6),
        ([1, 0, -1, None], None, [1, 0, None, None]),
        ([1.0, float("nan")], None, [1, None]),
        ([True, False], None, [1, 0]),
        ([decimal.Decimal("1.00"), decimal.Decimal("0.00")], None, [1, 0]),
        (pl.Series(["0", "1"], dtype=pl.Categorical), None, [0, 1]),
        (pl.Series(["1", "0"], dtype=pl.Enum(["0", "1"])), None, [1, 0]),
        ([b"1", b"0", b"\xff"], None, [1, 0, None]),
        (["buy", "look", "", None], "buy", [1, 0, None, None]),
        ([1, -1, 0, None], "1", [1, 0, 0, None]),
        (["1.0", "-1"], "1", [1, 0]),
        ([datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)], "2020-01-02", [0, 1]),
        (["buy", "look", "<NA>", "NaT", "anon"], "buy", [1, 0, None, None, None]),
        (["NA", "EU", "null"], "NA", [1, 0, None]),
        ([True, False, None], "1", [1, 0, None]),
        (["True", "False"], "TRUE", [1, 0]),
    ],
)
def test_labels_are_read_from_columns_of_any_type(column, positive, expected):
    rows = pl.DataFrame({"y": column})

    assert read_labels(rows, "y", positive, ("anon",)).to_list() == expected


def test_a_header_between_rows_is_no_row_and_a_label_that_is_its_name_is_one():
    rows = pl.DataFrame({"y": ["buy", "y", "look", "y"], "a": ["p", "a", "a", "q"]})

    assert read_labels(rows, "y", "buy").to_list() == [1, None, 0, 0]


@pytest.mark.parametrize(
    "column", [[[1], [0]], [{"a": 1}], [datetime.timedelta(1)], [datetime.date(2020, 1, 1)]]
)
def test_a_column_that_cannot_be_a_label_is_refused_by_its_type(column):
    rows = pl.DataFrame({"y": column})

    with pytest.raises(DataError, match="label y must be a column of 0 and 1, got one of"):
        read_labels(rows, "y")


@pytest.fixture
def signed(tmp_path):
    """Labels -1 and 1."""
    labels = np.where(np.arange(200) % 3 == 0, 1, -1)
    frame = pd.DataFrame({"click": labels, "a": ["x", "y"] * 100})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


@pytest.mark.parametrize("limit", [0, 500])
def test_labels_of_minus_one_are_named_with_what_to_do(signed, limit, tmp_path):
    with pytest.raises(DataError) as refusal:
        prepare(signed, tmp_path / "data", options(max_bad_rows=limit))

    assert f"{signed} line 3: label click must be 0 or 1, got '-1'" in str(refusal.value)
    assert str(refusal.value).endswith("--positive 1 those of -1 and 1")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "data").exists()


def test_the_positive_label_can_be_named(signed, tmp_path, capsys):
    schema = prepare(signed, tmp_path / "data", options(positive="1"))

    assert sum(split.positives for split in schema.splits.values()) == 67
    assert sum(split.rows for split in schema.splits.values()) == 200
    with pytest.raises(DataError, match="got 0 in all 200 rows"):
        prepare(signed, tmp_path / "none", options(positive="2"))


def split_of(frame: pd.DataFrame, folder) -> np.ndarray:
    """Return the split of every row, which a field tells apart."""
    dataset = open_dataset(folder)
    vocabulary = dataset.vocabulary("row")
    name = dict(zip(vocabulary["id"], vocabulary["value"], strict=True))
    place = dataset.field_names.index("row")
    found = np.full(len(frame), -1)
    for code, split in enumerate(("train", "valid", "test")):
        for number in dataset.split(split).ids[:, place]:
            found[int(name[number][1:])] = code
    return found


@pytest.mark.parametrize(
    "written, more",
    [
        ([f"{day:%m/%d/%Y %H:%M}" for day in DAYS], {"dates": {"when": "%m/%d/%Y %H:%M"}}),
        ([f"{day:%Y-%m-%d %H:%M:%S}" for day in DAYS], {}),
        ([f"{day:%Y-%m-%dT%H:%M}" for day in DAYS], {}),
        ([str(int(day.timestamp())) for day in DAYS], {"dates": {"when": "s"}}),
        ([str(9 * row) for row in range(200)], {}),  # as text 99 comes after 1000
        ([f"{row - 100.5}" for row in range(200)], {}),
        (DAYS, {}),
        ([day.date() for day in DAYS], {}),
    ],
)
def test_rows_are_split_in_the_order_of_moments_or_numbers(written, more, tmp_path):
    order = np.random.default_rng(3).permutation(200)
    frame = pl.DataFrame(
        {
            "click": [row % 2 for row in range(200)],
            "row": [f"r{row}" for row in range(200)],
            "when": [written[place] for place in order],
        }
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    asked = options(split_by="when", categorical_columns=("row",), min_count=1, vocabulary="all")
    asked = asked.model_copy(update=more)

    schema = prepare(tmp_path / "rows.parquet", tmp_path / "data", asked)

    split = split_of(frame, tmp_path / "data")
    latest = [order[split == code].max() for code in range(2)]
    first = [order[split == code].min() for code in (1, 2)]
    assert latest[0] < first[0] and latest[1] < first[1]
    assert 155 <= (split == 0).sum() <= 165 and 15 <= (split == 2).sum() <= 25
    assert schema.order is not None and schema.order.column == "when"
    assert schema.order.missing == 0


def times(tmp_path, *cells: str):
    lines = [f"{row % 2},x,{row * 11}" for row in range(100)]
    for place, cell in enumerate(cells):
        lines[50 + place] = f"1,y,{cell}"
    (tmp_path / "rows.csv").write_text("\n".join(["click,a,t", *lines]) + "\n")
    return tmp_path / "rows.csv"


def test_what_is_neither_number_nor_date_is_a_bad_row_of_the_order(tmp_path):
    source = times(tmp_path, "later")

    with pytest.raises(DataError, match=r"rows.csv line 52: t must be a number or empty, got 'lat"):
        prepare(source, tmp_path / "data", options(split_by="t"))
    schema = prepare(source, tmp_path / "data", options(split_by="t", max_bad_rows=1))

    # Of 99 rows, 0 to 99 without 50, the first 80 train: up to row 80.
    assert schema.bad_rows.count == 1
    order = schema.order
    assert (order.train_to, order.valid_from, order.test_from) == ("880", "891", "1001")


def test_rows_without_a_moment_train_and_are_counted(tmp_path):
    schema = prepare(times(tmp_path, "", ""), tmp_path / "data", options(split_by="t"))

    assert schema.order.missing == 2
    assert schema.order.test_from > schema.order.valid_to
    assert schema.splits["train"].rows == 80


def test_all_words_for_a_missing_value_are_none_in_an_order(tmp_path):
    source = times(tmp_path, "NULL", "\\N", " NA", "None", "anon")

    schema = prepare(source, tmp_path / "data", options(split_by="t", missing=("anon",)))

    assert schema.bad_rows.count == 0 and schema.order.missing == 5
    # 95 numbers, without 50 to 54: with the five, 80 rows train.
    assert (schema.order.train_to, schema.order.test_from) == ("869", "990")


@pytest.mark.parametrize("column", [[*range(98), 9999, None], [*map(float, range(98)), 9999, NAN]])
def test_a_number_that_stands_for_none_is_no_last_row(column, tmp_path):
    rows = pl.DataFrame({"click": [0, 1] * 50, "a": "x", "t": column})
    rows.write_parquet(tmp_path / "rows.parquet")

    asked = options(split_by="t", missing=("9999",))
    order = prepare(tmp_path / "rows.parquet", tmp_path / "data", asked).order

    assert (order.missing, order.train_to, order.test_from) == (2, "77", "88")


@pytest.mark.parametrize("format", ["%d%m%Y", "%m%d%Y"])
def test_days_in_digits_are_no_numbers(format, tmp_path):
    frame = pd.DataFrame({"click": [0, 1] * 100, "a": "x", "t": [f"{d:{format}}" for d in DAYS]})
    frame.to_csv(tmp_path / "rows.csv", index=False)

    with pytest.raises(DataError, match=r"line 2: split_by .*2023' in 't' \(a day in digits"):
        prepare(tmp_path / "rows.csv", tmp_path / "data", options(split_by="t"))
    asked = options(split_by="t", dates={"t": format})

    assert prepare(tmp_path / "rows.csv", tmp_path / "data", asked).order.test_from == "2023-07-24"


NOW, BEFORE, AFTER = (datetime.datetime(year, 1, 1) for year in (1990, 1989, 2100))


@pytest.mark.parametrize(
    "column, format",
    [
        ([NOW, BEFORE, AFTER], "iso"),
        ([NOW.date(), BEFORE.date(), AFTER.date()], "iso"),
        (["1990-01-01", "1989-12-31T23:59:59", "9999-12-31"], "iso"),
        (["01/01/1990", "31/12/1989", "01/01/0001"], "%d/%m/%Y"),
        ([631152000, 631151999, 4102444800], "s"),
        ([631152000000.0, 1e300, float("inf")], "ms"),
    ],
)
def test_moments_are_from_1990_to_2099_whatever_they_come_in(column, format):
    values = pl.Series("when", column)
    rule = DateRule(column="when", part="hour", format=format)

    hours, unreadable = read_part(values, rule, ())

    assert hours.to_list() == [0, None, None]
    assert unreadable.tolist() == read_moments(values, format).is_null().to_list()
    assert unreadable.tolist() == [False, True, True]
    for text in column[1:] if isinstance(column[0], str) else ():
        with pytest.raises(ValueError):
            canonical.hour_and_day(text, format)


def test_moments_of_another_unit_are_asked_about(tmp_path):
    frame = pl.DataFrame({"click": [0, 1] * 10, "a": "x", "t": range(1_700_000_000, 1_700_000_020)})
    frame = frame.with_columns(pl.from_epoch("t", "ms"))  # they are seconds
    frame.write_parquet(tmp_path / "rows.parquet")

    with pytest.raises(DataError, match=r"row 1: t must be a date .*, got 1970-01-20 .*millisec"):
        prepare(tmp_path / "rows.parquet", tmp_path / "data", options(dates={"t": "iso"}))


def test_a_dry_run_counts_and_names_all_that_prepare_would_refuse(tmp_path):
    rows = ["yes,1700000000,1", "0,1700000000,1", "1,1700000000000,1", "1,,1", "0,1700000000,"]
    text = "click,when,t,a\n" + "".join(f"{row},x\n" for row in [*rows, "0,1700000000,later", "1"])
    (tmp_path / "rows.csv").write_text(text)

    shown = preview(
        tmp_path / "rows.csv", options(dates={"when": "s"}, split_by="t"), tmp_path / "downloads"
    )

    assert (shown.rows, shown.bad_rows, shown.positives) == (6, 4, 0.4)
    place = f"{tmp_path / 'rows.csv'} line"
    assert shown.remarks[:5] == (
        f"{place} 2: label click must be 0 or 1, got 'yes'",
        f"{place} 4: when must be a date or empty, got '1700000000000' (are these milliseconds? "
        "say ms)",
        f"{place} 7: t must be a number or empty, got 'later'",
        f"{place} 8: expected 4 comma-separated columns, got 2",
        "--positive VALUE makes one label 1 and others 0, --positive 1 those of -1 and 1",
    )


def test_a_column_of_words_is_no_order(tmp_path):
    frame = pd.DataFrame({"click": [0, 1] * 50, "a": ["x", "y"] * 50, "t": ["Monday", "May"] * 50})
    frame.to_csv(tmp_path / "rows.csv", index=False)

    for use in (
        lambda: prepare(tmp_path / "rows.csv", tmp_path / "data", options(split_by="t")),
        lambda: preview(tmp_path / "rows.csv", options(split_by="t"), tmp_path),
    ):
        with pytest.raises(DataError, match=r"rows.csv line 2: split_by must be a column of num"):
            use()


def test_the_command_line_says_where_it_cut_and_what_there_is_nothing_to_learn_from(
    tmp_path, capsys, monkeypatch
):
    day = pd.Timestamp("2024-01-01")
    frame = pd.DataFrame(
        {
            "click": [0, 1] * 50,
            "a": ["x", "y"] * 50,
            "same": "k",
            "new": [f"n{row}" for row in range(100)],
            "t": [day + pd.Timedelta(days=row) for row in range(100)],
        }
    )
    frame.loc[90:, "click"] = 1
    frame.to_csv(tmp_path / "rows.csv", index=False)
    asked = ["prepare", str(tmp_path / "rows.csv"), "--label", "click", "--split-by", "t"]
    monkeypatch.setattr("sys.argv", ["multiembed", *asked, "--dry-run"])
    assert command() == 0
    dry = capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["multiembed", *asked, str(tmp_path / "data")])
    assert command() == 0
    told = capsys.readouterr().out

    assert "same: one value in all these rows" in dry
    assert "split by t: moments, here from 2024-01-01 to 2024-04-09" in dry
    assert "same: one value in all rows that train" in told
    assert "new: no value occurs 2 times, all are other" in told
    assert "test: label click is 1 in all rows; AUC is undefined there" in told
    # Rows 0 to 79 train, 80 to 89 validate: 2024 is a leap year.
    cut = "train up to 2024-03-20, valid from 2024-03-21 to 2024-03-30, test from 2024-03-31"
    assert f"split by t: {cut}" in told
