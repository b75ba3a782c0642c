"""New rows encoded like earlier ones: ids stay, new values follow, old ones retire."""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import multiembed as me
from multiembed.base.errors import DataError, InputError
from multiembed.data.encoding import sharding
from multiembed.data.encoding.growth import vocabulary_like
from multiembed.data.store.schema import Field
from multiembed.runs.directory import RunDirectory

ASKED = {"format": "table", "label": "click", "min_count": 2}


def write(path, sites, **columns):
    """Forty rows; the sites come round again and again, so that all are in every split."""
    rows = {"click": [0, 1] * 20, "site": (list(sites) * 40)[:40]}
    pl.DataFrame(rows | columns).write_csv(path)
    return path


def grown(known, counts, *, growth=1, retire=0, **rules):
    """One growth, as a mapping from ids to values, and the growth that last saw each."""
    field = Field(name="f", kind="categorical", cardinality=1, min_count=2, **rules)
    frame = pl.DataFrame({"value": list(counts), "count": list(counts.values())})
    found = vocabulary_like(known, frame, field, growth=growth, retire=retire)
    assert found.field.cardinality == found.kept.height + 1
    assert found.kept["id"].to_list() == list(range(1, found.kept.height + 1))
    return found.kept


def first(*values):
    ids = pl.Series(range(1, len(values) + 1), dtype=pl.Int32)
    counts = pl.Series([9] * len(values), dtype=pl.Int64)
    return pl.DataFrame(
        {"value": values, "count": counts, "id": ids}, schema_overrides={"value": pl.String}
    )


def test_ids_stay_and_new_values_follow_by_count_where_they_are_frequent_enough():
    kept = grown(first("a", None, "b"), {"b": 1, "c": 3, "d": 1, "": 2, "e": 3, "f": 5})
    assert kept["value"].to_list() == ["a", None, "b", "f", "c", "e"]
    assert kept["count"].to_list() == [0, 2, 1, 5, 3, 3]
    assert kept["seen"].to_list() == [0, 1, 1, 1, 1, 1]


def test_what_was_not_seen_for_t_growths_retires_and_new_values_take_its_id():
    kept = grown(first("a", "b", "c", None), {"b": 2}, growth=1, retire=2)
    assert kept["value"].to_list() == ["a", "b", "c", None]
    kept = grown(kept, {"x": 4}, growth=2, retire=2)
    assert kept["value"].to_list() == ["x", "b", "⟨retired 3⟩", None]  # a missing value stays
    assert kept["seen"].to_list() == [2, 1, -1, 0]
    kept = grown(kept, {"a": 2, "y": 3}, growth=3, retire=2)
    assert kept["value"].to_list() == ["x", "y", "a", None]


def test_ids_that_stand_empty_go_to_the_most_frequent_new_values_in_order():
    kept = grown(first("a", "b", "c"), {"p": 2, "q": 9, "r": 5, "s": 3}, growth=5, retire=3)
    assert kept["value"].to_list() == ["q", "r", "s", "p"]


def test_most_values_bound_a_growing_field():
    kept = grown(first("a", "b"), {"a": 1, "c": 5, "d": 4}, max_values=3)
    assert kept["value"].to_list() == ["a", "b", "c"]
    kept = grown(kept, {"a": 1, "c": 5, "d": 4, "e": 2}, growth=2, retire=2, max_values=3)
    assert kept["value"].to_list() == ["a", "d", "c"]


def test_a_value_written_as_a_retired_id_is_no_value_of_it():
    kept = grown(first("a", "b"), {"b": 2}, growth=3, retire=1)
    kept = grown(kept, {"⟨retired 1⟩": 7, "b": 2}, growth=4, retire=1)
    assert kept["seen"].to_list() == [-1, 4]


