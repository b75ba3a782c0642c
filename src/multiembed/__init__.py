"""Click-through-rate models that keep getting better as they grow.

Raw logs in, a strong model out (`train`), and for any model an answer to whether its embeddings
are collapsed, where, and because of whom (`diagnose`). After Guo et al., ICML 2024.
"""

from importlib.metadata import version

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
