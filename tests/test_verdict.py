"""The verdict on planted tables: rank, offset, cardinality and training counts are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiembed import diagnose
from multiembed.diagnosis.verdict import VERDICTS, Case, judge_field
from multiembed.spectra.catalogue import View

DIM = 16


def planted(rows=2000, dim=DIM, *, rank=None, offset=0.0, seed=0):
    """Return rows of equal spread in `rank` directions, all moved by `offset` deviations."""
    rng = np.random.default_rng(seed)
    rank = dim if rank is None else rank
    directions = np.linalg.qr(rng.normal(size=(dim, rank)))[0]
    return rng.normal(size=(rows, rank)) @ directions.T + offset


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
    matrix = planted(5000, dim=40)
    matrix[:, 0] *= 3.0

    field = diagnose({"x": matrix}).fields[0]

    assert field.centered_normalized_information_abundance < 0.4
    assert field.verdict.label == "healthy"


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


def test_fewer_trained_rows_than_columns_are_too_wide():
    assert verdict_of(planted(), trained(2000, 0.004)).label == "too wide"


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(4, 400),
    dim=st.integers(2, 24),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 10_000),
)
def test_random_tables_are_never_called_collapsed(rows, dim, scale, seed):
    label = verdict_of(scale * planted(rows, dim, seed=seed)).label

    assert label == ("too wide" if rows < dim else "healthy")


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
            "No field has collapsed to a low rank. Beside that, 1 dominated by a common mean and "
            "1 too wide for the number of rows.",
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
        "1 field common mean",
        "1 field too wide",
    ]


@pytest.mark.parametrize(
    ("raw", "centred", "label"),
    [
        (0.49, 0.51, "healthy"),  # near the limit, but not because of its mean
        (0.30, 0.51, "common mean"),
        (0.51, 0.90, "healthy"),
        (0.30, 0.49, "low rank"),
        (0.51, 0.49, "low rank"),
        (0.20, 0.49, "low rank"),
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
            "centered_effective_rank": 4.0,
        },
    )

    assert judge_field(Case(view=view, cardinality=100, trained=None, dim=DIM)).label == label


def test_equal_rows_are_called_equal():
    assert verdict_of(np.ones((50, DIM))).finding == "All its rows are equal."


def test_every_verdict_has_advice():
    assert all(label.advice and label.means for label in VERDICTS.values())


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


@pytest.mark.parametrize(("rank", "label"), [(7, "low rank"), (9, "healthy")])
def test_half_of_the_columns_are_enough(rank, label):
    assert verdict_of(planted(20_000, rank=rank)).label == label


@pytest.mark.parametrize(("share", "label"), [(0.45, "untrained rows"), (0.55, "healthy")])
def test_half_of_the_rows_trained_are_enough(share, label):
    assert verdict_of(planted(), trained(2000, share)).label == label


@pytest.mark.parametrize(
    ("collapsed", "fields", "headline"),
    [(4, 9, "Partly collapsed"), (5, 9, "The embeddings have collapsed"), (2, 4, "The embeddings")],
)
def test_half_of_the_fields_make_a_collapsed_model(collapsed, fields, headline):
    tables = {
        f"C{at}": planted(200, rank=2 if at < collapsed else None, seed=at) for at in range(fields)
    }

    assert diagnose(tables).summary.verdict.headline.startswith(headline)
