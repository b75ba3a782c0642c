"""The verdict on planted tables: rank, offset, cardinality and training counts are known."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiembed import diagnose
from multiembed.diagnosis.case import Case
from multiembed.diagnosis.verdict import VERDICTS, judge_field, rules_in_words
from multiembed.spectra.catalogue import View

DIM = 16
CASES = Path(__file__).parents[2] / "shared" / "cases" / "checkpoints"


def planted(rows=2000, dim=DIM, *, rank=None, offset=0.0, seed=0):
    """Return rows in `rank` directions, the last half as strong as the first, moved by `offset`."""
    rng = np.random.default_rng(seed)
    rank = dim if rank is None else rank
    return spread(rng, rows, dim, np.linspace(1, 0.5, rank)) + offset


def spread(rng, rows, dim, strengths):
    """Return rows with these deviations along orthonormal directions."""
    directions = np.linalg.qr(rng.normal(size=(dim, len(strengths))))[0]
    return rng.normal(size=(rows, len(strengths))) * strengths @ directions.T


def verdict_of(matrix, counts=None):
    counts = None if counts is None else {"x": counts}
    return diagnose({"x": matrix}, counts=counts).fields[0].verdict


def trained(rows, share, *, visits=5):
    counts = np.zeros(rows, dtype=np.int64)
    counts[: round(share * rows)] = visits
    return counts


@pytest.mark.parametrize(
    ("matrix", "label"),
    [
        (planted(), "healthy"),
        (planted(rank=12), "healthy"),
        (planted(rank=3), "low rank"),
        (planted(rank=3, offset=4.0), "low rank"),
        (planted(offset=2.0), "common mean"),
        (planted(rows=5), "too wide"),
        (planted(rows=5, offset=3.0), "too wide"),
        (planted(rows=17), "healthy"),
        (np.zeros((50, DIM)), "low rank"),
        (np.ones((50, DIM)), "low rank"),
        (np.ones((1, DIM)), "too wide"),
    ],
)
def test_planted_tables_get_the_verdict_that_fits(matrix, label):
    verdict = verdict_of(matrix)

    assert verdict.label == label
    assert verdict.advice == VERDICTS[label].advice


def test_one_strong_direction_over_even_ones_is_no_low_rank():
    """Its energy still fills the columns, though its abundance is a third of a random table's."""
    matrix = np.random.default_rng(0).normal(size=(5000, 40))
    matrix[:, 0] *= 3.0

    field = diagnose({"x": matrix}).fields[0]

    assert field.centered_normalized_information_abundance < 0.4
    assert field.verdict.label == "strong direction"
    assert field.verdict.view.centered_k99 == 40


def test_raw_abundance_ranks_planted_tables_wrongly_and_the_verdict_does_not():
    """The healthy table with an offset has the lowest raw abundance, below a true rank of 3."""
    tables = {
        "rank 3": planted(rank=3),
        "offset": planted(offset=3.0),
        "tiny": planted(rows=4),
        "full": planted(),
    }

    fields = diagnose(tables).fields

    raw = {field.name: field.information_abundance for field in fields}
    assert raw["offset"] < raw["rank 3"]
    assert raw["tiny"] < raw["full"] / 2
    found = {field.name: field.verdict.label for field in fields}
    assert found == {
        "rank 3": "low rank",
        "offset": "common mean",
        "tiny": "too wide",
        "full": "healthy",
    }


def test_untrained_rows_do_not_hide_a_collapse():
    """Nine rows in ten are initial noise of full rank; the trained ones have rank 2."""
    matrix = np.concatenate([planted(200, rank=2), planted(1800, seed=1)])
    counts = trained(2000, 0.1)

    field = diagnose({"x": matrix}, counts={"x": counts}).fields[0]

    assert field.centered_normalized_information_abundance > 0.7  # all rows look fine
    assert field.verdict.label == "low rank"
    assert field.rows_trained == 200
    assert "Training met 200 of 2,000 rows." in field.verdict.finding


def test_untrained_rows_do_not_feign_a_collapse():
    """Rows that weight decay shrank to one point do not count against those that were trained."""
    matrix = np.concatenate([planted(400), np.full((1600, DIM), 5.0)])

    assert verdict_of(matrix).label == "low rank"
    assert verdict_of(matrix, trained(2000, 0.2)).label == "untrained rows"


def test_few_untrained_rows_are_mentioned_but_do_not_decide():
    verdict = verdict_of(planted(), trained(2000, 0.9))

    assert verdict.label == "healthy"
    assert "Training met 1,800 of 2,000 rows." in verdict.finding


def test_a_field_never_met_is_untrained_and_not_collapsed():
    assert verdict_of(planted(rank=1), trained(2000, 0.0)).label == "untrained rows"


