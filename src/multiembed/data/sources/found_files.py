"""What a source leads to: files, in order, with what their directories' names say of them."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from multiembed.base.errors import DataError
from multiembed.data.sources.contents import look_into
from multiembed.data.sources.fetching import fetch, is_hidden, scheme_of
from multiembed.data.store.schema import SPLITS

RawSource = str | Path | Sequence[str | Path] | Mapping[str, "str | Path | Sequence[str | Path]"]
"""A file, a directory, a pattern or a URL; several of them; or one of these for every split."""
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark write for a missing value."""


class FoundFile(NamedTuple):
    """A file of a source."""

    path: Path
    depth: int = 0
    """How many directories lie between what the user gave and the file."""
    url: str | None = None
    """Where it comes from, if it was downloaded."""
    split: int | None = None
    """The split of its rows, if the source says so: 0 train, 1 valid, 2 test."""

    @property
    def partitions(self) -> dict[str, str | None]:
        """Values of columns by the directories below what the user gave: `country=de`."""
        return self._values(self.depth)

    @property
    def all_partitions(self) -> dict[str, str | None]:
        """The same by all of its directories."""
        return self._values(None)

    def _values(self, depth: int | None) -> dict[str, str | None]:
        steps = self.url.partition("?")[0].split("/") if self.url else self.path.parts
        first = 0 if depth is None else len(steps) - 1 - depth
        pairs = (step.partition("=") for step in steps[first:-1])
        return {
            unquote(key): None if value == NO_PARTITION else unquote(value)
            for key, mark, value in pairs
            if key and mark
        }


def find_files(source: RawSource, downloads: Path) -> list[FoundFile]:
    """Find the files of a source, in order.

    Args:
        source: What leads to them.
        downloads: Directory for what comes from URLs.

    Raises:
        DataError: If there are none, a split is missing, or a file is given twice.
    """
    if isinstance(source, Mapping):
        missing = [name for name in SPLITS if not source.get(name)]
        unknown = sorted(set(source) - set(SPLITS))
        if missing or unknown:
            got = f"none for {missing[0]}" if missing else f"one for {unknown[0]!r}"
            raise DataError(f"files must be given for {', '.join(SPLITS)}, got {got}")
        found = [
            file._replace(split=code)
            for code, name in enumerate(SPLITS)
            for file in _every(source[name], downloads)
        ]
    else:
        found = list(_every(source, downloads))
    for path, count in Counter(file.path for file in found).items():
        if count > 1:
            raise DataError(f"{path} must be given once and for one split only, got it twice")
    return found


def without_empty(found: Sequence[FoundFile]) -> tuple[list[FoundFile], tuple[str, ...]]:
    """Leave out files without a byte of text, but not all of a split; say so in a remark."""
    if len(found) == 1:
        return list(found), ()
    empty = [file for file in found if look_into(file.path).kind == "nothing"]
    full = {file.split for file in found if file not in empty}
    skipped = [file for file in empty if file.split in full]
    kept = [file for file in found if file not in skipped]
    if not skipped:
        return kept, ()
    files = "1 empty file was" if len(skipped) == 1 else f"{len(skipped):,} empty files were"
    return kept, (f"{files} skipped, first {skipped[0].url or skipped[0].path}",)


def _every(source: str | Path | Sequence[str | Path], downloads: Path) -> Iterator[FoundFile]:
    for one in [source] if isinstance(source, str | Path) else source:
        scheme = scheme_of(one)
        if scheme == "file":
            parts = urlsplit(str(one))
            if parts.netloc not in ("", "localhost"):
                raise DataError(f"{one} must be file:///PATH, got the machine {parts.netloc!r}")
            yield from _found(Path(url2pathname(parts.path)))
        elif scheme:
            for path, name in fetch(str(one), downloads).items():
                depth = len(path.relative_to(downloads).parts) - 2
                yield FoundFile(path, depth, name)
        else:
            yield from _found(Path(one))


def _found(path: Path) -> Iterator[FoundFile]:
    if path.is_file():
        yield FoundFile(path)
        return
    root, tops = path, [path]
    if not path.is_dir():
        wild = [place for place, step in enumerate(path.parts) if any(c in step for c in "*?[")]
        if not wild:
            raise DataError(f"{path} must be a file, a directory or a pattern, got nothing there")
        root, pattern = Path(*path.parts[: wild[0]]), path.parts[wild[0] :]
        found = list(root.glob(str(Path(*pattern))))
        asked = is_hidden("/".join(pattern))
        tops = [top for top in found if asked or not is_hidden(top.relative_to(root).as_posix())]
    files = sorted({file for top in tops for file in _below(top)})
    if not files:
        raise DataError(f"{path} must lead to files, got none")
    for file in files:
        yield FoundFile(file, len(file.relative_to(root).parts) - 1)


def _below(top: Path) -> Iterator[Path]:
    """Walk through a directory, but not through what is hidden or begins with `_`."""
    if top.is_file():
        yield top
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield from (Path(folder, name) for name in names if not is_hidden(name))
