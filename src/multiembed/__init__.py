"""Click-through-rate models that keep getting better as they grow.

Raw logs in, a strong model out (`train`), and for any model an answer to whether its embeddings
are collapsed, where, and because of whom (`diagnose`). After Guo et al., ICML 2024.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiembed.base.errors import ConfigError, DataError, InputError
    from multiembed.config import ModelConfig, RunConfig, TrainingConfig
    from multiembed.data.options import PrepareOptions
    from multiembed.data.prepare import prepare
    from multiembed.data.store.dataset import Dataset, open_dataset
    from multiembed.diagnosis.diagnose import Diagnosis, diagnose
    from multiembed.diagnosis.drift import DriftDiagnosis
    from multiembed.diagnosis.over_time import diagnose_over_time
    from multiembed.diagnosis.watch import watch
    from multiembed.experiments.compare.comparing import compare
    from multiembed.experiments.tune.tune_options import TuneOptions
    from multiembed.experiments.tune.tuning import tune
    from multiembed.models.click_model import ClickModel
    from multiembed.models.multi_embed import multi_embed
    from multiembed.models.reference import from_reference
    from multiembed.runs.calibrate import calibrate
    from multiembed.runs.importance import importance
    from multiembed.runs.recipe import recipe
    from multiembed.runs.run import Run, load_run
    from multiembed.serving.classifier import ClickClassifier
    from multiembed.serving.export import export
    from multiembed.serving.predict import predict
    from multiembed.spectra.measures import information_abundance
    from multiembed.training.start import train

__version__ = version("multiembed")

__all__ = [
    "ClickClassifier",
    "ClickModel",
    "ConfigError",
    "DataError",
    "Dataset",
    "Diagnosis",
    "DriftDiagnosis",
    "InputError",
    "ModelConfig",
    "PrepareOptions",
    "Run",
    "RunConfig",
    "TrainingConfig",
    "TuneOptions",
    "calibrate",
    "compare",
    "diagnose",
    "diagnose_over_time",
    "export",
    "from_reference",
    "importance",
    "information_abundance",
    "load_run",
    "multi_embed",
    "open_dataset",
    "predict",
    "prepare",
    "recipe",
    "train",
    "tune",
    "watch",
]

HOMES = {
    "base.errors": ("ConfigError", "DataError", "InputError"),
    "config": ("ModelConfig", "RunConfig", "TrainingConfig"),
    "data.options": ("PrepareOptions",),
    "data.prepare": ("prepare",),
    "data.store.dataset": ("Dataset", "open_dataset"),
    "diagnosis.diagnose": ("Diagnosis", "diagnose"),
    "diagnosis.drift": ("DriftDiagnosis",),
    "diagnosis.over_time": ("diagnose_over_time",),
    "diagnosis.watch": ("watch",),
    "experiments.compare.comparing": ("compare",),
    "experiments.tune.tune_options": ("TuneOptions",),
    "experiments.tune.tuning": ("tune",),
    "models.click_model": ("ClickModel",),
    "models.multi_embed": ("multi_embed",),
    "models.reference": ("from_reference",),
    "runs.recipe": ("recipe",),
    "runs.importance": ("importance",),
    "runs.run": ("Run", "load_run"),
    "runs.calibrate": ("calibrate",),
    "serving.classifier": ("ClickClassifier",),
    "serving.export": ("export",),
    "serving.predict": ("predict",),
    "spectra.measures": ("information_abundance",),
    "training.start": ("train",),
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
