"""Raw rows scored, beside training on the same rows: rows a second of both, in turns.

    python benchmarks/bench_predict.py [--rows 100000] [--many 500000 1500000]

A file of Criteo-like rows is written (`criteo_like.py`) and prepared; the paper's DCNv2 (one set
of size 10) trains an epoch on its training split, and then `predict` reads the whole file, and
writes it with a column of probabilities, in turns. Training begins from encoded rows and includes
its evaluation; predicting includes parsing, encoding, scoring and writing. By the default
protocol training goes on for at least `1 + patience` epochs. CPU seconds, of all threads, tell
less of other jobs on the machine. At last the memory of `predict` is compared between
larger files, each in a process of its own.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import criteo_like
from bench_large_table import status
from bench_spectra import machine

from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.dataset import open_dataset
from multiembed.runs.run import load_run
from multiembed.serving.predict import predict
from multiembed.training.start import train


def clock():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def train_once(folder):
    """Train an epoch; return seconds and CPU seconds for every row trained on."""
    training = TrainingConfig(max_epochs=1)
    config = RunConfig(model=ModelConfig(architecture="dcnv2"), training=training)
    dataset = open_dataset(folder / "dataset")
    rows = dataset.schema.splits["train"].rows
    wall, cpu = clock()
    train(config, dataset=dataset, run=folder / "run", overwrite=True)
    return [(after - before) / rows for before, after in zip((wall, cpu), clock(), strict=True)]


def predict_once(folder, raw):
    run = load_run(folder / "run")
    wall, cpu = clock()
    rows = predict(run, raw, folder / "out.tsv")
    return [(after - before) / rows for before, after in zip((wall, cpu), clock(), strict=True)]


def memory(folder, raw, answers):
    predict_once(folder, raw)
    answers.put((status("VmHWM") / 1e9, (folder / "out.tsv").stat().st_size / 1e9))


def memory_of(folder, raw):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=memory, args=(folder, raw, answers))
    process.start()
    answer = answers.get()
    process.join()
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--many", type=int, nargs="+", default=[500_000, 1_500_000])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("# Raw rows scored, beside training on them\n")
    print("\n".join(machine()) + "\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw, many = folder / "rows.txt", folder / "many.txt"
        criteo_like.write(raw, options.rows)
        prepare(raw, folder / "dataset", PrepareOptions(format="criteo"))
        trained, predicted = [], []
        train_once(folder)
        predict_once(folder, raw)
        for _ in range(options.repeats):
            trained.append(train_once(folder))
            predicted.append(predict_once(folder, raw))
        epochs = 1 + TrainingConfig().patience
        print("| | rows/s | us/row | CPU us/row |\n|---|---|---|---|")
        medians = []
        for what, runs, times in (
            ("one epoch", trained, 1),
            (f"training, {epochs} epochs", trained, epochs),
            ("predict", predicted, 1),
        ):
            wall, cpu = (times * statistics.median(run[part] for run in runs) for part in (0, 1))
            medians.append((wall, cpu))
            print(f"| {what} | {1 / wall:,.0f} | {wall * 1e6:.1f} | {cpu * 1e6:.1f} |")
        for of, what in ((0, "an epoch"), (1, f"training of {epochs} epochs")):
            wall, cpu = (medians[of][part] / medians[2][part] for part in (0, 1))
            print(f"\n{what} takes {wall:.1f}x the seconds of predict, {cpu:.1f}x the CPU seconds")
        print("\n| rows scored | GB written | peak GB |\n|---|---|---|")
        for rows in options.many:
            criteo_like.write(many, rows)
            peak, written = memory_of(folder, many)
            print(f"| {rows:,} | {written:.2f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
