"""Which columns of a table are numbers, categories, moments or cells of several values."""

import math
import re
from collections.abc import Sequence
from datetime import time
from typing import Literal, NamedTuple, get_args

import numpy as np
import polars as pl
from jaxtyping import Bool

from multiembed.base.errors import DataError
from multiembed.data.encoding.canonical import (
    BETWEEN,
    BLANKS,
    LIST,
    MISSING,
    NO_NUMBER,
    number_of,
)
from multiembed.data.encoding.moments import read_moments
from multiembed.data.encoding.typed import LARGEST_WHOLE, canonical, settled
from multiembed.data.encoding.values import read_numbers
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.source import Column
from multiembed.data.store.schema import DateRule, Dress

KIND_ROWS = 10_000
SHOWN = 3
CODES = 20
"""Whole numbers with no more distinct values than this are codes, not amounts."""
MOSTLY = 0.5
"""A column of text with more numbers than this share is worth a remark."""
FEW_TEXTS = 200
REPEATED = 10
"""Whole numbers of which each stands in so many rows or more may be identifiers."""
THINGS = (
    "account|ad|adgroup|advertiser|airline|album|app|area|article|artist|author|banner|book|brand|"
    "browser|campaign|carrier|cat|category|channel|city|class|click|client|cluster|content|cookie|"
    "country|county|coupon|creative|customer|deal|device|district|doc|document|domain|driver|"
    "employee|event|feed|flight|game|geo|group|hotel|impression|item|keyword|listing|location|log|"
    "market|member|merchant|message|model|movie|network|news|offer|order|page|parent|partner|"
    "patient|person|photo|place|placement|player|playlist|position|post|product|profile|publisher|"
    "query|record|region|request|restaurant|row|seller|session|shop|site|slot|song|source|state|"
    "store|student|subcategory|supplier|tag|target|team|template|topic|track|transaction|trip|type|"
    "unit|user|vehicle|vendor|venue|video|visit|visitor|zone"
)
KEYS = (
    "id|ids|uid|uuid|guid|pid|cid|gid|sid|tid|iid|nid|oid|code|codes|zip|zipcode|postcode|sku|isbn|"
    "asin|ean|gtin|hash|idfa|gaid|imei|ip|mac|msisdn|phone|pincode|plz|upc"
)
"""Words that make an identifier of a column when they stand alone or last."""
CODED = "zip|postal|country|area|product|region|city|state|item|airport|airline|promo|coupon|bar"
NUMBERED = (
    "account|card|contract|customer|employee|invoice|item|member|part|patient|phone|policy|product|"
    "serial|shop|store|ticket"
)
"""Things that have numbers; those of orders, pages and visits often count."""
ONE_WORD = re.compile(
    f"(?:{THINGS})s?(?:id|ids|uid|key)|id(?:{THINGS})|(?:{CODED})codes?|"
    f"(?:{NUMBERED})(?:no|nr|nbr|number)"
)
"""An identifier in one word, such as userid; paid, bid, grid, humid and valid are none."""
ALONE = re.compile(
    "ad|adgroup|advertiser|airline|airport|app|artist|author|brand|browser|campaign|carrier|"
    "category|channel|city|client|country|county|creative|customer|device|district|domain|genre|"
    "item|manufacturer|merchant|movie|os|product|publisher|region|seller|shop|site|song|state|"
    "store|subcategory|supplier|user|vendor"
)
"""Things whose numbers, in a column of their name alone, are codes."""


class _Look(NamedTuple):
    """What a sample of a column looks like."""

    numeric: bool
    decimal: Dress = ""
    remark: str = ""


def tell_columns(rows: pl.DataFrame, label: str | None, options: ReadOptions) -> tuple[Column, ...]:
    """Tell numbers from categories and lists by rows from all over a table.

    A column is numeric if every value is a number, or a word for a missing one, and it is no
    identifier by its name, no code (few distinct whole numbers, or digits with a leading zero)
    and no whole number too large to be an amount. A column of lists, by its type or because every
    cell is written as one, has several values per cell. What the user says overrules that.

    Args:
        rows: Some rows, all columns, of the types that they have.
        label: The column that is no field, if there is one.
        options: What the user says of columns.

    Raises:
        DataError: If a wish is for a column that is not there, two are for one, or a column is
            of a type that holds no plain values.
    """
    dropped = _check_wishes(rows.columns, label, options)
    columns: list[Column] = []
    for name in rows.columns:
        if name == label or name in dropped:
            continue
        columns += _columns_of(rows.get_column(name), options, rows.columns)
    return tuple(columns)


