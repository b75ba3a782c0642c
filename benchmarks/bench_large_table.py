"""A table of 5 GB diagnosed in less than 1 GB of memory, whole way: file to diagnosis.

    OMP_NUM_THREADS=1 python benchmarks/bench_large_table.py [--rows 20000000] [--dim 64]

Writes a float32 safetensors file into a temporary directory (as large as the table; removed
afterwards) and diagnoses it in a process of its own. Two peaks are given: anonymous memory,
which the process asked for, sampled 100 times a second, and all of it (VmHWM), which counts
pages of the mapped file as long as the kernel has no better use for them. The baseline, NumPy's
SVD of the loaded table, runs on a tenth of the rows, as do we for comparison. About a minute.
"""

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from bench_spectra import machine

GB = 1e9


def write_table(path, rows, dim, seed=0):
    """Write normals whose columns' deviations fall geometrically by 1,000; bounded memory."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1, 1e-3, dim, dtype=np.float32)
    entry = {"dtype": "F32", "shape": [rows, dim], "data_offsets": [0, 4 * rows * dim]}
    header = json.dumps({"table": entry}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for start in range(0, rows, 100_000):
            block = rng.standard_normal((min(100_000, rows - start), dim), dtype=np.float32)
            file.write((block * scales).tobytes())


def with_multiembed(path, rows, dim):
    """Diagnose the file; return the information abundance found."""
    from multiembed.diagnosis.diagnose import diagnose

    return diagnose(path).fields[0].information_abundance


def with_numpy(path, rows, dim):
    """Load the file, widen it and take the SVD."""
    from safetensors.numpy import load_file

    values = np.linalg.svd(load_file(path)["table"].astype(np.float64), compute_uv=False)
    return float(values.sum() / values[0])


def status(field):
    """Return a size from the kernel's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x.split()[1] for x in lines if x.startswith(field + ":"))) * 1024


def watched(task, path, rows, dim, answers):
    """Run one task and send back what it found, its seconds, and its peaks of memory."""
    peak = [0]
    done = threading.Event()

    def sample():
        while not done.is_set():
            peak[0] = max(peak[0], status("RssAnon"))
            done.wait(0.01)

    sampler = threading.Thread(target=sample)
    sampler.start()
    start = time.perf_counter()
    found = task(path, rows, dim)
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    answers.put((found, seconds, peak[0], status("VmHWM")))


def alone(task, path, rows, dim):
    """Run a task in a fresh process."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=watched, args=(task, path, rows, dim, answers))
    process.start()
    answer = answers.get()
    process.join()
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=None, help="where to put the file")
    options = parser.parse_args()
    dim, tenth = options.dim, options.rows // 10
    scales = np.geomspace(1, 1e-3, dim)
    print("# A large table diagnosed in bounded memory\n")
    print("\n".join(machine()))
    print(f"- abundance expected of such columns: {scales.sum():.4f}\n")
    print(
        "| rows | GB | way | seconds | peak GB asked for | peak GB with mapped pages | abundance |"
    )
    print("|---|---|---|---|---|---|---|")
    runs = [
        (tenth, "multiembed.diagnose", with_multiembed),
        (tenth, "numpy.linalg.svd", with_numpy),
        (options.rows, "multiembed.diagnose", with_multiembed),
    ]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "model.safetensors"
        written = 0
        for rows, name, task in runs:
            if rows != written:
                write_table(path, rows, dim)
                written = rows
            found, seconds, asked, total = alone(task, path, rows, dim)
            print(
                f"| {rows:,} | {4 * rows * dim / GB:.2f} | {name} | {seconds:.2f} "
                f"| {asked / GB:.2f} | {total / GB:.2f} | {found:.4f} |"
            )


if __name__ == "__main__":
    main()
