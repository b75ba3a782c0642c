"""Files behind URLs: fetched whole and once, so that reading can go on after a kill."""

import hashlib
import os
import shutil
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from multiembed.base.errors import DataError

SCHEMES = ("http", "https", "hf")
HUB = "https://huggingface.co/datasets"
TIMEOUT = 60
"""Seconds without a byte."""
CHUNK = 1 << 20


def is_url(source: str) -> bool:
    """Tell URLs from paths."""
    return urlsplit(source).scheme in SCHEMES and "://" in source


def fetch(url: str, folder: Path) -> Path:
    """Download a file into a directory, unless it is there already.

    Raises:
        DataError: If it cannot be had, or ends before its length.
    """
    name = PurePosixPath(urlsplit(url).path).name or "rows"
    target = folder / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    if target.exists():
        return target
    partial = target.with_name(name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(_address(url), timeout=TIMEOUT) as response:
            _save(response, partial, url)
        os.replace(partial, target)
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
        shutil.copyfileobj(response, file, CHUNK)
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
