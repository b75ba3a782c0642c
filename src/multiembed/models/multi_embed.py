"""Anybody's model with several embedding sets: a user's module in the place of an interaction."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from multiembed.base.errors import ConfigError
from multiembed.kernels.operations import join_sets
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.base import Architecture, Interaction, MlpHead
from multiembed.models.layers import observing
from multiembed.models.naming import EmbeddingInit

_TRIAL_ROWS = 8


def multi_embed(
    build: Callable[[], nn.Module],
    cardinalities: Sequence[int],
    sets: int,
    *,
    dim: int = 10,
    head: Callable[[int], nn.Module] | None = None,
    shared_interaction: bool = False,
    embedding_init: EmbeddingInit = "table",
) -> ClickModel:
    """Return a multi-embedding model whose interaction is a module of one's own.

    Every set has parameters of its own, stacked into one tensor per name; all sets are looked up
    by one gather. A module whose output is linear in the embeddings draws a warning: its sets are
    together one wide set (Guo et al., Appendix E), so it wants a ReLU at its end.

    Example:
        >>> import torch
        >>> import multiembed as me
        >>> def interaction():
        ...     inputs = 3 * 10  # three fields of ten columns
        ...     return torch.nn.Sequential(
        ...         torch.nn.Flatten(), torch.nn.Linear(inputs, 16), torch.nn.ReLU()
        ...     )
        >>> model = me.multi_embed(interaction, cardinalities=[1000, 200, 30], sets=4)
        >>> model(torch.tensor([[17, 3, 29], [0, 199, 5]])).shape
        torch.Size([2])

    Args:
        build: Called once for every set; returns a new module that turns `(batch, fields, dim)`
            into `(batch, width)`. Rows must not depend on one another outside batch norms.
        cardinalities: Number of ids of every field (fields), *other* included.
        sets: Number of embedding sets M.
        dim: Size of one set's embedding.
        head: Given `width`, returns the module after the mean, `(batch, width)` to one logit per
            row; if not given, the paper's: a ReLU layer of 400 and a linear one.
        shared_interaction: One module for all sets.
        embedding_init: See `EmbeddingSets`.

    Raises:
        ConfigError: If `build` or `head` do not return such modules.
    """
    model = ClickModel(
        OwnArchitecture(build=build, build_head=head),
        cardinalities,
        dim=dim,
        sets=sets,
        shared_interaction=shared_interaction,
        embedding_init=embedding_init,
    )
    if sets > 1 and is_linear(model):
        warnings.warn(
            "the interaction is linear in the embeddings: several sets are then one wide set "
            "(Guo et al., Appendix E); end it with a non-linearity such as ReLU",
            stacklevel=2,
        )
    return model


class OwnArchitecture(Architecture):
    """An architecture made of a user's own modules, to stand alone or among others."""

    build: Callable[[], nn.Module]
    """Returns a new module: `(batch, fields, dim)` to `(batch, width)`."""
    build_head: Callable[[int], nn.Module] | None = None
    """Given `width`, returns the module after the mean; the paper's if None."""

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return StackedModules(self.build, sets=sets, fields=fields, dim=dim)

    @override
    def head(self, width: int) -> nn.Module:
        if self.build_head is None:
            return MlpHead(width, (400,), dropout=0.2, batch_norm=True)
        return OwnHead(_module(self.build_head(width), "head"), width)


class StackedModules(Interaction):
    """One module per set, held as one whose parameters and buffers have a leading `sets` axis.

    A loop over the sets applies it, so that modules may do what a vectorised map cannot take:
    keep running statistics, draw random numbers, branch on values.
    """

    def __init__(self, build: Callable[[], nn.Module], *, sets: int, fields: int, dim: int) -> None:
        super().__init__()
        self.sets = sets
        modules = [_module(build(), "build") for _ in range(sets)]
        if len({id(module) for module in modules}) < sets:
            raise ConfigError("build must return a new module at every call, got the same twice")
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(_TRIAL_ROWS, fields, dim, generator=generator, device="cpu")
        rows = rows.to(_device(modules[0]))
        trials = [_trial(module, rows) for module in modules]
        self.width = trials[0].shape[1]
        self.module = _stack(modules)
        for trial, state in zip(trials, self._states(), strict=True):
            again = _outputs(self.module, rows, "build", state=state)
            if not torch.allclose(again, trial, rtol=1e-4, atol=1e-5):
                raise ConfigError(
                    "build must return modules that look parameters and buffers up by name at "
                    "every call, got one that does otherwise"
                )

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        states = list(self._states())
        if len(states) == 1:
            states *= embeddings.shape[1]
        views = [
            # One set's part of a gather has gaps between rows, which a `view` would not take.
            cast(Tensor, _call(self.module, state, embeddings[:, m].contiguous()))
            for m, state in enumerate(states)
        ]
        return join_sets(views)

    def _states(self) -> Iterator[dict[str, Tensor]]:
        """Yield every set's parameters and buffers; what is written to a buffer is kept."""
        of_sets = {
            # One unbinding gives one gradient of the whole; a buffer's part must stay writable.
            name: stacked.unbind(0) if isinstance(stacked, nn.Parameter) else stacked
            for name, stacked in _tensors(self.module)
        }
        for m in range(self.sets):
            yield {name: parts[m] for name, parts in of_sets.items()}


