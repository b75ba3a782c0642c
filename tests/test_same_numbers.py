"""What other threads and other instructions change stays within what docs/same_numbers.md says."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import multiembed as me
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

BOUND = 2e-2
"""The largest that the page promises, of a probability."""
MODEL = {"architecture": "dcnv2", "dim": 4, "sets": 2, "options": {"hidden": [16], "dropout": 0.1}}


def trained(folder, name, threads):
    training = me.TrainingConfig(max_epochs=2, batch_size=256, threads=threads)
    config = me.RunConfig(model=me.ModelConfig.model_validate(MODEL), training=training)
    run = me.train(config, dataset=folder / "clicks", run=folder / name)
    return run.predict(run.dataset().split("test").ids).astype(float)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    write_planted(folder / "clicks", PlantedClicks(cardinalities=(40, 30, 20), ranks=3, rows=4000))
    return folder


def test_equal_threads_give_equal_bytes_and_two_threads_close_ones(folder):
    one = trained(folder, "one", 1)

    assert np.array_equal(one, trained(folder, "again", 1))
    assert np.abs(one - trained(folder, "two", 2)).max() < BOUND
    assert one.std() > 0.02  # rows that are told apart: else anything would be close


def test_a_processor_with_fewer_instructions_gives_close_numbers(folder):
    script = (
        "import json, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_same_numbers import trained\n"
        "import torch; said = torch.backends.cpu.get_cpu_capability()\n"
        "print(json.dumps([said, trained(Path(sys.argv[1]), 'older', 1).tolist()]))"
    )
    older = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    call = [sys.executable, "-c", script, str(folder), os.path.dirname(__file__)]
    said = subprocess.run(call, env=os.environ | older, check=True, stdout=subprocess.PIPE).stdout

    capability, found = json.loads(said.splitlines()[-1])
    assert capability == "DEFAULT" or sys.platform != "linux"
    assert np.abs(trained(folder, "newer", 1) - np.array(found)).max() < BOUND
