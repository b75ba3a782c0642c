"""From curves to a recommendation: stay, wider, more sets or more data, and how sure."""

from collections.abc import Sequence
from dataclasses import dataclass

from multiembed.experiments.analysis.scaling import (
    Curve,
    Estimate,
    HeldOut,
    Law,
    Matched,
    abundance_against_gain,
    curves,
    errors,
    fit_law,
    hold_out,
    match,
    rises,
)
from multiembed.experiments.analysis.statistics import (
    JUDGED_BY,
    NO_EVIDENCE,
    PairedDifference,
    compare_points,
    seeds_needed,
)
from multiembed.experiments.grid.outcome import Point

ABUNDANCE_QUESTION = "Does abundance at the first evaluation predict the gain?"


@dataclass(frozen=True, eq=False)
class CurveLaw:
    """What a law says about one curve."""

    curve: str
    measure: str
    """`test_auc` (the law is of 1 less the AUC) or `test_log_loss`."""
    law: Law | None
    """`None` for fewer than three sizes."""
    rises: list[int]
    """Sizes that are worse than the size before: there a falling law does not describe them."""
    held_out: HeldOut | None


@dataclass(frozen=True)
class Recommendation:
    """What to do with one architecture."""

    architecture: str
    action: str
    """`stay`, `wider`, `more sets` or `more data`."""
    confidence: str
    """`high`, `moderate` or `none`."""
    text: str
    """Two sentences."""


@dataclass(frozen=True, eq=False)
class Advice:
    """Everything the page says."""

    curves: list[Curve]
    laws: list[CurveLaw]
    matched: list[Matched]
    abundance_rows: list[dict[str, object]]
    abundance_correlation: float
    abundance_p_value: float
    recommendations: list[Recommendation]

    @property
    def abundance_words(self) -> str:
        """Whether abundance at the first evaluation predicts the gain, in a sentence."""
        count = len(self.abundance_rows)
        unsure = NO_EVIDENCE.capitalize()
        if count < 4:
            return f"{unsure}: {count} scaled models are too few for a rank correlation."
        numbers = (
            f"rank correlation {self.abundance_correlation:+.2f}, p = "
            f"{self.abundance_p_value:.2g}, {count} models"
        )
        if not self.abundance_p_value < 0.05:
            return f"{unsure} that abundance at the first evaluation predicts it ({numbers})."
        rises = self.abundance_correlation > 0
        sign, why = ("larger", "; a greater size alone raises both") if rises else ("smaller", "")
        said = f"The more abundance had grown by the first evaluation, the {sign} it"
        return f"{said} ({numbers}){why}."

    @property
    def held_out_words(self) -> str | None:
        """How well smaller sizes predict the largest, in a sentence; `None` where none was held."""
        inside, nearer = [], []
        for measure, name in JUDGED_BY.items():
            held = [law.held_out for law in self.laws if law.measure == measure and law.held_out]
            if not held:
                return None
            inside.append(f"{sum(one.inside for one in held)} of {len(held)} curves of {name}")
            nearer.append(f"{sum(one.nearer for one in held)}")
        return (
            "A law of the smaller sizes predicts the largest within its interval in "
            f"{' and '.join(inside)}; it is nearer than the size below in {' and '.join(nearer)}."
        )


def advise(points: Sequence[Point]) -> Advice:
    """Judge the points of a grid."""
    found = curves(points)
    rows, correlation, p_value = abundance_against_gain(found)
    families = dict.fromkeys((curve.architecture, curve.variant) for curve in found)
    matched = []
    for family in families:
        ways = {c.scaling: c for c in found if (c.architecture, c.variant) == family}
        if len(ways) == 2:
            matched += match(ways["single"], ways["multi"])
    return Advice(
        curves=found,
        laws=[_law(curve, measure) for curve in found for measure in JUDGED_BY],
        matched=matched,
        abundance_rows=rows,
        abundance_correlation=correlation,
        abundance_p_value=p_value,
        recommendations=[_recommend(*family, points) for family in families],
    )


def law_words(found: CurveLaw) -> str:
    """Say what a law says, and where it is not to be believed."""
    if found.law is None:
        return "fewer than three sizes: no law"
    a, b, c = found.law.a, found.law.b, found.law.c
    text = f"{a.value:.4g} x^-{b.value:.3g} + {c.value:.4g}{_interval_words(b, c)}"
    if found.rises:
        sizes = ", ".join(f"{size}x" for size in found.rises)
        text += f"; not monotone (worse at {sizes}): the law does not hold there"
    return text


