"""Files that are pickles: plain ones, those of joblib, and what `torch.save` wrote before 1.6."""

import mmap
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.pickled_tensors import Storage, storage_of
from multiembed.diagnosis.readers.unpickler import BUILDERS, ByteStream, load_stream, most_built

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of `torch.save` before torch 1.6 begin: a pickled magic number."""


def load_legacy(file: ByteStream, size: int) -> object:
    """Load the format before torch 1.6: a pickle, then the storages it refers to, in order.

    Raises:
        Exception: Of any kind, if it is broken.
    """
    storages = _Storages(size)
    if file.read(len(LEGACY)) != LEGACY:
        raise pickle.UnpicklingError("another beginning")
    for _ in ("protocol", "system"):
        load_stream(file)
    loaded = load_stream(file, storage=storages.named, limit=most_built(size))
    keys: Any = load_stream(file)
    for key in keys:
        _fill(storages.empty.pop(key), file)
    if storages.empty:
        raise pickle.UnpicklingError("it refers to storages that are not there")
    return loaded


class _Storages:
    """Makes room for the storages that a pickle refers to, within the size of its file."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.empty: dict[str, Storage] = {}

    def named(self, kind: object, dtype: Any, key: object, *rest: Any) -> Any:  # noqa: ANN401
        """Return the storage of a key."""
        if kind == "module":  # a class and its source, which nobody looks at
            return dtype
        _, count, view = rest
        if not isinstance(dtype, torch.dtype) or type(key) is not str or type(count) is not int:
            raise pickle.UnpicklingError("a storage must have a type, a name and a length")
        if view is not None:
            raise pickle.UnpicklingError("views of storages are not read")
        if key not in self.empty:
            size = count * dtype.itemsize
            if not 0 <= size <= self._left:
                raise pickle.UnpicklingError("storages must fit in the file")
            self._left -= size
            self.empty[key] = Storage(torch.UntypedStorage(size), dtype)
        return self.empty[key]


def _fill(storage: Storage, file: ByteStream) -> None:
    """Read the numbers of a storage, behind their number."""
    size = storage.flat.nbytes()
    if int.from_bytes(file.read(8), "little") * storage.dtype.itemsize != size:
        raise pickle.UnpicklingError("a storage must be as long as it says")
    data = file.read(size)
    if len(data) < size:
        raise pickle.UnpicklingError("the file ends within a storage")
    storage.flat.copy_(storage_of(data))


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Map a file to read from."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def load_pickle(path: Path) -> object:
    """Load a plain pickle or a file of joblib.

    Raises:
        DataError: If it is broken.
    """
    try:
        with mapped(path) as content:
            return load_stream(content)
    except DataError:
        raise
    except Exception as error:  # a broken pickle can fail in any way
        raise DataError(f"{path}: must be a whole pickle, got {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_pickle(head: bytes) -> bool:
    """Say whether a file that begins so is a pickle: by its protocol, or as text."""
    return (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05") or head[:2] in _TEXT_STARTS


_TEXT_STARTS = (b"(d", b"(l", b"cc", b"cn", b"(i")
"""How pickles of protocol 0 begin: a dictionary, a list, a name."""


def _storage_of_bytes(data: object) -> object:
    """Read a storage that is a small file of `torch.save`, as in plain pickles of tensors."""
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("a storage must be bytes")
    found = load_legacy(BytesIO(data), len(data))
    if not isinstance(found, Storage):
        raise pickle.UnpicklingError("a storage must be one")
    return found


BUILDERS.update({("torch.storage", "_load_from_bytes"): _storage_of_bytes})
