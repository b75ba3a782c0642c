"""Every architecture by name. A new one enters this dictionary and is tested."""

from multiembed.models.interactions.autoint import AutoInt
from multiembed.models.interactions.base import Architecture
from multiembed.models.interactions.dcnv2 import DcnV2
from multiembed.models.interactions.dnn import Dnn
from multiembed.models.interactions.ffm import Ffm
from multiembed.models.interactions.finalmlp import FinalMlp
from multiembed.models.interactions.ipnn import Ipnn
from multiembed.models.interactions.nfwfm import Nfwfm
from multiembed.models.interactions.xdeepfm import XDeepFm

ARCHITECTURES: dict[str, type[Architecture]] = {
    "dnn": Dnn,
    "ipnn": Ipnn,
    "nfwfm": Nfwfm,
    "xdeepfm": XDeepFm,
    "dcnv2": DcnV2,
    "finalmlp": FinalMlp,
    "autoint": AutoInt,
    "ffm": Ffm,
}
