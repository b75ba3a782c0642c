"""Stand-ins for NumPy's arrays in a pickle: they take shape, type and bytes, and see that all fit.

NumPy's own would do, and trust what a pickle says of sizes.
"""

import math
import pickle
import re
from collections.abc import Callable
from io import BytesIO
from mmap import mmap
from typing import Literal, TypeGuard

import numpy as np

_PLAIN = re.compile(r"[fiub]\d{1,2}")


def is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    """Say whether these are sizes that an array can have: their product alone can take hours."""
    return (
        isinstance(shape, tuple)
        and len(shape) <= 64
        and all(type(size) is int and 0 <= size < 2**63 for size in shape)
    )


class NumpyType:
    """The type of an array: plain numbers of one size, or something that is not read."""

    def __init__(self, text: object = "", *_: object) -> None:
        self.text = text if isinstance(text, str) else "?"
        self.order: Literal["<", ">", "="] = "="

    def __setstate__(self, state: object) -> None:
        told = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        self.order = told if told in ("<", ">") else "="

    @property
    def plain(self) -> np.dtype | None:
        """NumPy's type; `None` if an array of it holds no plain numbers."""
        if not _PLAIN.fullmatch(self.text.lstrip("<>|=")):
            return None
        try:
            return np.dtype(self.text).newbyteorder(self.order)
        except TypeError:
            return None


class PickledArray:
    """An array of a pickle: its numbers, or why it has none."""

    def __init__(
        self, reason: str = "an array that was not filled", shape: tuple[int, ...] = ()
    ) -> None:
        self.array: np.ndarray | None = None
        self.objects: list[object] | None = None
        self.shape, self.reason = shape, reason

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array must have five parts")
        _, shape, kind, columns_first, data = state
        self.fill(shape, kind, data, columns_first=bool(columns_first))

    def fill(self, shape: object, kind: object, data: object, *, columns_first: bool) -> None:
        """Take numbers from bytes, as many as the shape needs."""
        if not is_shape(shape):
            raise pickle.UnpicklingError("an array must have a shape")
        self.shape = shape
        plain = kind.plain if isinstance(kind, NumpyType) else None
        if not isinstance(plain, np.dtype):
            named = kind.text if isinstance(kind, NumpyType) else "?"
            self.objects = data if named[:1] == "O" and isinstance(data, list) else None
            self.reason = "an array of Python objects" if named[:1] == "O" else f"of type {named}"
            return
        if isinstance(data, str):  # what Python 2 wrote
            data = data.encode("latin1")
        size = math.prod(shape) * plain.itemsize
        if not isinstance(data, bytes | bytearray) or len(data) != size:
            raise pickle.UnpicklingError("an array must have as many bytes as its shape needs")
        flat = np.frombuffer(bytes(data), dtype=plain)
        self.array = flat.reshape(shape, order="F" if columns_first else "C")


def array_of_buffer(data: object, kind: object, shape: object, order: object = "C") -> PickledArray:
    """Build an array as protocol 5 does."""
    found = PickledArray()
    found.fill(shape, kind, data, columns_first=order == "F")
    return found


class JoblibArray:
    """What joblib writes in the place of an array, whose bytes follow."""

    def __init__(self, *_: object) -> None:
        self.described: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.described = state if isinstance(state, dict) else {}

    def read(self, file: BytesIO | mmap, load: Callable[[], object]) -> PickledArray:
        """Take the array from where the file stands."""
        shape, kind = self.described.get("shape"), self.described.get("dtype")
        found = PickledArray()
        plain = kind.plain if isinstance(kind, NumpyType) else None
        if not isinstance(plain, np.dtype):
            load()  # the objects, as a pickle of their own
            found.fill(shape, kind, b"", columns_first=False)
            return found
        if self.described.get("numpy_array_alignment_bytes") is not None:
            file.read(file.read(1)[0])
        if not is_shape(shape):
            raise pickle.UnpicklingError("an array must have a shape")
        data = file.read(math.prod(shape) * plain.itemsize)
        found.fill(shape, kind, data, columns_first=self.described.get("order") == "F")
        return found
