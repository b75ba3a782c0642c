"""What contenders see of rows, against the raw rows themselves."""

import numpy as np
import polars as pl
import pytest

import multiembed as me
from multiembed.base.errors import DataError
from multiembed.experiments.compare.contender_columns import Columns

ROWS = 600
SPLITS = {"train": slice(0, 400), "valid": slice(400, 500), "test": slice(500, 600)}
TAGS = ["a", "b", "c", "d"]


def raw_rows():
    drawn = np.random.default_rng(0)

    def with_gaps(values):
        return [
            None if gap else of for of, gap in zip(values, drawn.random(ROWS) < 0.1, strict=True)
        ]

    tags = [list(drawn.choice(TAGS, size, replace=False)) for size in drawn.integers(1, 4, ROWS)]
    items = [f"i{of}" for of in drawn.integers(0, 10, ROWS)]
    hours = drawn.integers(0, 24, ROWS)
    return pl.DataFrame(
        {
            "click": drawn.integers(0, 2, ROWS),
            "site": [f"s{of}" for of in drawn.integers(0, 20, ROWS)],
            "price": with_gaps(np.exp(drawn.normal(2, 2, ROWS)).tolist()),
            "age": with_gaps(drawn.normal(40, 12, ROWS).tolist()),
            "at": [f"2026-11-{1 + of % 28:02d} {of:02d}:30:00" for of in hours],
            "tags": ["|".join(of) for of in tags],
            "item": items,
            "seen": [
                "|".join(items[at - size : at]) for at, size in enumerate(np.arange(ROWS) % 4)
            ],
            "weight": drawn.integers(1, 4, ROWS),
        }
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Raw rows, and their columns: three files, so that the splits are known."""
    rows = raw_rows()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("columns"))
        for name, of in SPLITS.items():
            rows[of].write_csv(f"{name}.csv")
        options = me.PrepareOptions(
            format="table",
            label="click",
            weight="weight",
            numeric_columns=("price", "age"),
            numeric_embedding={"age": "plr"},
            dates={"at": "iso"},
            multivalued={"tags": "|", "seen": "|"},
            sequences={"seen": "item"},
            min_count=3,
        )
        me.prepare({name: [f"{name}.csv"] for name in SPLITS}, "encoded", options)
        yield rows, Columns(me.open_dataset("encoded"))


def column(columns, name, split="test"):
    return getattr(columns, split).numbers[:, columns.numbers.index(name)]


def test_columns_are_numbers_or_categories(prepared):
    _, columns = prepared

    assert set(columns.categories) == {"site", "tags", "item", "seen"}
    assert {"price", "age", "tags (how many)", "seen (how many)"} <= set(columns.numbers)
    assert columns.train.numbers.shape == (400, len(columns.numbers))
    assert columns.notes == [
        "1 of 8 fields are numbers of which the dataset keeps buckets alone, for trees too; "
        "prepare --numeric-embedding plr keeps all.",
        "Of tags trees see the first value and how many there are.",
        "Of seen trees see the last value and how many there are.",
    ]


@pytest.mark.parametrize("name", ["price", "age"])
@pytest.mark.parametrize("split", list(SPLITS))
def test_numbers_keep_their_order(prepared, name, split):
    """Kept ones (age) and buckets (price) rise with the raw number; rare buckets lie below all."""
    rows, columns = prepared
    raw = rows[SPLITS[split]][name].to_numpy()
    found = column(columns, name, split)
    there = ~np.isnan(raw)

    assert (np.isnan(found) == ~there).all()
    other = found == -1 if name == "price" else np.zeros(len(raw), bool)
    known = there & ~other
    order = np.argsort(raw[known])
    assert (np.diff(found[known][order]) >= 0).all()
    assert len(np.unique(found[known])) > 10
    assert other.mean() < 0.2


def test_parts_of_moments_are_ordered_too(prepared):
    rows, columns = prepared
    hour = next(name for name in columns.numbers if "hour" in name)
    raw = rows[SPLITS["test"]]["at"].str.slice(11, 2).cast(pl.Int64).to_numpy()

    # Every hour is frequent: its place among 0 to 23 is the hour itself.
    assert (column(columns, hour) == raw).all()


def test_of_several_values_the_first_or_the_last_and_their_number(prepared):
    rows, columns = prepared
    test = rows[SPLITS["test"]]
    for name, which in (("tags", 0), ("seen", -1)):
        values = [[part for part in cell.split("|") if part] if cell else [] for cell in test[name]]
        assert column(columns, f"{name} (how many)").tolist() == list(map(len, values))
        vocabulary = columns.dataset.vocabulary("item" if name == "seen" else name)
        ids = dict(zip(vocabulary["value"], vocabulary["id"], strict=True))
        chosen = [ids.get(of[which], 0) if of else -1 for of in values]
        assert columns.test.categories[:, columns.categories.index(name)].tolist() == chosen


def test_one_hot_rows_have_a_one_for_each_value_and_the_kept_numbers(prepared):
    _, columns = prepared
    hot = columns.one_hot("test").toarray()
    fields = columns.dataset.schema.fields
    ids = sum(field.cardinality for field in fields)
    single = sum(field.slots == 1 and field.shares is None for field in fields)
    several = sum(column(columns, f"{name} (how many)") for name in ("tags", "seen"))

    assert (hot[:, :ids].sum(axis=1) == single + several).all()
    start = sum(field.cardinality for field in fields[: [f.name for f in fields].index("site")])
    site = columns.test.categories[:, columns.categories.index("site")]
    assert (hot[np.arange(len(site)), start + site] == 1).all()
    assert hot.shape[1] == ids + 1
    assert np.allclose(hot[:, ids], np.nan_to_num(column(columns, "age")))


def test_weights_are_one_on_average_over_training_rows(prepared):
    rows, columns = prepared
    raw = rows["weight"].to_numpy()

    assert columns.train.weights.mean() == pytest.approx(1)
    expected = raw[SPLITS["test"]] / raw[SPLITS["train"]].mean()
    assert columns.test.weights == pytest.approx(expected)


def test_a_split_of_one_class_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = raw_rows().select("click", "site")
    for name, of in SPLITS.items():
        part = rows[of].with_columns(click=pl.lit(0)) if name == "valid" else rows[of]
        part.write_csv(f"{name}.csv")
    options = me.PrepareOptions(format="table", label="click")
    me.prepare({name: [f"{name}.csv"] for name in SPLITS}, "encoded", options)

    with pytest.raises(DataError, match="valid must have rows of both classes, got 0 positives"):
        Columns(me.open_dataset("encoded"))
