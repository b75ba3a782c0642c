"""Stand-ins for torch's tensors in a pickle: views of a storage, checked to lie within it."""

import pickle
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
        *(torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
        *(torch.bool, torch.complex64, torch.complex128),
    )
}
STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "UntypedStorage": torch.uint8},
    **{"LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16},
    **{"CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
}
"""Classes of storages by name, as the type of their numbers."""


class Storage(NamedTuple):
    """Numbers without a shape."""

    flat: torch.UntypedStorage
    dtype: torch.dtype


def storage_of(data: bytes) -> torch.UntypedStorage:
    """Return bytes as numbers."""
    if not data:
        return torch.UntypedStorage(0)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage()


def rebuilt_tensor(
    storage: object, offset: object, size: object, stride: object, *_: object
) -> Tensor:
    """Return a view of a storage.

    Raises:
        UnpicklingError: If it does not lie within the storage, or uses a number twice: a file of a
            kilobyte can describe a table of a terabyte.
    """
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor must have a storage")
    return view_of(storage, offset, size, stride, storage.dtype)


def view_of(
    storage: Storage, offset: object, size: object, stride: object, dtype: torch.dtype
) -> Tensor:
    """Return a view of a storage as numbers of a type."""
    sizes, strides = _whole(size), _whole(stride)
    [first] = _whole((offset,))
    if len(sizes) != len(strides):
        raise pickle.UnpicklingError("a tensor must have a stride for every axis")
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    reach = 1
    for length, step in sorted(zip(sizes, strides, strict=True), key=lambda axis: axis[1]):
        if length > 1 and step < reach:
            raise pickle.UnpicklingError("a tensor must not use its numbers twice")
        reach += (length - 1) * step
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if (last + 1) * dtype.itemsize > storage.flat.nbytes():
        raise pickle.UnpicklingError("a tensor must lie within its storage")
    return torch.empty(0, dtype=dtype).set_(storage.flat, first, sizes, strides)


def _whole(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, tuple | list) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise pickle.UnpicklingError("sizes and strides must be whole numbers")
    return tuple(numbers)


def _of_type(build: object, _: object, arguments: object, *__: object) -> object:
    """Build a tensor of a subclass as one of the plain class."""
    return build(*arguments) if callable(build) and isinstance(arguments, tuple) else None


def _with_dtype(
    storage: object, offset: object, size: object, stride: object, *rest: object
) -> object:
    """Build a tensor of a type that has no class of storages."""
    dtype = next((part for part in rest if isinstance(part, torch.dtype)), None)
    if not isinstance(storage, Storage) or dtype is None:
        raise pickle.UnpicklingError("a tensor must have a storage and a type")
    return view_of(storage, offset, size, stride, dtype)


TENSOR_BUILDERS: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): rebuilt_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuilt_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _with_dtype,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
}
"""What may build a tensor, by module and name."""
