"""How often `diagnose_over_time` finds a shift that was planted, and how often one that was not.

    OMP_NUM_THREADS=1 python benchmarks/bench_drift.py [--draws 100] [--trainings 16]

Promise: a planted shift is found at its cut, and shuffled months raise an alarm in at most 5 of 100
draws. Three worlds of months: tables with planted directions and noise, from which one field loses
two directions and gains one; tables that drift evenly; and real trainings on planted clicks, where
from the cut on half of the values of one field have changed their meaning. Trainings are drawn from
two pools, before and after, so that their rates rest on fewer than 100 independent rows of months.
About two minutes.
"""

import argparse

import numpy as np
import torch
from bench_spectra import machine
from torch.nn.functional import binary_cross_entropy_with_logits

import multiembed as me
from multiembed.testing.planted_clicks import PlantedClicks

FIELDS = ("site", "hour")
ROWS, COLUMNS = 200, 10


def planted_month(patterns, *, after, rng, noise):
    """Six of eight patterns in every field; later, `site` has lost two and gained another."""
    month = {}
    for name, of in patterns.items():
        kept = [0, 1, 2, 3, 6] if after and name == "site" else range(6)
        turn = np.linalg.qr(rng.standard_normal((COLUMNS, COLUMNS)))[0][: len(kept)]
        month[name] = of[:, kept] @ turn + noise * rng.standard_normal((ROWS, COLUMNS))
    return month


def planted_months(count, cut, seed, *, noise=0.2):
    """Months whose shift is at `cut`; none where that is `None`."""
    rng = np.random.default_rng(seed)
    patterns = {name: rng.standard_normal((ROWS, 8)) for name in FIELDS}
    late = [cut is not None and month >= cut for month in range(count)]
    return [planted_month(patterns, after=after, rng=rng, noise=noise) for after in late]


def drifting_months(count, seed):
    """Months that each continue the one before: a random walk of every row."""
    rng = np.random.default_rng(seed)
    start = {name: 3 * rng.standard_normal((ROWS, COLUMNS)) for name in FIELDS}
    months = [start]
    for _ in range(count - 1):
        before = months[-1]
        months.append({k: v + 0.5 * rng.standard_normal(v.shape) for k, v in before.items()})
    return months


CLICKS = PlantedClicks(cardinalities=(200, 60, 30, 12), exponents=0.5, ranks=4, rows=8000)


def training(seed, *, after):
    """Train on one month's clicks; `after` the cut, half of field 0's ids mean others."""
    rng = np.random.default_rng((seed, after))
    ids = CLICKS.draw_ids(CLICKS.rows, rng)
    meant = ids.copy()
    if after:
        half = CLICKS.cardinalities[0] // 2
        meant[:, 0] = np.where(ids[:, 0] < half, (ids[:, 0] + 17) % half, ids[:, 0])
    clicks = rng.random(len(ids)) < CLICKS.probabilities(meant)
    torch.manual_seed(seed + 10_000 * after)
    model = me.ClickModel("dnn", CLICKS.cardinalities, dim=8)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    rows, labels = torch.from_numpy(ids), torch.from_numpy(clicks).float()
    for _ in range(3):
        for batch in torch.randperm(len(rows)).split(500):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(rows[batch]), labels[batch]).backward()
            optimizer.step()
    tables = [table.numpy() for table in model.embedding.by_field()]
    return {f"f{at}": table for at, table in enumerate(tables)}


def trained_months(pools, count, cut, rng):
    """Draw trainings without replacement: `cut` from before, the rest from after."""
    early = count if cut is None else cut
    sizes = early, count - early
    drawn = [rng.permutation(len(pool))[:size] for pool, size in zip(pools, sizes, strict=True)]
    return [pool[at] for pool, places in zip(pools, drawn, strict=True) for at in places]


def rates(sequences, *, field, cut):
    """Return shares of alarms, and of alarms that name the field and the cut, and no other."""
    alarms = found = 0
    for months in sequences:
        drift = me.diagnose_over_time(months)
        named = [(of.name, of.largest) for of in drift.fields if of.alarm]
        alarms += drift.alarm
        found += named == [(field, cut - 1)] if cut else 0
    return alarms, found


def shuffled(sequences, seed):
    """Put the months of every sequence in a random order."""
    rng = np.random.default_rng(seed)
    return ([months[at] for at in rng.permutation(len(months))] for months in sequences)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--trainings", type=int, default=16, help="Of each pool.")
    options = parser.parse_args()
    draws = range(options.draws)
    print("# Shifts over time: found where planted, and alarms where there is none\n")
    print("\n".join(machine()))
    print(f"- {options.draws} draws a line, {options.trainings} trainings in each of two pools\n")
    print("| months | how many | cut | alarms | right field and step, no other |")
    print("|---|---|---|---|---|")

    def line(name, count, cut, sequences, field="site"):
        alarms, found = rates(sequences, field=field, cut=cut)
        print(f"| {name} | {count} | {cut or ''} | {alarms} | {found if cut else ''} |", flush=True)

    for count, cut in ((12, 7), (12, 3), (6, 3)):
        line("planted", count, cut, (planted_months(count, cut, seed) for seed in draws))
    for count in (12, 6):
        line("quiet", count, None, (planted_months(count, None, seed) for seed in draws))
    ordered = (planted_months(12, 7, seed) for seed in draws)
    line("planted at 7, shuffled", 12, None, shuffled(ordered, 0))
    for count in (12, 24):
        line("drifting evenly", count, None, (drifting_months(count, seed) for seed in draws))
    pools = [[training(s, after=late) for s in range(options.trainings)] for late in (False, True)]
    rng = np.random.default_rng(0)
    planted = [trained_months(pools, 12, 7, rng) for _ in draws]
    line("trained", 12, 7, planted, field="f0")
    line("trained, shift at 7, shuffled", 12, None, shuffled(planted, 1))
    line("trained, quiet", 12, None, (trained_months(pools, 12, None, rng) for _ in draws))


if __name__ == "__main__":
    main()
