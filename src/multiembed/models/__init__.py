"""Ids -> one logit per row."""

from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.interactions import ARCHITECTURES, Architecture
from multiembed.models.named import named_architecture, shape_of_size
from multiembed.models.reference import from_reference

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ClickModel",
    "EmbeddingSets",
    "from_reference",
    "named_architecture",
    "shape_of_size",
]
