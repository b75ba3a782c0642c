"""What is kept of a layer's activations: sums over rows, in memory that does not grow."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from multiembed.spectra.spectrum import Spectrum

WIDEST = 512
"""Columns measured at most: of a wider output, so many that are drawn once."""
SAMPLED_ROWS = 256
"""Rows taken from a large batch; from the first twice the width if that is more, so that one pass
tells the directions of a layer from too few rows."""
MATRICES = 16
"""Token matrices taken from one batch at most."""
_GOLDEN = (5**0.5 - 1) / 2
KEPT_NUMBERS = 2**19
"""Numbers kept of token matrices, in the products of the newest: 4 MB."""
ROUNDING = 4
"""Singular values below so many units of the output's precision, over the largest, are rounding."""


@dataclass(eq=False)
class LayerSums:
    """Sums over what one layer gave, all batches together.

    The covariance is taken around each batch's own mean, so that a mean which moves while the
    model trains does not count as a direction.
    """

    name: str
    width: int
    """Columns of the output."""
    epsilon: float
    """Unit of the precision the output was computed in."""
    tokens: int = 1
    """Tokens of a row."""
    batches: int = 0
    rows: int = 0
    gram: Tensor | None = None
    """Sum over batches of the centred rows' outer products, where the activations are."""
    not_finite: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    """Batches left out because a number in them was not finite."""
    products: deque[Float64[Tensor, "rows side side"]] = field(default_factory=deque)
    """Of single rows: of their token matrix with itself, on its smaller side; the newest."""

    @property
    def columns(self) -> int:
        """Columns that are measured."""
        return min(self.width, WIDEST)

    @torch.no_grad()
    def add(self, output: Float[Tensor, "batch *tokens width"]) -> None:
        """Take in what the layer gave for one batch."""
        self.tokens = output[0].numel() // self.width
        wanted = SAMPLED_ROWS if self.batches else max(SAMPLED_ROWS, 2 * self.columns)
        chosen = output.detach()[_evenly(len(output), wanted, output.device)]
        if self.columns < self.width:
            chosen = chosen[..., _some_columns(self.width).to(output.device)]
        if output.device.type not in ("cpu", "cuda"):  # where 64 bits may be missing
            chosen = chosen.cpu()
        chosen = chosen.to(torch.float64)
        if self.tokens > 1:
            self._add_matrices(chosen.flatten(1, -2))
        rows = chosen.flatten(0, -2)
        rows = rows[_scattered(len(rows), wanted, rows.device)]
        centred = rows - rows.mean(0)
        finite = centred.sum().isfinite()
        centred.masked_fill_(~finite, 0.0)  # no question to a GPU, which would wait for it
        if self.gram is None:
            self.gram = centred.new_zeros(self.columns, self.columns)
        self.gram = self.gram.to(rows.device).addmm_(centred.T, centred)
        self.not_finite = self.not_finite.to(rows.device) + ~finite
        self.batches += 1
        self.rows += len(rows)

    def _add_matrices(self, rows: Float64[Tensor, "batch tokens width"]) -> None:
        tokens = rows[:, _evenly(rows.shape[1], WIDEST, rows.device)]
        side = min(tokens.shape[1:])
        few = max(1, min(MATRICES, 2**18 // side**2))
        tokens = tokens[_evenly(len(rows), few, rows.device)]
        transposed = tokens.transpose(1, 2)
        product = transposed @ tokens if tokens.shape[1] > side else tokens @ transposed
        self.products.append(product)
        while sum(of.numel() for of in self.products) > KEPT_NUMBERS and len(self.products) > 1:
            self.products.popleft()

    def covariance(self) -> Spectrum | None:
        """Return the spectrum of the centred rows of all batches; `None` where none was finite."""
        finite = self.batches - int(self.not_finite)
        if self.gram is None or finite == 0:
            return None
        free = self.rows * finite // self.batches - finite  # a mean was taken out of every batch
        return _spectrum(self.gram.cpu().numpy(), rows=max(1, free))

    def row_spectra(self) -> Iterator[Spectrum]:
        """Yield the spectrum of every kept token matrix whose numbers are finite."""
        for products in self.products:
            finite = products[products.isfinite().all(dim=2).all(dim=1)].cpu().numpy()
            yield from (_spectrum(product, rows=len(product)) for product in finite)


def _evenly(size: int, most: int, device: torch.device) -> Tensor | slice:
    """Return places at equal distances, at most so many; all of them as a slice, without a copy."""
    if size <= most:
        return slice(None)
    return torch.arange(most, device=device) * size // most


def _scattered(size: int, most: int, device: torch.device) -> Tensor | slice:
    """Return places spread by the golden ratio: equal distances could meet one token alone."""
    if size <= most:
        return slice(None)
    turns = torch.arange(most, dtype=torch.float64, device=device) * _GOLDEN
    return (turns.frac() * size).long()


def _some_columns(width: int) -> Int[Tensor, " columns"]:
    """Return the columns of a wide output that are measured: the same at every call."""
    order = torch.randperm(width, generator=torch.Generator().manual_seed(width))
    return order[:WIDEST].sort().values


def _spectrum(gram: Float64[np.ndarray, "side side"], *, rows: int) -> Spectrum:
    side = len(gram)
    energies = np.linalg.eigvalsh(gram)[::-1].clip(0)[: min(rows, side)]
    return Spectrum(np.sqrt(energies), rows, side, "gram", 0.0)
