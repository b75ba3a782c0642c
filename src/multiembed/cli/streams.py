"""Standard output and error that never stop the work: what nobody can read any more is dropped.

A reader that has gone (`| head -1`) is no mistake. A full disk behind `>` is one, which the command
line says when the work is done. What libraries in other languages print of their own, such as the
panic of a thread that met a broken file, is heard only where a mistake of ours ends the command.
"""

import ctypes
import faulthandler
import io
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, cast

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


_SHORTENED = b"multiembed: a file that is read must stay as it is, got one that was shortened\n"


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _end_shortened(_: int) -> None:
    with suppress(OSError):
        os.write(sys.stderr.fileno() if sys.stderr else 2, _SHORTENED)
    os._exit(2)


@contextmanager
def refusing_shortened_files() -> Iterator[None]:
    """Say in one line that a mapped file lost its end, for the time of a block.

    The system sends a signal where memory stands for bytes that are not there any more. A handler
    of Python's own would never run: it waits for the instruction that cannot go on.
    """
    if sys.platform == "win32":
        yield
        return
    replace = ctypes.CDLL(None).signal
    replace.argtypes, replace.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    before = replace(int(signal.SIGBUS), ctypes.cast(_end_shortened, ctypes.c_void_p))
    try:
        yield
    finally:
        replace(int(signal.SIGBUS), before)


@contextmanager
def unheard_libraries() -> Iterator[None]:
    """Keep what others than Python write to standard error, for the time of a block.

    It is passed on if the block ends in an exception. A crash says where it happened.
    """
    heard = os.dup(2)
    memory = getattr(os, "memfd_create", lambda _: os.open(os.devnull, os.O_RDWR))
    before = sys.stderr
    with open(memory("unheard"), "w+b") as unheard, open(heard, "wb", buffering=0) as ours:
        with suppress(AttributeError, OSError, ValueError):  # a notebook's, a test's, none at all
            if before.fileno() == 2:
                sys.stderr = io.TextIOWrapper(
                    ours, before.encoding, before.errors, line_buffering=True, write_through=True
                )
        crashes_said = faulthandler.is_enabled()
        if not crashes_said:
            faulthandler.enable(ours)
        os.dup2(unheard.fileno(), 2)
        try:
            yield
        except Exception:
            unheard.seek(0)
            with suppress(OSError):
                shutil.copyfileobj(unheard, ours)
            raise
        finally:
            os.dup2(heard, 2)
            if not crashes_said:
                faulthandler.disable()
            if sys.stderr is not before:
                cast(io.TextIOWrapper, sys.stderr).detach()
                sys.stderr = before
