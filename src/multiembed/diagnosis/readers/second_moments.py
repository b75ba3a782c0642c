"""What an optimizer beside a model's weights tells: which rows of its tables were never trained.

Adam's second moment of a number is 0 until its first gradient, Adagrad's sum and RMSProp's mean
of squares as well. A row whose moments are all 0 got no gradient, or none for so many steps that
its moments faded from float32 (some 90,000 of Adam's, at 0.999).
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from multiembed.diagnosis.readers.table import CHUNK_BYTES, Contents, StoredTensor, Tensors

MOMENTS_TELL = "the optimizer in the checkpoint: rows whose second moments are 0 were never trained"

_SECOND = r"(?:exp_avg_sq|max_exp_avg_sq|square_avg|sum|momentum1|state_sum)"
_NUMBERED = re.compile(rf"(?:^|.*\.)state\.(?P<key>\d+)\.{_SECOND}$")
_NAMED = re.compile(rf"(?:^|.*?\.)state\.(?P<key>.*[^\d.].*)\.{_SECOND}$")
_BUFFER = re.compile(r".*\.(?:running_mean|running_var|num_batches_tracked)$")


def trained_rows(contents: Contents) -> dict[str, StoredTensor]:
    """Return `(rows, 1)` truth values of the weights of whose rows some were never trained.

    Where no row's moments are 0 nothing is said: weight decay that is part of the gradient gives
    every row one.
    """
    everything = {**contents.tensors, **contents.beside}
    found = {}
    for name, moment in (*_by_number(contents, everything), *_by_name(contents, everything)):
        met = _met(moment)
        if not bool(met.all()):
            found[name] = StoredTensor.of(met)
    return found


def _by_number(contents: Contents, everything: Tensors) -> Iterator[tuple[str, StoredTensor]]:
    """Pair weights with moments that are kept by the place of a parameter in its model.

    All of them must fit: an optimizer of some parameters, or in another order, is no guide.
    """
    numbered: dict[int, StoredTensor] = {}
    for name, tensor in everything.items():
        if match := _NUMBERED.match(name):
            numbered[int(match["key"])] = tensor
    weights = (
        contents.same.get(name, name)
        for name, tensor in contents.tensors.items()
        if tensor.dtype.is_floating_point and not (_BUFFER.match(name) or _NUMBERED.match(name))
    )
    parameters = list(dict.fromkeys(weights))
    fits = [
        place < len(parameters) and _covers(moment.shape, contents.tensors[parameters[place]].shape)
        for place, moment in numbered.items()
    ]
    if fits and all(fits):
        yield from ((parameters[place], moment) for place, moment in numbered.items())
    elif fits:
        yield from _by_shape(contents.tensors, list(numbered.values()))


def _by_shape(tensors: Tensors, moments: list[StoredTensor]) -> Iterator[tuple[str, StoredTensor]]:
    """Pair weights with moments whose shape only they have."""
    for name, tensor in tensors.items():
        same = [moment for moment in moments if moment.shape == tensor.shape]
        alone = sum(other.shape == tensor.shape for other in tensors.values()) == 1
        if len(same) == 1 and alone and len(tensor.shape) == 2:
            yield name, same[0]


def _by_name(contents: Contents, everything: Tensors) -> Iterator[tuple[str, StoredTensor]]:
    """Pair weights with moments that are kept by the parameter's name (distributed checkpoints)."""
    for name, moment in everything.items():
        match = _NAMED.match(name)
        if not match:
            continue
        of = [n for n in contents.tensors if n == match["key"] or n.endswith(f".{match['key']}")]
        if len(of) == 1 and _covers(moment.shape, contents.tensors[of[0]].shape):
            yield of[0], moment


def _covers(moment: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a moment is of a weight: a number for each of its own, or for each of its rows."""
    return moment == weight or (len(weight) == 2 and moment in ((weight[0],), (weight[0], 1)))


def _met(moment: StoredTensor) -> Tensor:
    rows = moment.shape[0]
    step = max(1, CHUNK_BYTES // (8 * max(1, moment.shape[-1])))
    parts = [
        (moment.read(start, min(start + step, rows)) != 0).reshape(min(step, rows - start), -1)
        for start in range(0, rows, step)
    ]
    return torch.cat([part.any(dim=1, keepdim=True) for part in parts])
