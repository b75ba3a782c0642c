"""What pretrained vectors bring: planted clicks whose item vectors are known, seen through noise.

    OMP_NUM_THREADS=1 python benchmarks/pretrained_quality.py [--seeds 0 1 2] [--epochs 12]
                                            [--models 0 1 2 3 4 5]

The vectors are the planted table of the first field, rotated into more columns, with noise of a
share of its deviation. Test AUC, of all rows and of those whose item training met seldom. The best
possible AUC is that of the planted probabilities. About four minutes.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_monitor import machine
from sklearn.metrics import roc_auc_score

from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train

PLANTED = PlantedClicks(
    cardinalities=(4000, 60, 20), ranks=6, exponents=(0.7, 0.5, 0.0), rows=60_000, strength=2.5
)
WIDTH, NOISE = 48, 0.5
GROUPS = {
    "all rows": (0, 1 << 60),
    "0 to 4": (0, 4),
    "5 to 19": (5, 19),
    "20 and more": (20, 1 << 60),
}
VARIANTS = {
    "one set, no vectors": (1, None),
    "one set, frozen vectors": (1, {}),
    "one set, trained vectors": (1, {"trained": True}),
    "two sets, no vectors": (2, None),
    "two sets, frozen vectors": (2, {}),
    "two sets, frozen vectors in the first": (2, {"sets": [0]}),
}


def write_vectors(file):
    """Write what somebody else might know of the items."""
    random = np.random.default_rng(7)
    table = PLANTED.tables[0]
    turn = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0][: table.shape[1]]
    vectors = table @ turn
    vectors += (
        NOISE * table.std() * random.normal(size=vectors.shape) / np.sqrt(WIDTH / table.shape[1])
    )
    np.savez(file, values=np.arange(1, len(table)), vectors=vectors[1:].astype(np.float32))


def measured(dataset, folder, file, *, sets, settings, seed, epochs):
    """Train one model; return the test AUC of every group of items."""
    vectors = None if settings is None else {"f0": {"file": str(file), **settings}}
    model = ModelConfig(
        architecture="dnn", dim=8, sets=sets, options={"hidden": [64, 32]}, pretrained=vectors
    )
    training = TrainingConfig(
        max_epochs=epochs, batch_size=256, seed=seed, threads=1, learning_rate=2e-3
    )
    run = train(RunConfig(model=model, training=training), dataset=dataset, run=folder)
    scores = run.score("test")
    counts = run.directory.read_row_counts(run.schema.cardinalities)[0]
    met = counts[dataset.split("test").ids[:, 0]]
    return {
        name: roc_auc_score(scores.labels[rows], scores.probabilities[rows])
        for name, (low, high) in GROUPS.items()
        for rows in [(met >= low) & (met <= high)]
    }, met


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--models", type=int, nargs="+", default=range(len(VARIANTS)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_planted(folder / "data", PLANTED)
        write_vectors(folder / "items.npz")
        dataset = open_dataset(folder / "data")
        test = dataset.split("test")
        print("\n".join(machine()) + "\n")
        print(f"| model | {' | '.join(GROUPS)} |\n|---|{'---|' * len(GROUPS)}")
        met = None
        for variant, (sets, settings) in [[*VARIANTS.items()][n] for n in options.models]:
            found = []
            for seed in options.seeds:
                place = folder / f"{len(found)}-{variant}"
                aucs, met = measured(
                    dataset,
                    place,
                    folder / "items.npz",
                    sets=sets,
                    settings=settings,
                    seed=seed,
                    epochs=options.epochs,
                )
                found.append(aucs)
            cells = [
                f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
                for group in GROUPS
                for values in [[aucs[group] for aucs in found]]
            ]
            print(f"| {variant} | {' | '.join(cells)} |")
            sys.stdout.flush()
        true = PLANTED.probabilities(test.ids)
        rows = [(met >= low) & (met <= high) for low, high in GROUPS.values()]
        best = [f"{roc_auc_score(test.labels[of], true[of]):.4f}" for of in rows]
        print(f"| the planted probabilities | {' | '.join(best)} |")
        print(f"| rows | {' | '.join(f'{of.sum():,}' for of in rows)} |")


if __name__ == "__main__":
    main()
