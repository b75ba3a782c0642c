"""The paper's toy experiment points where the paper says; its gradient decomposition is exact."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from multiembed.experiments.gradient import gradient_parts
from multiembed.experiments.paper.toy import CARDINALITY, LARGE, SMALL, toy_curve, toy_experiment


@pytest.mark.parametrize("dim", [10, 20, 50])
def test_a_small_third_field_collapses_the_first(dim):
    for seed in range(5):
        small = toy_curve(dim, SMALL, seed=seed, iterations=500)
        large = toy_curve(dim, LARGE, seed=seed, iterations=500)
        assert small.abundance[-1] < large.abundance[-1], f"dim {dim}, seed {seed}"


@pytest.mark.parametrize(("cardinality", "abundance"), [(SMALL, 6.08), (LARGE, 7.28)])
def test_the_toy_ends_where_another_implementation_ends(cardinality, abundance):
    # Means over three other seeds, dim 10; from seed to seed they move by a tenth.
    assert toy_curve(10, cardinality).abundance[-1] == pytest.approx(abundance, rel=0.15)


def test_the_toy_is_the_factorization_machine_that_autograd_trains():
    dim, cardinality, steps = 6, 3, 100
    random = np.random.default_rng((1, dim, cardinality))
    first, second, third = (
        torch.from_numpy(random.standard_normal((rows, dim)))
        for rows in (CARDINALITY, CARDINALITY, cardinality)
    )
    of_third = torch.from_numpy(random.integers(0, cardinality, (CARDINALITY, CARDINALITY)))
    labels = torch.from_numpy(random.integers(0, 2, (CARDINALITY, CARDINALITY))).double()
    first.requires_grad_()
    for _ in range(steps):
        e1, e2, e3 = first[:, None], second[None], third[of_third]
        h = (e1 * e2).sum(-1) + (e1 * e3).sum(-1) + (e2 * e3).sum(-1)
        loss = F.binary_cross_entropy_with_logits(h, labels)
        (gradient,) = torch.autograd.grad(loss, first)
        first = (first - gradient).detach().requires_grad_()
    values = torch.linalg.svdvals(first.detach())

    curve = toy_curve(dim, cardinality, seed=1, iterations=steps)

    assert curve.iterations == [0, 100]
    assert curve.abundance[-1] == pytest.approx(float(values.sum() / values[0]), rel=1e-9)


def test_the_experiment_covers_all_widths_cardinalities_and_seeds():
    found = list(toy_experiment(dims=(2, 3), seeds=2, iterations=1))

    assert {(c.dim, c.cardinality, c.seed) for c in found} == {
        (dim, cardinality, seed) for dim in (2, 3) for cardinality in (3, 100) for seed in (0, 1)
    }


@pytest.mark.parametrize("field", [0, 1, 3])
def test_the_parts_of_a_gradient_sum_to_what_autograd_finds(field):
    random = np.random.default_rng(field)
    sizes = (30, 7, 12, 3)
    tables = [random.standard_normal((size, 8)) for size in sizes]
    ids = np.stack([random.integers(0, size, 500) for size in sizes], axis=1)
    labels = random.integers(0, 2, 500).astype(np.float64)
    ours = [torch.from_numpy(table).requires_grad_(True) for table in tables]
    rows = [table[torch.from_numpy(ids[:, at])] for at, table in enumerate(ours)]
    logits = sum((rows[i] * rows[j]).sum(1) for i in range(4) for j in range(i + 1, 4))
    F.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels)).backward()

    parts = gradient_parts(tables, ids, labels, field=field)

    expected = ours[field].grad.numpy()
    found = sum(part.theta for part in parts.values())
    assert sorted(parts) == [other for other in range(4) if other != field]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def test_what_a_field_adds_has_no_more_directions_than_its_table():
    random = np.random.default_rng(0)
    sizes = (40, 50, 2)
    tables = [random.standard_normal((size, 8)) for size in sizes]
    ids = np.stack([random.integers(0, size, 3000) for size in sizes], axis=1)
    labels = random.integers(0, 2, 3000).astype(np.float64)

    parts = gradient_parts(tables, ids, labels)

    assert np.linalg.matrix_rank(parts[2].theta) == 2
    assert np.linalg.matrix_rank(parts[1].theta) == 8
