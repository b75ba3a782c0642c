"""What a matrix of a foreign checkpoint is for: a table, other weights, or not to be told.

A checkpoint names its tensors and does not say what they are. What is told here is told by names
and by neighbours: a weight that has a bias is a linear layer, two that belong to a recurrence are
one, and what an optimizer remembers is named so by every optimizer. What no rule settles stays of
unknown role.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch

from multiembed.diagnosis.readers.table import StoredTensor, Tensors


class Role(NamedTuple):
    """What a tensor is taken for, and why it is no table if it is none."""

    kind: Literal["table", "unknown", "other"]
    reason: str = ""


_MOMENTS = (
    r"exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|grad_avg|acc_delta|exp_inf"
    r"|momentum[12]|state[12]|sum|accumulator|step"
)
_MOMENT = re.compile(
    r"(?:^|.*[._/])(?:exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|acc_delta)$"
    rf"|(?:^|.*\.)(?:state|optimizer\w*)\..*\.(?:{_MOMENTS})$"
    r"|(?:^|.*[./])_?optim(?:s|izers?)?(?:_(?:states?|dict|state_dict|weights|variables))*[./].+"
    r"|.*\.OPTIMIZER_SLOT.*|.*/(?:Adam|Adagrad|Ftrl|Momentum|RMSProp)(?:_\d+)?$"
    r"|(?:^|.*_)(?:gradients|momentum)$"
)
_MOMENTS_ARE = "what an optimizer remembers, no weights"
_RECURRENT = (
    *(("ih", "hh"), ("i2h", "h2h"), ("x2h", "h2h"), ("w_x", "w_h"), ("Wx", "Wh")),
    *(("kernel", "recurrent_kernel"), ("input", "recurrent")),
)
_BIASES = (
    *(("weight", "bias"), ("weights", "biases"), ("kernel", "bias"), ("coefs", "intercepts")),
    *(("w", "b"), ("W", "b"), ("W", "B"), ("weight", "b")),
)
_BIAS = re.compile(r"(?:.*[._/])?(?:bias|biases|running_mean|running_var)")
_LIKE_A_TABLE = re.compile(
    r"(?<![a-z])emb|embed|embs?(?![a-z])|lookup|vocab|factors|vectors|syn0$"
    r"|(?<![a-z])(?:tables?|latents?|wte|components)(?![a-z])",
    re.IGNORECASE,
)
_POSITIONS = re.compile(
    r"(?:(?:abs|absolute|learned|learnable|encoder|decoder|item|seq|sequence)_)?"
    r"(?:pos|positions?|positional|token_type|segment)_?(?:emb\w*|enc\w*|table)"
    r"|embed(?:ding)?s?_?positions?|wpe|pe|rel(?:ative)?_(?:pos|attention_bias)\w*",
    re.IGNORECASE,
)


_ADAPTER = re.compile(r"lora_(?:embedding_)?(?:[AB]|up|down)(?![a-zA-Z])")
_ENDS = re.compile(r"(?:\.weight|[./]vars[./]\d+|(?:\._packed_params)+(?:\._packed_weight|\.0)?)$")


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENTITIES = _words_of(
    "user users item items movie movies film product products ad ads site query token tokens word "
    "words video song track artist author customer article news brand category categories cate "
    "genre genres city country region device app advertiser campaign publisher domain url id ids "
    "zip occupation gender age hour day weekday shop seller hotel business book books node nodes "
    "entity entities relation relations uid iid pu qi yj"
)
_DENSE_LAST = _words_of("linear lin fc dense proj projection projector kernel transform")
_DENSE = _DENSE_LAST | _words_of(
    "mlp attn attention gate gates head heads hidden conv ffn feedforward classifier logits output "
    "out cross crossnet tower towers dnn deep layer layers block blocks qkv router norm rnn gru "
    "lstm cell key value recurrent bilinear ih hh"
)
_DENSE_HOME = _words_of("dense mlp attn attention ffn feedforward crossnet dnn rnn gru lstm")


def is_like_a_table(name: str) -> bool:
    """Say whether a tensor is named like an embedding table."""
    return _LIKE_A_TABLE.search(name) is not None


def is_moment(name: str) -> bool:
    """Say whether an optimizer keeps a tensor of this name, rather than a model."""
    return _MOMENT.fullmatch(name) is not None


def beside(name: str) -> str:
    """Say what a tensor is that a training script saved beside a model's weights."""
    return _MOMENTS_ARE if is_moment(name) else "beside the model's weights"


