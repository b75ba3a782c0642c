"""Charts of tables: their spectra, and their measures by cardinality, beside random tables.

All take models as `Diagnosis.to_dict` writes them and return HTML.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from multiembed.diagnosis.measure_words import written
from multiembed.diagnosis.verdict import VERDICTS
from multiembed.report.axes import Axis, Number, axis_of
from multiembed.report.plot import Chart, Trace, plot
from multiembed.report.shell import variants
from multiembed.report.wording import cut_name
from multiembed.spectra.catalogue import MEASURES
from multiembed.spectra.null_spectrum import null_spectrum

Found = Mapping[str, Any]
"""A diagnosis, or a part of one, in plain lists and dictionaries."""

MODEL_LOOKS = (
    ("#0072b2", "circle"),
    ("#e69f00", "square"),
    ("#009e73", "diamond"),
    ("#cc79a7", "triangle-up"),
    ("#56b4e9", "cross"),
    ("#d55e00", "x"),
    ("#5c6670", "star"),
)
"""Of models side by side."""
RANDOM = "#6b7681"
"""Of random tables, everywhere."""
FEW_FIELDS = 25
"""So many fields can carry marks and names."""
MARKED = 64
"""So many values of a spectrum can carry marks."""
CARDINALITY_AXIS = "cardinality: rows of the field's table"
SINGULAR = "singular value, over the largest"
DIRECTION = "direction, from the strongest"
LOWEST = 1e-8
"""Of the largest singular value: below it lies rounding."""


def spectra(fields: Sequence[Found]) -> str:
    """Draw the singular values of every field's table beside those of random tables."""
    charts = {
        (name,): plot(spectra_chart(fields, centered=name == "less their mean"))
        for name in ("as they are", "less their mean")
    }
    return variants([("rows", ["as they are", "less their mean"])], charts)


def spectra_chart(fields: Sequence[Found], *, centered: bool = False, height: int = 340) -> Chart:
    """Return the chart of singular values, as they are or less their rows' mean."""
    which = "centered_singular_values" if centered else "singular_values"
    curves = [(field, _over_largest(field[which])) for field in fields]
    learned = [_spectrum(field, values, few=len(fields) <= FEW_FIELDS) for field, values in curves]
    order = list(VERDICTS)
    learned.sort(key=lambda series: order.index(series.name))
    random = _random_curves(fields, centered=centered)
    longest = max(len(values) for _, values in curves)
    smallest = min((v for _, values in curves for v in values if v and v > LOWEST), default=0.1)
    return Chart(
        x=Axis(title=DIRECTION, low=0.5, high=longest + 0.5),
        y=Axis(title=SINGULAR, low=min(0.5, smallest) / 1.15, high=1.2, log=True),
        series=[*learned, *random],
        words="Singular values of every table over its largest, by direction",
        height=height,
    )


def _over_largest(values: Sequence[float]) -> list[float | None]:
    return [v / values[0] if v > 0 and values[0] > 0 else None for v in values]


def _spectrum(field: Found, values: Sequence[float | None], *, few: bool) -> Trace:
    label = field["verdict"]["label"]
    look = VERDICTS[label]
    symbol = look.symbol if few and len(values) <= MARKED else None
    return Trace(
        x=list(range(1, len(values) + 1)),
        y=values,
        color=look.color,
        name=label,
        line="solid",
        symbol=symbol,
        width=1.6 if few else 1,
        tips=_tips(f"{field['name']}, {label}", values if symbol else None),
        key=field["name"],
    )


def _tips(name: str, values: Sequence[float | None] | None) -> list[str]:
    """Say what each mark of a spectrum is, or, of one without marks, what its line is.

    The page's script adds the number below the pointer to a line's.
    """
    if values is None:
        return [name]
    numbered = enumerate(values, start=1)
    return [f"{name}: {v or 0:.3g} of the largest in direction {k}" for k, v in numbered]


def _random_curves(fields: Sequence[Found], *, centered: bool) -> list[Trace]:
    """Return the curves of random tables: of every shape that is judged, if these are few.

    Where they are many, the smallest and the largest table of the commonest width stand for all;
    a field's own is shown when the field is picked.
    """
    shapes = [_judged_shape(field, centered=centered) for field in fields]
    widths = [columns for _, columns in shapes]
    common = max(set(widths), key=widths.count)
    rows = [rows for rows, columns in shapes if columns == common]
    shown = dict.fromkeys([(min(rows), common), (max(rows), common)])
    curves = [_random_curve(shape, name="random table of the same shape") for shape in shown]
    own = zip(fields, shapes, strict=True)
    hidden = [_random_curve(shape, key=f["name"]) for f, shape in own if shape not in shown]
    return [*curves, *hidden]


def _judged_shape(field: Found, *, centered: bool) -> tuple[int, int]:
    rows = field["cardinality"] - int(centered)
    return max(1, rows), field["dim"] * field["sets"]


def _random_curve(shape: tuple[int, int], *, name: str = "", key: str | None = None) -> Trace:
    values = null_spectrum(*shape)
    return Trace(
        x=list(range(1, len(values) + 1)),
        y=[float(value) for value in values],
        color=RANDOM,
        name=name,
        line="dot",
        width=2.2,
        tips=[f"a random table of {shape[0]:,} × {shape[1]}"],
        key=key,
        faint=key is not None,
    )


