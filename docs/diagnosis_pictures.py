"""The pictures of docs/diagnosis.md, from tables planted here and measured by the package.

    python docs/diagnosis_pictures.py

writes `docs/diagnosis/NAME.svg`, the same bytes every time.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from multiembed.report.axes import Axis, axis_of
from multiembed.report.plot import Chart, Trace, picture
from multiembed.spectra.measures import (
    effective_rank,
    information_abundance,
    null_information_abundance,
    stable_rank,
)
from multiembed.spectra.null_spectrum import null_spectrum

FOLDER = Path(__file__).with_name("diagnosis")
Matrix = Float64[np.ndarray, "rows columns"]
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#6b7681"
LOOKS = ((BLUE, "circle"), (ORANGE, "triangle-down"), (GREEN, "diamond"))
HEIGHT = 170


def normal(rows: int, columns: int, *, seed: int = 0) -> Matrix:
    """Return independent normal numbers."""
    return np.random.default_rng(seed).normal(size=(rows, columns))


def falling(rows: int, columns: int, ratio: float) -> Matrix:
    """Return a table whose directions grow weaker by a ratio from one to the next."""
    return normal(rows, columns) * ratio ** np.arange(columns)


def long_row() -> Matrix:
    """Return a healthy table of which one row is sixty times as long as the others."""
    table = falling(400, 16, 0.97)
    table[7] *= 60
    return table


PLANTED: Mapping[str, Matrix] = {
    "low rank": normal(400, 4) @ normal(4, 16, seed=1) + 0.02 * normal(400, 16, seed=2),
    "few rows dominate": long_row(),
    "rows near zero": falling(400, 16, 0.95) * np.where(np.arange(400) < 120, 1, 1e-5)[:, None],
    "untrained rows": falling(400, 16, 0.95),
    "too wide": normal(9, 16),
    "strong direction": normal(400, 16) * np.where(np.arange(16) == 0, 6, 1),
    "uneven": falling(400, 16, 0.82),
    "common mean": falling(400, 16, 0.95) + 3,
    "like random": normal(4000, 16),
    "healthy": falling(400, 16, 0.93),
}
"""A table of every verdict."""
COUNTS = {"untrained rows": (np.arange(400) < 100).astype(np.int64)}
"""How often training met their rows."""


def values_of(table: Matrix, *, centered: bool = False) -> list[float]:
    """Return the singular values over the largest, by NumPy."""
    rows = table - table.mean(axis=0) if centered else table
    values = np.linalg.svd(rows, compute_uv=False)
    return [float(value) for value in values / values[0]]


def line(values: list[float], look: int, name: str, *, random: bool = False) -> Trace:
    """Return a spectrum."""
    color, symbol = LOOKS[look]
    return Trace(
        x=list(range(1, len(values) + 1)),
        y=values,
        color=GREY if random else color,
        symbol=None if random else symbol,
        line="dot" if random else "solid",
        width=2.2,
        name=name,
    )


def spectra(series: list[Trace], words: str, *, log: bool = True) -> Chart:
    """Return a chart of spectra."""
    last = max(len(one.x) for one in series)
    low = min(value for one in series for value in one.y if value)
    y = Axis(title="singular value", low=max(low, 1e-4) / 1.2, high=1.2, log=True)
    if not log:
        y = Axis(title="singular value", low=0, high=1.05)
    x = Axis(title="direction, from the strongest", low=0.5, high=last + 0.5)
    return Chart(x=x, y=y, series=series, words=words, height=HEIGHT)


def beside_random(name: str) -> Chart:
    """Return the spectrum of a planted table less its mean, beside a random table's."""
    table = PLANTED[name]
    rows, columns = table.shape
    random = [float(value) for value in null_spectrum(rows - 1, columns)]
    return spectra(
        [
            line(values_of(table, centered=True)[: len(random)], 0, f"{rows} × {columns}"),
            line(random, 0, "random table of the same shape", random=True),
        ],
        f"Spectrum of a table: {name}",
    )


def offset() -> Chart:
    """Return the spectrum of a table with a common mean, with and without it."""
    table = PLANTED["common mean"]
    return spectra(
        [
            line(values_of(table), 1, "as it is"),
            line(values_of(table, centered=True), 0, "less the mean row"),
            line([float(v) for v in null_spectrum(399, 16)], 0, "random table", random=True),
        ],
        "Spectrum of a table with and without its mean row",
    )


