"""NFwFM's field-weighted pooling, factored, against writing out the products of all pairs.

    OMP_NUM_THREADS=1 python benchmarks/bench_nfwfm.py [--batch 2048] [--fields 39] [--dims 50,100]

Promise: forward and backward at dim 50, 39 fields, batch 2048 stay below 0.1 GB, where the
products of all pairs are a tensor of 0.62 GB, of which training keeps several. Both sums are the
same to 1e-5. Peaks are memory asked for by one pass beyond what was held before, from the
kernel's account of the process. About half a minute and 3 GB.
"""

import argparse
import ctypes
import gc
import statistics
from pathlib import Path

import torch
from bench_spectra import interleaved, machine
from torch import nn

from multiembed.models.naming import named_architecture


def factored(fields, dim):
    """Return the pooling of one set as the model has it, its other layers taken away."""
    architecture = named_architecture("nfwfm", {"batch_norm": False, "dropout": 0.0})
    interaction = architecture.interaction(fields=fields, dim=dim, sets=1)
    interaction.projection = nn.Identity()
    return interaction


def written_out(weight, embeddings):
    """Sum over the products of all pairs, all of them in memory at once."""
    e = embeddings[:, 0].transpose(1, 2)  # (batch, dim, fields)
    pairs = e.unsqueeze(3) * e.unsqueeze(2)  # (batch, dim, fields, fields)
    return (pairs * weight).sum(dim=(2, 3)).unsqueeze(1)


def step(pool, embeddings, weight):
    """Run forward and backward; return the sums and both gradients."""
    embeddings.grad = weight.grad = None
    pooled = pool(embeddings)
    pooled.square().sum().backward()
    return pooled.detach(), embeddings.grad, weight.grad


def resident(field):
    """Return VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x.split()[1] for x in lines if x.startswith(field + ":"))) * 1024


def peak_of(task):
    """Return the bytes that `task` needs beyond what the process holds."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the old peak
    task()
    return resident("VmHWM") - before


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--dims", default="50,100")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"# NFwFM's pooling, {options.fields} fields, batch {options.batch}, one set\n")
    print("\n".join(machine()))
    print(f"- forward and backward, medians of {options.rounds} interleaved rounds, float32\n")
    print("| dim | way | seconds | times ours | peak GB | times ours | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for dim in (int(text) for text in options.dims.split(",")):
        torch.manual_seed(0)
        ours = factored(options.fields, dim)
        weight = ours.pair_weight
        embeddings = torch.randn(options.batch, 1, options.fields, dim, requires_grad=True)
        tasks = {
            "multiembed, factored": lambda e=embeddings, w=weight, p=ours: step(p, e, w),
            "all pairs written out": lambda e=embeddings, w=weight: step(
                lambda x: written_out(w[0], x), e, w
            ),
        }
        peaks = {name: peak_of(task) for name, task in tasks.items()}
        seconds, results = interleaved(tasks, options.rounds)
        first = next(iter(tasks))
        base = statistics.median(seconds[first])
        for name in tasks:
            median = statistics.median(seconds[name])
            worst = max(
                float((a - b).abs().max() / b.abs().max())
                for a, b in zip(results[name], results[first], strict=True)
            )
            print(
                f"| {dim} | {name} | {median:.3f} | {median / base:.1f} | {peaks[name] / 1e9:.2f} "
                f"| {peaks[name] / peaks[first]:.1f} | {worst:.1e} |"
            )


if __name__ == "__main__":
    main()