def objection(name: str, tensor: StoredTensor, tensors: Tensors) -> str | None:
    """Say why a tensor cannot be a table, whatever a layout makes of its name."""
    if is_moment(name):
        return _MOMENTS_ARE
    if tensor.shape[1] == 1:
        return "one column: a linear term"
    if not tensor.dtype.is_floating_point and tensor.dtype not in (torch.int8, torch.uint8):
        return f"{str(tensor.dtype).removeprefix('torch.')}, not floating point"
    rules = (
        (_ADAPTER.search(name), "a low-rank adapter (LoRA), which adds to a weight"),
        (
            tensor.dtype == torch.uint8 and "embedding_bags." in name,
            "rows of bytes with their scales inside: dequantise them by TorchRec",
        ),
        (_BIAS.fullmatch(name), "a bias or running statistics"),
        (_is_recurrent(name, tensor, tensors), "a recurrent layer"),
        (_has_bias(name, tensor, tensors), "a linear layer: it has a bias"),
        (_POSITIONS.fullmatch(_own_name(name)), "of positions or types, not of a field's values"),
    )
    return next((reason for holds, reason in rules if holds), None)


def _has_bias(name: str, tensor: StoredTensor, tensors: Tensors) -> bool:
    keras = [f"{name[:-1]}1"] if name.endswith("/vars/0") else []  # whose weights have no names
    return any(_has_size(bias, tensor, tensors) for bias in (*keras, *_swapped(name, _BIASES)))


def _has_size(bias: str, tensor: StoredTensor, tensors: Tensors) -> bool:
    """Whether a tensor is there with one number for each row, or for each column."""
    shape = tuple(n for n in tensors[bias].shape if n != 1) if bias in tensors else ()
    return len(shape) == 1 and shape[0] in tensor.shape


def _swapped(name: str, words: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Put the second word of every pair where the first stands alone, with and without its end.

    The end is what parametrizations add: `fc.weight_v` has the bias `fc.bias`.
    """
    for old, new in words:
        for found in re.finditer(rf"(?<![a-zA-Z]){old}(?![a-zA-Z])", name):
            yield name[: found.start()] + new + name[found.end() :]
            yield name[: found.start()] + new
            yield name[: found.start()].removesuffix("parametrizations.") + new


def _is_recurrent(name: str, tensor: StoredTensor, tensors: Tensors) -> bool:
    """Whether a matrix is one of a pair that share the size of their gates."""
    for old, new in (*_RECURRENT, *((new, old) for old, new in _RECURRENT)):
        for found in re.finditer(old, name):
            other = tensors.get(name[: found.start()] + new + name[found.end() :])
            if other is not None and {*other.shape} & {*tensor.shape}:
                return True
    return False


def _own_name(name: str) -> str:
    """Return the last part of a name that says something: `emb` of `net.emb.0.weight`."""
    return next((part for part in reversed(_parts(name)) if not part.isdigit()), name)


def bare(name: str) -> str:
    """Leave out of a tensor's name that it is a weight: of torch, its quantised layers, Keras."""
    return _ENDS.sub("", name) or name


def _parts(name: str) -> list[str]:
    parts = re.split(r"[./:]", bare(name))
    while len(parts) > 1 and re.fullmatch(r"weights?|_?weight|vars|original\d?", parts[-1]):
        parts.pop()
    return parts


def role_of(name: str, tensor: StoredTensor) -> Role:
    """Tell what a matrix is, to which there is no objection, by its name and its shape."""
    own, parts = _own_name(name), _parts(name)
    words = _words(own)
    inside = parts[: len(parts) - parts[::-1].index(own) - 1] if own in parts else []
    rows, columns = tensor.shape
    if words and words[-1] in _DENSE_LAST:
        return Role("other", "named like a dense layer")
    if _LIKE_A_TABLE.search(own):
        return Role("table")
    if {*words} & _DENSE or (inside and {*_words(inside[-1])} & _DENSE_HOME):
        return Role("other", "named like a dense layer")
    if inside and _LIKE_A_TABLE.search(inside[-1]) and rows != columns:
        return Role("table")
    if {*words} & _ENTITIES and rows > columns:
        return Role("table")
    if name.endswith("weight") and rows <= columns:
        return Role("other", "not named like a table, and no taller than wide")
    return Role("unknown")


def _words(part: str) -> list[str]:
    return [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", part)]


_TABLE_MODULES = _words_of("Embedding EmbeddingBag QuantizedEmbedding Embedding4bit Embedding8bit")
_OTHER_MODULES = re.compile(
    r"\w*Linear\w*|(?:GRU|LSTM|RNN)(?:Cell)?|Conv\w+|MultiheadAttention|Bilinear|\w*Norm\w*"
)


def told_by_modules(owners: Mapping[str, str]) -> tuple[frozenset[str], dict[str, str]]:
    """Return which tensors are tables and why others are none, by the classes of their modules."""
    tables = {n for n, owner in owners.items() if owner in _TABLE_MODULES and n.endswith("weight")}
    reasons = {
        name: f"of a module {owner}"
        for name, owner in owners.items()
        if _OTHER_MODULES.fullmatch(owner)
    }
    return frozenset(n for n in tables if not _POSITIONS.fullmatch(_own_name(n))), reasons
