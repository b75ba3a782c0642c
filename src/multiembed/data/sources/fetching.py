"""Files behind URLs, brought into a directory of this machine before they are read."""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs as filesystems

from multiembed.base.errors import DataError, InputError, WriteError, without_secrets
from multiembed.base.files import make_folder, whole

WEB = ("http", "https", "hf")
HUB = "https://huggingface.co/datasets"
TIMEOUT = 60.0
"""Seconds without a byte."""
SPARED = 1 << 26
"""Bytes of disk that no download takes."""
_CHUNK = 1 << 20
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?=://)")
_SHORT = 3
"""Parts of a URL of fewer characters are no secret, and may stand in any message."""


class DownloadLimits(NamedTuple):
    """How large a download may be, and how long it may take."""

    bytes: int | None = None
    """By default what the disk has free."""
    seconds: float | None = None
    """By default any number, but for `TIMEOUT` without a byte."""


UNLIMITED = DownloadLimits()


@contextmanager
def downloading(place: Path) -> Iterator[Path]:
    """Lend a directory in `place` for downloads; it goes where input is wrong."""
    folder = place / "downloads"
    try:
        yield folder
    except WriteError:
        raise
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def scheme_of(source: object) -> str:
    """Return the scheme of a URL, empty for a path."""
    found = _SCHEME.match(str(source))
    return found[0].lower() if found else ""


def is_hidden(path: PurePosixPath | str) -> bool:
    """Say whether what lies there is passed over: a step begins with a point or a line."""
    return any(step.startswith((".", "_")) for step in PurePosixPath(path).parts)


def fetch(url: str, downloads: Path, limits: DownloadLimits = UNLIMITED) -> dict[Path, str]:
    """Download what a URL leads to, unless it is there already; return the files and their names.

    The web and data sets of Hugging Face give one file; s3, gs, abfs and what else pyarrow or an
    installed fsspec opens, a file or all of a directory. A file's name holds nothing secret.

    Raises:
        DataError: If it cannot be read, or is larger or slower than it may be.
    """
    shown = without_secrets(url)
    folder = downloads / hashlib.sha256(url.encode()).hexdigest()[:12]
    if scheme_of(url) not in WEB:
        with _reading(url):
            return _fetch_stored(url, folder, limits)
    path = shown.partition("://")[2].partition("/")[2]
    target = folder / (path.rpartition("/")[2][-100:].lstrip(".") or "rows")
    _keep(target, url, lambda partial: _fetch_web(url, partial, limits))
    return {target: shown}


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
        return
    except InputError:
        raise
    except Exception as error:  # file systems of other libraries raise whatever they like
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        line = " ".join(str(reason).splitlines()[:1]) or type(error).__name__
    raise DataError(f"{without_secrets(url)} must be readable, got: {_without_parts(line, url)}")


def _without_parts(text: str, url: str) -> str:
    """Cut what is secret of a URL from a library's words, in which it may stand alone."""
    rest = url.partition("://")[2]
    user, query = rest.rpartition("@")[0], "".join(re.split("[?#]", rest, maxsplit=1)[1:])
    values = (part.partition("=")[2] or part for part in re.split("[&#]", query))
    parts = {user, *user.split(":", 1), *re.split("[:/]", user), query, *values}
    for part in sorted({*parts, *map(unquote, parts)}, key=len, reverse=True):
        text = text.replace(part, "...") if len(part) >= _SHORT else text
    return text


def _keep(target: Path, url: str, write: Callable[[Path], None]) -> None:
    if target.exists():
        return
    make_folder(target.parent)
    with whole(target) as partial, _reading(url):
        write(partial)


def _fetch_web(url: str, partial: Path, limits: DownloadLimits) -> None:
    from multiembed.data.sources.web import open_web  # ssl takes a while to load

    timeout = min(TIMEOUT, limits.seconds or TIMEOUT)
    with open_web(_address(url), timeout=timeout) as response:
        _save(response, partial, response.length, limits)


def _fetch_stored(url: str, folder: Path, limits: DownloadLimits) -> dict[Path, str]:
    """Fetch an object, or all objects below a name, from where a file system keeps them."""
    shown = without_secrets(url)
    system, path = _file_system(url)
    found = system.get_file_info(path)
    if found.type == filesystems.FileType.NotFound:
        raise DataError(f"{shown} must be a file or a directory, got nothing there")
    if found.type == filesystems.FileType.File:
        below = {PurePosixPath(path).name: found}
    else:
        inside = system.get_file_info(filesystems.FileSelector(path, recursive=True))
        start = path.strip("/") + "/"
        below = {
            name: info
            for info in inside
            if info.type == filesystems.FileType.File
            and not is_hidden(name := info.path.strip("/").removeprefix(start))
        }
    names: dict[Path, str] = {}
    for name, info in sorted(below.items()):
        target = folder / name
        if ".." in PurePosixPath(name).parts:
            raise DataError(f"{shown} must hold files with plain names, got {name!r}")
        names[target] = shown if info is found else f"{shown.rstrip('/')}/{name}"

        def write(partial: Path, info: filesystems.FileInfo = info) -> None:
            with system.open_input_stream(info.path, compression=None) as stream:
                _save(stream, partial, info.size, limits)

        _keep(target, url, write)
    if not names:
        raise DataError(f"{shown} must lead to files, got none")
    return names


def _file_system(url: str) -> tuple[filesystems.FileSystem, str]:
    scheme = scheme_of(url)
    if scheme in ("gs", "gcs") and "retry_limit_seconds" not in url:
        url += f"{'&' if '?' in url else '?'}retry_limit_seconds={TIMEOUT}"
    try:
        return filesystems.FileSystem.from_uri(url)
    except pa.ArrowInvalid as error:
        if "Unrecognized" not in str(error):
            raise
    try:
        import fsspec  # not a requirement: what it opens is installed beside it

        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError):
        raise DataError(
            f"{url} must be downloaded first, got a scheme that nothing installed reads: "
            f"{scheme}://"
        ) from None
    return filesystems.PyFileSystem(filesystems.FSSpecHandler(system)), path


def _save(
    stream: HTTPResponse | pa.NativeFile,
    partial: Path,
    expected: int | None,
    limits: DownloadLimits,
) -> None:
    free = max(0, shutil.disk_usage(partial.parent).free - SPARED)
    most = min(free, limits.bytes or free)
    began = time.monotonic()
    with partial.open("wb") as file:
        while max(file.tell(), expected or 0) <= most:
            data = stream.read1(_CHUNK)
            if not data:
                break
            file.write(data)
            seconds = time.monotonic() - began
            if limits.seconds is not None and seconds > limits.seconds:
                raise OSError(
                    f"more than the {limits.seconds:g} s that max_download_seconds allows"
                )
        size = file.tell()
    if max(size, expected or 0) > most:
        rule = "the disk has free" if most == free else "max_download_bytes allows"
        raise OSError(f"more than the {most:,} bytes that {rule}")
    if expected is not None and size != expected:
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
