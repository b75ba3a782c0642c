"""Several files as one: the columns of all, those that directories name, and those left out."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.data.encoding.typed import as_text, check_names
from multiembed.data.sources.arrow_streams import PANDAS_INDEX
from multiembed.data.sources.fetching import UNLIMITED, DownloadLimits
from multiembed.data.sources.found_files import FoundFile, RawSource, find_files, without_empty
from multiembed.data.sources.source import (
    SAMPLE_PLACES,
    START,
    Block,
    FileReader,
    Mark,
    RowReader,
)

_INDEX_NAME = re.compile(r"Unnamed: 0(\.\d+)*|__index_level_\d+__")
"""What pandas calls the index of a frame without a name, when it writes it or reads it again."""


class FileSeries(RowReader):
    """Files with the same columns, read one after the other.

    Args:
        members: A reader of every file.
        found: The files.
        wanted: Columns that somebody asks for by name; one of a directory above all files, or
            one that a file would rather leave out, is there only then.
        extra: Columns that are read for another use than to be learned from.
        chosen: If given, the only columns to be learned from, beside those wanted.
        dropped: Columns that are not to be learned from.

    Raises:
        DataError: If a wanted column cannot be read, a chosen one is not there, a dropped one is
            not there or wanted, or files have different columns.
    """

    def __init__(
        self,
        members: Sequence[FileReader],
        found: Sequence[FoundFile],
        *,
        wanted: Collection[str] = (),
        extra: Collection[str] = (),
        chosen: Collection[str] = (),
        dropped: Collection[str] = (),
    ) -> None:
        wanted = {*wanted, *chosen}
        self.files = tuple(file for member in members for file in member.files)
        self.given = any(file.split is not None for file in found)
        self._members = tuple(members)
        self._found = tuple(found)
        far = _told_apart(found)
        self._partitions = [
            _partitions(member, file, {*wanted, *extra, *far})
            for member, file in zip(members, found, strict=True)
        ]
        asides = _asides(members, wanted, extra)
        self.names = self._shared_names(set(asides) - set(extra))
        known = dict.fromkeys((*self.names, *asides))
        for name in chosen:
            if name not in known:
                raise DataError(f"columns must be among {', '.join(known)}, got {name!r}")
        for name in dropped:
            if name not in known or name in wanted:
                got = f"{name!r}, which has a use" if name in wanted else repr(name)
                raise DataError(f"drop must name columns of {', '.join(known)}, got {got}")
        if chosen:
            dropped = {*dropped, *(name for name in known if name not in wanted)}
        self.names = tuple(n for n in self.names if n not in dropped or n in extra)
        check_names(self.names, self.files[0])
        constant = {n for file in found for n in file.all_partitions if n not in file.partitions}
        self.unlearned = {*dropped, *asides, *constant - far} & set(extra) - set(wanted)
        self.remarks = tuple(asides[name] for name in asides if name not in (*dropped, *extra))
        self._mixed = self._mixed_types()

    def _shared_names(self, aside: Collection[str]) -> tuple[str, ...]:
        own = [
            [name for name in (*member.names, *constants) if name not in aside]
            for member, constants in zip(self._members, self._partitions, strict=True)
        ]
        names = own[0] + [
            name
            for member, these in zip(self._members, own, strict=True)
            if member.loose
            for name in these
        ]
        names = tuple(dict.fromkeys(names))
        for member, these in zip(self._members, own, strict=True):
            odd = set(these) - set(names) if member.loose else set(names) ^ set(these)
            if odd:
                raise DataError(
                    f"{member.files[0]} must have the columns of {self.files[0]}, got a "
                    f"difference in {sorted(odd)[0]!r}"
                )
        return names

    def _mixed_types(self) -> dict[str, bool]:
        """Return the columns that are not of one type, and whether some hold several values."""
        kinds = {name: set[str]() for name in self.names}
        for member, constants in zip(self._members, self._partitions, strict=True):
            types = {**dict.fromkeys(constants, "String"), **member.types}
            for name in self.names:
                kinds[name].add(types.get(name, "String"))
        return {
            name: any(kind.startswith(("List", "Array")) for kind in found)
            for name, found in kinds.items()
            if len(found) > 1
        }

    @override
    def name(self, file: Path) -> str:
        return {one.path: one.url for one in self._found}.get(file) or str(file)

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        number = start.number
        sizes = [member.size for member in self._members]
        for place in range(start.file, len(self._members)):
            mark = start if place == start.file else Mark(file=place, number=number)
            before = sum(sizes[:place])
            member, constants = self._members[place], self._partitions[place]
            own = [name for name in columns if name not in constants]
            for block in member.blocks(own or member.names[:1], mark):
                number = block.after.number
                yield block._replace(
                    rows=self._like_all(block.rows, place, columns),
                    position=before + block.position,
                    split=self._found[place].split,
                )

    @override
    def sample(self, rows: int) -> pl.DataFrame:
        last, most = len(self._members) - 1, min(len(self._members), SAMPLE_PLACES)
        places = np.linspace(0, last, most).astype(int).tolist()
        return pl.concat(
            self._like_all(self._members[place].sample(-(-rows // most)), place, self.names)
            for place in places
        )

    def _like_all(self, rows: pl.DataFrame, place: int, columns: Sequence[str]) -> pl.DataFrame:
        """Give the rows of a member these columns, of the types that all members share."""
        constants = self._partitions[place]
        if not (constants or self._mixed) and tuple(rows.columns) == tuple(columns):
            return rows
        added = {name: constants.get(name) for name in columns if name not in rows.columns}
        rows = rows.with_columns(
            pl.lit(value, dtype=pl.String).alias(name) for name, value in added.items()
        ).select(columns)
        mixed = [name for name in columns if name in self._mixed]
        text = as_text(rows.select(name for name in mixed if not self._mixed[name]))
        lists = (_as_list(rows, name) for name in mixed if self._mixed[name])
        return rows.with_columns(*text, *lists)


def open_files(
    source: RawSource,
    downloads: Path,
    opener: Callable[[Path], FileReader],
    *,
    limits: DownloadLimits = UNLIMITED,
    wanted: Collection[str] = (),
    extra: Collection[str] = (),
    chosen: Collection[str] = (),
    dropped: Collection[str] = (),
) -> FileSeries:
    """Open all files of a source as one, but for empty ones among others.

    Args:
        source: What leads to the files.
        downloads: Directory for what comes from URLs.
        opener: Opens one of them.
        limits: What may be downloaded.
        wanted: Columns that somebody asks for by name.
        extra: Columns that are read for another use than to be learned from.
        chosen: If given, the only columns to be learned from, beside those wanted.
        dropped: Columns that are not to be learned from.

    Raises:
        DataError: If there are none, a split is missing, or their columns do not fit.
    """
    found, remarks = without_empty(find_files(source, downloads, limits))
    members = [opener(file.path) for file in found]
    series = FileSeries(members, found, wanted=wanted, extra=extra, chosen=chosen, dropped=dropped)
    series.remarks = (*remarks, *series.remarks)
    return series


def _told_apart(found: Sequence[FoundFile]) -> set[str]:
    """Return the columns whose values differ between the directories that files train from."""
    values = [file.all_partitions for file in found if file.split == found[0].split]
    shared = set(values[0]).intersection(*values)
    return {name for name in shared if len({one[name] for one in values}) > 1}


def _partitions(
    member: FileReader, file: FoundFile, wanted: Collection[str]
) -> dict[str, str | None]:
    """Return what directories say of a file that it does not say itself."""
    near, everywhere = file.partitions, file.all_partitions
    return {
        name: value
        for name, value in everywhere.items()
        if (name in near or name in wanted) and name not in member.names
    }


def _asides(
    members: Sequence[FileReader], wanted: Collection[str], extra: Collection[str]
) -> dict[str, str]:
    """Return the columns that files leave out, and a line about each."""
    found: dict[str, str] = {}
    for member in members:
        file = member.files[0]
        for name, kind in member.nested.items():
            if name in wanted or name in extra:
                raise DataError(
                    f"{file}: column {name!r} must hold plain values or lists of them, got {kind}"
                )
            found.setdefault(name, f"{file}: column {name!r} holds {kind} and is left out")
        indices = [name for name in member.names if _INDEX_NAME.fullmatch(name)]
        by_name = dict.fromkeys(indices, PANDAS_INDEX)
        for name, reason in (by_name | dict(member.asides)).items():
            if name not in wanted:
                found.setdefault(name, f"{file}: column {name!r} {reason} and is left out")
    return found


def _as_list(rows: pl.DataFrame, name: str) -> pl.Expr:
    several = isinstance(rows.schema[name], pl.List | pl.Array)
    column = pl.col(name) if several else pl.concat_list(pl.col(name))
    filled = column.cast(pl.List(pl.String))
    return pl.when(pl.col(name).is_not_null()).then(filled).alias(name)