def _interval_words(b: Estimate, c: Estimate) -> str:
    if b.low != b.low:
        return " (no repetitions, no intervals)"
    return f" (b {b.low:.2g} to {b.high:.2g}, limit {c.low:.4g} to {c.high:.4g})"


def _law(curve: Curve, measure: str) -> CurveLaw:
    enough = len(curve.points) >= 3
    sizes = [float(size) for size in curve.sizes]
    return CurveLaw(
        curve=curve.name,
        measure=measure,
        law=fit_law(sizes, errors(curve, measure)) if enough else None,
        rises=rises(curve, measure),
        held_out=hold_out(curve, measure),
    )


def _recommend(architecture: str, variant: str, points: Sequence[Point]) -> Recommendation:
    name = f"{architecture} {variant}".rstrip()
    own = [
        p
        for p in points
        if (p.labels.architecture, p.labels.variant) == (architecture, variant)
        and p.labels.size is not None
    ]
    whole = [point for point in own if point.labels.share == 1.0]
    base = next((point for point in whole if point.labels.size == 1), None)
    scaled = [point for point in whole if point.labels.size != 1]
    if base is None or not scaled:
        text = f"{name}: {NO_EVIDENCE}, since the base and a larger model were not both run."
        return Recommendation(name, "stay", "none", f"{text} Stay until both have been.")
    # Chosen on validation rows, judged on test rows: the choice does not flatter the judgement.
    best = max(scaled, key=lambda point: point.spread("valid_auc").mean)
    gain = compare_points(best, base)
    data = _gain_of_data(own, base)
    if not (gain.is_evidence and gain.difference > 0):
        return _stay(name, best, gain, data)
    more = f"{name}: go to {_named(best)}, which brings test AUC {_numbers(gain)} over the base."
    wider = best.labels.scaling == "single"
    labels = best.labels
    rival = [
        p for p in scaled if p.labels.size == labels.size and p.labels.scaling != labels.scaling
    ]
    against = _against(best, rival[0]) if rival else "The other way was not run at this size."
    action = "wider" if wider else "more sets"
    return Recommendation(name, action, _confidence(gain), f"{more} {against}")


def _stay(
    name: str, best: Point, gain: PairedDifference, data: PairedDifference | None
) -> Recommendation:
    verdict = gain.words(_named(best), "the base", measure="test AUC")
    if data is not None and data.is_evidence and data.difference > 0:
        text = (
            f"{name}: get more data; the last step of training rows brought test AUC "
            f"{_numbers(data)}. Of larger models, the one best in validation brought nothing sure: "
            f"{verdict}."
        )
        return Recommendation(name, "more data", _confidence(data), text)
    worse = gain.is_evidence
    text = f"{name}: stay at the base; {verdict}. {_needed(gain)}"
    return Recommendation(name, "stay", _confidence(gain) if worse else "none", text)


def _gain_of_data(own: Sequence[Point], base: Point) -> PairedDifference | None:
    """Return what the last step of training rows brought the base, if shares were run."""
    fewer = [p for p in own if p.labels.size == 1 and p.labels.share < 1.0]
    if not fewer:
        return None
    return compare_points(base, max(fewer, key=lambda point: point.labels.share))


def _needed(gain: PairedDifference) -> str:
    if gain.is_evidence:
        return "The loss is evident, so more runs would not change this."
    if not gain.std > 0 or gain.difference == 0:
        return "More runs would tell."
    try:
        needed = seeds_needed(gain.std, gain.difference)
    except ValueError:
        return "A difference as small as this one cannot be told with any number of runs."
    return (
        f"Were the difference real, about {needed} runs of each would show it four times in five."
    )


def _against(best: Point, rival: Point) -> str:
    return compare_points(best, rival).sentence(_named(best), _named(rival), measure="test AUC")


def _numbers(gain: PairedDifference) -> str:
    return (
        f"{gain.difference:+.5f} (95% interval {gain.t.low:+.5f} to {gain.t.high:+.5f}, "
        f"{gain.count} pairs)"
    )


def _named(point: Point) -> str:
    return f"{point.labels.scaling} {point.labels.size}x"


def _confidence(gain: PairedDifference) -> str:
    if not gain.is_evidence:
        return "none"
    return "high" if gain.p_value < 0.01 else "moderate"
