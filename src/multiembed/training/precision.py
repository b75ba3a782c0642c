"""The precision of the matrix products of training; everything else stays float32."""

import torch

from multiembed.base.devices import has_bfloat16_products
from multiembed.base.errors import ConfigError
from multiembed.config import Precision


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse products that the device could only emulate, slower than in float32.

    Raises:
        ConfigError: If `precision` is bfloat16 and the device has no bfloat16 products.
    """
    if precision == "bfloat16" and not has_bfloat16_products(device):
        raise ConfigError(
            f"training.precision must be float32 on this {device.type}, which has no bfloat16 "
            "products, got bfloat16"
        )


def products_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Return a context in which products are computed in this precision.

    Parameters, tables, batch norms, losses, gradients of parameters and their updates stay
    float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
