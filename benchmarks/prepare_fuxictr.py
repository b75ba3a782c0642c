"""The job of `bench_prepare.py` as FuxiCTR does it, in an environment that has FuxiCTR.

    pip install torch==2.13.0 && pip install --no-deps fuxictr==2.3.10
    pip install 'polars<2' pandas 'ray[data]' scikit-learn h5py pyyaml pydantic tqdm
    python benchmarks/prepare_fuxictr.py rows_1000000.txt --rows 500000

The first rows of a Criteo-like file become a training, a validation and a test file with a header,
8 : 1 : 1, outside the time measured. Then `build_dataset` counts on the training file and encodes
all three, with the settings of Criteo_x4: numbers bucketed, values rarer than 10 left out. Memory
is the proportional set size of this process and all that it starts, sampled twenty times a second.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

NUMBERS = [f"I{number}" for number in range(1, 14)]
CATEGORIES = [f"C{number}" for number in range(1, 27)]


def write_splits(source, folder, rows):
    """Deal rows to three files, by their number."""
    header = ",".join(["Label", *NUMBERS, *CATEGORIES]) + "\n"
    names = ["train"] * 8 + ["valid", "test"]
    files = {name: (folder / f"{name}.csv").open("w") for name in set(names)}
    for file in files.values():
        file.write(header)
    with source.open() as content:
        for number, line in zip(range(rows), content, strict=False):
            files[names[number % 10]].write(line.replace("\t", ","))
    for file in files.values():
        file.close()


def build(folder):
    """Count and encode; return the number of ids."""
    import ray
    from fuxictr.datasets.criteo import CustomizedFeatureProcessor
    from fuxictr.preprocess import build_dataset

    ray.init(address="local", log_to_driver=False)  # not another's cluster on this machine
    columns = [
        {"name": NUMBERS, "active": True, "dtype": "float", "type": "categorical"}
        | {"preprocess": "convert_to_bucket", "fill_na": 0},
        {"name": CATEGORIES, "active": True, "dtype": "str", "type": "categorical"},
    ]
    encoder = CustomizedFeatureProcessor(
        feature_cols=columns,
        label_col={"name": "Label", "dtype": "float"},
        dataset_id="encoded",
        data_root=str(folder),
    )
    paths = [str(folder / f"{name}.csv") for name in ("train", "valid", "test")]
    build_dataset(
        encoder, train_data=paths[0], valid_data=paths[1], test_data=paths[2], min_categr_count=10
    )
    return encoder.feature_map.total_features


def family_memory():
    """Return the proportional set size of this process and its descendants, in bytes."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")")[-1].split()[1])
        except OSError:
            continue
    family = {int(Path("/proc/self").resolve().name)}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    total = 0
    for member in family:
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(x.split()[1]) for x in lines if x.startswith("Pss:")), 0) * 1024
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--rows", type=int, default=500_000)
    options = parser.parse_args()
    peak = [0]
    done = threading.Event()

    def sample():
        while not done.is_set():
            peak[0] = max(peak[0], family_memory())
            done.wait(0.05)

    with tempfile.TemporaryDirectory() as name:
        write_splits(options.source, Path(name), options.rows)
        sampler = threading.Thread(target=sample)
        sampler.start()
        began = time.perf_counter()
        ids = build(Path(name))
        seconds = time.perf_counter() - began
        done.set()
        sampler.join()
    print("| rows | way | seconds | rows/s | peak GB | ids |\n|---|---|---|---|---|---|")
    speed = options.rows / seconds
    print(
        f"| {options.rows:,} | FuxiCTR | {seconds:.1f} | {speed:,.0f} | {peak[0] / 1e9:.2f} "
        f"| {ids:,} |"
    )


if __name__ == "__main__":
    main()