@pytest.fixture
def days(tmp_path, monkeypatch):
    """A dataset of yesterday, and the rows of today."""
    monkeypatch.chdir(tmp_path)
    numbers = [float(n % 9) for n in range(40)]
    extra = {"n": numbers, "at": [f"2026-11-30 {n % 24:02}:00" for n in range(40)]}
    write("old.csv", "aabbc", tags=["x|y", "y"] * 20, h=["p", "q"] * 20, **extra)
    new = {"n": [100.0, *numbers[1:]], "at": extra["at"]}
    write("new.csv", "aaddc", tags=["x|z", "y|x|z"] * 20, h=["p", "r"] * 20, **new)
    options = me.PrepareOptions(
        **ASKED,
        numeric_rule="quantiles",
        dates={"at": "iso"},
        multivalued={"tags": "|"},
        hash_sizes={"h": 50},
        missing=("c",),
    )
    return me.prepare("old.csv", "old", options)


def test_rows_are_encoded_as_an_equal_preparation_encodes_them(days):
    schema = me.prepare("new.csv", "new", me.PrepareOptions(like="old"))
    assert schema.is_of(days, rows=False)
    assert [f.cardinality for f in schema.fields] == [f.cardinality for f in days.fields]
    assert schema.fields[-1].name == days.fields[-1].name
    assert schema.options["like"] == "old"
    old, new = me.open_dataset("old"), me.open_dataset("new")
    sites = pl.read_csv("new.csv")["site"]
    assert new.split("train").ids.shape[1] == old.split("train").ids.shape[1]
    # The same rows, like themselves, are the same ids.
    again = me.prepare("old.csv", "again", me.PrepareOptions(like="old"))
    assert again.fingerprint == days.fingerprint
    known = dict(old.vocabulary("site").select("value", "id").iter_rows())
    expected = sorted(known.get(None if site == "c" else site, 0) for site in sites)
    found = np.concatenate([new.split(s).ids[:, 0] for s in ("train", "valid", "test")])
    assert sorted(found.tolist()) == expected


def test_a_grown_dataset_keeps_every_id_in_every_kind_of_field(days):
    schema = me.prepare("new.csv", "new", me.PrepareOptions(like="old", grow=True))
    old, new = me.open_dataset("old"), me.open_dataset("new")
    for field in days.fields:
        before, now = old.vocabulary(field.name), new.vocabulary(field.name)
        assert now["value"].head(before.height).equals(before["value"], null_equal=True)
        numbered = RunDirectory("new").read_vocabularies(schema)[field.name]
        assert numbered.equals(now)
    sizes = {
        f.name: (a.cardinality, f.cardinality)
        for a, f in zip(days.fields, schema.fields, strict=True)
    }
    assert sizes["tags"] == (3, 4) and sizes["site"] == (4, 5) and sizes["h"] == (3, 4)
    assert sizes["n"][0] == sizes["n"][1]  # the edges of the quantiles stay
    assert {f.name: f.slots for f in schema.fields}["tags"] == 3  # grown with the longest cell
    assert schema.grown_from == (days.fingerprint.values,)
    assert schema.fields[3].numeric == days.fields[3].numeric


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"label": "site"}, r"label must be that of old, 'click', got 'site'"),
        ({"missing": ("z",)}, r"missing must be that of old, \('c',\), got \('z',\)"),
        ({"min_count": 5}, r"min_count must be that of old, 2 unless grow is on, got 5"),
        ({"numeric_rule": "log"}, r"numeric_rule must be that of old, 'quantiles', got 'log'"),
        ({"like": "nowhere"}, r"like must be an encoded dataset or a run, got nowhere"),
        ({"like": None, "grow": True, **ASKED}, r"grow must stand with like"),
        ({"retire": 3}, r"retire must stand with grow"),
        ({"grow": True, "field_min_counts": {"x": 2}}, r"a field must be one of site, "),
        ({"keep": ("y",)}, r"keep must be a column of new.csv"),
    ],
)
def test_what_contradicts_yesterday_is_refused_in_one_line(days, asked, message):
    with pytest.raises(InputError, match=message):
        me.prepare("new.csv", "new", me.PrepareOptions(**{"like": "old"} | asked))


