"""All pairs of sub-embeddings of a cross layer: small roots against one SVD per pair.

    OMP_NUM_THREADS=1 python benchmarks/bench_subembeddings.py [--fields 39] [--rows 20000]

Promise: from the tables, all 39^2 abundances at least 30 times as fast as projecting every
table and taking its SVD. The naive ways are timed on a few pairs and scaled. About a minute.
"""

import argparse
import statistics

import numpy as np
import torch
from bench_spectra import interleaved, machine, planted

from multiembed.spectra.subembeddings import attribute, sub_embeddings
from multiembed.spectra.summary import Summary


def naive_numpy(tables, layer, pairs, dim):
    """Project each table by itself and take NumPy's SVD."""
    values = [
        np.linalg.svd(tables[i].astype(np.float64) @ block(layer, i, j, dim).T, compute_uv=False)
        for i, j in pairs
    ]
    return np.array([found.sum() / found[0] for found in values])


def naive_torch(tables, layer, pairs, dim):
    """Project each table by itself and take torch's singular values."""
    values = [
        torch.linalg.svdvals(
            torch.from_numpy(tables[i]).double() @ torch.from_numpy(block(layer, i, j, dim)).T
        )
        for i, j in pairs
    ]
    return np.array([float(found.sum() / found[0]) for found in values])


def block(layer, i, j, dim):
    return layer[0, j * dim : (j + 1) * dim, i * dim : (i + 1) * dim]


def ways(tables, layer, pairs, dim):
    """Return ours, from the tables to all pairs, and the naive ways to some of them."""
    return {
        "multiembed": lambda: sub_embeddings([Summary.of(t) for t in tables], layer),
        "multiembed, with attribution": lambda: attribute([Summary.of(t) for t in tables], layer),
        "numpy.linalg.svd per pair": lambda: naive_numpy(tables, layer, pairs, dim),
        "torch.linalg.svdvals per pair": lambda: naive_torch(tables, layer, pairs, dim),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dims", default="10,40")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fields, every = options.fields, options.fields**2
    print(f"# All {every} sub-embeddings of {fields} fields of {options.rows:,} float32 rows\n")
    print("\n".join(machine()))
    print(
        f"- medians of {options.rounds} interleaved rounds; naive ways timed on "
        f"{options.pairs} pairs and scaled; ours reads the tables\n"
    )
    print("| dim | way | seconds for all pairs | times ours | largest relative difference |")
    print("|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for dim in (int(text) for text in options.dims.split(",")):
        tables = [planted(options.rows, dim, seed) for seed in range(fields)]
        layer = rng.standard_normal((1, fields * dim, fields * dim))
        pairs = [tuple(rng.integers(0, fields, 2)) for _ in range(options.pairs)]
        tasks = ways(tables, layer, pairs, dim)
        seconds, results = interleaved(tasks, options.rounds)
        ours = statistics.median(seconds["multiembed"])
        exact = results["numpy.linalg.svd per pair"]
        found = np.array([results["multiembed"].abundance[i, j] for i, j in pairs])
        for name in tasks:
            scale = every / len(pairs) if "per pair" in name else 1
            median = statistics.median(seconds[name]) * scale
            error = f"{np.abs(found / exact - 1).max():.1e}" if name == "multiembed" else ""
            print(f"| {dim} | {name} | {median:.3f} | {median / ours:.1f} | {error} |")


if __name__ == "__main__":
    main()
