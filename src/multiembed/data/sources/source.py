"""Raw rows, block by block, from wherever they lie."""

import hashlib
import lzma
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int64

from multiembed.base.errors import DataError
from multiembed.data.encoding.typed import settled
from multiembed.data.store.earlier import Earlier
from multiembed.data.store.schema import DateRule, Dress, Field, Kind, SourceFile

BAD_ROWS_SHOWN = 5
"""Bad rows named one by one; the rest are counted."""
SAMPLE_BYTES = 1 << 26
"""Text that a sample reads of what can only be read from its beginning on."""
SAMPLE_PLACES = 5
"""Where a sample looks: beginning, end, and evenly between."""

MOST_COLUMNS = 1 << 13
"""Every one costs some milliseconds, a file and a table of its own: more are no fields."""

UNREADABLE = (
    *(
        OSError,
        EOFError,
        RecursionError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
    ),
    *(pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException),
)
"""What goes wrong where files are read."""


class BadRow(NamedTuple):
    """A row that cannot be read, and why."""

    line: int
    reason: str


class Mark(NamedTuple):
    """A place between two rows, from which reading can go on."""

    file: int = 0
    """Which of several files."""
    offset: int = 0
    """Where in the file: a byte of its text once decompressed, or a row."""
    line: int = 1
    """The line of the file."""
    number: int = 0
    """The number of the next row."""


START = Mark()


class Block(NamedTuple):
    """Some consecutive rows of a source."""

    rows: pl.DataFrame
    """Raw columns of the rows that have as many columns as they should."""
    numbers: Int64[np.ndarray, " rows"]
    """Number of every row in the source, from 0, bad rows counted."""
    lines: Int64[np.ndarray, " rows"]
    """Where every row begins: its line in a text file, its number from 1 elsewhere."""
    place: str
    """What to write before a number of `lines`: `FILE line`, `FILE row`."""
    position: int
    """Bytes read so far."""
    after: Mark = Mark()
    """Where the next block begins."""
    bad_count: int = 0
    """Rows left out because they have a wrong number of columns."""
    bad: tuple[BadRow, ...] = ()
    """The first of them."""
    split: int | None = None
    """The split of all its rows, where files say so: 0 train, 1 valid, 2 test."""


class Column(NamedTuple):
    """One field-to-be."""

    name: str
    kind: Kind
    date: DateRule | None = None
    """How it is made from another column, if it is."""
    delimiter: str | None = None
    """What stands between the values of a cell, if there are several."""
    decimal: Dress = ""
    """For numbers in text that are no plain ones: how they are written."""
    remark: str = ""
    """What is worth a look in how the column is read."""
    shares: str | None = None
    """For a history: the field whose values it holds."""

    @property
    def raw(self) -> str:
        """The column of the files."""
        return self.date.column if self.date is not None else self.name


class RowReader(ABC):
    """Raw rows that can be read again and again, always in the same order."""

    files: tuple[Path, ...]
    """What the rows are read from."""
    names: tuple[str, ...]
    """The columns that there are."""
    given: bool = False
    """Whether the files say which rows train, validate and test."""
    unlearned: Set[str] = frozenset()
    """Columns that are read for another use, and are no fields."""
    remarks: tuple[str, ...] = ()
    """Lines about what was left out or skipped when they were opened."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.fingerprint())

    def fingerprint(self) -> tuple[tuple[int, int], ...]:
        """Return what shows that a file changed: the size and time of each."""
        with reading(self.files):
            found = [file.stat() for file in self.files]
        return tuple((file.st_size, file.st_mtime_ns) for file in found)

    def name(self, file: Path) -> str:
        """Return the name that the dataset's schema gives a file."""
        return str(file)

    @abstractmethod
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        """Read these columns of all rows, or of those after a mark that a block gave."""

    def sample(self, rows: int) -> pl.DataFrame:
        """Read about so many rows, all columns: from beginning, middle and end where that is cheap.

        Bad rows are left out. What can only be read from its beginning on, such as compressed
        text, is read up to `SAMPLE_BYTES` of it.
        """
        found: list[pl.DataFrame] = []
        read = 0
        for block in self.blocks(self.names):
            found.append(block.rows.gather_every(max(1, block.rows.height // rows)))
            read += block.rows.estimated_size()
            if read >= SAMPLE_BYTES:
                break
        every = pl.concat(found) if found else pl.DataFrame(schema=dict.fromkeys(self.names))
        return every.gather_every(max(1, every.height // rows))


class FileReader(RowReader):
    """Rows of one file."""

    asides: Mapping[str, str] = {}
    """Columns that are left out unless somebody names them, and what is said of each."""
    nested: Mapping[str, str] = {}
    """Columns that cannot be read, and what each holds."""
    loose: bool = False
    """Whether a column that it has not is missing in all its rows, and no mistake."""

    @property
    @abstractmethod
    def types(self) -> dict[str, str]:
        """The name of every column's type."""


@dataclass(frozen=True)
class RowSource:
    """Raw rows of which it is known what is to be learned from which columns."""

    reader: RowReader
    label: str
    """Name of the label's column."""
    columns: tuple[Column, ...]
    """The fields, in order."""
    extras: tuple[str, ...] = ()
    """Other columns to read: the one that rows are split by, and those that are kept."""
    fields: tuple[Field, ...] = ()
    """What the columns become, as it is before anything is counted."""
    like: Earlier | None = None
    """What they are encoded like, if they are."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What the rows are read from."""
        return self.reader.files

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.reader.size

    def described(self) -> tuple[SourceFile, ...]:
        """Return name, size and SHA-256 of all files."""
        with reading(self.files):
            return tuple(_described(file, self.reader.name(file)) for file in self.files)

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Read the label, the fields and the extra columns, each once."""
        wanted = [self.label, *(column.raw for column in self.columns), *self.extras]
        for block in self.reader.blocks(list(dict.fromkeys(wanted)), start):
            yield block._replace(rows=settled(block.rows))


@contextmanager
def reading(files: Sequence[Path]) -> Iterator[None]:
    """Turn what can go wrong when files are read into one line that names them.

    Raises:
        DataError: If the system or polars cannot read them.
    """
    try:
        yield
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["nothing"])[0]
        found = getattr(error, "filename", None)  # below a directory, which of its files
        names = found if isinstance(found, str) else " and ".join(map(str, files))
        raise DataError(f"{names} must be readable, got: {reason}") from None


def ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Read every block in another thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = pool.submit(next, blocks, None)
            yield block


def whole_batches(reader: RowReader, size: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield rows in order, in multiples of `size` but for the last, and the bytes read so far.

    Raises:
        DataError: If a row has a wrong number of columns.
    """
    rest = pl.DataFrame()
    for block in ahead(reader.blocks(reader.names)):
        if block.bad_count:
            more = f" ({block.bad_count} such rows near by)" if block.bad_count > 1 else ""
            raise DataError(f"{block.place} {block.bad[0].line}: {block.bad[0].reason}{more}")
        rows = pl.concat([rest, block.rows]) if rest.width else block.rows
        whole = rows.height - rows.height % size
        rest = rows.slice(whole)
        if whole:
            yield rows.head(whole), block.position
    if rest.height:
        yield rest, reader.size


def _described(file: Path, name: str) -> SourceFile:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return SourceFile(path=name, bytes=file.stat().st_size, sha256=digest)