@pytest.mark.parametrize(("rows", "label"), [(2000, "untrained rows"), (12, "too wide")])
def test_fewer_trained_rows_than_columns_are_too_wide_only_if_they_are_most_rows(rows, label):
    assert verdict_of(planted(rows), trained(rows, 8 / rows)).label == label


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(4, 400),
    dim=st.integers(2, 24),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 10_000),
)
def test_random_tables_are_never_called_collapsed(rows, dim, scale, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, dim))

    label = verdict_of(scale * matrix).label

    assert label in (["too wide"] if rows < dim else ["healthy", "like random"])


@settings(max_examples=30, deadline=None)
@given(rank=st.integers(1, 5), offset=st.floats(0, 10), seed=st.integers(0, 10_000))
def test_planted_low_rank_is_found_whatever_the_offset(rank, offset, seed):
    assert verdict_of(planted(300, rank=rank, offset=offset, seed=seed)).label == "low rank"


@pytest.mark.parametrize(
    ("tables", "headline"),
    [
        ({"a": planted(), "b": planted(seed=1)}, "No collapse: 2 of 2 fields are healthy."),
        (
            {"a": planted(), "b": planted(offset=3.0), "c": planted(rows=3)},
            "No field has collapsed to a low rank. Beside that, 1 too wide for the number of rows "
            "and 1 dominated by a common mean.",
        ),
        (
            {"a": planted(), "b": planted(seed=1), "c": planted(rank=2)},
            "Partly collapsed: 1 of 3 fields is of low rank.",
        ),
        (
            {"a": planted(rank=1), "b": planted(rank=2), "c": planted(rows=3)},
            "The embeddings have collapsed: 2 of 3 fields are of low rank. Beside that, 1 too wide "
            "for the number of rows.",
        ),
        (
            {"a": planted(rank=1), "b": planted(rows=3)},
            "Partly collapsed: 1 of 2 fields is of low rank. Beside that, 1 too wide for the "
            "number of rows.",
        ),
    ],
)
def test_the_model_is_judged_by_its_fields(tables, headline):
    verdict = diagnose(tables).summary.verdict

    assert verdict.headline == headline
    assert sum(verdict.counts.values()) == len(tables)


def test_advice_comes_with_the_most_pressing_first():
    tables = {"a": planted(rows=3), "b": planted(offset=3.0), "c": planted(rank=1), "d": planted()}

    advice = diagnose(tables).summary.verdict.advice

    assert [text.split(":")[0] for text in advice] == [
        "1 field low rank",
        "1 field too wide",
        "1 field common mean",
    ]


@pytest.mark.parametrize(
    ("raw", "centred", "label"),
    [
        (0.49, 0.51, "healthy"),  # near the limit, but not because of its mean
        (0.30, 0.51, "common mean"),
        (0.51, 0.90, "healthy"),
        (0.30, 0.49, "uneven"),
        (0.51, 0.49, "uneven"),
    ],
)
def test_a_mean_is_blamed_only_if_taking_it_out_helps(raw, centred, label):
    view = View(
        rows=100,
        columns=16,
        measures={
            "information_abundance": 16 * raw,
            "centered_information_abundance": 16 * centred,
            "normalized_information_abundance": raw,
            "centered_normalized_information_abundance": centred,
            "mean_share": 0.5,
            "centered_k99": 12,
            "leading_directions": 0,
            "leading_share": 0.0,
            "excess_spread": 1.0,
        },
    )

    assert judge_field(Case(view=view, cardinality=100, trained=None, dim=DIM)).label == label


def test_equal_rows_are_called_equal():
    assert verdict_of(np.ones((50, DIM))).finding == "All its rows are equal."


def test_every_verdict_has_advice():
    assert all(label.advice and label.means for label in VERDICTS.values())
    assert [name for name, _ in rules_in_words()] == [n for n in VERDICTS if n != "healthy"]


def test_marks_tell_verdicts_apart():
    assert len({label.mark for label in VERDICTS.values()}) == len(VERDICTS)
    assert len({label.symbol for label in VERDICTS.values()}) == len(VERDICTS)


def test_no_verdict_advises_to_cut_a_table_whose_cost_was_not_measured():
    """Only `compress` measures it; of a foreign file nobody knows."""
    cutting = [label.advice for label in VERDICTS.values() if "cut" in label.advice]

    [advice] = cutting
    assert "'multiembed compress' measures" in advice and "unknown" in advice
    assert not any("unused" in VERDICTS[name].means for name in ("strong direction",))


