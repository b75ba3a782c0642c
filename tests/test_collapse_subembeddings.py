"""All pairs of fields from small roots, against tall tables projected one by one."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from multiembed.base.errors import DataError
from multiembed.spectra.subembeddings import (
    SubEmbeddings,
    attribute,
    interaction_patterns,
    sub_embeddings,
    sub_embeddings_per_set,
)
from multiembed.spectra.summary import Summary

ROWS = (700, 3, 40, 200)
DIM = 6


def abundance(matrix):
    values = np.linalg.svd(matrix, compute_uv=False)
    return values.sum() / values[0]


def random_model(sets, seed=0):
    """Tables per field and set, falling spectra, and a layer per set."""
    rng = np.random.default_rng(seed)
    falling = 10.0 ** -np.linspace(0, 2, DIM)
    tables = [
        [rng.standard_normal((rows, DIM)) * falling @ rotation(rng) for _ in range(sets)]
        for rows in ROWS
    ]
    layers = rng.standard_normal((sets, len(ROWS) * DIM, len(ROWS) * DIM))
    return tables, layers


def rotation(rng, dim=DIM):
    return np.linalg.qr(rng.standard_normal((dim, dim)))[0]


def summaries(tables):
    return [Summary.of(np.concatenate(field, axis=1)) for field in tables]


def block(layer, i, j, dim=DIM):
    """`y = W x` on concatenated fields: what of y's part j comes from x's part i."""
    return layer[j * dim : (j + 1) * dim, i * dim : (i + 1) * dim]


@pytest.mark.parametrize("sets", [1, 3])
def test_all_pairs_agree_with_projecting_every_table(sets):
    tables, layers = random_model(sets)

    found = sub_embeddings(summaries(tables), layers)
    per_set = sub_embeddings_per_set(summaries(tables), torch.from_numpy(layers))

    assert len(per_set) == sets
    for i, field in enumerate(tables):
        assert found.tables[i] == pytest.approx(abundance(np.concatenate(field, 1)), rel=1e-9)
        for j in range(len(tables)):
            views = [
                table @ block(layer, i, j).T for table, layer in zip(field, layers, strict=True)
            ]
            joint = abundance(np.concatenate(views, axis=1))
            assert found.abundance[i, j] == pytest.approx(joint, rel=1e-9)
            for one, view, table in zip(per_set, views, field, strict=True):
                assert one.abundance[i, j] == pytest.approx(abundance(view), rel=1e-9)
                assert one.tables[i] == pytest.approx(abundance(table), rel=1e-9)


def test_a_view_is_what_a_cross_layer_adds_from_one_field():
    """W x with every field but i set to zero, cut at field j: the definition, on one row."""
    tables, layers = random_model(1)
    rows = [field[0][1] for field in tables]
    for i in range(len(ROWS)):
        x = np.concatenate([row * (k == i) for k, row in enumerate(rows)])
        y = layers[0] @ x
        for j in range(len(ROWS)):
            expected = block(layers[0], i, j) @ rows[i]
            np.testing.assert_allclose(y[j * DIM : (j + 1) * DIM], expected, atol=1e-12)


def test_a_layer_shared_by_all_sets_equals_copies_of_it():
    tables, layers = random_model(2)

    shared = sub_embeddings(summaries(tables), layers[:1])
    copied = sub_embeddings(summaries(tables), layers[[0, 0]])

    np.testing.assert_array_equal(shared.abundance, copied.abundance)
    assert len(sub_embeddings_per_set(summaries(tables), layers[:1])) == 2


def test_a_zero_projection_has_abundance_zero_and_no_attribution():
    tables, layers = random_model(1)
    layers[0, :DIM, :DIM] = 0

    assert sub_embeddings(summaries(tables), layers).abundance[0, 0] == 0
    found = attribute(summaries(tables), layers)
    assert math.isnan(found.total[0, 0])
    assert not np.isnan(found.pull).any()


def test_marginals_and_correlations_agree_with_scipy():
    rng = np.random.default_rng(0)
    matrix, tables = rng.random((7, 7)), rng.random(7).round(1)  # with ties
    found = SubEmbeddings(abundance=matrix, tables=tables)
    off = matrix.sum(axis=0) - np.diag(matrix)

    shares = found.co_influence()

    np.testing.assert_allclose(found.by_source, matrix.sum(axis=1))
    np.testing.assert_allclose(found.by_target, matrix.sum(axis=0))
    assert shares.pearson == pytest.approx(stats.pearsonr(tables, matrix.sum(axis=0))[0])
    assert shares.spearman == pytest.approx(stats.spearmanr(tables, matrix.sum(axis=0))[0])
    assert shares.pearson_off_diagonal == pytest.approx(stats.pearsonr(tables, off)[0])
    assert shares.spearman_off_diagonal == pytest.approx(stats.spearmanr(tables, off)[0])


def test_a_constant_has_no_correlation():
    found = SubEmbeddings(abundance=np.ones((3, 3)), tables=np.arange(3.0))

    assert math.isnan(found.co_influence().pearson)


def test_interaction_patterns_are_norms_of_blocks():
    _, layers = random_model(2)

    found = interaction_patterns(torch.from_numpy(layers).float(), fields=len(ROWS))

    for m in range(2):
        for i in range(len(ROWS)):
            for j in range(len(ROWS)):
                expected = np.sqrt(np.sum(block(layers[m], i, j) ** 2))
                assert found[m, i, j] == pytest.approx(expected, rel=1e-6)


def orthonormal(rng, rows=100):
    return np.linalg.qr(rng.standard_normal((rows, DIM)))[0]


def one_pair(table, projection):
    """Two fields, of which only the pair (0, 1) is looked at; every other block is a rotation."""
    rng = np.random.default_rng(9)
    layer = np.block([[rotation(rng), rotation(rng)], [projection, rotation(rng)]])
    other = Summary.of(orthonormal(rng))
    return attribute([Summary.of(table), other], layer[None])


CEILING = math.log(DIM)
FALLING = 2.0 ** -np.arange(DIM)
FALLEN = CEILING - math.log(FALLING.sum())
RISEN = CEILING - math.log((1 / FALLING).sum() * FALLING.min())
SQUARED = CEILING - math.log((FALLING**2).sum())


def test_a_rotation_leaves_the_whole_fall_to_the_table():
    rng = np.random.default_rng(0)
    found = one_pair(orthonormal(rng) * FALLING, rotation(rng))

    assert found.total[0, 1] == pytest.approx(FALLEN, rel=1e-9)
    assert found.table[0, 1] == pytest.approx(FALLEN, rel=1e-9)
    assert found.projection[0, 1] == pytest.approx(0, abs=1e-9)


def test_an_even_table_leaves_the_whole_fall_to_the_projection():
    rng = np.random.default_rng(0)
    found = one_pair(orthonormal(rng), rotation(rng) * FALLING)

    assert found.total[0, 1] == pytest.approx(FALLEN, rel=1e-9)
    assert found.table[0, 1] == pytest.approx(0, abs=1e-9)
    assert found.projection[0, 1] == pytest.approx(FALLEN, rel=1e-9)
    assert found.pull[1] == pytest.approx(FALLEN, rel=1e-9)
    assert found.pull[0] == pytest.approx(0, abs=1e-9)


def test_two_equal_causes_share_a_fall_that_either_would_have_made():
    rng = np.random.default_rng(0)
    only_first = np.eye(DIM)[0]
    found = one_pair(orthonormal(rng) * only_first, np.diag(only_first))

    assert found.total[0, 1] == pytest.approx(CEILING, rel=1e-6)
    assert found.alignment[0, 1] == pytest.approx(-CEILING, rel=1e-6)
    assert found.table[0, 1] == pytest.approx(CEILING / 2, rel=1e-6)
    assert found.projection[0, 1] == pytest.approx(CEILING / 2, rel=1e-6)


def test_a_projection_that_stretches_the_long_side_adds_alignment():
    rng = np.random.default_rng(0)
    found = one_pair(orthonormal(rng) * FALLING, np.diag(FALLING))

    assert found.total[0, 1] == pytest.approx(SQUARED, rel=1e-9)
    assert found.alignment[0, 1] == pytest.approx(SQUARED - 2 * FALLEN, rel=1e-9)
    assert found.table[0, 1] == pytest.approx(SQUARED / 2, rel=1e-9)
    assert found.projection[0, 1] == pytest.approx(SQUARED / 2, rel=1e-9)


def test_a_projection_that_repairs_has_a_negative_part_of_the_fall():
    rng = np.random.default_rng(0)
    found = one_pair(orthonormal(rng) * FALLING, np.diag(1 / FALLING))

    assert found.total[0, 1] == pytest.approx(0, abs=1e-9)
    assert found.table[0, 1] == pytest.approx((FALLEN - RISEN) / 2, abs=1e-9)
    assert found.table[0, 1] == pytest.approx(-found.projection[0, 1], abs=1e-9)


def test_parts_add_up_and_the_ceiling_knows_short_tables():
    tables, layers = random_model(2)
    found = attribute(summaries(tables), layers)
    views = sub_embeddings(summaries(tables), layers)

    np.testing.assert_allclose(found.table + found.projection, found.total, atol=1e-12)
    ceiling = np.log(np.minimum(ROWS, 2 * DIM))
    np.testing.assert_allclose(found.total, ceiling[:, None] - np.log(views.abundance), atol=1e-9)
    np.testing.assert_allclose(found.table_alone, ceiling - np.log(views.tables), atol=1e-9)


def test_a_field_that_others_meet_through_flat_projections_pulls_most():
    rng = np.random.default_rng(4)
    fields, culprit = 5, 2
    layer = np.block([[rotation(rng) for _ in range(fields)] for _ in range(fields)])
    layer[culprit * DIM : (culprit + 1) * DIM] *= np.repeat(FALLING, 1)[:, None]
    tables = [Summary.of(rng.standard_normal((300, DIM))) for _ in range(fields)]

    pull = attribute(tables, layer[None]).pull

    assert np.argmax(pull) == culprit
    assert np.delete(pull, culprit).max() < 0.1 < pull[culprit]


def test_tables_and_projection_must_fit_together():
    _, layers = random_model(1)
    with pytest.raises(DataError, match="must be a multiple of 5 fields wide, got 24"):
        interaction_patterns(layers, fields=5)
    with pytest.raises(DataError, match="table of field 1 must have 1 sets of 6 columns, got 5"):
        sub_embeddings(
            [Summary.of(np.ones((3, 6))), Summary.of(np.ones((3, 5)))], layers[:, :12, :12]
        )
    with pytest.raises(DataError, match="table of field 0 must have rows, got none"):
        attribute([Summary.empty(6)] * 4, layers)
