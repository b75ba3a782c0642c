"""Reads pickles without ever running what they name.

A pickle is a program: it names functions and calls them. Here it gets stand-ins for the few that
rebuild tensors and arrays, which take plain numbers and bytes; every other name becomes an inert
`Placeholder` that records what it was given. Nothing that a pickle names is imported. So objects
of a library that is not installed can still be read, and a pickle that tries to run a command
builds a placeholder instead. What is built is counted, since a kilobyte can ask for a terabyte.
"""

import mmap
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from multiembed.diagnosis.readers.pickled_arrays import (
    JoblibArray,
    NumpyType,
    PickledArray,
    array_of_buffer,
)
from multiembed.diagnosis.readers.pickled_tensors import (
    DTYPES,
    STORAGES,
    TENSOR_BUILDERS,
)

ByteStream = BytesIO | mmap.mmap
"""Bytes in memory or mapped into it: reading beyond their end gives what there is."""
FREE_BYTES = 2**26
"""So much may be built of any pickle, however small."""
MOST_TIMES = 16
"""Beyond that, so many times the bytes that it came from: half precision may become double."""
_MOST_NAMES = 10_000
_OBJECT_BYTES = 256


class Placeholder:
    """Stands for an object whose class was not loaded; holds its arguments and its state."""

    def __new__(cls, *_: object) -> "Placeholder":
        """Accept whatever the pickled class was built from."""
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.items: list[tuple[object, object]] = []

    def __setstate__(self, state: object) -> None:
        self.state = state
        if isinstance(state, dict):
            self.__dict__.update({key: state[key] for key in state if isinstance(key, str)})

    def take(self, *items: tuple[object, object]) -> None:
        """Take elements, where the pickled class was a kind of list or of dictionary."""
        held = self.__dict__.setdefault("items", [])
        if isinstance(held, list):  # a state may have an attribute of that name
            held.extend(items)


