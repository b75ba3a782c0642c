"""What a model costs: parameters, and floating-point operations per example."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from multiembed.base.errors import ConfigError
from multiembed.base.memory import available_memory
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import Scaling, shape_of_size

PAPER_SIZES = (1, 2, 3, 4, 10)


@dataclass(frozen=True)
class Parts:
    """One count for each part of a model."""

    embedding: int
    interaction: int
    head: int
    """Everything after the sets: a learnt gate too."""

    @property
    def total(self) -> int:
        """The sum."""
        return self.embedding + self.interaction + self.head


@dataclass(frozen=True)
class Budget:
    """What a model costs, part by part."""

    parameters: Parts
    """Numbers that training learns."""
    flops: Parts
    """Floating-point operations of one forward pass of one example.

    Matrix products and convolutions, a multiplication and an addition being two, as
    `torch.utils.flop_counter` counts; what is done number by number is left out. Embeddings are
    looked up: no operation, but for projections of pretrained vectors. A training step takes about
    three times as many.
    """

    def __str__(self) -> str:
        """Write both counts as a table."""
        lines = [f"{'':12}{'parameters':>16}{'FLOPs / example':>18}"]
        for part in ("embedding", "interaction", "head", "total"):
            parameters, flops = getattr(self.parameters, part), getattr(self.flops, part)
            lines.append(f"{part:12}{parameters:16,}{flops:18,}")
        return "\n".join(lines)


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def check_memory(build: Callable[[], nn.Module], *, copies: int) -> int:
    """Refuse a model that memory cannot hold, before any of it is built; return its parameters.

    Args:
        build: Builds it.
        copies: How often its parameters are held: three times where Adam trains them.

    Raises:
        ConfigError: If there is less memory than that.
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            parameters = count_parameters(build())
    except NotImplementedError:  # of a user's own modules
        return 0
    except RuntimeError as error:  # more of them than torch can number
        raise ConfigError(f"model must be smaller, got: {str(error).splitlines()[0]}") from None
    free, bytes_of_all = available_memory(), 4 * copies * parameters
    if bytes_of_all > free:
        raise ConfigError(
            f"model must fit into the memory that is free, {free / 1e9:,.1f} GB, got "
            f"{parameters:,} parameters, which take {bytes_of_all / 1e9:,.1f} GB"
        )
    return parameters


def count_flops(
    work: Callable[[Tensor], Tensor], inputs: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "..."], int]:
    """Return what `work` makes of `inputs`, and the floating-point operations that took."""
    formulas = (
        {torch.ops.mkldnn._linear_pointwise: _of_map}
        if torch.backends.mkldnn.is_available()
        else {}
    )
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with counter, torch.no_grad():
        outputs = work(inputs)
    return outputs, counter.get_total_flops()


def _of_map(inputs: torch.Size, weight: torch.Size, *_: object, out_shape: torch.Size) -> int:
    """Count a product that torch's counter does not know, see `kernels.cpu.cpu_linear`."""
    return 2 * out_shape.numel() * weight[1]


@dataclass(frozen=True)
class SizedModel:
    """One model by name and size, and what it costs."""

    architecture: str
    size: int
    """Multiple of the paper's base."""
    scaling: Scaling
    dim: int
    sets: int
    budget: Budget


def sized_models(
    cardinalities: Sequence[int],
    *,
    architectures: Iterable[str] = tuple(ARCHITECTURES),
    sizes: Iterable[int] = PAPER_SIZES,
    scalings: Iterable[Scaling] = get_args(Scaling),
    shares: Sequence[int] = (),
) -> list[SizedModel]:
    """Return the budget of each architecture, size and scaling on fields of these cardinalities.

    The base, which is the same for every scaling, comes once. Hyperparameters are the paper's.
    `shares` are the places of the fields that histories share a table with; they are averaged.

    Raises:
        ConfigError: If an architecture or a size is unknown or impossible.
    """
    from multiembed.models.click_model import ClickModel  # which counts with this module
    from multiembed.models.embedding import EmbeddingSets
    from multiembed.models.histories import Histories
    from multiembed.models.signals import Signals

    tables = partial(EmbeddingSets, signals=Signals(Histories(tuple(shares))))
    rows = {}
    for architecture in architectures:
        for size in sizes:
            for scaling in scalings:
                dim, sets = shape_of_size(architecture, size, scaling)
                if (architecture, dim, sets) in rows:
                    continue
                with torch.device("meta"):
                    model = ClickModel(
                        architecture, cardinalities, dim=dim, sets=sets, tables=tables
                    )
                rows[architecture, dim, sets] = SizedModel(
                    architecture, size, scaling, dim, sets, model.summary()
                )
    return list(rows.values())
