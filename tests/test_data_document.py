"""What docs/data.md says is so: its tables are run, and its surprises happen as they are told."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from multiembed.base.errors import DataError
from multiembed.data.encoding.canonical import NO_NUMBER, canonical_text, number_of
from multiembed.data.encoding.frames import as_polars
from multiembed.data.encoding.moments import DIRECTIVES, is_format
from multiembed.data.encoding.typed import category_text, settled
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.sources.column_kinds import CODES, is_identifier, tell_columns
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.store.dataset import open_dataset
from multiembed.serving.export import TOLERANCE

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")


def quoted(text):
    return re.findall(r"`([^`]*)`", text)


def table(heading):
    """The rows of the table whose header begins so, cell by cell."""
    body = TEXT.split(f"\n| {heading}")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def sentence(start):
    return TEXT.split(start)[1].split(".\n")[0].split("\n")[0]


@pytest.mark.parametrize("row", table("value |"), ids=lambda row: row[0])
def test_every_row_of_the_table_of_texts(row):
    _, own, same = row
    text = (quoted(own) or [""])[0]

    for written in [text, *quoted(same)]:
        assert canonical_text(written) == text


def test_what_stays_as_it_is():
    texts = quoted(sentence("These stay as they are"))

    assert len(texts) == 12
    assert [canonical_text(text) for text in texts] == texts


@pytest.mark.parametrize("row", table("values of"), ids=lambda row: row[0])
def test_every_row_of_the_table_of_kinds(row):
    cells, kind = row
    rows = pl.DataFrame({"x": quoted(cells) * 20})

    assert [column.kind for column in tell_columns(rows, None, ReadOptions())] == [kind]


def test_names_and_words():
    known, none = sentence("Whole numbers of 20 values").split("No identifiers are")
    words = quoted(sentence("Words for a missing number").split(". A number")[0])

    assert CODES == 20
    assert [name for name in quoted(known) if not is_identifier(name)] == []
    assert [name for name in quoted(none)[:5] if is_identifier(name)] == []
    assert set(words) <= set(NO_NUMBER)
    assert all(np.isnan(number_of(word)) for word in words)
    assert number_of("1,234") is None
    assert (number_of("12%", "%"), number_of("12%")) == (12, None)
    assert f"{TOLERANCE:g}" in TEXT


def test_formats_of_moments():
    directives = quoted(sentence("A format of `strptime` may hold"))[0].split()

    assert {directive[1] for directive in directives} == DIRECTIVES - {"%"}
    assert is_format("%Y-%m-%d %H:%M:%S.%f %z")
    assert not is_format("%Q")
    assert all(is_format(unit) for unit in ("s", "ms", "us", "ns"))


def prepared(folder, values, **options):
    rows = pd.DataFrame({"y": [0, 1] * 30, "x": [values[n % len(values)] for n in range(60)]})
    rows.to_csv(folder / "rows.csv", index=False)
    asked = PrepareOptions(format="table", label="y", min_count=1, vocabulary="all", **options)
    return prepare(folder / "rows.csv", folder / "data", asked).fields[0]


def vocabulary(folder, name="x"):
    return set(open_dataset(folder / "data").vocabulary(name)["value"])


PRICES = ["abc", *(number / 4 for number in range(40))]


def test_surprise_1_a_price_is_a_category(tmp_path):
    found = prepared(tmp_path, PRICES)
    assert (found.kind, found.remark) == ("categorical", "97% numbers, else 'abc'")
    (tmp_path / "missing").mkdir()
    assert prepared(tmp_path / "missing", PRICES, missing=("abc",)).kind == "numeric"
    (tmp_path / "numeric").mkdir()
    with pytest.raises(DataError, match="x must be a number or empty, got 'abc'"):
        prepared(tmp_path / "numeric", PRICES, numeric_columns=("x",))


def test_surprise_2_and_3_identifiers_and_few_numbers(tmp_path):
    for folder in "abcd":
        (tmp_path / folder).mkdir()

    assert prepared(tmp_path / "a", range(50)).kind == "numeric"
    assert prepared(tmp_path / "b", range(50), categorical_columns=("x",)).kind == "categorical"
    assert prepared(tmp_path / "c", range(9)).kind == "categorical"
    assert prepared(tmp_path / "d", range(9), numeric_columns=("x",)).kind == "numeric"


def test_surprise_4_versions(tmp_path):
    found = prepared(tmp_path, ["4.4.2", "1.10", "1.1"])

    assert "1.10" in found.remark
    assert canonical_text("v1.10") == "v1.10"


def test_surprise_5_namibia(tmp_path):
    prepared(tmp_path, ["NA", "DE"])
    assert vocabulary(tmp_path) == {"NA", "DE"}
    (tmp_path / "missing").mkdir()
    prepared(tmp_path / "missing", ["NA", "DE"], missing=("NA",))
    assert vocabulary(tmp_path / "missing") == {None, "DE"}


def test_surprise_6_leading_noughts(tmp_path):
    (tmp_path / "rows.csv").write_text("x,y\n007,NA\n")

    read = pd.read_csv(tmp_path / "rows.csv")
    text = pd.read_csv(tmp_path / "rows.csv", dtype=str, keep_default_na=False)

    found = [settled(as_polars(rows)) for rows in (read, text)]
    assert [category_text(rows["x"])[0] for rows in found] == ["7", "007"]
    assert [category_text(rows["y"])[0] for rows in found] == ["", "NA"]


def test_surprise_7_and_8_hours_and_epochs(tmp_path):
    prepared(tmp_path, ["2024-06-01T05:36:34Z", "2024-06-01T07:36:34+02:00"], dates={"x": "iso"})
    assert vocabulary(tmp_path, "x_hour") == {"5", "7"}
    (tmp_path / "epochs").mkdir()
    stamp = "2024-06-01T07:36:34+02:00"
    assert "T05:36:34" in pd.Series(pd.to_datetime([stamp])).to_json(date_format="iso")
    assert pl.read_csv(f"x\n{stamp}\n".encode(), try_parse_dates=True)["x"][0].hour == 5
    with pytest.raises(DataError, match="are these milliseconds"):
        prepared(tmp_path / "epochs", [1714606200000], dates={"x": "s"})
    prepared(tmp_path / "epochs", [1714606200000], dates={"x": "ms"})
    assert vocabulary(tmp_path / "epochs", "x_hour") == {"23"}


def test_surprise_9_lists_without_brackets(tmp_path):
    assert prepared(tmp_path, ["a;b"]).kind == "categorical"
    (tmp_path / "split").mkdir()
    assert prepared(tmp_path / "split", ["a;b"], multivalued={"x": ";"}).kind == "multivalued"
    assert vocabulary(tmp_path / "split") == {"a", "b"}


def test_surprise_10_types_without_plain_values(tmp_path):
    prepared(tmp_path, ["a"])
    encoder = Encoder.load(tmp_path / "data")
    for odd in (pd.to_timedelta([1], "s"), [{"a": 1}]):
        with pytest.raises(DataError, match="column 'x' must hold plain values"):
            encoder.encode(as_polars(pd.DataFrame({"x": odd})))


def test_there_are_ten_surprises_and_each_has_its_test():
    numbers = re.findall(r"^(\d+)\. \*\*", TEXT, re.MULTILINE)
    tested = {n for name in globals() if "surprise_" in name for n in re.findall(r"\d+", name)}

    assert numbers == [str(number) for number in range(1, 11)]
    assert set(numbers) <= tested
