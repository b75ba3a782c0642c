"""Rows of JSON: an object on every line, or one array of objects."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.data.encoding.typed import check_names
from multiembed.data.sources.contents import (
    BYTE_ORDER_MARK,
    FIRST_BYTES,
    FileContents,
    read_text,
)
from multiembed.data.sources.json_scanning import (
    LISTS_TEXT,
    MOST_KEYS,
    NESTED,
    PLAIN_JSON,
    scan_keys,
    write_nulls,
)
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.records import JSON_LINES, Dialect, Records, read_records
from multiembed.data.sources.text import TextReader

NO_OBJECT = "a line must be one JSON object, got something else"
_SEVERAL = pl.List(pl.String)
_NOT_JSON = (b"NaN", b"Infinity")
"""What Python and others write for numbers that JSON has not."""


class JsonReader(TextReader):
    """One file of JSON objects, whose keys are columns; NaN and the infinities are missing.

    Raises:
        DataError: If there are no objects, or too many keys.
    """

    malformed = NO_OBJECT
    loose = True

    def __init__(self, file: Path, dialect: Dialect) -> None:
        kinds = _read_keys(file, dialect)
        if not kinds:
            raise DataError(f"{file} must hold JSON objects, one per line or in an array, got none")
        super().__init__(file, dialect, tuple(kinds), header=False)
        nested = [name for name, found in kinds.items() if NESTED in found]
        self.nested = dict.fromkeys(nested, "objects or lists of lists")
        self._lists = {name for name, found in kinds.items() if LISTS_TEXT in found}
        self._mixed = {name for name in self._lists if PLAIN_JSON in kinds[name]}

    @property
    @override
    def width(self) -> int:
        return 1

    @property
    @override
    def types(self) -> dict[str, str]:
        return {name: "List(String)" if name in self._lists else "String" for name in self.names}

    @override
    def _parse(self, records: Records, columns: Sequence[str]) -> pl.DataFrame:
        text, lists = records.text, self._lists - self._mixed
        schema = pl.Schema({n: _SEVERAL if n in lists else pl.String() for n in columns})
        if not text:  # polars refuses that
            return pl.DataFrame(schema=schema | dict.fromkeys(self._mixed & {*columns}, _SEVERAL))
        if any(word in text for word in _NOT_JSON):
            text = _without_them(text)
        rows = pl.read_ndjson(text, schema=schema)
        return rows.with_columns(_as_lists(n) for n in columns if n in self._mixed)


def open_json(file: Path, contents: FileContents, options: ReadOptions) -> JsonReader:
    """Open objects on lines, or in an array, whichever a file's first bytes say.

    Raises:
        DataError: If there are no objects, or too many keys.
    """
    encoding = options.encoding or contents.encoding
    first, _ = next(read_text(file, encoding, step=FIRST_BYTES), (b"", 0))
    is_array = first.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"[")
    layout = "array" if is_array else "lines"
    return JsonReader(file, JSON_LINES._replace(encoding=encoding, json=layout))


def _as_lists(name: str) -> pl.Expr:
    """Return lists of text that holds lists, or single values."""
    cell = pl.col(name)
    listed = pl.when(cell.str.contains(r"^\[.*\]$")).then(cell).str.json_decode(_SEVERAL)
    single = pl.when(cell.is_not_null()).then(pl.concat_list(cell))
    return pl.when(listed.is_not_null()).then(listed).otherwise(single).alias(name)


def _without_them(text: bytes) -> bytes:
    out = np.empty(len(text) + text.count(b"N") + text.count(b"I") + 16, np.uint8)
    return out[: write_nulls(np.frombuffer(text, np.uint8), out)].tobytes()


def _read_keys(file: Path, dialect: Dialect) -> dict[str, set[int]]:
    """Read all keys of a file, in the order in which they come, with the kinds of their values."""
    seen, found = np.zeros(4 * MOST_KEYS, np.uint64), np.empty((MOST_KEYS, 3), np.int64)
    keys: dict[str, set[int]] = {}
    total = 0
    for records in read_records(file, dialect):
        count = scan_keys(np.frombuffer(records.text, np.uint8), seen, found)
        for begin, end, kind in found[: max(0, count)].tolist():
            try:
                name = json.loads(records.text[begin:end])
                name.encode()
            except ValueError:  # the row is malformed, and named when it is read
                continue
            if "\0" in name:
                row = np.searchsorted(records.ends, begin, side="right")
                check_names([name], f"{file} line {records.lines[row]}")
            keys.setdefault(name, set()).add(kind)
        total += count
        if count < 0 or total > MOST_KEYS:
            raise DataError(f"{file} must have at most {MOST_KEYS:,} different keys, got more")
    return keys