@pytest.mark.parametrize("factor", [60, 1e6])
def test_one_long_row_of_400_is_no_collapse(factor):
    matrix = planted(400)
    matrix[7] *= factor
    label = verdict_of(planted(400)).label

    found = diagnose({"x": matrix})

    [field] = found.fields
    assert label == "healthy" and field.verdict.label == "few rows dominate"
    assert "1 of 400 rows hold" in field.verdict.finding
    assert field.verdict.view.centered_k99 == 16  # of the others
    assert found.summary.verdict.headline.startswith("No field has collapsed")


def test_a_long_row_is_one_far_from_the_others_and_not_one_with_their_offset():
    matrix = planted(400, offset=50.0)
    matrix[7] += 60 * (matrix[7] - 50.0)

    assert verdict_of(planted(400, offset=50.0)).label == "common mean"
    assert verdict_of(matrix).label == "few rows dominate"


def test_long_rows_neither_feign_nor_hide_a_low_rank():
    matrix = planted(1000, rank=3)
    matrix[:8] = 100 * np.random.default_rng(1).normal(size=(8, DIM))
    popular = planted(1000, rank=3) / np.arange(1, 1001)[:, None]

    assert verdict_of(matrix).label == "low rank"
    assert verdict_of(popular).label == "low rank"


def test_lengths_by_popularity_are_no_collapse():
    """Row k is k^-1.3 long: three rows hold 90% of the energy."""
    matrix = planted(2000, dim=64) / np.arange(1, 2001)[:, None] ** 1.3

    verdict = verdict_of(matrix)

    assert verdict.label == "few rows dominate"
    assert verdict.view.centered_k99 > 55


def test_many_long_rows_in_few_directions_are_what_the_table_is():
    """One row in five was trained, to rank 2; the others are a hundredth as long."""
    matrix = np.concatenate([planted(200, rank=2), planted(800, seed=1) / 100])

    assert verdict_of(matrix).label == "low rank"


@pytest.mark.parametrize(("left", "label"), [(0.0, "rows near zero"), (1e-5, "rows near zero")])
def test_rows_near_zero_are_set_apart_and_counted(left, label):
    matrix = planted(2000)
    matrix[100:] *= left

    verdict = verdict_of(matrix)

    assert verdict.label == label
    assert verdict.rows_near_zero == 1900 and verdict.view.rows == 100
    assert verdict.finding.startswith("1,900 of 2,000 rows (95%) are zero or nearly so")
    expected = verdict_of(matrix[:100]).view.centered_information_abundance
    assert verdict.view.centered_information_abundance == pytest.approx(expected, rel=1e-4)


def test_few_rows_near_zero_do_not_decide():
    matrix = planted(2000, offset=3.0)
    matrix[:600] = 0.0

    assert verdict_of(matrix).label == "common mean"
    assert verdict_of(np.concatenate([np.zeros((9, DIM)), planted(rank=2)])).label == "low rank"


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_dead_columns_are_counted(value):
    matrix = planted(1000)
    matrix[:, ::2] = value
    few = planted(1000)
    few[:, :3] = value

    verdict = verdict_of(matrix)

    assert verdict.label == "low rank" and verdict.dead_columns == 8
    assert verdict.finding.startswith("8 of 16 columns are zero, or hold one value")
    assert verdict_of(few).label != "low rank" and verdict_of(few).dead_columns == 3


def test_rank_one_is_found_in_fewer_rows_than_columns():
    assert verdict_of(planted(6, dim=32, rank=1)).label == "low rank"
    assert verdict_of(planted(12, dim=32, rank=2)).label == "low rank"
    assert verdict_of(planted(12, dim=32)).label == "too wide"


def test_a_low_rank_is_found_under_noise():
    """Three directions hold 94% of the energy, the other 29 share the rest evenly."""
    rng = np.random.default_rng(0)
    strengths = np.append(np.ones(3), np.full(29, np.sqrt(3 / 0.94 * 0.06 / 29)))

    verdict = verdict_of(spread(rng, 5000, 32, strengths))

    assert verdict.label == "low rank"
    assert verdict.view.centered_k99 > 16
    assert verdict.rests_on == "3 of 32 above noise"


@pytest.mark.parametrize(
    ("strengths", "label"),
    [
        ([8.0] + [1.0] * 31, "strong direction"),
        ([7.0, 6.0] + [1.0] * 30, "strong direction"),
        (np.arange(1, 65) ** -0.5, "uneven"),  # as LightGCN's tables fall
        (np.linspace(1, 0.4, 32), "healthy"),
    ],
)
def test_directions_in_use_are_not_called_unused(strengths, label):
    rng = np.random.default_rng(0)

    verdict = verdict_of(spread(rng, 4000, len(strengths), np.array(strengths)))

    assert verdict.label == label
    assert verdict.view.centered_k99 > 0.9 * len(strengths)


