"""Raw rows prepared in flat memory and linear time, beside pandas doing the same job.

    python benchmarks/bench_prepare.py [--rows 1000000 5000000] [--folder DIRECTORY]
    python benchmarks/bench_prepare.py --rows 1000000 --repeats 10 --beside CHECKOUT

For every size a file of Criteo-like rows is written (`criteo_like.py`, 0.24 GB a million rows) and
prepared in a process of its own: `multiembed.prepare` with its defaults, and pandas up to a million
rows, in turns, since it needs memory for the whole file. Both parse the text, bucket 13
numbers, count 39 fields on the same 8 of 10 rows, and write ids and labels of every split.
Seconds are by the clock; CPU seconds, of all threads, tell less of other jobs on the machine.
Memory is what the process asked for, and in brackets with the pages of mapped files, which the
kernel takes back when it needs them. About five minutes. With `--beside` another checkout of this
repository takes turns with this one, both warm, in place of pandas: what a change did.
"""

import argparse
import multiprocessing
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import criteo_like
import numpy as np
from bench_large_table import status
from bench_spectra import machine
from turns import Contender

GB = 1e9


def with_multiembed(source, target):
    """Prepare as the command does; return the sum of all ids and the number of ids."""
    from multiembed.data.options import PrepareOptions
    from multiembed.data.prepare import prepare

    began = clock()
    schema = prepare(source, target, PrepareOptions(format="criteo"))
    spent = since(began)
    return spent, sum(schema.cardinalities)


def with_pandas(source, target):
    """Read the file whole and encode column by column."""
    import pandas as pd

    from multiembed.data.encoding.counting import split_codes

    began = clock()
    raw = pd.read_csv(source, sep="\t", header=None, dtype=str, keep_default_na=False)
    codes = split_codes(np.arange(len(raw)), 0)
    ids = np.empty((len(raw), 39), np.int32)
    cardinalities = 0
    for column in range(1, 40):
        values = raw[column]
        if column < 14:
            numbers = pd.to_numeric(values).astype(float)
            high = numbers > 2
            buckets = np.floor(np.log(numbers.where(high)) ** 2).where(high, numbers - 2)
            values = buckets.fillna(-10_000).astype(np.int64)
        counts = values[codes == 0].value_counts()
        kept = counts[counts >= 10]
        order = sorted(kept.index, key=lambda value: (-kept[value], str(value)))
        numbered = {value: place for place, value in enumerate(order, 1)}
        ids[:, column - 1] = values.map(numbered).fillna(0)
        cardinalities += len(numbered) + 1
    target.mkdir()
    labels = raw[0].astype(np.uint8).to_numpy()
    for code in range(3):
        np.save(target / f"ids{code}.npy", ids[codes == code])
        np.save(target / f"labels{code}.npy", labels[codes == code])
    return since(began), cardinalities


def clock():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def since(began):
    now = clock()
    return now[0] - began[0], now[1] - began[1]


def watched(task, source, target, answers):
    """Run one task and send back its seconds, its CPU seconds, the ids found and its memory."""
    peak = [0]
    done = threading.Event()

    def sample():
        while not done.is_set():
            peak[0] = max(peak[0], status("RssAnon"))
            done.wait(0.01)

    sampler = threading.Thread(target=sample)
    sampler.start()
    (seconds, cpu), found = task(source, target)
    done.set()
    sampler.join()
    answers.put((seconds, cpu, found, peak[0], status("VmHWM")))


def alone(task, source, folder):
    """Run a task in a fresh process, and remove what it wrote."""
    target = folder / "dataset"
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=watched, args=(task, source, target, answers))
    process.start()
    answer = answers.get()
    process.join()
    shutil.rmtree(target)
    return answer


def show(name, rows, size, runs):
    seconds, cpu = (statistics.median(run[part] for run in runs) for part in (0, 1))
    anonymous, resident = (max(run[part] for run in runs) / GB for part in (3, 4))
    print(
        f"| {rows:,} | {size / GB:.2f} | {name} | {seconds:.1f} | {rows / seconds:,.0f} "
        f"| {cpu:.1f} | {cpu / rows * 1e6:.1f} | {anonymous:.2f} ({resident:.2f}) "
        f"| {runs[0][2]:,} |",
        flush=True,
    )
    return seconds, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--pandas", type=int, default=1_000_000, help="most rows for pandas")
    parser.add_argument("--beside", type=Path, help="another checkout, in turns with this one")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the files are kept for the next time"
    )
    options = parser.parse_args()
    print("# Raw rows prepared\n")
    print("\n".join(machine()) + "\n")
    if options.beside:
        print("| rows | here, CPU s | there | here over there, seconds | CPU | peak memory |")
        print("|---|---|---|---|---|---|")
    else:
        print_head()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        for rows in options.rows:
            source = folder / f"rows_{rows}.txt"
            if not source.exists():
                criteo_like.write(source, rows)
            (duel if options.beside else compare)(rows, source, folder, options)


def duel(rows, source, folder, options):
    """Show what this checkout takes over what the other does: medians of turns."""
    sides = []
    for place, checkout in enumerate((Path(__file__).resolve().parents[1], options.beside)):
        script = Path(__file__).with_name("prepare_contender.py")
        command = [sys.executable, script, source, folder / f"dataset{place}"]
        path = {"PYTHONPATH": str(checkout.resolve() / "src")}
        sides.append(Contender(command, threads=2, environment=path))
    pairs = []
    for number in range(options.repeats):
        order = sides if number % 2 == 0 else sides[::-1]
        took = {side: side.go() for side in order}
        pairs.append([took[side] for side in sides])
    peak = sides[0].peak() / sides[1].peak()
    for side in sides:
        side.close()
    cpu = [statistics.median(pair[place]["cpu"] for pair in pairs) for place in (0, 1)]
    ratios = [statistics.median(a[of] / b[of] for a, b in pairs) for of in ("seconds", "cpu")]
    cells = [*(f"{one:.2f}" for one in cpu), *(f"{one:.3f}" for one in [*ratios, peak])]
    print(f"| {rows:,} | {' | '.join(cells)} |", flush=True)


def print_head():
    print("| rows | GB | way | seconds | rows/s | CPU s | CPU us/row | peak GB | ids |")
    print("|---|---|---|---|---|---|---|---|---|")


def compare(rows, source, folder, options):
    size = source.stat().st_size
    ours, theirs = [], []
    for _ in range(options.repeats):
        ours.append(alone(with_multiembed, source, folder))
        if rows <= options.pandas:
            theirs.append(alone(with_pandas, source, folder))
    mine = show("multiembed.prepare", rows, size, ours)
    if theirs:
        other = show("pandas", rows, size, theirs)
        ratio = [other[part] / mine[part] for part in (0, 1)]
        print(f"\nPandas takes {ratio[0]:.1f}x the seconds, {ratio[1]:.1f}x the CPU seconds.\n")


if __name__ == "__main__":
    main()
