"""Every architecture by name, loaded when it is asked for. A new one enters here and is tested."""

from typing import TYPE_CHECKING, Any

from multiembed.base.registry import Registry

if TYPE_CHECKING:
    from multiembed.models.interactions.base import Architecture
else:
    Architecture = Any  # torch loads with the first architecture

_HERE = "multiembed.models.interactions"
ARCHITECTURES: Registry[type[Architecture]] = Registry(
    "architecture",
    {
        "dnn": f"{_HERE}.dnn:Dnn",
        "ipnn": f"{_HERE}.ipnn:Ipnn",
        "nfwfm": f"{_HERE}.nfwfm:Nfwfm",
        "xdeepfm": f"{_HERE}.xdeepfm:XDeepFm",
        "dcnv2": f"{_HERE}.dcnv2:DcnV2",
        "finalmlp": f"{_HERE}.finalmlp:FinalMlp",
        "autoint": f"{_HERE}.autoint:AutoInt",
        "ffm": f"{_HERE}.ffm:Ffm",
    },
)

ROUNDED_BY_FIRST_PRODUCT = ("dnn", "dcnv2")
"""Those whose embeddings meet nothing before a product: in bfloat16, tables may round them."""