@pytest.mark.parametrize("law", ["normal", "uniform", "laplace"])
@pytest.mark.parametrize("padding", [0, 1])
def test_an_untouched_table_is_said_to_be_like_random(law, padding):
    matrix = getattr(np.random.default_rng(0), law)(-1, 1, (3000, 24))
    if law == "normal":
        matrix += 1
    matrix[:padding] = 0.0
    matrix -= matrix[padding:].mean(axis=0) * (np.arange(3000) >= padding)[:, None]

    found = diagnose({"x": matrix})

    assert found.fields[0].verdict.label == "like random"
    assert "Nothing tells it from its initialisation" in found.fields[0].verdict.finding
    assert "not to be told from a random table" in found.summary.verdict.headline
    moved = matrix * np.linspace(1, 0.8, 24)
    assert verdict_of(moved).label == "healthy"


def planted_share(raw, centered, *, rows=1000):
    """Return a table with these shares of a random table's abundance, as it is and centred.

    Its spread fills all directions evenly but for the strongest, which sets the centred share.
    """
    rng = np.random.default_rng(0)
    even = np.linalg.qr(rng.normal(size=(rows, DIM)))[0]
    even -= even.mean(axis=0)
    full = diagnose({"x": even}).fields[0].centered_normalized_information_abundance
    strong = (DIM - 1) / (DIM * centered / full - 1)
    even[:, 0] *= strong
    lowest, highest = 0.0, 0.2
    for _ in range(12):
        offset = (lowest + highest) / 2
        share = diagnose({"x": even + offset}).fields[0].normalized_information_abundance
        lowest, highest = (offset, highest) if share > raw else (lowest, offset)
    return even + offset


@pytest.mark.parametrize(
    ("raw", "centered", "label"),
    [(0.44, 0.60, "healthy"), (0.38, 0.60, "common mean"), (0.52, 0.90, "healthy")],
)
def test_an_offset_is_blamed_from_half_as_much_again(raw, centered, label):
    """0.60 is 1.36 times 0.44: not enough to blame the mean; 1.58 times 0.38 is."""
    field = diagnose({"x": planted_share(raw, centered)}).fields[0]

    assert field.normalized_information_abundance == pytest.approx(raw, abs=0.005)
    assert field.centered_normalized_information_abundance == pytest.approx(centered, abs=0.01)
    assert field.verdict.label == label


@pytest.mark.parametrize(("rank", "label"), [(8, "low rank"), (9, "uneven"), (12, "healthy")])
def test_more_than_half_of_the_columns_are_enough(rank, label):
    verdict = verdict_of(planted(rank=rank))

    assert verdict.label == label
    assert verdict.view.centered_k99 == rank
    assert ("near a limit: low rank is K99 up to 8" in verdict.finding) == (rank < 12)


@pytest.mark.parametrize(("share", "label"), [(0.45, "untrained rows"), (0.55, "healthy")])
def test_half_of_the_rows_trained_are_enough(share, label):
    assert verdict_of(planted(), trained(2000, share)).label == label


@pytest.mark.parametrize(
    ("collapsed", "fields", "headline"),
    [
        (4, 9, "Partly collapsed: 4 of 9"),
        (5, 9, "The embeddings have collapsed: 5 of 9"),
        (2, 4, "Partly collapsed: 2 of 4"),
        (1, 2, "Partly collapsed: 1 of 2"),
        (2, 2, "The embeddings have collapsed: 2 of 2"),
        (1, 1, "The embeddings have collapsed: 1 of 1"),
    ],
)
def test_more_than_half_of_the_fields_make_a_collapsed_model(collapsed, fields, headline):
    tables = {
        f"C{at}": planted(200, rank=2 if at < collapsed else None, seed=at) for at in range(fields)
    }

    assert diagnose(tables).summary.verdict.headline.startswith(headline)


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared is not here")
@pytest.mark.parametrize(
    ("name", "label", "words"),
    [
        ("never_trained", "like random", "Nothing tells it from its initialisation"),
        ("half_dead_columns", "low rank", "8 of 16 columns are zero"),
        ("one_strong_direction", "strong direction", "the others are even"),
        ("power_law", "uneven", "62 of 64 directions"),
        ("trained_rows_collapsed", "low rank", "Training met 200 of 2,000 rows"),
        ("weight_decayed", "rows near zero", "(95%) are zero or nearly so"),
    ],
)
def test_cases_of_reports_get_the_verdict_that_fits(name, label, words):
    counts = CASES / f"{name}.counts.npy"

    verdict = verdict_of(
        np.load(CASES / f"{name}.npy"), np.load(counts) if counts.exists() else None
    )

    assert verdict.label == label
    assert words in verdict.finding
