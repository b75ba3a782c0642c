"""Dates, limits, hashing, and what a sample shows before anything is written."""

import hashlib

import numpy as np
import pandas as pd
import polars as pl
import pytest

from multiembed.base.errors import DataError
from multiembed.base.validation import checked
from multiembed.data.encoding.parts import Interner
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare, preview
from multiembed.data.sources.column_kinds import tell_columns
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.store.dataset import open_dataset

TABLE = PrepareOptions(format="table", label="y", min_count=1, vocabulary="all")


def changed(**changes):
    return checked(PrepareOptions, TABLE.model_dump() | changes)


def write(folder, **columns):
    rows = len(next(iter(columns.values())))
    labels = [row % 2 for row in range(rows)]
    pl.DataFrame({"y": labels} | columns).write_csv(folder / "rows.csv")
    return folder / "rows.csv"


@pytest.mark.parametrize(
    ("format", "texts"),
    [
        ("iso", ["2024-02-29 23:59:59", "2024-03-02T05:00:00.25Z", "2024-03-03"]),
        ("s", ["1709251199", "1709355600", "1709424000"]),
        ("ms", ["1709251199123", "1709355600000", "1709424000000"]),
        ("%y%m%d%H", ["24022923", "24030205", "24030300"]),
        ("%d/%m/%Y %H:%M", ["29/02/2024 23:59", "02/03/2024 05:00", "03/03/2024 00:00"]),
    ],
)
def test_moments_become_hours_and_days(format, texts, tmp_path):
    # A Thursday at 23, a Saturday at 5 and a Sunday at 0.
    file = write(tmp_path, t=[*(texts * 8), None])

    prepare(file, tmp_path / "dataset", changed(dates={"t": format}))

    dataset = open_dataset(tmp_path / "dataset")
    assert dataset.field_names == ("t_hour", "t_weekday")
    assert set(dataset.vocabulary("t_hour")["value"]) == {"23", "5", "0", None}
    assert set(dataset.vocabulary("t_weekday")["value"]) == {"4", "6", "7", None}
    encoder = Encoder.load(tmp_path / "dataset")
    decoded = encoder.decode(encoder.encode(pl.DataFrame({"t": [*texts, "", "never"]})))
    assert decoded["t_hour"].to_list() == ["23", "5", "0", None, None]
    assert encoder.encode(pl.DataFrame({"t": ["never"]})).tolist() == [[0, 0]]


def test_text_that_is_no_moment_is_a_bad_row(tmp_path):
    file = write(tmp_path, t=["2024-01-01"] * 20 + ["yesterday"])

    with pytest.raises(DataError, match="line 22: t must be a date or empty, got 'yesterday'"):
        prepare(file, tmp_path / "dataset", changed(dates={"t": "iso"}))


def test_a_format_that_is_none_is_refused():
    with pytest.raises(ValueError, match="dates must be iso, s, ms, us, ns or a format of"):
        changed(dates={"t": "nonsense"})


def test_fields_have_limits_of_their_own(tmp_path):
    values = [f"v{number}" for number in range(10) for _ in range(number + 1)]
    file = write(tmp_path, a=values, b=values, c=values)
    options = changed(field_min_counts={"a": 4}, max_values=7, field_max_values={"b": 2})

    schema = prepare(file, tmp_path / "dataset", options)

    dataset = open_dataset(tmp_path / "dataset")
    assert schema.cardinalities == (8, 3, 8)
    assert dataset.vocabulary("a")["value"].to_list() == [f"v{n}" for n in range(9, 2, -1)]
    assert dataset.vocabulary("b")["value"].to_list() == ["v9", "v8"]
    assert dataset.vocabulary("c")["value"].to_list() == [f"v{n}" for n in range(9, 2, -1)]


def test_hashed_values_fall_into_as_many_places(tmp_path):
    values = [f"user {number}" for number in range(500)]
    file = write(tmp_path, u=values + [None] * 20)

    schema = prepare(file, tmp_path / "dataset", changed(hash_sizes={"u": 16}))

    encoder = Encoder.load(tmp_path / "dataset")
    places = [
        str(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % 16)
        for text in [*values, "unseen"]
    ]
    decoded = encoder.decode(encoder.encode(pl.DataFrame({"u": [*values, "unseen", None]})))
    assert decoded["u"].to_list() == [*places, None]
    assert schema.cardinalities == (18,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field_min_counts": {"z": 2}}, "a field must be one of a, n, got 'z'"),
        ({"hash_sizes": {"n": 2}}, "a hashed field must be categorical, got 'n'"),
        ({"dates": {"z": "iso"}}, "a column must be one of a, n, got 'z'"),
    ],
)
def test_options_for_fields_that_are_not_there_are_refused(options, message, tmp_path):
    file = write(tmp_path, a=["x"] * 20, n=[number + 0.5 for number in range(20)])

    with pytest.raises(DataError, match=message):
        prepare(file, tmp_path / "dataset", changed(**options))

    assert not list(tmp_path.glob("dataset*"))


