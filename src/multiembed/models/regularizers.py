"""Penalties that training may add to the loss: functions of a model and a batch of embeddings.

Each is chosen by name and weight (`[training.regularizers]`), and is never part of a forward pass.
"""

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.dcnv2 import CrossLayer, CrossNetwork
from multiembed.models.naming import REGULARIZERS, check_regularizers


def aligned_norms(
    model: ClickModel, embeddings: Float[Tensor, "batch sets fields dim"]
) -> Float[Tensor, ""]:
    """Return how far apart the sets' interaction patterns are (Guo et al., section 5.3, variant b).

    The variance over sets of each block's squared norm, averaged over blocks and cross layers; 0
    where the sets of a group share one interaction.
    """
    # DIFFERS: the paper speaks of the norm of a block; the reference code restricts its square,
    # and so do we.
    spreads = [
        _blocks(layer, layer.matrix()).square().sum(dim=(-2, -1)).var(dim=0, correction=0).mean()
        for layer in _cross_layers(model, "aligned_norms")
    ]
    return torch.stack(spreads).mean()


def unitary(
    model: ClickModel, embeddings: Float[Tensor, "batch sets fields dim"]
) -> Float[Tensor, ""]:
    """Return how far the blocks of the cross layers are from multiples of unitary matrices.

    The sum over blocks of `||W^T W - scale I||_F^2` (Guo et al., section 4.2, evidence III, and
    Appendix K for several sets). With DCN V2's option `unitary_scale` every block learns its
    scale, as the paper writes; otherwise it is 1, which with the option `block_weights` (a learnt
    factor outside the block) is what the reference code does.
    """
    # DIFFERS: the paper learns lambda inside the norm, which W = 0, lambda = 0 minimises; the
    # reference code learns a factor outside; each is an option of the architecture.
    return torch.stack([_from_unitary(layer) for layer in _cross_layers(model, "unitary")]).sum()


def set_similarity(
    model: ClickModel, embeddings: Float[Tensor, "batch sets fields dim"]
) -> Float[Tensor, ""]:
    """Return how much the sets' embeddings of a batch span the same directions; 0 for one set.

    For two sets and a field, the singular values of `A^T B` (both `(batch, dim)`) measure it; they
    are averaged over fields, then squared and averaged over pairs of sets. From the reference
    code; the paper does not mention it.
    """
    _, sets, fields, dim = embeddings.shape
    if sets == 1:
        return embeddings.new_zeros(())
    by_field = embeddings.permute(2, 0, 1, 3).flatten(start_dim=2)  # (fields, batch, sets * dim)
    products = (by_field.mT @ by_field).view(fields, sets, dim, sets, dim)
    first, second = torch.triu_indices(sets, sets, offset=1, device=embeddings.device)
    pairs = products[:, first, :, second]  # (pairs, fields, dim, dim)
    return torch.linalg.svdvals(pairs).mean(dim=1).square().mean()


def singular_spread(
    model: ClickModel, embeddings: Float[Tensor, "batch sets fields dim"]
) -> Float[Tensor, ""]:
    """Return how unequal the singular values of a batch's embeddings are: 0 if all are the same.

    The variance of the singular values over their mean, averaged over fields and sets. From the
    reference code, for one set there; the paper does not mention it.
    """
    values = torch.linalg.svdvals(embeddings.permute(1, 2, 0, 3))  # (sets, fields, values)
    if values.shape[-1] == 1:
        return values.new_zeros(())
    return (values / values.mean(dim=-1, keepdim=True)).var(dim=-1).mean()


SPECTRAL = frozenset({"set_similarity", "singular_spread"})
"""Those that take singular values, after which the host asks a GPU whether it found them."""


def penalty(
    model: ClickModel,
    embeddings: Float[Tensor, "batch sets fields dim"],
    weights: Mapping[str, float],
) -> Float[Tensor, ""]:
    """Return the weighted sum of the named penalties; 0 for none.

    Raises:
        ConfigError: If a name is unknown, or a penalty on cross layers meets a model without any.
    """
    total = embeddings.new_zeros(())
    for name, weight in weights.items():
        total = total + weight * REGULARIZERS[name](model, embeddings)
    return total


def _cross_layers(model: ClickModel, name: str) -> list[CrossLayer]:
    check_regularizers({name: 1.0}, model.mix)
    networks = [module for module in model.groups.modules() if isinstance(module, CrossNetwork)]
    return [cast(CrossLayer, layer) for network in networks for layer in network.cross]


def _blocks(
    layer: CrossLayer, matrix: Float[Tensor, "sets width width"]
) -> Float[Tensor, "sets fields fields dim dim"]:
    """View a matrix as one block per set, destination and source."""
    shape = (len(matrix), layer.fields, layer.dim, layer.fields, layer.dim)
    return matrix.view(shape).transpose(2, 3)


def _from_unitary(layer: CrossLayer) -> Float[Tensor, ""]:
    blocks = _blocks(layer, layer.weight)
    identity = torch.eye(layer.dim, dtype=blocks.dtype, device=blocks.device)
    if layer.unitary_scale is not None:
        identity = layer.unitary_scale[..., None, None] * identity
    return (blocks.mT @ blocks - identity).square().sum()
