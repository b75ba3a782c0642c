"""Tables of whole numbers of eight bits: with the scales that lie beside them, or as they are."""

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from multiembed.diagnosis.readers.table import Contents, StoredTensor, Tensors

_SCALES = ("scale", "scales", "quant_scale", "weight_scale", "absmax")
_ZEROS = ("zero_point", "zero_points", "zeros", "zero", "offset")
_CODES = (torch.int8, torch.uint8)


def dequantised(contents: Contents) -> Contents:
    """Put scaled numbers in the place of codes: `(code - zero point) * scale`.

    Scales and zero points are one number, or one for every row or every column, in a tensor that
    has the table's name with `scale` or `zero_point` behind it. Codes without a scale are taken for
    the numbers themselves: a common factor changes no measure. A matrix of other whole numbers that
    is alone in its file is a table, too.
    """
    tensors = dict(contents.tensors)
    reasons: dict[str, str] = {}
    for name, codes in contents.tensors.items():
        if codes.dtype in _CODES and len(codes.shape) == 2:
            scale = _beside(name, codes, _SCALES, contents.tensors)
            zero = _beside(name, codes, _ZEROS, contents.tensors)
            if scale is not None:
                tensors[name] = _scaled(codes, contents.tensors, scale, zero)
                reasons |= {part: f"scales of {name}" for part in (scale, zero) if part}
    matrices = [name for name, tensor in tensors.items() if len(tensor.shape) == 2]
    alone = matrices if len(matrices) == 1 and matrices[0] not in reasons else []
    sure = [n for n in alone if not tensors[n].dtype.is_floating_point]
    return replace(
        contents,
        tensors=tensors,
        tables=contents.tables | {*sure},
        reasons={**contents.reasons, **reasons},
    )


def _beside(name: str, codes: StoredTensor, ends: tuple[str, ...], tensors: Tensors) -> str | None:
    """Return the tensor of a table's name and such an end whose numbers fit its rows or columns."""
    stem = re.sub(r"\.weight$|[._]q(?:uantized|data)?$", "", name)
    names = [f"{of}{mark}{end}" for of in (name, stem) for mark in "._/" for end in ends]
    for candidate in names:
        if candidate in tensors and _spread(tensors[candidate].shape, codes.shape) is not None:
            return candidate
    return None


def _spread(shape: tuple[int, ...], codes: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the two axes along which scales of a shape lie; `None` if they fit neither."""
    count = [n for n in shape if n != 1]
    if not count:
        return (1, 1)
    if len(count) != 1 or count[0] not in codes:
        return None
    return (count[0], 1) if count[0] == codes[0] and shape[0] == count[0] else (1, count[0])


def _scaled(
    codes: StoredTensor, tensors: Mapping[str, StoredTensor], scale: str, zero: str | None
) -> StoredTensor:
    def part(name: str | None, start: int, stop: int) -> Tensor | float:
        if name is None:
            return 0.0
        spread = _spread(tensors[name].shape, codes.shape) or (1, 1)
        of = tensors[name]
        whole = of.whole() if of.shape else of.read(0, 1)
        numbers = whole.to(torch.float64).reshape(spread)
        return numbers[start:stop] if spread[0] > 1 else numbers

    def read(start: int, stop: int) -> Tensor:
        numbers = codes.read(start, stop).to(torch.float64)
        return (numbers - part(zero, start, stop)) * part(scale, start, stop)

    return StoredTensor(codes.shape, torch.float64, read)
