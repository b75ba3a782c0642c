"""How far probabilities move when a training is repeated with other threads or instructions.

    python benchmarks/numeric_differences.py [--epochs 2] [--architecture dcnv2]

The flight records are trained on with equal settings, each time in a process of its own under
another number of threads or with fewer of the processor's instructions, which environment variables
take from torch, MKL, oneDNN and compiled loops. Prints the largest and the mean difference of the
test split's probabilities from one thread of this machine, and the change in AUC; beside them those
of another seed, which are what a difference has to be small against.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import multiembed as me
from multiembed.base.devices import has_bfloat16_products

OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "NUMBA_CPU_NAME": "generic",
}
"""What takes AVX and all that came after it away."""
TRAIN = """
import json, sys, numpy as np, multiembed as me
given = json.loads(sys.argv[1])
training = me.TrainingConfig(max_epochs=given["epochs"], **given["training"])
model = me.ModelConfig(architecture=given["architecture"], dim=10, sets=2)
config = me.RunConfig(model=model, training=training)
run = me.train(config, dataset=given["data"], run=given["run"])
np.save(given["run"] + ".npy", run.predict(run.dataset().split("test").ids))
print(json.dumps(run.evaluate("test")))
"""


def main():
    """Train under each condition, and compare with the first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--architecture", default="dcnv2")
    asked = parser.parse_args()
    conditions = {
        "one thread": ({"threads": 1}, {}),
        "one thread again": ({"threads": 1}, {}),
        "two threads": ({"threads": 2}, {}),
        "one thread, no AVX": ({"threads": 1}, OLDER),
        "one thread, kernels of torch": ({"threads": 1, "kernels": "torch"}, {}),
        "another seed": ({"threads": 1, "seed": 1}, {}),
    }
    if has_bfloat16_products(torch.device("cpu")):
        conditions["bfloat16"] = ({"threads": 1, "precision": "bfloat16"}, {})
    with tempfile.TemporaryDirectory() as folder:
        me.prepare("flights", f"{folder}/data", me.PrepareOptions(format="flights"))
        found = {}
        for name, (training, environment) in conditions.items():
            given = {"epochs": asked.epochs, "architecture": asked.architecture}
            given |= {"training": training, "data": f"{folder}/data", "run": f"{folder}/{name}"}
            found[name] = trained(given, environment)
            report(name, found[name], found["one thread"])


def trained(given, environment):
    """Train in a process of its own; return the test split's probabilities and its AUC."""
    call = [sys.executable, "-c", TRAIN, json.dumps(given)]
    said = subprocess.run(
        call, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return np.load(Path(given["run"] + ".npy")), json.loads(said.splitlines()[-1])["auc"]


def report(name, found, first):
    """Print one condition beside the first."""
    difference = np.abs(found[0].astype(float) - first[0])
    print(
        f"{name:30} largest {difference.max():.1e}  mean {difference.mean():.1e}  "
        f"AUC {found[1]:.5f} ({found[1] - first[1]:+.1e})",
        flush=True,
    )


if __name__ == "__main__":
    main()
