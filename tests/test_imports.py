"""What loading and running take: no torch for a configuration, no Unix, and nothing twice."""

import os
import subprocess
import sys
from pathlib import Path

import multiembed
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.runs.run import load_run
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train

SOURCE = Path(multiembed.__file__).parent

WITHOUT_UNIX = """
import sys
import warnings

for name in ("fcntl", "resource", "termios"):
    sys.modules[name] = None
warnings.filterwarnings("ignore", "only soft file lock is available")

from importlib import import_module
from pathlib import Path

import multiembed as me
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

source = Path(me.__file__).parent
left_out = ("gpu", "cluster", "__main__", "loader")
for file in sorted(source.rglob("*.py")):
    parts = file.relative_to(source.parent).with_suffix("").parts
    if not set(left_out).intersection(parts):
        import_module(".".join(parts).removesuffix(".__init__"))

write_planted("dataset", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
training = me.TrainingConfig(max_epochs=1, batch_size=256, threads=1)
run = me.train(me.RunConfig(model=model, training=training), dataset="dataset", run="run")
print(run.evaluate("test")["auc"])
"""


def python(code, folder):
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_configuration_is_read_without_torch_and_numba(tmp_path):
    code = """
import sys
from multiembed.config import parse_config
from multiembed.base.errors import ConfigError

parse_config({"training": {"table_optimizer": "lazy_adam", "trackers": ["wandb"]}})
try:
    parse_config({"training": {"table_optimizer": "lazy_adm"}})
except ConfigError as error:
    print(error)
print(sorted({"torch", "numba"}.intersection(sys.modules)))
"""

    said, loaded = python(code, tmp_path).splitlines()

    assert "training.table_optimizer must be one of deferred_adam, " in said
    assert said.endswith("got 'lazy_adm'")
    assert loaded == "[]"


def test_everything_but_gpus_and_clusters_works_where_there_is_no_unix(tmp_path):
    assert 0 < float(python(WITHOUT_UNIX, tmp_path)) <= 1


def counted(monkeypatch, home, name):
    """Count the calls of a function or method while it goes on working."""
    calls, real = [], getattr(home, name)

    def counting(*args, **options):
        calls.append(args)
        return real(*args, **options)

    monkeypatch.setattr(home, name, counting)
    return calls


def test_a_run_reads_and_builds_nothing_twice(tmp_path, monkeypatch):
    write_planted(tmp_path / "dataset", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
    # Options that no other test has, so that they are not known yet.
    model = ModelConfig(architecture="dnn", dim=2, options={"hidden": [5], "dropout": 0.123})
    training = TrainingConfig(max_epochs=1, batch_size=256, threads=1)
    config = RunConfig(model=model, training=training)
    parsed = counted(monkeypatch, multiembed.models.naming, "named_architecture")
    built = counted(monkeypatch, multiembed.models.click_model.ClickModel, "__init__")
    read = counted(monkeypatch, multiembed.runs.run, "read_config")
    schemas = counted(monkeypatch, multiembed.data.store.schema.Schema, "load")

    train(config, dataset=tmp_path / "dataset", run=tmp_path / "run")
    run = load_run(tmp_path / "run")
    run.evaluate("test")

    # Once as given, and once with every option written out.
    assert len(parsed) <= 2
    # Without memory to see whether there is room; to train, which the run that `train` returns
    # takes over; and when we open it.
    assert len(built) <= 3
    assert len(read) <= 2
    # Of either opening, and of the dataset, once to train and once to evaluate.
    assert len(schemas) <= 4