def lengths(name: str) -> Chart:
    """Return how long the rows of a planted table are, from the longest."""
    norms = np.sort(np.linalg.norm(PLANTED[name], axis=1))[::-1]
    y = [float(value) for value in norms / np.median(norms)]
    x = list(range(1, len(y) + 1))
    marks = Trace(x=x, y=y, color=BLUE, symbol="circle", name="one row each")
    return Chart(
        x=axis_of(x, "row, from the longest", log=True),
        y=axis_of(y, "length, over the median", log=True),
        series=[marks],
        words="Lengths of rows, from the longest",
        height=HEIGHT,
    )


def met() -> Chart:
    """Return the row lengths of a table of which training met the first quarter."""
    norms = np.linalg.norm(PLANTED["untrained rows"], axis=1)
    seen = COUNTS["untrained rows"] > 0
    series = [
        Trace(
            x=[int(at) for at in np.flatnonzero(which)],
            y=[float(value) for value in norms[which]],
            color=color,
            symbol=symbol,
            name=name,
        )
        for which, color, symbol, name in (
            (seen, BLUE, "circle", "rows met in training"),
            (~seen, GREY, "x", "rows as they were initialised"),
        )
    ]
    return Chart(
        x=Axis(title="row", low=-8, high=408),
        y=Axis(title="length", low=0, high=1.05 * float(norms.max())),
        series=series,
        words="Rows that training met, and rows that it did not",
        height=HEIGHT,
    )


def clouds() -> Chart:
    """Return the rows of two tables of two columns as points."""
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    tables = normal(150, 2) @ turn, (normal(150, 2, seed=3) * [1.0, 0.04]) @ turn
    names = ("two directions in use", "one direction in use")
    series = [
        Trace(
            x=[float(x) for x in table[:, 0]],
            y=[float(y) for y in table[:, 1]],
            color=color,
            symbol=symbol,
            name=f"{name}: abundance {information_abundance(table):.2f}",
        )
        for table, name, (color, symbol) in zip(tables, names, LOOKS, strict=False)
    ]
    x, y = (Axis(title=f"column {k}", low=-3, high=3) for k in (1, 2))
    return Chart(x=x, y=y, series=series, words="Rows of two tables as points", height=260)


EXAMPLES = {"even": 1.0, "falling": 0.75, "one strong": 0.25}
"""How fast the directions of three tables grow weaker."""


def example(ratio: float) -> Matrix:
    """Return a table of 400 rows and 8 columns."""
    return falling(400, 8, ratio)


def abundance() -> Chart:
    """Return three spectra, the area below each being its abundance."""
    series = [
        line(values_of(example(ratio)), k, f"{name}: {information_abundance(example(ratio)):.2f}")
        for k, (name, ratio) in enumerate(EXAMPLES.items())
    ]
    return spectra(series, "Three spectra and their information abundance", log=False)


def random_abundance() -> Chart:
    """Return the abundance of random tables of 16 columns, by rows."""
    rows = sorted({round(float(n)) for n in np.geomspace(2, 20_000, 60)})
    curve = Trace(
        x=rows,
        y=[null_information_abundance(n, 16) for n in rows],
        color=GREY,
        line="solid",
        width=2.2,
        name="random table of 16 columns",
    )
    return Chart(
        x=axis_of(rows, "rows", log=True),
        y=Axis(title="abundance", low=0, high=17),
        series=[curve],
        words="Abundance of random tables of 16 columns, by rows",
        height=HEIGHT,
    )


def energy() -> Chart:
    """Return the share of the energy that the first directions hold."""
    series = []
    for k, (name, ratio) in enumerate(EXAMPLES.items()):
        energies = np.square(values_of(example(ratio), centered=True))
        held = np.cumsum(energies) / energies.sum()
        k99 = int(np.searchsorted(held, 0.99)) + 1
        series.append(line([float(v) for v in held], k, f"{name}: K99 {k99} of 8"))
    limit = Trace(x=[0.5, 8.5], y=[0.99, 0.99], color=GREY, line="dot", width=2, name="99%")
    x = Axis(title="directions kept, the strongest first", low=0.5, high=8.5)
    y = Axis(title="energy kept", low=0, high=1.05, percent=True)
    words = "Energy that the first directions hold"
    return Chart(x=x, y=y, series=[*series, limit], words=words, height=HEIGHT)


