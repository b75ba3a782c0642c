"""A tuning as one page: how far it came, which settings mattered, and all trials."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from multiembed.experiments.tune.knobs import Knob, SettingValue
from multiembed.experiments.tune.trials import TrialRecord
from multiembed.experiments.tune.tuned import Tuning, best_of, setting_text
from multiembed.report.axes import Axis, Number, axis_of
from multiembed.report.plot import Chart, Trace, plot
from multiembed.report.shell import html_page, html_table
from multiembed.report.wording import cut_apart

_MARKS = {
    "complete": ("#0072b2", "circle"),
    "pruned": ("#b37700", "x"),
    "best": ("#d55e00", "star"),
}
_STYLE = """
.slices { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.shares { list-style: none; padding: 0; max-width: 44rem; }
.shares li { margin: .35rem 0; } .shares span { float: right; }
.shares i { display: block; height: 8px; background: #9fb6c6; border-radius: 2px; }
"""


def tuning_page(tuning: Tuning) -> str:
    """Return the page of a tuning that has a finished trial."""
    best, name = tuning.best or tuning.recipe, tuning.measure
    counts = {
        s: sum(r.state == s for r in tuning.records) for s in ("complete", "pruned", "failed")
    }
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    body = "\n".join(
        [
            "<header><h1>Tuning</h1></header><main>",
            f"<p>{len(tuning.counted)} trials ({said}), by {name} on the validation split. "
            f"The best, trial {best.number}, has {_number(best.value)}; the recipe has "
            f"{_number(tuning.recipe.value)}. Values of the best of many trials flatter it: the "
            "test split, which no trial read, says how good it is.</p>",
            f"<h2>{name[0].upper()}{name[1:]} trial by trial</h2>",
            plot(_history(tuning)),
            _beyond(tuning),
            "<h2>The best beside the recipe</h2>",
            html_table(("setting", "recipe", "best", "importance"), setting_rows(tuning)),
            "<h2>What mattered</h2>",
            _shares(tuning),
            f"<h2>{name[0].upper()}{name[1:]} by setting</h2>",
            f'<div class="slices">{"".join(_slices(tuning))}</div>',
            "<h2>All trials</h2>",
            _trials(tuning),
            "</main>",
        ]
    )
    return html_page(title="Tuning", body=body, style=_STYLE, scripted=False)


def setting_rows(tuning: Tuning) -> list[tuple[str, str, str, str]]:
    """Return every setting that was varied: of the recipe, of the best, how much it decides."""
    first, best = tuning.settings(tuning.recipe), tuning.settings(tuning.best or tuning.recipe)
    keys = [knob.key for knob in tuning.space.knobs]
    keys.sort(key=lambda key: -tuning.importance.get(key, 0.0))
    return [
        (
            key,
            setting_text(first[key]) if key in first else "",
            setting_text(best[key]) if key in best else "",
            f"{tuning.importance[key]:.0%}" if key in tuning.importance else "",
        )
        for key in keys
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _shown(tuning: Tuning, state: str) -> list[TrialRecord]:
    known = [record for record in tuning.records if record.value is not None]
    return [r for r in known if ("best" if r == tuning.best else r.state) == state]


def _heights(tuning: Tuning) -> Axis:
    """Return the axis of values: those of the worse half may lie on its end."""
    found = sorted(
        r.value for state in _MARKS for r in _shown(tuning, state) if r.value is not None
    )
    if tuning.by == "auc":
        found.reverse()
    most = found[: max(2, (len(found) + 1) // 2)]
    return axis_of([*most, tuning.recipe.value], f"{tuning.measure} on validation")


def _beyond(tuning: Tuning) -> str:
    """Say how many trials are worse than any place on the charts."""
    heights = _heights(tuning)
    values = [record.value for record in tuning.records if record.value is not None]
    count = sum(not heights.low <= value <= heights.high for value in values)
    if not count:
        return ""
    are = "trial is" if count == 1 else "trials are"
    return f'<p class="caption">{count} {are} worse than drawn, on the edge of the charts.</p>'


def _trace(
    tuning: Tuning, records: Sequence[TrialRecord], x: Sequence[Number], state: str, heights: Axis
) -> Trace:
    colour, symbol = _MARKS[state]
    inside = [min(max(r.value or 0.0, heights.low), heights.high) for r in records]
    tips = [f"trial {r.number}: {tuning.measure} {_number(r.value)}, {state}" for r in records]
    return Trace(x=x, y=inside, color=colour, symbol=symbol, name=state, tips=tips)


def _history(tuning: Tuning) -> Chart:
    heights = _heights(tuning)
    traces = []
    for state in _MARKS:
        records = _shown(tuning, state)
        traces.append(_trace(tuning, records, [r.number for r in records], state, heights))
    done = [record for record in tuning.records if record.state == "complete"]
    so_far = [best_of(done[: place + 1], tuning.by) for place in range(len(done))]
    best = [record and record.value for record in so_far]
    # Level until the next trial ends, then upright: two points for every trial.
    ends = [*(record.number for record in done), tuning.records[-1].number]
    line = Trace(
        x=[ends[0], *(number for number in ends[1:] for _ in range(2))][:-1],
        y=[value for value in best for _ in range(2)],
        color="#1a1d21",
        line="solid",
        name="best so far",
    )
    return Chart(
        x=Axis(title="trial", low=-0.5, high=len(tuning.records) - 0.5),
        y=heights,
        series=[line, *[trace for trace in traces if trace.x]],
        words=f"{tuning.measure} of every trial, and the best so far",
    )


def _shares(tuning: Tuning) -> str:
    if not tuning.importance:
        return "<p>Too few trials to say.</p>"
    rows = "".join(
        f'<li>{escape(key)}<span>{share:.0%}</span><i style="width:{100 * share:.1f}%"></i></li>'
        for key, share in sorted(tuning.importance.items(), key=lambda found: -found[1])
    )
    return (
        "<p>How much each setting decides whether a trial is among the best (PED-ANOVA over all "
        "trials, pruned ones by the best they had; the shares add up to 1). Few trials say "
        f'little.</p><ul class="shares">{rows}</ul>'
    )


def _slices(tuning: Tuning) -> list[str]:
    heights = _heights(tuning)
    knobs = sorted(tuning.space.knobs, key=lambda knob: -tuning.importance.get(knob.key, 0.0))
    return [plot(_slice(tuning, knob, heights)) for knob in knobs]


def _slice(tuning: Tuning, knob: Knob, heights: Axis) -> Chart:
    """Return the chart of all trials over one setting."""
    names = [setting_text(choice) for choice in knob.choices]
    traces, every = [], list[Number]()
    for state in _MARKS:
        found = [(r, r.chosen[knob.key]) for r in _shown(tuning, state) if knob.key in r.chosen]
        x = [_place(knob, names, value) for _, value in found]
        every += x
        traces.append(_trace(tuning, [r for r, _ in found], x, state, heights))
    if names:
        short = list(cut_apart(list(map(_short, names)), max(7, 40 // len(names))).values())
        across = Axis(title=knob.key, low=-0.5, high=len(names) - 0.5, names=short)
    else:
        across = axis_of([*every, knob.low, knob.high], knob.key, log=knob.log)
    return Chart(
        x=across,
        y=heights,
        series=[replace(trace, name="") for trace in traces if trace.x],
        words=f"{tuning.measure} over {knob.key}",
        height=200,
    )


def _short(name: str) -> str:
    """Write layers of one width as so many of it."""
    widths = name.split(",")
    return f"{len(widths)}x{widths[0]}" if len(widths) > 1 == len(set(widths)) else name


def _place(knob: Knob, names: Sequence[str], value: SettingValue) -> Number:
    return (
        names.index(setting_text(value))
        if knob.choices
        else value
        if isinstance(value, int | float)
        else knob.low
    )


def _trials(tuning: Tuning) -> str:
    keys = [knob.key for knob in tuning.space.knobs]
    headings = ("trial", "state", tuning.measure, "evaluations", "seconds")
    rows = []
    for record in tuning.records:
        of = tuning.settings(record)
        seconds = "" if record.seconds is None else f"{record.seconds:.1f}"
        state = f"{record.state}: {record.reason}" if record.reason else record.state
        told = (str(record.number), state, _number(record.value), str(record.evaluations), seconds)
        rows.append((*told, *(setting_text(of[key]) if key in of else "" for key in keys)))
    return html_table((*headings, *(key.rpartition(".")[2] for key in keys)), rows)