def sparkline(field: Found) -> str:
    """Draw one spectrum in a cell, logarithmic from 1 to 0.001, over a random table's."""
    width, height = 84, 20

    def points(values: Iterable[float | None]) -> str:
        known = list(values)
        levels = [max(-3.0, math.log10(v)) if v else -3.0 for v in known]
        step = width / max(1, len(known) - 1)
        return " ".join(f"{k * step:.1f},{1 - 6 * v:.1f}" for k, v in enumerate(levels))

    random = points(map(float, null_spectrum(*_judged_shape(field, centered=False))))
    own = points(_over_largest(field["singular_values"]))
    color = VERDICTS[field["verdict"]["label"]].color
    return (
        f'<svg class="me spark" width="{width}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="spectrum"><polyline points="{own}" stroke="{color}" stroke-width="1.8"/>'
        f'<polyline points="{random}" stroke="{RANDOM}" stroke-dasharray="1.5 3"/></svg>'
    )


def abundance(models: Sequence[Found]) -> str:
    """Draw measures against cardinality, or fields in order: Figure 2 of the paper."""
    measures = {name: of.menu for name, of in MEASURES.items() if of.menu is not None}
    across = ("cardinality", "fields in order")
    charts = {
        (menu, way): plot(_abundance_chart(models, name, in_order=way != "cardinality"))
        for name, menu in measures.items()
        for way in across
    }
    return variants([("measure", list(measures.values())), ("across", list(across))], charts)


def _abundance_chart(models: Sequence[Found], measure: str, *, in_order: bool) -> Chart:
    order = _ranks(models, measure)

    def place(field: Found) -> Number:
        return order[field["name"]] if in_order else field["cardinality"]

    series = [_random_values(models, measure, place)] if MEASURES[measure].random else []
    for number, model in enumerate(models):
        series += _learned_values(model, measure, place, number if len(models) > 1 else None)
    first = f" in {models[0]['name']}" if len(models) > 1 else ""
    title = f"fields, by rising value{first}" if in_order else CARDINALITY_AXIS
    values = [y for s in series for y in s.y]
    xs = [x for s in series for x in s.x]
    return Chart(
        x=axis_of(xs, title, log=not in_order, from_zero=in_order),
        y=axis_of(values, MEASURES[measure].menu or measure, from_zero=True),
        series=series,
        words=f"{MEASURES[measure].words or measure}, by field",
    )


def _ranks(models: Sequence[Found], measure: str) -> dict[str, int]:
    names = (f["name"] for m in models for f in sorted(m["fields"], key=lambda f: _key(f[measure])))
    return {name: rank for rank, name in enumerate(dict.fromkeys(names), start=1)}


def _key(value: Number | None) -> Number:
    return math.inf if value is None else value


def _random_values(
    models: Sequence[Found], measure: str, place: Callable[[Found], Number]
) -> Trace:
    expected = MEASURES[measure].random
    fields = [field for model in models for field in model["fields"]]
    at = {
        (place(f), f[expected] if isinstance(expected, str) else float(expected or 0))
        for f in fields
    }
    pairs = sorted(at)
    return Trace(
        x=[x for x, _ in pairs],
        y=[y for _, y in pairs],
        color=RANDOM,
        name="random table of the same shape",
        symbol="line-ew",
    )


def _learned_values(
    model: Found, measure: str, place: Callable[[Found], Number], number: int | None
) -> list[Trace]:
    """Return the marks of a model: by verdict where it is the only one, one look for it else."""
    fields = model["fields"]
    if number is not None:
        color, symbol = MODEL_LOOKS[number % len(MODEL_LOOKS)]
        groups = [(model["name"], color, symbol, fields)]
    else:
        groups = [
            (label, look.color, look.symbol, [f for f in fields if f["verdict"]["label"] == label])
            for label, look in VERDICTS.items()
        ]
    named = number is None and len(fields) <= FEW_FIELDS
    return [
        Trace(
            x=[place(f) for f in members],
            y=[f[measure] for f in members],
            color=color,
            name=name,
            symbol=symbol,
            tips=[_said(f, measure, None if number is None else name) for f in members],
            labels=[cut_name(f["name"], 18) for f in members] if named else (),
        )
        for name, color, symbol, members in groups
        if members
    ]


def _said(field: Found, measure: str, model: str | None) -> str:
    inside = "" if model is None else f" in {model}"
    null = written(MEASURES["null_information_abundance"], field["null_information_abundance"])
    return (
        f"{field['name']}{inside}: {MEASURES[measure].menu} "
        f"{written(MEASURES[measure], field[measure])}; abundance of a random table of this "
        f"shape {null}; {field['cardinality']:,} rows"
    )


def mean_spectra(models: Sequence[Found]) -> str:
    """Draw every model's singular values, geometric means over its fields of full rank."""
    curves = [(model["name"], _mean_spectrum(model)) for model in models]
    series = [
        Trace(
            x=list(range(1, len(values) + 1)),
            y=values,
            color=MODEL_LOOKS[number % len(MODEL_LOOKS)][0],
            symbol=MODEL_LOOKS[number % len(MODEL_LOOKS)][1] if len(values) <= MARKED else None,
            name=name,
            line="solid",
            tips=_tips(name, values if len(values) <= MARKED else None),
        )
        for number, (name, values) in enumerate(curves)
    ]
    longest = max(len(values) for _, values in curves)
    y = axis_of([v for _, values in curves for v in values if v > LOWEST], SINGULAR, log=True)
    x = Axis(title=DIRECTION, low=0.5, high=longest + 0.5)
    return plot(Chart(x=x, y=y, series=series, words="Mean spectrum of every model"))


def _mean_spectrum(model: Found) -> list[float]:
    longest = max(len(field["singular_values"]) for field in model["fields"])
    full = [
        [max(v / f["singular_values"][0], 1e-12) for v in f["singular_values"]]
        for f in model["fields"]
        if len(f["singular_values"]) == longest and f["singular_values"][0] > 0
    ]
    return [math.exp(math.fsum(map(math.log, at)) / len(at)) for at in zip(*full, strict=True)]