class _Builder:
    """A function that a pickle may call, and do nothing else with."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., object]) -> None:
        self._build = build

    def __call__(self, *arguments: object) -> object:
        return self._build(*arguments)


def _encoded(text: object, _: object = "latin1") -> bytes:
    """Return the bytes that protocols below 3 write as text."""
    if not isinstance(text, str):
        raise pickle.UnpicklingError("bytes must be written as text")
    return text.encode("latin1")


def _reconstructed(kind: object, *_: object) -> object:
    """Build an object as protocols below 2 do: of its class, without arguments."""
    return kind() if isinstance(kind, type) and issubclass(kind, Placeholder) else Placeholder()


def _attribute(_: object, name: object) -> type:
    """Return what stands for a class inside another object."""
    return type(name if isinstance(name, str) else "?", (Placeholder,), {})


def _in_order(pairs: object = ()) -> OrderedDict[object, object]:
    if not isinstance(pairs, list | tuple):
        raise pickle.UnpicklingError("a dictionary must be built of pairs")
    return OrderedDict((_key(key), value) for key, value in pairs)


def _sizes(sizes: object = ()) -> tuple[object, ...]:
    return tuple(sizes) if isinstance(sizes, tuple | list) else ()


BUILDERS: dict[tuple[str, str], Callable[..., object]] = {
    ("builtins", "getattr"): _attribute,
    ("__builtin__", "getattr"): _attribute,
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): _in_order,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("copy_reg", "_reconstructor"): _reconstructed,
    ("torch", "Size"): _sizes,
    **TENSOR_BUILDERS,
    **{
        (f"numpy.{core}.{module}", name): build
        for core in ("core", "_core")
        for module, name, build in (
            ("multiarray", "_reconstruct", lambda *_: PickledArray()),
            ("numeric", "_frombuffer", array_of_buffer),
        )
    },
}
_CLASSES: dict[tuple[str, str], type] = {
    ("numpy", "dtype"): NumpyType,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): JoblibArray,
}
_STAND_INS = (Placeholder, NumpyType, JoblibArray, PickledArray)


def _key(key: object) -> object:
    """Return what stands for a key of a dictionary: hashing it must take no time.

    Tuples of tuples of tuples double their hash's work with every level, and whole numbers of any
    size can be chosen to have one hash.
    """
    if isinstance(key, tuple) and len(key) <= 8 and all(map(is_short, key)):
        return str(key)
    if isinstance(key, tuple | list | dict) or (isinstance(key, int) and not is_short(key)):
        raise pickle.UnpicklingError("a key must be plain")
    return key


def is_short(part: object) -> bool:
    """Say whether a part of a name is a word or number that takes no time to write or to hash."""
    if isinstance(part, int):
        return abs(part) < 2**64
    return isinstance(part, float) or (isinstance(part, str) and len(part) <= 200)


_FLOATS = re.compile(rb"(?:G.{8})+", re.DOTALL)
_InPython: Any = pickle._Unpickler  # not in C: every step can be replaced


class _Unpickler(_InPython):
    """Follows a pickle's steps; those that look up, call or fill something are of its own."""

    def __init__(
        self, file: ByteStream, storage: Callable[..., object] | None, encoding: str, limit: int
    ) -> None:
        _InPython.__init__(self, file, encoding=encoding)
        self._bytes, self._storage, self._left = file, storage, limit
        self._buffer = file.getbuffer() if isinstance(file, BytesIO) else file
        self._names: dict[tuple[str, str], object] = {}

    def find_class(self, module: str, name: str) -> object:
        """Return a stand-in for what is named, which is never the thing itself."""
        if (module, name) not in self._names:
            if len(self._names) >= _MOST_NAMES:
                raise pickle.UnpicklingError(f"it must name at most {_MOST_NAMES} things")
            self._names[module, name] = _stand_in(module, name)
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> object:  # noqa: ANN401
        """Return what a pickle refers to beside itself."""
        if self._storage is None:
            raise pickle.UnpicklingError("it refers to storages that are not there")
        return self._storage(*pid)

    def build(self, by: Any, arguments: object) -> None:  # noqa: ANN401
        """Push what a stand-in makes of its arguments."""
        if not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("arguments must be a tuple")
        named = isinstance(by, type) and issubclass(by, _STAND_INS)
        if not (named or isinstance(by, _Builder)):
            raise pickle.UnpicklingError("it calls what is no function")
        built = by(*arguments)
        self.count(built, arguments)
        self.append(built)

    def count(self, built: object, given: object) -> None:
        """Refuse to build far more than the file can mean, however often it says so."""
        parts = given if isinstance(given, tuple) else (given,)
        sizes = (len(of) for of in parts if isinstance(of, bytes | str | tuple | list | dict))
        self._left -= _OBJECT_BYTES + 8 * len(parts)
        self._left -= sum(sizes) if not isinstance(given, dict) else 64 * len(given)
        if isinstance(built, Tensor):
            self._left -= built.numel() * built.element_size()
        elif isinstance(built, PickledArray) and built.array is not None:
            self._left -= built.array.nbytes
        if self._left < 0:
            raise pickle.UnpicklingError("it asks for far more than the file holds")

    def fill(self, target: object, items: list[tuple[object, object]]) -> None:
        """Put items into a dictionary, or into what stands for one."""
        if isinstance(target, Placeholder):
            target.take(*items)
        elif isinstance(target, dict):
            target.update((_key(key), value) for key, value in items)
        else:
            raise pickle.UnpicklingError("only a dictionary has items")

    def extend(self, target: object, values: list[object]) -> None:
        """Put values into a list, or into what stands for one."""
        if isinstance(target, Placeholder):
            target.take(*((None, value) for value in values))
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise pickle.UnpicklingError("only a list has elements")

    def load_reduce(self) -> None:
        arguments, by = self.stack.pop(), self.stack.pop()
        self.build(by, arguments)

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        self.build(self.find_class(module, name), tuple(self.pop_mark()))

    def load_obj(self) -> None:
        by, *arguments = self.pop_mark()
        self.build(by, tuple(arguments))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _STAND_INS):
            target.__setstate__(state)
            if isinstance(target, JoblibArray):  # its bytes follow, amid the pickle's own
                self.stack[-1] = target.read(self._bytes, lambda: load_stream(self._bytes))
        elif not isinstance(target, Tensor | OrderedDict):  # whose attributes nobody looks at
            raise pickle.UnpicklingError("a pickle may change only what it has built")
        self.count(self.stack[-1], state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill(self.stack[-1], [(key, value)])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.fill(self.stack[-1], list(zip(items[::2], items[1::2], strict=True)))

    def load_append(self) -> None:
        value = self.stack.pop()
        self.extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        values = self.pop_mark()
        self.extend(self.stack[-1], values)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.fill(self.stack[-1], list(zip(items[::2], items[1::2], strict=True)))

    def load_binfloat(self) -> None:
        """Read numbers that stand one behind the other at once: a list may have millions."""
        start = self._bytes.tell() - 1
        run = _FLOATS.match(self._buffer, start)
        if run is None:
            raise EOFError("the file ends within a number")
        self._bytes.seek(run.end())
        each = np.frombuffer(run[0], dtype=[("step", "S1"), ("number", ">f8")])
        self.stack.extend(each["number"].tolist())

    def load_frame(self) -> None:
        self.read(8)  # how the writer cut the stream, which changes nothing

    def load_bytearray8(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def refuse(self) -> None:
        raise pickle.UnpicklingError("it uses what no checkpoint needs")

    dispatch: ClassVar[dict[int, Any]] = {
        **_InPython.dispatch,
        **dict.fromkeys((pickle.REDUCE[0], pickle.NEWOBJ[0]), load_reduce),
        **dict.fromkeys((pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]), refuse),
        **dict.fromkeys((pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0]), refuse),
        **dict.fromkeys((pickle.APPENDS[0], pickle.ADDITEMS[0]), load_appends),
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.INST[0]: load_inst,
        pickle.OBJ[0]: load_obj,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.APPEND[0]: load_append,
        pickle.EMPTY_SET[0]: _InPython.dispatch[pickle.EMPTY_LIST[0]],
        pickle.FROZENSET[0]: _InPython.dispatch[pickle.LIST[0]],
        pickle.DICT[0]: load_dict,
        pickle.BINFLOAT[0]: load_binfloat,
        pickle.FRAME[0]: load_frame,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def _stand_in(module: str, name: str) -> object:
    if (module, name) in BUILDERS:
        return _Builder(BUILDERS[module, name])
    if module == "torch" and name in DTYPES:
        return DTYPES[name]
    if module in ("torch", "torch.storage") and name in STORAGES:
        return STORAGES[name]
    if (module, name) in _CLASSES:
        return _CLASSES[module, name]
    return type(name, (Placeholder,), {"__module__": module})


def load_stream(
    file: ByteStream,
    *,
    storage: Callable[..., object] | None = None,
    encoding: str = "latin1",
    limit: int | None = None,
) -> object:
    """Load one pickle from where a file stands.

    Args:
        file: Bytes that begin with it.
        storage: Finds what the pickle of `torch.save` refers to.
        encoding: Of text that Python 2 wrote.
        limit: Bytes that may be built; given by the size of the file if not said.

    Raises:
        Exception: Of any kind, if it is broken.
    """
    whole = len(file.getbuffer()) if isinstance(file, BytesIO) else len(file)
    limit = most_built(whole) if limit is None else limit
    return _Unpickler(file, storage, encoding, limit).load()


def most_built(size: int) -> int:
    """Return how much may be built of so many bytes."""
    return FREE_BYTES + MOST_TIMES * size