def _columns_of(column: pl.Series, options: ReadOptions, names: Sequence[str]) -> list[Column]:
    """Return the fields that a column becomes; `names` are those of all columns."""
    name, listed = column.name, isinstance(column.dtype, pl.List | pl.Array)
    column = settled(column.to_frame())[name]
    if listed and name in (*options.categorical_columns, *options.numeric_columns, *options.dates):
        raise DataError(f"column {name!r} must be multivalued, for it holds lists")
    if name in options.dates:
        return _date_columns(name, options.dates[name])
    if name in options.sequences or name in options.multivalued:
        return [_several(column, options, listed=listed)]
    if name in options.categorical_columns:
        return [Column(name, "categorical", remark=_same_number(column))]
    wanted = name in options.numeric_columns
    if listed or (not wanted and _holds_lists(column)):
        return [Column(name, "multivalued")]
    first, *rest = _date_columns(name, "iso")
    free = not {first.name, *(other.name for other in rest)} & set(names)
    if free and not wanted and _are_moments(column):
        remark = "moments, whose hour and weekday are read; --categorical takes them whole"
        return [first._replace(remark=remark), *rest]
    look = _look(column, options, wanted=wanted)
    kind = "numeric" if look.numeric else "categorical"
    return [Column(name, kind, decimal=look.decimal, remark=look.remark)]