def test_rows_without_a_column_of_yesterday_are_refused(days, tmp_path):
    write("less.csv", "ab")
    with pytest.raises(DataError, match=r"less.csv must have the columns of old, got no 'tags'"):
        me.prepare("less.csv", "new", me.PrepareOptions(like="old"))


def test_what_says_nothing_of_values_is_todays(days):
    options = me.PrepareOptions(
        like="old",
        grow=True,
        min_count=3,
        field_min_counts={"h": 30},
        keep=("at",),
        split_by="at",
        max_bad_rows=1,
    )
    schema = me.prepare("new.csv", "new", options)
    assert schema.order.column == "at" and schema.options["keep"] == ["at"]
    assert {f.name: f.min_count for f in schema.fields}["h"] == 30
    assert schema.options["label"] == "click"
    # The next day inherits them; growing is said anew every day.
    later = me.prepare("new.csv", "later", me.PrepareOptions(like="new"))
    assert later.order.column == "at" and later.grown_from == schema.grown_from
    assert "grow" not in later.options


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


class Kill(BaseException):
    """Stands for the end of the process."""


def test_a_kill_is_resumed_unless_yesterday_is_another(days, tmp_path, monkeypatch):
    options = me.PrepareOptions(like="old", grow=True, shard_rows=10)
    me.prepare("new.csv", "whole", options)
    calls = []

    def killed_at_second(*args, **kwargs):  # of the shards
        calls.append(args)
        if len(calls) == 2:
            raise Kill
        return encoded(*args, **kwargs)

    encoded = sharding._encoded
    monkeypatch.setattr(sharding, "_encoded", killed_at_second)
    with suppress(Kill):
        me.prepare("new.csv", "part", options)
    monkeypatch.setattr(sharding, "_encoded", lambda *a, **k: calls.append(a) or encoded(*a, **k))
    before = len(calls)
    me.prepare("new.csv", "part", options)
    assert len(calls) - before == 3  # the first of four shards was there
    assert digests(tmp_path / "part") == digests(tmp_path / "whole")
    # Another dataset of the same name: nothing of the earlier work is of use.
    calls.clear()
    monkeypatch.setattr(sharding, "_encoded", killed_at_second)
    with suppress(Kill):
        me.prepare("new.csv", "other", options)
    shutil.rmtree("old")
    me.prepare("new.csv", "old", me.PrepareOptions(**ASKED))
    monkeypatch.setattr(sharding, "_encoded", encoded)
    me.prepare("new.csv", "other", options)
    me.prepare("new.csv", "fresh", options)
    assert digests(tmp_path / "other") == digests(tmp_path / "fresh")


def test_the_command_line_says_the_same(days, call):
    assert call("prepare", "new.csv", "byhand", "--like", "old", "--grow", "--retire", "3")[0] == 0
    schema = json.loads(Path("byhand/schema.json").read_text())
    assert schema["options"]["retire"] == 3 and len(schema["grown_from"]) == 1
    code, _, error = call("prepare", "new.csv", "no", "--like", "old", "--label", "site")
    assert code == 2 and error.count("\n") == 1 and "label must be that of old" in error
    code, said, _ = call("prepare", "new.csv", "--like", "old", "--grow", "--dry-run")
    assert code == 0 and "first 40 rows" in said


def test_other_datasets_say_nothing_of_growth(days):
    text = Path("old/schema.json").read_text()
    assert "grown_from" not in text and "like" not in json.loads(text)["options"]
    assert me.open_dataset("old").vocabulary("site").columns == ["value", "count", "id"]


def test_a_preparation_that_says_nothing_of_its_options_is_no_model(days):
    schema = json.loads(Path("old/schema.json").read_text())
    Path("old/schema.json").write_text(json.dumps(schema | {"options": {}}))
    with pytest.raises(DataError, match="must say how its rows were prepared"):
        me.prepare("new.csv", "new", me.PrepareOptions(like="old"))
