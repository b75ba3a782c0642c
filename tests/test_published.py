"""The paper's own numbers against its own words, as `docs/findings.md` tells of them."""

from pathlib import Path

import numpy as np
import pytest

from multiembed.experiments.paper.quality_tables import nearest_dataset, published

FINDINGS = (Path(__file__).parents[1] / "docs" / "findings.md").read_text(encoding="utf-8")
FALLING = ("dnn", "xdeepfm", "finalmlp")


def rows(data):
    return published()["table1"][data]


def mean(values):
    return f"{abs(np.mean(list(values))):.5f}"


@pytest.mark.parametrize(
    ("fields", "near"), [(39, "criteo"), (31, "criteo"), (22, "avazu"), (17, "avazu")]
)
def test_a_dataset_stands_beside_the_one_that_has_about_as_many_fields(fields, near):
    assert nearest_dataset(fields) == near


@pytest.mark.parametrize(("data", "said"), [("criteo", 0.00136), ("avazu", 0.00118)])
def test_what_wide_models_lose(data, said):
    own = [rows(data)[name]["single"] for name in FALLING]

    of_base, of_best = mean(r[-1] - r[0] for r in own), mean(r[-1] - max(r) for r in own)

    assert float(of_base) != said != float(of_best)
    assert f"{said}" in FINDINGS
    assert of_base in FINDINGS
    assert of_best in FINDINGS


def test_what_the_largest_models_gain():
    own = [row for data in ("criteo", "avazu") for row in rows(data).values()]

    found = [
        mean(r["multi"][-1] - r["single"][0] for r in own),
        mean(r["multi"][-1] - r["single"][-1] for r in own),
        mean(r["multi"][-1] - max(r["single"]) for r in own),
    ]

    assert f"{found[0]} over the base, {found[1]} over single 10x, {found[2]} over" in FINDINGS
    assert "0.00110" not in found


def test_where_the_largest_is_not_the_best():
    falling = {
        (data, name)
        for data in ("criteo", "avazu")
        for name, row in rows(data).items()
        if row["multi"][-1] < max(row["multi"])
    }
    ipnn = rows("criteo")["ipnn"]

    assert falling == {("criteo", "dnn"), ("avazu", "finalmlp")}
    assert [value < ipnn["single"][0] for value in ipnn["multi"]] == [True, True, False, False]


def test_two_lines_have_rank_two_whatever_their_angle():
    first, second = np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]]) / np.sqrt(2)
    cosine = np.linalg.svd(first.T @ second, compute_uv=False)

    assert np.linalg.matrix_rank(np.hstack([first, second])) == 2
    assert 1 + 1 - np.linalg.matrix_rank(first.T @ second) == 1
    assert 1 + 1 - np.count_nonzero(np.isclose(cosine, 1)) == 2
