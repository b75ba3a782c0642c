"""Several files as one: patterns, directories, files by split, and what URLs lead to."""

import hashlib
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from typing_extensions import override

from multiembed.base.errors import DataError, InputError
from multiembed.base.files import partial_name, rename_whole
from multiembed.data.encoding.values import as_text
from multiembed.data.sources.source import START, Block, FileReader, Mark, RowReader
from multiembed.data.store.schema import SPLITS

RawSource = str | Path | Sequence[str | Path] | Mapping[str, "str | Path | Sequence[str | Path]"]
"""A file, a directory, a pattern or a URL; several of them; or one of these for every split."""


SCHEMES = ("http", "https", "hf")
HUB = "https://huggingface.co/datasets"
TIMEOUT = 60
"""Seconds without a byte."""
_CHUNK = 1 << 20


class FileSeries(RowReader):
    """Files with the same columns, read one after the other.

    Args:
        members: A reader of every file.
        splits: The split of each, if the files say so: 0 train, 1 valid, 2 test.
        urls: What was downloaded, and from where.
    """

    def __init__(
        self,
        members: Sequence[FileReader],
        splits: Sequence[int | None],
        urls: Mapping[Path, str],
    ) -> None:
        self.files = tuple(file for member in members for file in member.files)
        self.given = any(split is not None for split in splits)
        self.names = members[0].names
        self._members = tuple(members)
        self._splits = tuple(splits)
        self._urls = dict(urls)
        self._mixed = any(member.types != members[0].types for member in members)
        for member in members:
            odd = set(self.names) ^ set(member.names)
            if odd:
                raise DataError(
                    f"{member.files[0]} must have the columns of {self.files[0]}, got a "
                    f"difference in {sorted(odd)[0]!r}"
                )

    @override
    def name(self, file: Path) -> str:
        return self._urls.get(file, str(file))

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        number = start.number
        sizes = [member.size for member in self._members]
        for place in range(start.file, len(self._members)):
            mark = start if place == start.file else Mark(file=place, number=number)
            before = sum(sizes[:place])
            for block in self._members[place].blocks(columns, mark):
                number = block.after.number
                yield block._replace(
                    rows=as_text(block.rows) if self._mixed else block.rows,
                    position=before + block.position,
                    split=self._splits[place],
                )


def open_files(
    source: RawSource, downloads: Path, opener: Callable[[Path], FileReader]
) -> FileSeries:
    """Open all files of a source as one.

    Args:
        source: What leads to the files.
        downloads: Directory for what comes from URLs.
        opener: Opens one of them.

    Raises:
        DataError: If there are none, a split is missing, or their columns differ.
    """
    files, splits, urls = _find_files(source, downloads)
    return FileSeries([opener(file) for file in files], splits, urls)


def _find_files(
    source: RawSource, downloads: Path
) -> tuple[list[Path], list[int | None], dict[Path, str]]:
    """Return the files of a source, the split of each if they say so, and names of downloads."""
    given: dict[int | None, str | Path | Sequence[str | Path]]
    if isinstance(source, Mapping):
        missing = [name for name in SPLITS if not source.get(name)]
        unknown = sorted(set(source) - set(SPLITS))
        if missing or unknown:
            got = f"none for {missing[0]}" if missing else f"one for {unknown[0]!r}"
            raise DataError(f"files must be given for {', '.join(SPLITS)}, got {got}")
        given = {code: source[name] for code, name in enumerate(SPLITS)}
    else:
        given = {None: source}
    every: list[Path] = []
    splits: list[int | None] = []
    names: dict[Path, str] = {}
    for code, part in given.items():
        files, urls = _all(part, downloads)
        every += files
        splits += [code] * len(files)
        names |= urls
    twice = [file for place, file in enumerate(every) if file in every[:place]]
    if twice and None not in given:
        raise DataError(f"{twice[0]} must be given for one split only, got two")
    return every, splits, names


@contextmanager
def downloading(target: Path) -> Iterator[Path]:
    """Lend a directory beside `target` for downloads; it stays only where work was interrupted."""
    folder = target.with_name(target.name + ".downloads")
    try:
        yield folder
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _all(
    source: str | Path | Sequence[str | Path], downloads: Path
) -> tuple[list[Path], dict[Path, str]]:
    files: list[Path] = []
    urls: dict[Path, str] = {}
    for one in [source] if isinstance(source, str | Path) else source:
        url = str(one)
        if urlsplit(url).scheme in SCHEMES and "://" in url:
            files.append(_fetch(url, downloads))
            urls[files[-1]] = url
        else:
            files += _found(Path(one))
    return files, urls


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


def _fetch(url: str, folder: Path) -> Path:
    """Download a file into a directory, unless it is there already."""
    name = PurePosixPath(urlsplit(url).path).name or "rows"
    target = folder / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    if target.exists():
        return target
    partial = partial_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(_address(url), timeout=TIMEOUT) as response:
            _save(response, partial, url)
        rename_whole(partial, target)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise DataError(f"{url} must be readable, got: {reason}") from None
    return target


def _save(response: HTTPResponse, partial: Path, url: str) -> None:
    expected = response.headers.get("Content-Length")
    free = shutil.disk_usage(partial.parent).free
    if expected is not None and int(expected) > free:
        raise OSError(f"{int(expected) / 1e9:.1f} GB for a disk with {free / 1e9:.1f} GB free")
    with partial.open("wb") as file:
        shutil.copyfileobj(response, file, _CHUNK)
        size = file.tell()
    if expected is not None and size != int(expected):
        raise OSError(f"{size} bytes of {expected}")


def _address(url: str) -> str:
    """Return where a URL leads; `hf://datasets/OWNER/NAME/PATH` is a file of a data set there."""
    parts = urlsplit(url)
    if parts.scheme != "hf":
        return url
    steps = parts.path.strip("/").split("/")
    if parts.netloc != "datasets" or len(steps) < 3:
        raise ValueError("no address like hf://datasets/OWNER/NAME/PATH")
    return f"{HUB}/{steps[0]}/{steps[1]}/resolve/main/{quote('/'.join(steps[2:]))}"
