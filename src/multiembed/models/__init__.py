"""Ids -> one logit per row."""

from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.interactions import ARCHITECTURES, Architecture
from multiembed.models.multi_embed import OwnArchitecture, multi_embed
from multiembed.models.named import named_architecture, shape_of_size
from multiembed.models.reference import from_reference
from multiembed.models.sizes import SizedModel, sized_models

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ClickModel",
    "EmbeddingSets",
    "OwnArchitecture",
    "SizedModel",
    "from_reference",
    "multi_embed",
    "named_architecture",
    "shape_of_size",
    "sized_models",
]
