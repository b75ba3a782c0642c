"""The page of benchmarks/first_result.py: ranks, and paired differences per data set."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

import multiembed as me
from multiembed.experiments.analysis.paired_rows import auc_difference, log_loss_difference
from multiembed.experiments.analysis.statistics import Interval, paired_difference
from multiembed.experiments.compare.fits import Result
from multiembed.runs.metrics import auc, log_loss

FIRST = "dcnv2_single"
WHO = ("robust", "paper", "lightgbm")
HALVES = {
    "judged": "Judged",
    "tuned": "Tuned on: `robust` was chosen on these, they judge nothing",
}


class Fit(NamedTuple):
    """One fit on one split."""

    auc: float
    log_loss: float
    ratio: float
    """Predicted over observed positives of the test split."""
    seconds: float
    labels: np.ndarray
    probabilities: np.ndarray


Fits = Mapping[int, Mapping[str, Fit]]
"""Of one data set and model: by split, then by who."""


def fits(out: Path, data: str, model: str) -> Fits:
    """Read all that was fitted."""
    found: dict[int, dict[str, Fit]] = {}
    for folder in sorted((out / "compared" / data).glob(f"seed*/{model}/contenders")):
        seed = int(folder.parent.parent.name.removeprefix("seed"))
        split = me.open_dataset(out / "datasets" / f"{data}-seed{seed}").split("test")
        labels = np.asarray(split.labels, np.int8)
        for file in sorted(folder.glob("*.json")):
            result = Result.model_validate_json(file.read_text())
            p = np.load(file.with_suffix(".npy")).astype(np.float64)
            ratio = float(p.mean() / labels.mean())
            quality = auc(labels, p), log_loss(labels, p), ratio, result.seconds
            found.setdefault(seed, {})[result.name] = Fit(*quality, labels, p)
    return {seed: who for seed, who in found.items() if "robust" in who}


def differences(of: Fits, first: str, second: str) -> tuple[Interval, Interval] | None:
    """Return first less second: AUC and log loss, over splits, or over the rows of one alone."""
    pairs = [(who[first], who[second]) for who in of.values() if {first, second} <= who.keys()]
    if not pairs:
        return None
    if len(pairs) == 1:
        (one, other), *_ = pairs
        scores = one.labels, one.probabilities, other.probabilities
        return auc_difference(*scores), log_loss_difference(*scores)
    return (
        paired_difference([a.auc for a, _ in pairs], [b.auc for _, b in pairs]).t,
        paired_difference([a.log_loss for a, _ in pairs], [b.log_loss for _, b in pairs]).t,
    )


def standing(found: Interval, sign: int) -> str:
    """Say who is ahead; `sign` is -1 where less is better."""
    better = [sign * end for end in (found.low, found.high)]
    return "ahead" if min(better) > 0 else "behind" if max(better) < 0 else "level"


def shown(found: Interval, sign: int) -> str:
    numbers = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    return f"{standing(found, sign)}, {numbers}"


def mean(of: Fits, who: str, what: str) -> float:
    """Return the mean over splits; NaN where there are none."""
    values = [getattr(fit[who], what) for fit in of.values() if who in fit]
    return float(np.mean(values)) if values else float("nan")


def quality_rows(of: Mapping[str, Fits]) -> Iterator[list[str]]:
    for data, found in of.items():
        rows = next(iter(next(iter(found.values())).values())).labels.size
        cells = [data, f"{len(found)}", f"{rows:,}"]
        for who in WHO:
            cells.append(f"{mean(found, who, 'auc'):.4f} / {mean(found, who, 'log_loss'):.4f}")
        yield cells


def difference_rows(of: Mapping[str, Fits], second: str) -> Iterator[list[str]]:
    for data, found in of.items():
        differing = differences(found, "robust", second)
        if differing is not None:
            yield [data, shown(differing[0], 1), shown(differing[1], -1)]


def cost_rows(of: Mapping[str, Fits]) -> Iterator[list[str]]:
    for data, found in of.items():
        seconds = [mean(found, who, "seconds") for who in WHO]
        ratios = [fit["robust"].ratio for fit in found.values()]
        yield [
            data,
            *(f"{of:,.0f}" for of in seconds),
            f"{seconds[0] / seconds[1]:.1f}",
            f"{min(ratios):.3f} to {max(ratios):.3f}",
        ]


def ranks(of: Mapping[str, Fits]) -> Iterator[list[str]]:
    """Yield mean ranks over data sets, 1 the best."""
    whole = [f for f in of.values() if all(any(w in x for x in f.values()) for w in WHO)]
    for what, sign in (("AUC", -1), ("log loss", 1)):
        name = what.replace(" ", "_").lower()
        of_sets = [rankdata([sign * mean(found, who, name) for who in WHO]) for found in whole]
        yield [f"{what}, {len(whole)} data sets", *(f"{r:.2f}" for r in np.mean(of_sets, axis=0))]


def model_rows(out: Path, names: Sequence[str]) -> Iterator[list[str]]:
    models = sorted({of.name for of in out.glob("compared/*/seed*/*") if of.name != FIRST})
    for data in names:
        for model in models:
            found = fits(out, data, model)
            whole = {seed: of for seed, of in found.items() if {"robust", "paper"} <= of.keys()}
            if not whole:
                continue
            differing = differences(whole, "robust", "paper")
            assert differing is not None
            quality = (
                "{:.4f} / {:.4f}".format(*(mean(whole, who, of) for of in ("auc", "log_loss")))
                for who in WHO[:2]
            )
            both = shown(differing[0], 1), shown(differing[1], -1)
            yield [data, model.replace("_", " "), f"{len(whole)}", *quality, *both]


def table(heads: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def tally(of: Mapping[str, Fits]) -> str:
    found = [differences(one, "robust", "lightgbm") for one in of.values()]
    there = [one for one in found if one is not None]
    said = []
    for at, (what, sign) in enumerate((("AUC", 1), ("log loss", -1))):
        stands = [standing(one[at], sign) for one in there]
        counts = ", ".join(f"{stands.count(word)} {word}" for word in ("ahead", "level", "behind"))
        said.append(f"{what}: {counts}")
    return f"`robust` beside LightGBM, of {len(there)} data sets: {'; '.join(said)}.\n"


def page(out: Path, halves: Mapping[str, Sequence[str]]) -> str:
    """Return the page as Markdown."""
    parts = [
        "# A first result: recipes beside LightGBM\n",
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, one "
        "thread each, several fits at once on a busy machine (compare seconds within a row). By "
        "benchmarks/first_result.py; rules: experiments/first_result.md. Test AUC / log loss of "
        "dcnv2, single 1x, means over splits; differences are robust less the other, paired over "
        "splits (Student's t, 95%), and of one split over its test rows (DeLong).\n",
    ]
    for half, title in HALVES.items():
        of = {name: fits(out, name, FIRST) for name in halves[half]}
        of = {name: found for name, found in of.items() if found}
        if not of:
            continue
        parts += [f"## {title}\n", tally(of)]
        parts.append(table(["data", "splits", "test rows", *WHO], quality_rows(of)))
        for second, name in (("lightgbm", "LightGBM"), ("paper", "paper")):
            heads = ["data", f"AUC: robust less {name}", f"log loss: robust less {name}"]
            parts.append(table(heads, difference_rows(of, second)))
        parts.append(table(["mean rank", *WHO], ranks(of)))
        heads = ["data", *(f"seconds, {who}" for who in WHO), "robust / paper"]
        parts.append(table([*heads, "predicted / observed, robust"], cost_rows(of)))
        heads = ["data", "model", "splits", "robust", "paper", "AUC: robust less paper"]
        others = list(model_rows(out, halves[half]))
        if others:
            parts.append(table([*heads, "log loss: robust less paper"], iter(others)))
    return "\n".join(parts).replace("nan / nan", "").replace("| nan ", "|  ")
