"""Advice on scaling: laws planted and found again, fair comparisons, and words that fit."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from multiembed.experiments.analysis.advice import advise, law_words
from multiembed.experiments.analysis.advice_page import advice_page, curves_chart
from multiembed.experiments.analysis.scaling import (
    abundance_against_gain,
    averages,
    curves,
    fit_law,
    hold_out,
    match,
    printed_average,
    rises,
)
from multiembed.experiments.analysis.statistics import (
    compare_on_average,
    contrasts,
    rank_correlation,
)
from multiembed.experiments.grid.grid import RunLabels
from multiembed.experiments.grid.outcome import Outcome, Point

SIZES = (1, 2, 4, 10)


def outcome(auc, *, size=1, scaling="single", first=5.0, parameters=None, valid=None):
    wide = scaling == "single"
    return Outcome(
        run="run",
        dim=10 * size if wide else 10,
        sets=1 if wide else size,
        parameters=parameters or 1000 * size * (size if wide else 1),
        parameters_embedding=900 * size,
        parameters_interaction=50,
        parameters_head=50,
        flops=100 * size * (size if wide else 1),
        valid_auc=auc if valid is None else valid,
        test_auc=auc,
        test_log_loss=1 - auc,
        test_normalized_entropy=0.9,
        test_calibration_ratio=1.0,
        information_abundance=first,
        centered_information_abundance=first,
        normalized_information_abundance=0.5,
        first_information_abundance=first,
        epochs=3,
        best_epoch=2,
        seconds=10.0 * size,
        peak_memory_bytes=1_000_000 * size,
    )


def point(aucs, *, size=1, scaling="single", share=1.0, architecture="dcnv2", first=5.0):
    return Point(
        labels=RunLabels(architecture=architecture, size=size, scaling=scaling, share=share),
        outcomes=tuple(outcome(a, size=size, scaling=scaling, first=first) for a in aucs),
        replicas=tuple((None, seed) for seed in range(len(aucs))),
    )


NOISE = np.array([1e-4, -2e-4, 3e-4, 0.0, -2e-4])


def grid(single, multi, *, noise=NOISE, base=0.750):
    """Points whose seeds move all sizes alike, but for a little."""
    found = [point(base + noise)]
    for at, (size, gain) in enumerate(zip(SIZES[1:], single, strict=True)):
        found.append(point(base + gain + noise + 1e-5 * np.roll(noise, at + 1) / 1e-4, size=size))
    for at, (size, gain) in enumerate(zip(SIZES[1:], multi, strict=True)):
        seeds = base + gain + noise + 1e-5 * np.roll(noise, at) / 1e-4
        found.append(point(seeds, size=size, scaling="multi"))
    return found


def test_a_curve_begins_at_the_base_whichever_way_it_goes():
    found = curves(reversed(grid((0.001, 0.002, 0.003), (0.002, 0.004, 0.006))))

    assert [(c.scaling, c.sizes) for c in found] == [
        ("single", [1, 2, 4, 10]),
        ("multi", [1, 2, 4, 10]),
    ]


@pytest.mark.parametrize(("a", "b", "c"), [(0.1, 0.5, 0.2), (0.02, 1.5, 0.18), (0.5, 0.1, 0.0)])
def test_an_exact_law_is_found_again(a, b, c):
    x = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    law = fit_law(list(x), [[value] for value in a * x**-b + c])

    assert law.b.value == pytest.approx(b, rel=0.02)
    assert law.a.value == pytest.approx(a, rel=0.05)
    assert law.predict(20.0).value == pytest.approx(a * 20.0**-b + c, rel=0.01)
    assert np.isnan(law.b.low)


def test_a_noisy_law_is_the_least_squares_fit_of_scipy():
    random = np.random.default_rng(0)
    x = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 10.0])
    values = 0.1 * x**-0.7 + 0.2 + random.normal(0, 1e-3, (5, 6))

    law = fit_law(list(x), values.T.tolist())

    best, _ = optimize.curve_fit(lambda x, a, b, c: a * x**-b + c, x, values.mean(axis=0))
    assert (law.a.value, law.b.value, law.c.value) == pytest.approx(best, rel=0.02)


def test_the_intervals_of_a_law_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(1)
    x = np.array([1.0, 2.0, 4.0, 10.0])
    held = 0
    for at in range(60):
        values = 0.1 * x**-1.0 + 0.2 + random.normal(0, 1e-3, (3, 4))
        law = fit_law(list(x), values.T.tolist(), seed=at)
        held += law.b.low <= 1.0 <= law.b.high
    assert held >= 52


def test_a_law_needs_three_sizes():
    with pytest.raises(ValueError, match="three sizes"):
        fit_law([1.0, 2.0], [[0.3], [0.2]])


def test_the_largest_size_is_predicted_from_the_others():
    gains = [0.01 * (1 - size**-1.0) for size in SIZES[1:]]
    [single, _] = curves(grid(gains, gains))

    held = hold_out(single, "test_auc")

    assert held.size == 10
    assert held.measured == pytest.approx(1 - 0.75 - gains[-1], abs=2e-4)
    assert held.predicted.value == pytest.approx(held.measured, abs=5e-4)
    assert held.inside
    short = curves(grid(gains, gains)[:3])[0]
    assert hold_out(short, "test_auc") is None


def test_a_law_that_breaks_at_the_largest_size_is_told_from_one_that_holds():
    gains = [0.005, 0.0075, -0.02]
    [single, _] = curves(grid(gains, gains))

    assert not hold_out(single, "test_auc").inside
    assert rises(single, "test_auc") == [10]


def test_how_many_largest_sizes_were_predicted_is_counted_in_a_sentence():
    advice = advise(grid((0.005, 0.0075, -0.02), (0.005, 0.0075, 0.009)))

    held = {law.curve: law.held_out for law in advice.laws if law.measure == "test_auc"}
    assert [one.inside for one in held.values()] == [False, True]
    # The single curve falls by 0.0275 where the law rises; the size below is nearer by half.
    assert [one.nearer for one in held.values()] == [False, True]
    assert "in 1 of 2 curves of AUC and " in advice.held_out_words
    assert "nearer than the size below in 1 and " in advice.held_out_words
    assert advise(grid((0.005, 0.0075, -0.02), (0.005, 0.0075, 0.009))[:3]).held_out_words is None


def test_a_curve_that_is_not_monotone_is_warned_of():
    advice = advise(grid((0.001, 0.003, -0.002), (0.001, 0.002, 0.003)))

    words = {(law.curve, law.measure): law_words(law) for law in advice.laws}
    assert "not monotone (worse at 10x)" in words["dcnv2 single", "test_auc"]
    assert "not monotone" not in words["dcnv2 multi", "test_auc"]


def test_models_are_matched_by_size_and_by_cost():
    single, multi = curves(grid((0.001, 0.002, 0.003), (0.002, 0.004, 0.006)))

    found = {(m.by, m.size): m.difference for m in match(single, multi)}

    assert found["size", 4].difference == pytest.approx(0.002, abs=1e-5)
    # Four sets have 4000 parameters: exactly one set of twice the width, see `outcome`.
    assert found["parameters", 4].difference == pytest.approx(0.004 - 0.001, abs=1e-5)
    # Two sets have 2000: half way, in logarithms, from the base to twice the width.
    assert found["flops", 2].difference == pytest.approx(0.002 - 0.0005, abs=1e-5)
    assert all(difference.count == 5 for difference in found.values())


def test_architectures_are_compared_by_their_means():
    names, random = ("dnn", "ipnn", "dcnv2", "ffm"), np.random.default_rng(0)
    first, second = random.normal(0.75, 0.01, (2, 4, 3))
    pairs = [
        (point(ours, size=4, scaling="multi", architecture=name), point(theirs, architecture=name))
        for name, ours, theirs in zip(names, first, second[:, :2], strict=True)
    ]

    found = compare_on_average(pairs)

    expected = stats.ttest_rel(first.mean(axis=1), second[:, :2].mean(axis=1))
    low, high = expected.confidence_interval()
    assert found.t == pytest.approx((found.difference, low, high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_three_architectures_are_averaged_and_two_are_not():
    gains = {"dnn": (0.001, 0.004), "ipnn": (0.002, 0.002), "ffm": (0.003, 0.009)}
    found = []
    for name, (wide, sets) in gains.items():
        found.append(point([0.75, 0.752], architecture=name))
        found.append(point([0.75 + wide, 0.752 + wide], size=4, architecture=name))
        of_sets = [0.75 + sets, 0.752 + sets]
        found.append(point(of_sets, size=4, scaling="multi", architecture=name))

    rows = averages(found)

    assert [(row["model"], row["beside"]) for row in rows] == [
        ("single 4x", "the base"),
        ("multi 4x", "the base"),
        ("multi 4x", "single 4x"),
    ]
    assert [row["test_auc"] for row in rows] == pytest.approx([0.002, 0.005, 0.003])
    reach = stats.t.ppf(0.975, 2) * 0.001 / 3**0.5
    printed = printed_average(rows[0])
    assert printed["AUC, 95%"] == f"+0.00200 ({0.002 - reach:+.5f}, {0.002 + reach:+.5f})"
    assert averages(found[:6]) == []


def test_nothing_is_compared_beyond_what_was_run():
    single, multi = curves(
        [
            point([0.75, 0.76]),
            point([0.75, 0.77], size=2, scaling="multi"),
            point([0.751, 0.761], size=4),
        ]
    )
    cheap = Point(multi.points[1].labels, (outcome(0.7, parameters=10),), ((None, 0),))
    multi = type(multi)("dcnv2", "", "multi", (multi.points[0], cheap))

    found = {m.by: m.difference for m in match(single, multi)}

    assert found["size"] is None
    assert found["parameters"] is None


def test_rank_correlation_is_that_of_scipy():
    x, y = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0], [0.1, 0.2, 0.25, 0.5, 0.3, 0.9]

    rho, p_value = rank_correlation(x, y)

    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    exact = stats.permutation_test(
        (x,),
        lambda x: stats.spearmanr(x, y).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
    )
    assert p_value == pytest.approx(exact.pvalue, abs=0.01)
    assert np.isnan(rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])[0])


def test_abundance_that_predicts_the_gain_is_said_to():
    gains = {2: 0.001, 4: 0.002, 10: 0.004}
    found = [point(0.75 + NOISE)]
    for size, gain in gains.items():
        found.append(point(0.75 + gain + NOISE, size=size, first=5 + 1000 * gain))
        found.append(
            point(0.75 + 2.1 * gain + NOISE, size=size, scaling="multi", first=5 + 2100 * gain)
        )

    rows, rho, p_value = abundance_against_gain(curves(found))

    assert len(rows) == 6
    assert rho == pytest.approx(1.0)
    assert p_value < 0.05
    assert "the larger it" in advise(found).abundance_words
    assert "No evidence" in advise(found[:3]).abundance_words


def test_more_sets_are_recommended_where_they_win():
    [said] = advise(grid((0.0001, 0.0002, 0.0003), (0.002, 0.004, 0.006))).recommendations

    assert (said.action, said.confidence) == ("more sets", "high")
    assert "multi 10x" in said.text
    assert "Multi 10x is above single 10x" in said.text
    assert len(re.findall(r"\.(?= |$)", said.text)) == 2


def test_the_larger_model_is_chosen_on_validation_rows_and_judged_on_test_rows():
    def of(size, valid, test):
        runs = tuple(
            outcome(test + noise, size=size, scaling="multi", valid=valid + noise)
            for noise in NOISE
        )
        labels = RunLabels(architecture="dcnv2", size=size, scaling="multi")
        return Point(labels, runs, tuple((None, seed) for seed in range(len(NOISE))))

    # On test rows the twofold model looks best; that must not be what decides.
    found = [point(0.75 + np.roll(NOISE, 1)), of(2, 0.751, 0.78), of(4, 0.760, 0.76)]

    [said] = advise(found).recommendations

    assert "go to multi 4x" in said.text
    assert f"{0.76 - 0.75:+.5f}" in said.text


@pytest.mark.parametrize(("gain", "confidence"), [(1.0, "moderate"), (2.0, "high")])
def test_confidence_is_high_below_one_percent_alone(gain, confidence):
    base = 0.75 + np.zeros(5)
    gains = 1e-3 * (gain + np.array([-0.6, -0.3, 0.0, 0.3, 0.6]) * 1.2)
    p_value = stats.ttest_rel(base + gains, base).pvalue
    assert (p_value < 0.01) == (confidence == "high")
    assert p_value < 0.05, "both are evident"

    [said] = advise([point(base), point(base + gains, size=4, scaling="multi")]).recommendations

    assert said.confidence == confidence


def test_wider_is_recommended_where_that_wins():
    [said] = advise(grid((0.002, 0.004, 0.006), (0.0001, 0.0002, 0.0003))).recommendations

    assert said.action == "wider"
    assert "single 10x" in said.text


def test_staying_is_recommended_where_nothing_is_evident():
    random = np.random.default_rng(2)
    found = [point(0.75 + random.normal(0, 1e-3, 3))]
    found += [point(0.75 + random.normal(0, 1e-3, 3), size=s, scaling="multi") for s in (2, 4)]

    [said] = advise(found).recommendations

    assert (said.action, said.confidence) == ("stay", "none")
    assert "no evidence" in said.text
    assert "runs of each would show it" in said.text


def test_more_data_is_recommended_where_only_data_helps():
    noise = NOISE
    found = [point(0.75 + noise), point(0.74 + np.roll(noise, 1), share=0.5)]
    found += [point(0.75 + np.roll(noise, s), size=s, scaling="multi") for s in (2, 4)]

    [said] = advise(found).recommendations

    assert said.action == "more data"


def test_one_training_of_each_is_no_evidence():
    [said] = advise([point([0.75]), point([0.80], size=4, scaling="multi")]).recommendations

    assert (said.action, said.confidence) == ("stay", "none")


def test_a_grid_without_a_base_gets_no_recommendation():
    [said] = advise([point([0.75, 0.76], size=4, scaling="multi")]).recommendations

    assert said.confidence == "none"


def test_the_page_holds_curves_and_words_and_loads_nothing():
    page = advice_page(advise(grid((0.001, 0.002, 0.003), (0.002, 0.004, 0.006))))

    assert page.count("<figure") == 2 * 3  # of AUC and of log loss, over three costs
    means = [float(auc) for auc in re.findall(r"multi \d+x: test AUC ([\d.]+)", page)]
    assert means[len(SIZES) - 1] == pytest.approx(0.756, abs=1e-4)
    assert "Confidence: high" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_the_page_draws_each_architecture_over_the_cost_that_is_chosen(open_page):
    found = grid((0.001, 0.002, 0.003), (0.002, 0.004, 0.006))
    found += [
        point(0.74 + NOISE, architecture="dnn"),
        point([0.2, 0.9], size=4, architecture="dnn"),
    ]
    page = open_page(advice_page(advise(found)))
    plots = page.locator("svg.plot:visible")

    assert page.locator("h3:visible").all_text_contents() == ["dcnv2", "dnn"]
    assert [plots.nth(k).get_attribute("data-xt") for k in range(plots.count())] == [
        "parameters"
    ] * 4
    assert page.locator(".key:visible").first.locator("li").all_text_contents() == [
        "single",
        "multi",
    ]
    page.locator("select").select_option("training time, s")
    assert [plots.nth(k).get_attribute("data-xt") for k in range(plots.count())] == [
        "training time, s"
    ] * 4
    # On a logarithmic axis, the marks of one curve lie as the logarithms of its costs do.
    marks = plots.first.locator("use")
    x = [float(marks.nth(k).get_attribute("x").rstrip("%")) for k in range(len(SIZES))]
    steps = np.diff(np.log(SIZES))
    np.testing.assert_allclose(np.diff(x) / np.diff(x).sum(), steps / steps.sum(), atol=1e-3)


def test_an_interval_does_not_flatten_the_means():
    """Two runs that differ by 0.7 have an interval of 9; half of what is shown are means."""
    found = [point(0.74 + NOISE, architecture="dnn"), point([0.2, 0.9], size=4, architecture="dnn")]
    [curve] = advise(found).curves

    chart = curves_chart([curve], "test_auc", "parameters")

    assert (chart.y.low, chart.y.high) == pytest.approx((0.55 - 0.095, 0.74 + 0.095), abs=2e-4)
    means = [curve.points[k].spread("test_auc").mean for k in (0, 1)]
    assert list(chart.series[0].y) == means


def variant(aucs, name, *, size=1, seeds=None):
    found = point(aucs, size=size)
    labels = replace(found.labels, variant=name)
    replicas = found.replicas if seeds is None else tuple((None, seed) for seed in seeds)
    return replace(found, labels=labels, replicas=replicas)


def test_variants_are_compared_to_the_first_seed_by_seed():
    plain, other = 0.75 + NOISE, 0.751 + 2 * NOISE
    found = contrasts(
        [
            variant(plain, "plain"),
            variant(other, "other"),
            variant(plain, "plain", size=4),
            variant(other[:2], "other", size=4, seeds=(3, 1)),
            variant(other, "other", size=10),  # the first was not run there
            variant(plain, "plain", size=2),
            variant(other[:1], "other", size=2, seeds=(7,)),  # nor this seed
        ],
        "plain",
    )

    assert [(c.model, c.variant, c.measure, c.difference.count) for c in found] == [
        ("dcnv2 single 1x", "other", "AUC", 5),
        ("dcnv2 single 1x", "other", "log loss", 5),
        ("dcnv2 single 4x", "other", "AUC", 2),
        ("dcnv2 single 4x", "other", "log loss", 2),
    ]
    assert found[0].difference.p_value == pytest.approx(stats.ttest_rel(other, plain).pvalue)
    assert found[0].first.std == pytest.approx(np.std(plain, ddof=1))
    assert found[1].difference.difference == pytest.approx(-found[0].difference.difference)
    assert found[2].difference.difference == pytest.approx(
        np.mean(other[:2]) - np.mean(plain[[3, 1]])
    )
