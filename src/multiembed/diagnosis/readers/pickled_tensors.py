"""Stand-ins for torch's tensors in a pickle: views of a storage, checked to lie within it."""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from multiembed.diagnosis.readers.pickled_arrays import PickledArray, is_shape

DTYPES = {name: of for name in dir(torch) if isinstance(of := getattr(torch, name), torch.dtype)}
STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "UntypedStorage": torch.uint8},
    **{"LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16},
    **{"CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
    **{"QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32},
    **{"ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128},
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
    if not isinstance(numbers, tuple | list) or not is_shape(tuple(numbers)):
        raise pickle.UnpicklingError("sizes and strides must be whole numbers, of at most 64 axes")
    return tuple(numbers)


def _of_type(
    build: object, _: object, arguments: object, state: object = None, *__: object
) -> object:
    """Build a tensor of a subclass as one of the plain class; of a DTensor, what this file has.

    What stands for a tensor without being one (torchao) gives the tensors that it is made of.
    """
    if not callable(build) or not isinstance(arguments, tuple):
        return None
    built = build(*arguments)
    if not isinstance(built, PickledArray):
        return built
    parts = state if isinstance(state, tuple) else (state,)  # attributes, and those in slots
    held = {key: part[key] for part in parts if isinstance(part, dict) for key in part}
    here = held.get("_local_tensor")
    if isinstance(here, Tensor) and tuple(here.shape) == built.shape:
        return here
    return held if held and here is None else built


def _spread(_: object, __: object, size: object, *___: object) -> PickledArray:
    """Say that a tensor is not whole here: a DTensor's or ShardedTensor's part of one process."""
    shape = _whole(size)
    how = "save it whole, or by torch.distributed.checkpoint"
    return PickledArray(f"one process's part of a tensor: {how}", shape)


def _quantised(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    by: Any,  # noqa: ANN401
    *_: object,
) -> Tensor:
    """Return what a quantised tensor stands for: by one scale, or one for each row or column."""
    codes = rebuilt_tensor(storage, offset, size, stride).float()
    _, scale, zero, *axis = by
    if axis:
        across = [length if place == axis[0] else 1 for place, length in enumerate(codes.shape)]
        scale, zero = scale.float().reshape(across), zero.float().reshape(across)
    elif not isinstance(scale, int | float) or not isinstance(zero, int | float):
        raise pickle.UnpicklingError("a scale must be a number")
    return (codes - zero) * scale


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
    ("torch._utils", "_rebuild_wrapper_subclass"): _spread,
    ("torch._utils", "_rebuild_qtensor"): _quantised,
    **{
        ("torch._utils", name): lambda *_, why=why: PickledArray(why)
        for name, why in (
            ("_rebuild_sparse_tensor", "sparse: store it dense"),
            ("_rebuild_nested_tensor", "nested: store it dense"),
            ("_rebuild_meta_tensor_no_storage", "a tensor that is on no device"),
        )
    },
}
"""What may build a tensor, by module and name."""
