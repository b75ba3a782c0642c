"""Several files as one source: globs, directories, published splits."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from multiembed.base.errors import DataError
from multiembed.data.encoding.values import as_text
from multiembed.data.sources.columnar import ParquetSource
from multiembed.data.sources.download import fetch, is_url
from multiembed.data.sources.source import START, Block, Column, Mark, Source
from multiembed.data.sources.text import TextSource
from multiembed.data.store.schema import SPLITS

RawSource = str | Path | Sequence[str | Path] | Mapping[str, "str | Path | Sequence[str | Path]"]
"""A file, a directory, a pattern or a URL; several of them; or one of these for every split."""


class FileSeries(Source):
    """Files with the same columns, read one after the other."""

    def __init__(
        self,
        members: Sequence[TextSource | ParquetSource],
        splits: Sequence[int | None],
        names: Mapping[Path, str],
    ) -> None:
        self.files = tuple(file for member in members for file in member.files)
        self.label = ""
        self.columns: tuple[Column, ...] = ()
        self.given = any(split is not None for split in splits)
        self.names = members[0].names
        self._members = tuple(members)
        self._splits = tuple(splits)
        self._names = dict(names)
        self._mixed = any(member.types != members[0].types for member in members)
        for member in members:
            odd = set(self.names) ^ set(member.names)
            if odd:
                raise DataError(
                    f"{member.files[0]} must have the columns of {self.files[0]}, got a "
                    f"difference in {sorted(odd)[0]!r}"
                )

    def name(self, file: Path) -> str:
        """Return the path or the URL of a file."""
        return self._names.get(file, str(file))

    def choose(self, label: str, columns: Sequence[Column], extra: str | None = None) -> None:
        """Say which column is the label and which are fields."""
        self.label, self.columns, self.extra = label, tuple(columns), extra
        for member in self._members:
            member.choose(label, columns, extra)

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Read all files, in order."""
        number = start.number
        sizes = [member.size for member in self._members]
        for place in range(start.file, len(self._members)):
            mark = start if place == start.file else Mark(file=place, number=number)
            before = sum(sizes[:place])
            for block in self._members[place].blocks(mark):
                number = block.after.number
                yield block._replace(
                    rows=as_text(block.rows) if self._mixed else block.rows,
                    position=before + block.position,
                    split=self._splits[place],
                )


def find_files(
    source: RawSource, downloads: Path
) -> tuple[list[Path], list[int | None], dict[Path, str]]:
    """Return the files of a source, the split of each if they say so, and names of downloads.

    Raises:
        DataError: If there are none, or a split is missing.
    """
    if not isinstance(source, Mapping):
        files, names = _all(source, downloads)
        return files, [None] * len(files), names
    missing = [name for name in SPLITS if not source.get(name)]
    unknown = sorted(set(source) - set(SPLITS))
    if missing or unknown:
        got = f"none for {missing[0]}" if missing else f"one for {unknown[0]!r}"
        raise DataError(f"files must be given for {', '.join(SPLITS)}, got {got}")
    every: list[Path] = []
    splits: list[int | None] = []
    names: dict[Path, str] = {}
    for code, name in enumerate(SPLITS):
        files, urls = _all(source[name], downloads)
        every += files
        splits += [code] * len(files)
        names |= urls
    twice = [file for place, file in enumerate(every) if file in every[:place]]
    if twice:
        raise DataError(f"{twice[0]} must be given for one split only, got two")
    return every, splits, names


def _all(
    source: str | Path | Sequence[str | Path], downloads: Path
) -> tuple[list[Path], dict[Path, str]]:
    several = [source] if isinstance(source, str | Path) else list(source)
    files: list[Path] = []
    names: dict[Path, str] = {}
    for one in several:
        if is_url(str(one)):
            file = fetch(str(one), downloads)
            files.append(file)
            names[file] = str(one)
        else:
            files += _found(Path(one))
    return files, names


def _found(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.iterdir() if not file.name.startswith((".", "_"))]
    elif any(mark in str(path) for mark in "*?["):
        found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    else:
        raise DataError(f"{path} must be a file, a directory or a pattern, got nothing there")
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise DataError(f"{path} must lead to files, got none")
    return files