def is_identifier(name: str) -> bool:
    """Say whether a column is an identifier by its name, however that is written."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.split(r"[^0-9a-z]+", words.lower().rstrip("_"))
    if len(words) > 1 and re.fullmatch("[0-9]+|x|y", words[-1]):  # a second one, or pandas' merge
        words.pop()
    last, whole = words[-1].rstrip("0123456789"), "".join(words)
    known = re.fullmatch(KEYS, last) or any(
        ONE_WORD.fullmatch(text) for text in (last, whole, "".join(words[-2:]))
    )
    return bool(known) or bool(ALONE.fullmatch(whole))


def _check_wishes(names: Sequence[str], label: str | None, options: ReadOptions) -> set[str]:
    """Refuse wishes that cannot be, and return the columns that are no fields."""
    kinds = (
        options.categorical_columns,
        options.numeric_columns,
        options.dates,
        options.multivalued,
    )
    named = {name for kind in (*kinds, options.sequences) for name in kind}
    unknown = sorted(named - set(names) - {label})
    kinds = (*kinds[:-1], {**options.multivalued, **options.sequences})
    twice = sorted(name for name in named if sum(name in kind for kind in kinds) > 1)
    if unknown or label in named:
        known = ", ".join(name for name in names if name != label)
        raise DataError(f"a column must be one of {known}, got {(unknown or [label])[0]!r}")
    if twice:
        raise DataError(f"a column must be of one kind, got {twice[0]!r} as two")
    if options.weight is not None and options.weight in {label, *named}:
        other = "the label" if options.weight == label else "a field"
        raise DataError(f"weight must be a column of its own, got {options.weight!r}, {other}")
    return {name for name in (options.split_by, options.weight) if name is not None} - named


def _look(column: pl.Series, options: ReadOptions, *, wanted: bool) -> _Look:
    """Look at the values of a column, which the user may want to be numbers."""
    named = is_identifier(column.name)
    if column.dtype != pl.String:
        if not column.dtype.is_numeric():
            return _Look(wanted)
        values = column.cast(pl.Float64).fill_nan(None).drop_nulls()
        numeric = wanted or (not named and _are_amounts(values))
        return _Look(numeric, remark=_repeated(values, wanted=wanted) if numeric else "")
    counts = column.drop_nulls().str.strip_chars(BLANKS).value_counts(name="rows")
    absent = [*MISSING, *options.missing]
    word = pl.col(column.name).is_in([*absent, *NO_NUMBER])
    present = counts.filter(~word)
    decimal, numbers, unread = _in_some_dress(present)
    values = numbers.drop_nulls()
    coded = present[column.name].str.contains(r"^[+-]?0[0-9]").any()
    numeric = not (unread.any() or named or coded) and _are_amounts(values)
    words = counts.filter(word & (pl.col(column.name) != ""))
    others = present.filter(pl.Series(unread)) if unread.any() else words
    readable = int(present["rows"].sum()) - int(present.filter(pl.Series(unread))["rows"].sum())
    share = readable / max(1, readable + int(others["rows"].sum()))
    if not (numeric or wanted):
        mostly = share > MOSTLY and unread.any() and not named
        remarks = [_else(share, others) if mostly else "", _same_number(column)]
        return _Look(False, remark="; ".join(filter(None, remarks)))
    remarks = [
        _else(share, others) if others.height else "",
        "" if unread.any() else _dressed(present[column.name]),
        _repeated(
            values.repeat_by(present["rows"].filter(numbers.is_not_null())).explode(), wanted=wanted
        ),
    ]
    return _Look(True, decimal, "; ".join(filter(None, remarks)))


def _in_some_dress(
    counts: pl.DataFrame,
) -> tuple[Dress, pl.Series, Bool[np.ndarray, " values"]]:
    """Return the mark before fractions that makes most rows numbers, these, and the other texts."""
    found = []
    for decimal in get_args(Dress):
        numbers, unread = read_each(counts.to_series(0), decimal)
        found.append((int(counts["rows"].to_numpy() @ unread), decimal, numbers, unread))
        if not unread.any():
            break
    _, decimal, numbers, unread = min(found, key=lambda one: one[0])
    return decimal, numbers, unread


def read_each(texts: pl.Series, decimal: Dress) -> tuple[pl.Series, Bool[np.ndarray, " texts"]]:
    """Do what `read_numbers` does; for a few texts Python alone is far quicker than many calls."""
    if len(texts) > FEW_TEXTS:
        return read_numbers(texts, decimal)
    found = [number_of(text, decimal) for text in texts]
    finite = [None if one is None or not math.isfinite(one) else one for one in found]
    unread = np.array([one is None for one in found], bool)
    return pl.Series(texts.name, finite, dtype=pl.Float64), unread


def _are_amounts(values: pl.Series) -> bool:
    """Say whether numbers are amounts, not codes: some are no whole ones, or they are many."""
    if len(values) == 0:
        return False
    if bool((values != values.floor()).any()):
        return True
    return values.n_unique() > CODES and bool((values.abs() < LARGEST_WHOLE).all())


def _repeated(values: pl.Series, *, wanted: bool) -> str:
    distinct = values.n_unique()
    whole = not wanted and bool((values == values.floor()).all())
    if not whole or distinct <= CODES or distinct * REPEATED > len(values):
        return ""
    return (
        f"{distinct} whole numbers, each in {len(values) / distinct:.0f} rows, cut into buckets; "
        "identifiers are categories"
    )


def _else(share: float, others: pl.DataFrame) -> str:
    """Say how many values are numbers, and what the others are."""
    texts = others.sort(["rows", others.columns[0]], descending=[True, False]).to_series(0)
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    percent = f"{share:.2%}" if share > 0.99 else f"{share:.0%}"
    return f"{percent} numbers, else {', '.join(map(repr, texts[:SHOWN].to_list()))}{more}"


def _dressed(texts: pl.Series) -> str:
    odd = texts.filter(texts.cast(pl.Float64, strict=False).is_null())
    return f"numbers written as {odd.sort()[0]!r}" if len(odd) else ""


def _same_number(column: pl.Series) -> str:
    """Say of a category that two of its texts are one number, as 1.1 and 1.10 are."""
    if column.dtype != pl.String:
        return ""
    longer = column.filter(column.str.contains(r"^-?[0-9]+\.[0-9]*[1-9]0+$")).unique().sort()
    shorter = canonical(longer)
    both = longer.filter(shorter.is_in(column.unique().to_list()))
    if not len(both):
        return ""
    return f"{both[0]!r} and {canonical(both)[0]!r} are one value, as numbers are"


def _holds_lists(column: pl.Series) -> bool:
    if column.dtype != pl.String:
        return False
    cells = column.drop_nulls().str.strip_chars(BLANKS)
    cells = cells.filter(~cells.is_in(list(MISSING)))
    return len(cells) > 0 and bool(cells.str.contains(f"^(?:{BETWEEN}|{LIST.pattern}$)").all())


def _are_moments(column: pl.Series) -> bool:
    """Say whether a column is of moments with a time of day, too many to be categories."""
    if column.dtype == pl.String:
        column = column.str.strip_chars(BLANKS)
        column = column.filter(~column.is_in([*MISSING, *NO_NUMBER]))
    elif not isinstance(column.dtype, pl.Datetime):
        return False
    distinct = column.drop_nulls().unique()
    if len(distinct) <= CODES:
        return False
    moments = read_moments(distinct, "iso")
    return not moments.has_nulls() and bool((moments.dt.time() != time()).any())


def _several(column: pl.Series, options: ReadOptions, *, listed: bool) -> Column:
    """Return a column of several values; the cells of a history must say where these end."""
    name, delimiter = column.name, options.multivalued.get(column.name)
    shares = options.sequences.get(name)
    if shares and not listed and (delimiter is None or column.dtype != pl.String):
        present = column.drop_nulls()
        if len(present) and not _holds_lists(column):
            raise DataError(
                f"sequence {name!r} must hold lists, or text whose delimiter --multivalued "
                f"{name}=TEXT says, got {present[0]!r}"
            )
    return Column(name, "multivalued", delimiter=delimiter, shares=shares)


def _date_columns(name: str, format: str) -> list[Column]:
    """Return the hour and the weekday of a column of moments."""
    parts: tuple[Literal["hour", "weekday"], ...] = ("hour", "weekday")
    return [
        Column(f"{name}_{part}", "categorical", DateRule(column=name, part=part, format=format))
        for part in parts
    ]
