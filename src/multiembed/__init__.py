"""Click-through-rate models that keep getting better as they grow.

Raw logs in, a strong model out (`train`), and for any model an answer to whether its embeddings
are collapsed, where, and because of whom (`diagnose`). After Guo et al., ICML 2024.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiembed.collapse import information_abundance
    from multiembed.collapse.diagnosis import Diagnosis, diagnose
    from multiembed.config import ModelConfig, RunConfig, TrainingConfig
    from multiembed.data.dataset import Dataset, open_dataset
    from multiembed.data.options import PrepareOptions
    from multiembed.data.prepare import prepare
    from multiembed.errors import ConfigError, DataError, InputError
    from multiembed.models import ClickModel, from_reference
    from multiembed.models.multi_embed import multi_embed
    from multiembed.serving.calibration import calibrate
    from multiembed.serving.classifier import ClickClassifier
    from multiembed.serving.export import export
    from multiembed.serving.predict import predict
    from multiembed.training import Run, load_run, train

__version__ = version("multiembed")

__all__ = [
    "ClickClassifier",
    "ClickModel",
    "ConfigError",
    "DataError",
    "Dataset",
    "Diagnosis",
    "InputError",
    "ModelConfig",
    "PrepareOptions",
    "Run",
    "RunConfig",
    "TrainingConfig",
    "calibrate",
    "diagnose",
    "export",
    "from_reference",
    "information_abundance",
    "load_run",
    "multi_embed",
    "open_dataset",
    "predict",
    "prepare",
    "train",
]

HOMES = {
    "collapse": ("information_abundance",),
    "collapse.diagnosis": ("Diagnosis", "diagnose"),
    "config": ("ModelConfig", "RunConfig", "TrainingConfig"),
    "data.dataset": ("Dataset", "open_dataset"),
    "data.options": ("PrepareOptions",),
    "data.prepare": ("prepare",),
    "errors": ("ConfigError", "DataError", "InputError"),
    "models": ("ClickModel", "from_reference"),
    "models.multi_embed": ("multi_embed",),
    "serving.calibration": ("calibrate",),
    "serving.classifier": ("ClickClassifier",),
    "serving.export": ("export",),
    "serving.predict": ("predict",),
    "training": ("Run", "load_run", "train"),
}
"""Where the public names live. Each is loaded when it is first asked for: torch takes a second, and
the command line has something to say before it is there."""


def __getattr__(name: str) -> object:
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
