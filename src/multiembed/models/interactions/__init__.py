"""Every architecture by name. A new one enters this dictionary and is tested."""

from multiembed.models.interactions.base import Architecture
from multiembed.models.interactions.dcnv2 import DcnV2
from multiembed.models.interactions.dnn import Dnn

ARCHITECTURES: dict[str, type[Architecture]] = {
    "dnn": Dnn,
    "dcnv2": DcnV2,
}