COUNTED: Mapping[str, Callable[[Matrix], float]] = {
    "information abundance": information_abundance,
    "effective rank": effective_rank,
    "stable rank": stable_rank,
}


def counts() -> Chart:
    """Return three ways to count directions, of tables that fall ever faster."""
    ratios = [k / 20 for k in range(4, 21)]
    series = [
        Trace(
            x=ratios,
            y=[float(measure(falling(4000, 8, ratio))) for ratio in ratios],
            color=color,
            symbol=symbol,
            line="solid",
            name=name,
        )
        for (name, measure), (color, symbol) in zip(COUNTED.items(), LOOKS, strict=True)
    ]
    return Chart(
        x=Axis(title="each direction over the one before", low=0.17, high=1.03),
        y=Axis(title="directions", low=0, high=8.4),
        series=series,
        words="Three counts of directions of the same tables",
        height=HEIGHT,
    )


def carried() -> Chart:
    """Return the spectrum of a table, and of it as a poor field meets it."""
    table = falling(400, 8, 0.95)
    poor = normal(8, 8, seed=4) * 0.45 ** np.arange(8)
    views = {"the table itself": table, "as it reaches a poor field": table @ poor}
    series = [
        line(values_of(one), k, f"{name}: abundance {information_abundance(one):.2f}")
        for k, (name, one) in enumerate(views.items())
    ]
    return spectra(series, "A table before and after a projection", log=False)


def sets() -> Chart:
    """Return the cosines between the column spaces of two sets."""
    first = normal(60, 8, seed=1)
    others = {
        "the same directions": first @ normal(8, 8, seed=2),
        "other directions": normal(60, 8, seed=3),
    }
    bases = {name: np.linalg.qr(one)[0] for name, one in others.items()}
    own = np.linalg.qr(first)[0]
    series = []
    for k, (name, base) in enumerate(bases.items()):
        cosines = np.clip(np.linalg.svd(own.T @ base, compute_uv=False), 0, 1)
        said = f"{name}: diversity {abs(1 - float(cosines.mean())):.2f}"
        series.append(line([float(v) for v in cosines], k, said))
    y = Axis(title="cosine of the angle", low=0, high=1.05)
    x = Axis(title="pair of directions", low=0.5, high=8.5)
    return Chart(x=x, y=y, series=series, words="Angles between two sets", height=HEIGHT)


def promises() -> Chart:
    """Return a calibrated model's curve, and one that promises too much."""
    predicted = [0.02, 0.05, 0.1, 0.2, 0.4]
    series = [
        Trace(x=[0, 0.45], y=[0, 0.45], color=GREY, line="dash", name="calibrated"),
        Trace(
            x=predicted,
            y=[0.6 * p for p in predicted],
            color=ORANGE,
            symbol="triangle-down",
            line="solid",
            name="promises too much",
        ),
    ]
    x, y = (
        Axis(title=title, low=0, high=0.45, percent=True) for title in ("predicted", "observed")
    )
    return Chart(x=x, y=y, series=series, words="Observed against predicted", height=200)


PICTURES: Mapping[str, Callable[[], Chart]] = {
    "rows": clouds,
    "information-abundance": abundance,
    "random-table": random_abundance,
    "k99": energy,
    "other-counts": counts,
    "carried": carried,
    "diversity": sets,
    "calibration": promises,
    "common-mean": offset,
    "few-rows-dominate": lambda: lengths("few rows dominate"),
    "rows-near-zero": lambda: lengths("rows near zero"),
    "untrained-rows": met,
} | {
    name.replace(" ", "-"): (lambda name=name: beside_random(name))
    for name in ("low rank", "too wide", "strong direction", "uneven", "like random", "healthy")
}
"""Every picture, by the name of its file."""

if __name__ == "__main__":
    for name, drawn in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(picture(drawn(), width=560), encoding="utf-8")
