"""Files behind URLs, brought into a directory of this machine before they are read."""

import hashlib
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

import pyarrow as pa
from pyarrow import fs as filesystems

from multiembed.base.errors import DataError, InputError, WriteError
from multiembed.base.files import make_folder, whole

WEB = ("http", "https", "hf")
HUB = "https://huggingface.co/datasets"
TIMEOUT = 60
"""Seconds without a byte."""
_CHUNK = 1 << 20
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?=://)")
_SECRET = re.compile(r"(?<=://)[^/@]*@")


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


def fetch(url: str, downloads: Path) -> dict[Path, str]:
    """Download what a URL leads to, unless it is there already; return the files and their names.

    The web and data sets of Hugging Face give one file; s3, gs, abfs and what else pyarrow or an
    installed fsspec opens, a file or all of a directory. A file's name holds no passwords.

    Raises:
        DataError: If it cannot be read.
    """
    shown = _SECRET.sub("", url)
    folder = downloads / hashlib.sha256(url.encode()).hexdigest()[:12]
    if scheme_of(url) not in WEB:
        with _reading(shown):
            return _fetch_stored(url, shown.partition("?")[0], folder)
    target = folder / (PurePosixPath(urlsplit(url).path).name or "rows")
    _keep(target, shown, lambda partial: _fetch_web(url, partial))
    return {target: shown}


@contextmanager
def _reading(shown: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, HTTPException, ValueError, pa.ArrowException, ImportError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        line = " ".join(str(reason).splitlines()[:1])
        raise DataError(f"{shown} must be readable, got: {line}") from None


def _keep(target: Path, shown: str, write: Callable[[Path], None]) -> None:
    if target.exists():
        return
    make_folder(target.parent)
    with whole(target) as partial, _reading(shown):
        write(partial)


def _fetch_web(url: str, partial: Path) -> None:
    with urllib.request.urlopen(_address(url), timeout=TIMEOUT) as response:
        expected = response.headers.get("Content-Length")
        _save(response, partial, None if expected is None else int(expected))


def _fetch_stored(url: str, shown: str, folder: Path) -> dict[Path, str]:
    """Fetch an object, or all objects below a name, from where a file system keeps them."""
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
        names[folder / name] = shown if info is found else f"{shown.rstrip('/')}/{name}"

        def write(partial: Path, info: filesystems.FileInfo = info) -> None:
            with system.open_input_stream(info.path, compression=None) as stream:
                _save(stream, partial, info.size)

        _keep(folder / name, names[folder / name], write)
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
            f"{_SECRET.sub('', url)} must be downloaded first, got a scheme that nothing "
            f"installed reads: {scheme}://"
        ) from None
    return filesystems.PyFileSystem(filesystems.FSSpecHandler(system)), path


def _save(stream: HTTPResponse | pa.NativeFile, partial: Path, expected: int | None) -> None:
    free = shutil.disk_usage(partial.parent).free
    if expected is not None and expected > free:
        raise OSError(f"{expected / 1e9:.1f} GB for a disk with {free / 1e9:.1f} GB free")
    with partial.open("wb") as file:
        shutil.copyfileobj(stream, file, _CHUNK)
        size = file.tell()
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
