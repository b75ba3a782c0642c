"""Which calibration errs least on other rows, by how many positives it was fitted to.

    python benchmarks/calibration_methods.py [RUN …]

Prints how much the log loss of other rows rises above the best, in percent: for planted logits
above that of the true probabilities; for runs, of whose validation and test rows a part is fitted
to, above that of the model as it is. `mean` moves the logits by one number, `line` is Platt's.
"""

import sys
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from multiembed.runs.metrics import log_loss
from multiembed.runs.run import load_run

POSITIVES = (5, 20, 50, 100, 300, 1000, 3000, 10_000, 30_000)
REPEATS = 8
OTHERS = 30_000
PLANTED = {
    "right": lambda z: z,
    "odds 1.25 times": lambda z: z + np.log(1.25),
    "too sure": lambda z: 1.5 * z + 0.3,
    "bent": lambda z: z + 0.25 * np.sin(1.5 * z) + 0.2,
    "too sure at the top": lambda z: z + 0.1 + np.maximum(z - z.mean(), 0) / 2.6,
}


def mean(y: np.ndarray, z: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Move all logits, so that the mean is right."""
    return expit(others + brentq(lambda by: expit(z + by).sum() - y.sum(), -30, 30))


def line(y: np.ndarray, z: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Fit slope and intercept."""
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(z[:, None], y)
    return fitted.predict_proba(others[:, None])[:, 1]


def isotonic(y: np.ndarray, z: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Fit any rising function."""
    return IsotonicRegression(out_of_bounds="clip").fit(z, y).predict(others)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "as it is": lambda _y, _z, others: expit(others),
    "mean": mean,
    "line": line,
    "isotonic": isotonic,
}


def planted(name: str, base: float, positives: int, random: np.random.Generator) -> list[float]:
    """Return the excess of every method over the true probabilities."""
    rows = int(positives / base)
    z = random.normal(logit(base) - 0.5, 1.3, rows + OTHERS)
    y, given = (random.random(len(z)) < expit(z)).astype(int), PLANTED[name](z)
    true = expit(z[rows:])
    best = -(true * np.log(true) + (1 - true) * np.log1p(-true)).mean()
    losses = []
    for method in METHODS.values():
        p = np.clip(method(y[:rows], given[:rows], given[rows:]), 1e-7, 1 - 1e-7)
        losses.append(-(true * np.log(p) + (1 - true) * np.log1p(-p)).mean() / best - 1)
    return losses


def of_run(
    y: np.ndarray, z: np.ndarray, positives: int, random: np.random.Generator
) -> list[float]:
    """Return the excess of every method over the model as it is."""
    order = random.permutation(len(y))
    at = int(np.searchsorted(np.cumsum(y[order]), positives)) + 1
    fit, rest = order[:at], order[at:]
    losses = [log_loss(y[rest], method(y[fit], z[fit], z[rest])) for method in METHODS.values()]
    return [loss / losses[0] - 1 for loss in losses]


def table(title: str, rows: dict[int, list[list[float]]]) -> None:
    """Print the means over repeats."""
    print(f"\n{title}\n\n| positives | {' | '.join(METHODS)} |\n|---:|{'---:|' * len(METHODS)}")
    for positives, found in rows.items():
        shown = " | ".join(f"{of:+.3%}" for of in np.mean(found, axis=0))
        print(f"| {positives:,} | {shown} |", flush=True)


def main() -> None:
    """Print a table for every kind of error, or for every run."""
    random = np.random.default_rng(0)
    for path in sys.argv[1:]:
        scores = [load_run(path).score(split, calibrated=False) for split in ("valid", "test")]
        y = np.concatenate([of.labels for of in scores])
        p = np.concatenate([of.probabilities for of in scores]).astype(float)
        z = logit(np.clip(p, 1e-7, 1 - 1e-7))
        counts = [k for k in POSITIVES if k < 0.6 * y.sum()]
        title = f"{path}: {int(y.sum()):,} positives, ratio {p.sum() / y.sum():.3f}"
        table(title, {k: [of_run(y, z, k, random) for _ in range(REPEATS)] for k in counts})
    for base in (0.02, 0.2) if len(sys.argv) == 1 else ():
        for name in PLANTED:
            counts = [k for k in POSITIVES if k / base <= 500_000]
            found = {k: [planted(name, base, k, random) for _ in range(REPEATS)] for k in counts}
            table(f"{name}, {base:.0%} positive", found)


if __name__ == "__main__":
    main()
