"""Recipes beside LightGBM, on the data sets and by the rules of experiments/first_result.md.

    python benchmarks/first_result.py OUT [NAME …] [--seeds 5] [--minutes M]

Every seed is a split of its own. What is judged comes first; what is not begun within the minutes
is left to the next call, which reuses what this one finished. OUT/first_result.md is made of all
that is there.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from first_result_data import RAW, SHARED
from first_result_page import page

import multiembed as me
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

LABELS = {
    "adult": "income",
    "caravan": "Purchase",
    "stops": "cited",
    "lending": "bad",
    "avazu_9k": "click",
    "bandit": "click",
    "movielens": "liked",
    "census": "rich",
    "protein": "homolog",
    "flights_3m": "late",
}
TUNED = ("adult", "caravan", "stops", "lending", "avazu_9k", "bandit", "frappe", "flights")
JUDGED = ("criteo_80k", "movielens", "census", "protein", "flights_3m", "planted")
WITHOUT_NUMBERS = ("frappe", "planted")
MODELS = [
    (architecture, scaling)
    for architecture in ("dcnv2", "dnn", "xdeepfm")
    for scaling in ("single", "multi")
]


class Cell(NamedTuple):
    """What is trained in one go: both recipes, and LightGBM beside the first of our models."""

    data: str
    seed: int
    architecture: str
    scaling: str

    @property
    def folder(self) -> str:
        """Where its fits lie."""
        return f"{self.data}/seed{self.seed}/{self.architecture}_{self.scaling}"

    @property
    def has_trees(self) -> bool:
        """Whether LightGBM, which does not depend on our model, is fitted here."""
        return (self.architecture, self.scaling) == MODELS[0]


def prepared(name: str, seed: int, out: Path) -> Path:
    """Encode a data set with nothing said but its label, and the split's seed."""
    path = out / "datasets" / f"{name}-seed{seed}"
    if path.exists():
        return path
    if name == "planted":
        write_planted(path, PlantedClicks(rows=100_000, base_rate=0.002, seed=seed))
        return path
    numbers = {"numeric_rule": "quantiles"}
    if name not in WITHOUT_NUMBERS:
        numbers["numeric_embedding"] = "plr"  # keeps them: for trees, our models read the buckets
    if name == "frappe":
        me.prepare(frappe(seed, out), path, me.PrepareOptions(format="table", label="label"))
    elif name == "flights":
        me.prepare("flights", path, me.PrepareOptions(seed=seed, **numbers))
    elif name == "criteo_80k":
        options = me.PrepareOptions(format="criteo", seed=seed, **numbers)
        me.prepare(SHARED / "criteo_80k" / "criteo_80k_decoded.txt", path, options)
    else:
        raw = out / "raw" / f"{name}.parquet"
        if not raw.exists():
            raw.parent.mkdir(parents=True, exist_ok=True)
            RAW[name]().to_parquet(raw, index=False)
        options = me.PrepareOptions(format="table", label=LABELS[name], seed=seed, **numbers)
        me.prepare(raw, path, options)
    return path


def frappe(seed: int, out: Path) -> dict[str, Path]:
    """Write a tenth of the published training split as validation rows; its valid is our test."""
    folder = out / "raw" / f"frappe-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    published = SHARED / "frappe_x1"
    rows = pd.read_csv(published / "train.csv.gz")
    chosen = np.random.default_rng(seed).random(len(rows)) < 0.1
    for name, part in (("train", rows[~chosen]), ("valid", rows[chosen])):
        part.to_csv(folder / f"{name}.csv", index=False)
    paths = {name: folder / f"{name}.csv" for name in ("train", "valid")}
    return {**paths, "test": published / "valid.csv.gz"}


def cells(names: list[str], seeds: int) -> Iterator[Cell]:
    """Yield what is to be trained, what is judged first."""
    for model in MODELS:
        for seed in range(seeds):
            for name in names:
                yield Cell(name, seed, *model)


def fitted(cell: Cell, out: Path) -> None:
    """Fit all of a cell, unless an earlier call did."""
    folder = out / "compared" / cell.folder
    if (folder / "results.json").exists():
        return
    size = ["model.size=4", "model.scaling=multi"] if cell.scaling == "multi" else []
    me.compare(
        prepared(cell.data, cell.seed, out),
        folder,
        only=["lightgbm", "multiembed"] if cell.has_trees else ["multiembed"],
        recipes=["robust", "paper"],
        assignments=[
            f"model.architecture={cell.architecture}",
            "model.numeric.embedding=buckets",
            "training.threads=1",
            *size,
        ],
    )
    print(f"{time.strftime('%H:%M:%S')} {cell.folder}: {told(folder)}", flush=True)


def told(folder: Path) -> str:
    found = json.loads((folder / "results.json").read_text())["standings"]
    return "; ".join(
        f"{of['name']} {of['auc']:.4f} / {of['log_loss']:.4f}, {of['seconds']:.0f} s"
        for of in found
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=math.inf)
    asked = parser.parse_args()
    begun = time.monotonic()
    for cell in cells(asked.names or [*JUDGED, *TUNED], asked.seeds):
        if time.monotonic() - begun > 60 * asked.minutes:
            break
        fitted(cell, asked.out)
    (asked.out / "first_result.md").write_text(page(asked.out, {"judged": JUDGED, "tuned": TUNED}))


if __name__ == "__main__":
    main()