class OwnHead(nn.Module):
    """A user's module after the mean; it may return `(batch, 1)`."""

    def __init__(self, module: nn.Module, width: int) -> None:
        super().__init__()
        self.module = module
        means = torch.zeros(_TRIAL_ROWS, width, device=_device(module))
        logits = _outputs(module, means, "head")
        if tuple(logits.shape) not in ((_TRIAL_ROWS,), (_TRIAL_ROWS, 1)):
            raise ConfigError(
                f"head must return one logit per row, ({_TRIAL_ROWS},), got {tuple(logits.shape)}"
            )

    def forward(self, mean: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
        """Return one logit per row."""
        return self.module(mean).view(len(mean))


def is_linear(model: ClickModel) -> bool:
    """Say whether every set's representation is an affine function of its embeddings.

    Tried on numbers: `f(x + y) - f(x) - f(y) + f(0)` vanishes for embeddings around 1 and 30.
    """
    table = model.embedding
    shape = (_TRIAL_ROWS, table.sets, table.fields, table.width)
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 30.0):
        x, y = (scale * torch.randn(2, *shape, generator=generator)).to(table.weight)
        with observing(model):
            both, first, second, nothing = (
                model.represent(at) for at in (x + y, x, y, torch.zeros_like(x))
            )
        size = torch.stack([both, first, second, nothing]).abs().max()
        bend = (both - first - second + nothing).abs().max()
        if not bend <= 1e-3 * size:  # a bend that is no number is one, too
            return False
    return True


def _device(module: nn.Module) -> torch.device:
    for _, tensor in _tensors(module):
        return tensor.device
    return torch.get_default_device()


def _module(built: object, name: str) -> nn.Module:
    if not isinstance(built, nn.Module):
        raise ConfigError(f"{name} must return a torch module, got {type(built).__name__}")
    return built


def _outputs(
    module: nn.Module,
    inputs: Float[Tensor, "..."],
    name: str,
    *,
    state: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return what a user's module makes of `inputs`, whatever random numbers it draws."""
    try:
        with observing(module), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            outputs = _call(module, state or {}, inputs)
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise ConfigError(
            f"{name} must return a module that takes {tuple(inputs.shape)}, "
            f"got {type(error).__name__}: {first_line}"
        ) from error
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise ConfigError(f"{name} must return a module that returns a tensor, got {kind}")
    return outputs


def _trial(
    module: nn.Module, rows: Float[Tensor, "batch fields dim"]
) -> Float[Tensor, "batch width"]:
    outputs = _outputs(module, rows, "build")
    if outputs.ndim != 2 or len(outputs) != len(rows) or not outputs.is_floating_point():
        raise ConfigError(
            f"build must return a module from {tuple(rows.shape)} to ({len(rows)}, width), "
            f"got {tuple(outputs.shape)} of {outputs.dtype}"
        )
    return outputs


def _stack(modules: Sequence[nn.Module]) -> nn.Module:
    """Return the first module, with the parameters and buffers of all on a new first axis."""
    first, *others = (dict(_tensors(module)) for module in modules)
    shapes = {name: value.shape for name, value in first.items()}
    if any({name: value.shape for name, value in other.items()} != shapes for other in others):
        raise ConfigError("build must return modules of the same shape at every call, got others")
    stacked: dict[int, Tensor] = {}
    for name, value in first.items():
        if id(value) not in stacked:  # a tensor that stands in two places stays one
            together = torch.stack([value.detach(), *(other[name].detach() for other in others)])
            if isinstance(value, nn.Parameter):
                together = nn.Parameter(together, requires_grad=value.requires_grad)
            stacked[id(value)] = together
        path, _, leaf = name.rpartition(".")
        setattr(modules[0].get_submodule(path), leaf, stacked[id(value)])
    return modules[0]


def _call(module: nn.Module, state: Mapping[str, Tensor], inputs: Float[Tensor, "..."]) -> object:
    """Apply a module with other tensors in the places that `_tensors` names."""
    return functional_call(module, dict(state), (inputs,), tie_weights=False)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every place of a parameter or buffer: once in a module that stands in two places."""
    for path, part in module.named_modules():
        for kind in (part.named_parameters, part.named_buffers):
            yield from kind(path, recurse=False, remove_duplicate=False)