def test_a_preview_says_what_the_whole_would_have(tmp_path):
    file = write(
        tmp_path,
        a=["x", "y", None, "z"] * 25,
        n=[number + 0.5 for number in range(100)],
        u=[f"u{number}" for number in range(100)],
    )
    options = changed(field_min_counts={"u": 2})

    found = preview(file, options, tmp_path / "downloads")
    schema = prepare(file, tmp_path / "dataset", options)

    assert (found.label, found.rows, found.bad_rows, found.positives) == ("y", 100, 0, 0.5)
    assert [one.field.cardinality for one in found.fields] == list(schema.cardinalities)
    assert [one.values for one in found.fields][::2] == [4, 100]
    assert [round(one.rare, 2) for one in found.fields] == [0, 0, 1]
    assert [round(one.missing, 2) for one in found.fields] == [0.25, 0, 0]
    assert preview(file, options, tmp_path / "downloads", rows=10).rows == 10


@pytest.mark.parametrize(
    "values",
    [
        ["a", "", None, "twelve bytes", "thirteen byte", "thirteen byts", "a" * 500, "ünï", "a"],
        [1, 2, None, 0, 2, -1, 2**63 - 1],
        [0.5, None, 0.0, float("nan"), float("inf"), 0.5],
        [True, None, False, True],
    ],
)
def test_codes_stand_for_values(values):
    column = pl.Series("x", values)
    interner = Interner()

    codes = np.concatenate([interner.add(column[:3])[0], interner.add(column[3:])[0]])

    found = interner.values.gather(codes)
    if column.dtype == pl.String:
        found, column = found.fill_null(""), column.fill_null("")
    assert found.equals(column)
    assert interner.count == column.n_unique()


def test_many_values_are_told_apart():
    column = pl.Series([f"{number:x}" * (1 + number % 4) for number in range(50_000)])
    interner = Interner()

    for start in range(0, 50_000, 7_000):
        interner.add(column[start : start + 7_000])
    codes, new = interner.add(column.reverse())

    assert len(new) == 0
    assert interner.count == column.n_unique()
    assert interner.values.gather(codes).equals(column.reverse())


WHEN = pd.date_range("2024-01-31 05:36", periods=60, freq="7h")


@pytest.mark.parametrize("kind", ["text", "typed", "zoned"])
def test_a_column_of_moments_gives_its_hour_and_weekday(tmp_path, kind):
    rows = pd.DataFrame({"y": [0, 1] * 30, "seen": WHEN})
    if kind == "text":
        rows.to_csv(tmp_path / "rows", index=False)
    else:
        zoned = rows.assign(seen=WHEN.tz_localize("Asia/Tokyo"))
        (rows if kind == "typed" else zoned).to_parquet(tmp_path / "rows")
    options = PrepareOptions(format="table", label="y", vocabulary="all", min_count=1)

    schema = prepare(tmp_path / "rows", tmp_path / "dataset", options)

    dataset = open_dataset(tmp_path / "dataset")
    assert schema.field_names == ("seen_hour", "seen_weekday")
    for field, of in (("seen_hour", WHEN.hour), ("seen_weekday", WHEN.isocalendar().day)):
        known = dataset.vocabulary(field)
        counts = pd.Series(of).value_counts()
        found = dict(zip(known["value"].cast(pl.Int64), known["count"], strict=True))
        assert found == counts.to_dict()


@pytest.mark.parametrize(
    "values",
    [
        [str(day.date()) for day in WHEN],
        ["1985-05-01 10:00", *map(str, WHEN[1:])],  # of another time: perhaps not moments of clicks
        ["soon", *map(str, WHEN[1:])],
        [str(WHEN[n % 3]) for n in range(60)],
        list(WHEN.normalize()),
    ],
    ids=["days", "long ago", "no moment", "few", "typed days"],
)
def test_what_is_no_column_of_moments_stays_a_category(values):
    rows = pl.DataFrame({"y": [0, 1] * 30, "seen": values})

    (column,) = tell_columns(rows, "y", ReadOptions())

    assert (column.name, column.kind, column.date) == ("seen", "categorical", None)


def test_moments_beside_their_own_hours_stay_as_they_are():
    rows = pl.DataFrame({"y": [0, 1] * 30, "seen": list(WHEN), "seen_hour": WHEN.hour.to_list()})

    columns = tell_columns(rows, "y", ReadOptions())

    assert [(of.name, of.date) for of in columns] == [("seen", None), ("seen_hour", None)]


def test_moments_can_be_taken_whole():
    rows = pl.DataFrame({"y": [0, 1] * 30, "seen": list(WHEN)})

    (column,) = tell_columns(rows, "y", ReadOptions(categorical_columns=("seen",)))

    assert (column.kind, column.date) == ("categorical", None)
