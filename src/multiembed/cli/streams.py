"""Standard output and error that never stop the work: what nobody can read any more is dropped.

A reader that has gone (`| head -1`) is no mistake. A full disk behind `>` is one, which the command
line says when the work is done.
"""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from typing_extensions import Buffer, override


def open_closed_streams() -> None:
    """Give the standard streams that the caller closed (`>&-`) a place that takes everything.

    Else the first file that is opened takes their number, and gets what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free


class Dropping(io.RawIOBase):
    """Passes bytes on until the place they go to takes no more."""

    def __init__(self, place: io.RawIOBase | io.BufferedIOBase) -> None:
        self.lost: OSError | None = None
        """Why bytes were dropped, if any were."""
        self._place = place

    @override
    def writable(self) -> bool:
        return True

    @override
    def isatty(self) -> bool:
        return self._place.isatty()

    @override
    def fileno(self) -> int:
        return self._place.fileno()

    @override
    def write(self, data: Buffer, /) -> int | None:
        while self.lost is None:
            try:
                written = self._place.write(data)
                if written is not None:
                    return written
                select.select([], [self.fileno()], [])  # a pipe that does not wait by itself
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


@contextmanager
def dropping(name: Literal["stdout", "stderr"]) -> Iterator[Dropping | None]:
    """Let a standard stream drop what it cannot pass on, for the time of a block."""
    before = getattr(sys, name)
    if before is None:  # closed: what is printed is short
        before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    buffer = getattr(before, "buffer", None)
    if buffer is None:  # a notebook's
        yield None
        return
    before.flush()
    raw = Dropping(getattr(buffer, "raw", buffer))
    text = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding,
        errors="backslashreplace",
        line_buffering=before.line_buffering,
    )
    setattr(sys, name, text)
    try:
        yield raw
    finally:
        text.flush()
        setattr(sys, name, before)
