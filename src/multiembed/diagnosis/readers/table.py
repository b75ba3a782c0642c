"""What a reader hands over: tables that are read a few thousand rows at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.runs.metrics import Reliability

CHUNK_BYTES = 32 * 2**20
"""One chunk of a table: large enough for a fast product, small beside any machine's memory."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that may still lie on disk: its shape is known, its rows are read when asked."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[int, int], Tensor]
    """Rows from a first to before a last, as stored."""

    @classmethod
    def of(cls, tensor: Tensor) -> "StoredTensor":
        """Wrap a tensor that is in memory, or mapped into it."""
        shape = tuple(tensor.shape)
        return cls(shape, tensor.dtype, lambda a, b: tensor[a:b] if shape else tensor)

    def block(self, start: int, stop: int) -> "StoredTensor":
        """Return the rows from `start` to before `stop`, still unread."""
        shape = (stop - start, *self.shape[1:])
        return StoredTensor(shape, self.dtype, lambda a, b: self.read(start + a, start + b))

    def columns(self, start: int, stop: int) -> "StoredTensor":
        """Return the columns from `start` to before `stop`, still unread."""
        shape = (self.shape[0], stop - start)
        return StoredTensor(shape, self.dtype, lambda a, b: self.read(a, b)[:, start:stop])

    def whole(self) -> Tensor:
        """Read everything."""
        return self.read(0, self.shape[0])


Tensors = Mapping[str, StoredTensor]
"""What a checkpoint holds, by name."""


@dataclass(frozen=True)
class Skipped:
    """A tensor, or a part of a file, that was not taken for a table."""

    name: str
    shape: tuple[int, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a file holds, by name, before it is known what is what."""

    tensors: Tensors
    beside: Tensors = field(default_factory=dict)
    """What a training checkpoint holds beside the model's weights: an optimizer's state."""
    tables: frozenset[str] = frozenset()
    """Tensors that are tables for sure, because the file or the module says so."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why tensors are no tables, where the file or the module says so."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are another one under a second name, and that one."""
    skipped: tuple[Skipped, ...] = ()
    """What is in the file and not among the tensors."""
    ordered: bool = True
    """Whether tensors come in the model's order."""


@dataclass(frozen=True)
class Table:
    """The embedding table of one field: `sets` tables of `dim` columns side by side."""

    name: str
    parts: tuple[StoredTensor, ...]
    """One tensor that holds all sets, or one per set."""
    sets: int = 1
    origin: tuple[str, ...] = ()
    """The tensors it was cut from, by their names in the file."""

    def __post_init__(self) -> None:
        rows = {part.shape[0] for part in self.parts}
        if len(rows) != 1:
            raise DataError(f"table '{self.name}': its sets must have equal rows, got {rows}")
        if self.width % self.sets:
            raise DataError(
                f"table '{self.name}': {self.width} columns must split into {self.sets} sets"
            )

    @property
    def rows(self) -> int:
        """The field's cardinality."""
        return self.parts[0].shape[0]

    @property
    def width(self) -> int:
        """Columns of all sets together."""
        return sum(part.shape[1] for part in self.parts)

    @property
    def dim(self) -> int:
        """Columns of one set."""
        return self.width // self.sets

    def chunks(self) -> Iterator[tuple[int, Float[np.ndarray, "chunk width"]]]:
        """Yield the table in pieces of bounded size, each with the number of its first row."""
        step = max(1, CHUNK_BYTES // (8 * self.width))
        for start in range(0, self.rows, step):
            stop = min(start + step, self.rows)
            yield start, self.read(start, stop)

    def read(self, start: int, stop: int) -> Float[np.ndarray, "chunk width"]:
        """Return the rows from `start` to before `stop`, all sets side by side."""
        pieces = [_as_array(part.read(start, stop)) for part in self.parts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def _as_array(rows: Tensor) -> Float[np.ndarray, "chunk columns"]:
    """Return rows to NumPy, exactly, without a conversion by torch.

    Torch's threads stay awake for a while after a conversion, in the way of NumPy's products:
    with two threads a summary took 36 times as long.
    """
    if rows.dtype == torch.bfloat16:
        bits = rows.contiguous().view(torch.int16).numpy().astype(np.int32)
        return (bits << 16).view(np.float32)
    if rows.dtype in (torch.float16, torch.float32, torch.float64):
        return rows.numpy()
    return rows.to(torch.float64).numpy()


RowCounts = Int[np.ndarray, " rows"] | Bool[np.ndarray, " rows"]
"""How often training met every row of a table; or, as booleans, whether it did at all."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything a diagnosis needs from a file, a directory or what is in memory."""

    layout: str
    """Whose way of naming tensors this is, in words."""
    tables: tuple[Table, ...]
    unknown_role: tuple[Table, ...] = ()
    """Matrices that may be tables or not: no judgement of the model rests on them."""
    skipped: tuple[Skipped, ...] = ()
    counts: Mapping[str, RowCounts] = field(default_factory=dict)
    """For the fields where that is known."""
    counts_from: str | None = None
    """Where the counts come from, in words; `None` where none are known."""
    cross_layers: tuple[StoredTensor, ...] = ()
    """Projections (sets, fields*dim, fields*dim) of each cross layer; the first axis may be 1."""
    field_aware: bool = False
    """Whether a field's sets are what it shows each other field, in order (FFM)."""
    reliability: Reliability | None = None
    """How well the model's probabilities are calibrated, where that is known."""
