"""What a source leads to: files, in order, with what their directories' names say of them."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from multiembed.base.errors import DataError
from multiembed.data.sources.contents import look_into
from multiembed.data.sources.fetching import UNLIMITED, DownloadLimits, fetch, is_hidden, scheme_of
from multiembed.data.sources.source import reading
from multiembed.data.store.schema import SPLITS

RawSource = str | Path | Sequence[str | Path] | Mapping[str, "str | Path | Sequence[str | Path]"]
"""A file, a directory, a pattern or a URL; several of them; or one of these for every split."""
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark write for a missing value."""
KINDS_OF_FILES = {
    **{stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"},
    **dict.fromkeys([stat.S_IFCHR, stat.S_IFBLK], "a device"),
}
"""What is no file to read: it may have no end, and has no second time."""
_WILD = re.compile(r"[*?[]")


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
        steps = self.url.split("/") if self.url else self.path.parts
        first = 0 if depth is None else len(steps) - 1 - depth
        pairs = (step.partition("=") for step in steps[first:-1])
        return {
            unquote(key): None if value == NO_PARTITION else unquote(value)
            for key, mark, value in pairs
            if key and mark
        }


def find_files(
    source: RawSource, downloads: Path, limits: DownloadLimits = UNLIMITED
) -> list[FoundFile]:
    """Find the files of a source, in order.

    Args:
        source: What leads to them.
        downloads: Directory for what comes from URLs.
        limits: What may be downloaded.

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
            for file in _every(source[name], downloads, limits)
        ]
    else:
        found = list(_every(source, downloads, limits))
    for file in found:
        _check_name(file.path)
    real = [os.path.realpath(file.path) for file in found]
    for path, count in Counter(real).items():
        if count > 1:
            given = found[real.index(path)].path
            raise DataError(f"{given} must be given once and for one split only, got it twice")
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


def _every(
    source: str | Path | Sequence[str | Path], downloads: Path, limits: DownloadLimits
) -> Iterator[FoundFile]:
    for one in [source] if isinstance(source, str | Path) else source:
        _check_name(one)
        scheme = scheme_of(one)
        if scheme == "file":
            parts = urlsplit(str(one))
            if parts.netloc not in ("", "localhost"):
                machine = parts.netloc.rpartition("@")[2]
                raise DataError(f"{one} must be file:///PATH, got the machine {machine!r}")
            yield from _found(Path(url2pathname(parts.path)))
        elif scheme:
            for path, name in fetch(str(one), downloads, limits).items():
                depth = len(path.relative_to(downloads).parts) - 2
                yield FoundFile(path, depth, name)
        else:
            yield from _found(Path(one))


def _check_name(path: str | Path) -> None:
    """Refuse a name that no file has, or that no text can hold, such as a record of it."""
    shown = str(path).encode(errors="backslashreplace").decode()
    if shown != str(path) or "\0" in shown or not shown:
        raise DataError(f"a source must be a path in UTF-8 and without NUL, got '{shown}'")


def _found(path: Path) -> Iterator[FoundFile]:
    """Find files by a name: what is there stands for itself, and the rest may be a pattern."""
    root, pattern, asked = Path(), path.parts, False
    with reading([path]):
        while pattern and _is_there(root / pattern[0]):
            root, pattern = root / pattern[0], pattern[1:]
        if pattern and not _WILD.search("/".join(pattern)):
            raise DataError(f"{path} must be a file, a directory or a pattern, got nothing there")
        if root.is_file():
            yield FoundFile(root)
            return
        asked = is_hidden("/".join(pattern))
        tops = [top for top in _expand(root, pattern) if asked or not _is_hidden_in(root, top)]
        files = sorted({file for top in tops for file in _below(top)})
    if not files:
        raise DataError(f"{path} must lead to files, got none")
    for file in files:
        yield FoundFile(file, len(file.relative_to(root).parts) - 1)


def _is_there(path: Path) -> bool:
    """Say so also of what leads nowhere; what cannot be looked at is an error."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _is_hidden_in(root: Path, top: Path) -> bool:
    return is_hidden(top.relative_to(root).as_posix())


def _expand(root: Path, pattern: Sequence[str]) -> Iterator[Path]:
    """Follow a pattern step by step."""
    if not (pattern and root.is_dir()):
        yield from () if pattern else [root]
        return
    step, rest = pattern[0], pattern[1:]
    if step == "**":
        yield from _expand(root, rest)
    elif _is_there(root / step):
        yield from _expand(root / step, rest)
        return
    for name in os.listdir(root):
        below = root / name
        if step != "**" and fnmatchcase(name, step):
            yield from _expand(below, rest)
        elif step == "**" and below.is_dir() and not below.is_symlink():
            yield from _expand(below, pattern)


def _below(top: Path) -> Iterator[Path]:
    """Walk through a directory, but not through what is hidden or begins with `_`.

    Raises:
        DataError: If what lies there is neither a file nor a directory, such as a named pipe.
    """
    waiting = [(top, frozenset[str]())]
    while waiting:
        path, above = waiting.pop()
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            yield path
        elif not stat.S_ISDIR(mode):
            kind = KINDS_OF_FILES.get(stat.S_IFMT(mode), "something else")
            raise DataError(f"{path} must be a file or a directory, got {kind}")
        elif (real := os.path.realpath(path)) not in above:  # else a link to where it lies in
            names = (name for name in os.listdir(path) if not is_hidden(name))
            waiting += [(path / name, above | {real}) for name in names]
