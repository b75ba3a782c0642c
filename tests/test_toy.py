"""The paper's toy experiment points where the paper says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

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
