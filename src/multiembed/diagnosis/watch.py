"""Ranks inside a model while it runs: of its tables, of batches, of single rows' tokens."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from threading import Lock, Thread, current_thread
from weakref import WeakValueDictionary

import polars as pl
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from multiembed.base.errors import ConfigError, DataError
from multiembed.diagnosis.activations import LayerSums
from multiembed.diagnosis.layer_ranks import LayerRank, layer_html, layer_text, ranks_of, table_rank
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.factored import FactoredEmbeddings

MOST_CALLS = 16
"""Calls of one module in one forward pass that are told apart; later ones are not measured."""


class Watch:
    """Measures a model's activations in every so many forward passes; see `watch`."""

    def __init__(self, model: nn.Module, *, every: int) -> None:
        self.model = model
        self.every = every
        self.forwards = 0
        """Forward passes of the model while it was watched."""
        self.measured = 0
        """Those that were measured."""
        self._layers: dict[tuple[str, int], LayerSums] = {}
        self._tables: list[LayerRank] | None = None
        self._root: list[RemovableHandle] = []
        self._inner: list[RemovableHandle] = []
        self._eager: AbstractContextManager[object] = nullcontext()
        self._calls: Counter[tuple[Thread, str]] = Counter()
        self._seen: WeakValueDictionary[tuple[int, int], Tensor] = WeakValueDictionary()
        self._batch: int | None = None
        self._lock = Lock()

    def __enter__(self) -> "Watch":
        if getattr(self.model, "_compiled_call_impl", None) is not None:
            raise ConfigError(
                "model must be compiled by torch.compile(model) to be watched, got one compiled "
                "in place by model.compile()"
            )
        self._tables = None
        begin, end = _Hook(self._begin), _Hook(self._end)
        self._root = [
            self.model.register_forward_pre_hook(begin),
            self.model.register_forward_hook(end, always_call=True),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._root:
            handle.remove()
        self._finish()
        self._tables = self._measured_tables()

    def ranks(self) -> list[LayerRank]:
        """Return every rank measured: of tables, then layer by layer as they were called."""
        tables = self._measured_tables() if self._tables is None else self._tables
        with self._lock:
            return [*tables, *(rank for sums in self._layers.values() for rank in ranks_of(sums))]

    def to_frame(self) -> pl.DataFrame:
        """Return `ranks` as a data frame, one row for each."""
        names = {of.name: () for of in dataclasses.fields(LayerRank)}
        return pl.DataFrame([dataclasses.asdict(rank) for rank in self.ranks()] or names)

    def __str__(self) -> str:
        return layer_text(self.ranks(), self._said())

    def _repr_html_(self) -> str:
        return layer_html(self.ranks(), self._said())

    def _said(self) -> str:
        if self.forwards == 0:
            return "No forward pass was seen: call the watched model itself, not a part of it."
        passes = "pass" if self.forwards == 1 else "passes"
        return f"{self.measured} of {self.forwards} forward {passes} measured."

    def _begin(self, _: nn.Module, args: tuple[object, ...]) -> None:
        self.forwards += 1
        if (self.forwards - 1) % self.every or self._inner:
            return
        self.measured += 1
        self._batch = next((len(of) for _, of in _named_tensors("", args) if of.ndim), None)
        self._calls.clear()
        self._seen.clear()
        modules = {_shown(name): of for name, of in self.model.named_modules() if name}
        if any(_is_compiled(module) for module in self.model.modules()):  # which calls no hooks
            self._eager = torch.compiler.set_stance("force_eager")
            self._eager.__enter__()
        for name, module in modules.items():
            hook = _Hook(lambda _module, _args, output, name=name: self._record(name, output))
            self._inner.append(module.register_forward_hook(hook))

    def _end(self, _: nn.Module, args: tuple[object, ...], output: object) -> None:
        if self._inner and output is not None:
            self._record("output", output)
        self._finish()

    def _finish(self) -> None:
        for handle in self._inner:
            handle.remove()
        self._inner.clear()
        eager, self._eager = self._eager, nullcontext()
        eager.__exit__(None, None, None)

    def _record(self, name: str, output: object) -> None:
        """Take in what a module gave; what another gave already is left alone."""
        with self._lock:
            self._calls[current_thread(), name] += 1
            call = self._calls[current_thread(), name]
            if call > MOST_CALLS:
                return
            called = name if call == 1 else f"{name} (call {call})"
            for label, tensor in _named_tensors(called, output):
                rows = self._rows_first(tensor)
                if rows is not None and self._is_new(tensor):
                    width = rows.shape[-1]
                    epsilon = torch.finfo(rows.dtype).eps
                    sums = self._layers.setdefault((label, width), LayerSums(label, width, epsilon))
                    sums.add(rows)

    def _is_new(self, tensor: Tensor) -> bool:
        """Say whether no module gave this very tensor: a block may hand on its last layer's."""
        key = id(tensor), 0 if tensor.is_inference() else tensor._version
        known = self._seen.get(key)
        self._seen[key] = tensor
        return known is not tensor

    def _rows_first(self, tensor: Tensor) -> Tensor | None:
        """Return an output with the batch as its first axis, or `None` if it is no activation."""
        plain = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
        if not (plain and tensor.is_floating_point()) or tensor.is_meta:
            return None
        if tensor.ndim < 2 or tensor.shape[-1] < 2 or tensor.numel() == 0:
            return None
        axes = [axis for axis in range(tensor.ndim - 1) if tensor.shape[axis] == self._batch]
        return tensor.movedim(axes[0], 0) if axes else tensor

    def _measured_tables(self) -> list[LayerRank]:
        found = []
        for name, table in _tables(self.model):
            with suppress(DataError):  # numbers that are not finite: `diagnose` says where
                found.append(table_rank(name, table))
        return found


def watch(model: nn.Module, *, every: int = 50) -> Watch:
    """Measure the ranks inside any torch model while it trains or predicts.

    What the literature calls "effective rank" is three things, told apart in what is read out:

    - `table`: the singular values of an embedding table, at the end of the block;
    - `batch`: the covariance of a layer's output over the rows of a batch (and their tokens),
      around each batch's mean, over all measured batches;
    - `row`: the matrix of one row's tokens (fields, positions, sets) by features, its mean over up
      to 16 rows of each of the newest batches.

    Hooks are on the model only inside the block, and on its layers only while a pass is measured;
    they change no output and no random numbers. Features are an output's last axis. A wide output
    is measured on 512 of its columns, and of a large batch on some of its rows. A model from
    `torch.compile(model)` runs a measured pass without compilation.

    >>> import torch
    >>> import multiembed as me
    >>> _ = torch.manual_seed(0)
    >>> narrow = torch.nn.Sequential(torch.nn.Linear(20, 3), torch.nn.Linear(3, 12))
    >>> with me.watch(narrow, every=1) as watched:
    ...     _ = narrow(torch.randn(256, 20))
    >>> [(of.layer, of.of, of.rank, of.most) for of in watched.ranks()]
    [('0', 'batch', 3.0, 3), ('1', 'batch', 3.0, 12)]

    Args:
        model: Anything whose forward pass is called as `model(...)`.
        every: Measure the first forward pass and then one of so many.

    Raises:
        ConfigError: If `every` is below 1; on entry, if the model was compiled in place.
    """
    if every < 1:
        raise ConfigError(f"every must be at least 1, got {every}")
    return Watch(model, every=every)


class _Hook:
    """A hook that a copy of the model is without: copies and saved models are not watched."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *given: object) -> None:
        self._call(*given)

    def __reduce__(self) -> tuple[object, ...]:
        return _Hook, (_nothing,)


def _nothing(*_: object) -> None:
    pass


def _shown(name: str) -> str:
    """Return a module's name without what `torch.compile` puts before it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod") or "output"


def _is_compiled(module: nn.Module) -> bool:
    in_place = getattr(module, "_compiled_call_impl", None) is not None
    return in_place or type(module).__name__ == "OptimizedModule"


def _named_tensors(name: str, given: object) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in tuples, lists, mappings and data classes, each with where it is."""
    if isinstance(given, Tensor):
        yield name, given
    elif isinstance(given, Mapping):
        for key, item in given.items():
            yield from _named_tensors(f"{name}.{key}", item)
    elif isinstance(given, tuple | list):
        for at, item in enumerate(given):
            yield from _named_tensors(f"{name}[{at}]", item)
    elif dataclasses.is_dataclass(given) and not isinstance(given, type):
        for of in dataclasses.fields(given):
            yield from _named_tensors(f"{name}.{of.name}", getattr(given, of.name))


def _tables(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the embedding tables of a model by name; of our own, those of every field."""
    for name, module in model.named_modules():
        if isinstance(module, EmbeddingSets | FactoredEmbeddings):
            fields = (module.row.embeddings(of, module.sets) for of in module.by_field())
            yield from ((f"{_shown(name)} field {at}", table) for at, table in enumerate(fields))
        elif isinstance(module, nn.Embedding | nn.EmbeddingBag) and not module.weight.is_meta:
            yield _shown(name), module.weight.detach()
