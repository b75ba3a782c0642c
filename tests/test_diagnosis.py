"""Diagnosis: every number against NumPy on the tables themselves."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import subspace_angles

from multiembed import diagnose
from multiembed.base.errors import DataError, InputError
from multiembed.config import ModelConfig, RunConfig
from multiembed.data.store.schema import Field, Schema
from multiembed.models.click_model import ClickModel

CARDINALITIES = [9, 30, 4, 120]
NAMES = ["a", "b", "c", "d"]


def abundance(matrix):
    values = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return values.sum() / values[0]


def centred(matrix):
    return abundance(matrix - matrix.mean(axis=0))


def table(rows, dim, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, dim)) * 0.7 ** np.arange(dim) + 0.3


def write_run(folder, model, *, sets, dim, architecture="dcnv2", options=None):
    folder.mkdir(exist_ok=True)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "best.safetensors"
    )
    fields = tuple(
        Field(name=name, kind="categorical", cardinality=size, min_count=1)
        for name, size in zip(NAMES, CARDINALITIES, strict=True)
    )
    Schema(label="click", fields=fields, splits={}).save(folder / "schema.json")
    described = ModelConfig(architecture=architecture, dim=dim, sets=sets, options=options or {})
    (folder / "config.toml").write_text(RunConfig(model=described).to_toml())
    rows = sum(CARDINALITIES)
    np.save(folder / "row_counts.npy", np.arange(rows, dtype=np.int64) % 4)


def tables_of(model):
    """Cut the embedding matrix by hand."""
    weight = model.embedding.weight.detach().numpy()
    return np.split(weight, np.cumsum(CARDINALITIES)[:-1])


@pytest.mark.parametrize("kind", ["array", "tensor", "float32", "column-major", "big-endian"])
def test_numbers_of_a_field_are_those_of_numpy(kind):
    matrix = table(300, 12)
    given = {
        "array": matrix,
        "tensor": torch.from_numpy(matrix),
        "float32": matrix.astype(np.float32),
        "column-major": np.asfortranarray(matrix),
        "big-endian": matrix.astype(">f8"),
    }[kind]

    field = diagnose({"x": given}).fields[0]

    rel = 1e-6 if kind == "float32" else 1e-9
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values / values.sum()
    mean = 300 * np.sum(matrix.mean(axis=0) ** 2) / np.sum(matrix**2)
    assert field.information_abundance == pytest.approx(abundance(matrix), rel=rel)
    assert field.centered_information_abundance == pytest.approx(centred(matrix), rel=rel)
    assert field.effective_rank == pytest.approx(np.exp(-shares @ np.log(shares)), rel=rel)
    assert field.stable_rank == pytest.approx(np.sum(values**2) / values[0] ** 2, rel=rel)
    assert field.condition == pytest.approx(values[0] / values[-1], rel=1e-5)
    assert field.mean_share == pytest.approx(mean, rel=rel)
    np.testing.assert_allclose(field.singular_values, values, rtol=1e-5)
    assert (field.cardinality, field.dim, field.sets) == (300, 12, 1)
    assert field.rows_trained is None and field.trained is None and field.weighted is None


def test_trained_rows_and_counts_are_seen_apart():
    matrix = table(200, 6)
    counts = np.random.default_rng(0).integers(0, 4, size=200)

    field = diagnose({"x": matrix}, counts={"x": counts}).fields[0]

    repeated = np.repeat(matrix, counts, axis=0)
    assert field.rows_trained == np.count_nonzero(counts)
    assert field.trained.information_abundance == pytest.approx(abundance(matrix[counts > 0]))
    assert field.trained.centered_information_abundance == pytest.approx(
        centred(matrix[counts > 0])
    )
    assert field.weighted.information_abundance == pytest.approx(abundance(repeated))
    assert field.weighted.centered_information_abundance == pytest.approx(centred(repeated))
    assert field.information_abundance == pytest.approx(abundance(matrix))


def test_the_tail_of_a_deep_spectrum_is_resolved_by_qr():
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(500, 8)))[0]
    right = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    values = 10.0 ** -np.arange(0, 10.4, 1.4)[:8]

    field = diagnose({"x": left * values @ right.T}).fields[0]

    assert field.route == "qr"
    np.testing.assert_allclose(field.singular_values, values, rtol=1e-4)


def test_chunks_change_nothing(monkeypatch):
    matrix = table(500, 7)
    counts = np.arange(500) % 3
    whole = diagnose({"x": matrix}, counts={"x": counts}).fields[0]
    monkeypatch.setattr("multiembed.diagnosis.readers.table.CHUNK_BYTES", 8 * 7 * 33)

    field = diagnose({"x": matrix}, counts={"x": counts}).fields[0]

    np.testing.assert_allclose(field.singular_values, whole.singular_values, rtol=1e-9)
    assert field.weighted.information_abundance == pytest.approx(
        whole.weighted.information_abundance
    )


@pytest.mark.parametrize(("sets", "dim"), [(1, 6), (3, 5)])
def test_a_run_is_read_field_by_field_and_set_by_set(tmp_path, sets, dim):
    model = ClickModel("dcnv2", CARDINALITIES, dim=dim, sets=sets)
    write_run(tmp_path / "run", model, sets=sets, dim=dim)

    found = diagnose(tmp_path / "run")

    assert found.layout == "multiembed dcnv2"
    counts = np.arange(sum(CARDINALITIES)) % 4
    starts = np.cumsum([0, *CARDINALITIES])
    for i, (field, matrix) in enumerate(zip(found.fields, tables_of(model), strict=True)):
        assert (field.name, field.cardinality) == (NAMES[i], len(matrix))
        assert (field.sets, field.dim) == (sets, dim)
        assert field.information_abundance == pytest.approx(abundance(matrix))
        assert field.rows_trained == np.count_nonzero(counts[starts[i] : starts[i + 1]])
        for m, view in enumerate(field.per_set):
            own = matrix[:, m * dim : (m + 1) * dim]
            assert view.information_abundance == pytest.approx(abundance(own))
        assert len(field.per_set) == (sets if sets > 1 else 0)


@pytest.mark.parametrize(("sets", "shared"), [(1, False), (3, False), (3, True)])
def test_sub_embeddings_of_a_run_are_products_of_table_and_block(tmp_path, sets, shared):
    dim = 5
    model = ClickModel("dcnv2", CARDINALITIES, dim=dim, sets=sets, shared_interaction=shared)
    write_run(tmp_path / "run", model, sets=sets, dim=dim)

    found = diagnose(tmp_path / "run").subembeddings

    assert len(found.layers) == 4
    for number, layer in enumerate(found.layers):
        weight = model.groups[0].interaction.cross[number].weight.detach().numpy()
        for i, matrix in enumerate(tables_of(model)):
            for j in range(4):
                parts = [
                    matrix[:, m * dim : (m + 1) * dim]
                    @ weight[0 if shared else m][j * dim : (j + 1) * dim, i * dim : (i + 1) * dim].T
                    for m in range(sets)
                ]
                naive = abundance(np.concatenate(parts, axis=1))
                assert layer.abundance[i, j] == pytest.approx(naive, rel=1e-5)
    assert found.fields == NAMES


def test_block_weights_are_part_of_the_projection(tmp_path):
    model = ClickModel("dcnv2", CARDINALITIES, dim=5, sets=2)
    write_run(tmp_path / "run", model, sets=2, dim=5)
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    factors = torch.ones(2, 4, 4)
    factors[:, 3, 1] = torch.tensor([2.0, 0.0])  # field 1 into field 3: only the first set
    tensors["groups.0.interaction.cross.0.block_weight"] = factors
    save_file(tensors, tmp_path / "run" / "best.safetensors")

    layer = diagnose(tmp_path / "run").subembeddings.layers[0]

    block = tensors["groups.0.interaction.cross.0.weight"][0, 15:20, 5:10].numpy()
    expected = abundance(tables_of(model)[1][:, :5] @ block.T)
    assert layer.abundance[1, 3] == pytest.approx(expected, rel=1e-5)


def test_first_order_weights_are_no_part_of_a_table(tmp_path):
    model = ClickModel("dnn", CARDINALITIES, dim=4, sets=2)
    linear = {"architecture": "xdeepfm", "options": {"linear": True}}
    write_run(tmp_path / "run", model, sets=2, dim=4, **linear)
    wide = torch.randn(sum(CARDINALITIES), 10)  # per set 4 numbers, then a first-order weight
    save_file({"embedding.weight": wide}, tmp_path / "run" / "best.safetensors")

    field = diagnose(tmp_path / "run").fields[0]

    kept = wide[:9, [0, 1, 2, 3, 5, 6, 7, 8]].numpy()
    assert field.information_abundance == pytest.approx(abundance(kept))


@pytest.mark.parametrize("own_block", [True, False])
@pytest.mark.parametrize("linear", [True, False])
def test_an_ffm_shows_its_own_sub_embeddings(tmp_path, own_block, linear):
    model = ClickModel("dnn", CARDINALITIES, dim=4)
    options = {"own_block": own_block, "linear": linear}
    write_run(tmp_path / "run", model, sets=1, dim=4, architecture="ffm", options=options)
    blocks = [0, 1, 2, 3] if own_block else [0, None, 1, 2]  # of field b for every field
    wide = torch.randn(sum(CARDINALITIES), 4 * (4 if own_block else 3) + linear)
    save_file({"embedding.weight": wide}, tmp_path / "run" / "best.safetensors")

    found = diagnose(tmp_path / "run").subembeddings

    rows = wide[9:39].numpy()  # field b
    expected = [
        np.nan if j == 1 else abundance(rows[:, 4 * block : 4 * block + 4])
        for j, block in enumerate(blocks)
    ]
    np.testing.assert_allclose(found.layers[0].abundance[1], expected)
    assert found.attribution is None


def test_the_field_that_pulls_others_down_is_named(tmp_path):
    """Every block into field c is made rank one; tables and the other blocks are rotations."""
    dim, rng = 4, np.random.default_rng(0)
    model = ClickModel("dcnv2", CARDINALITIES, dim=dim)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(rng.normal(size=(163, dim))))
        weight = model.groups[0].interaction.cross[0].weight
        for j in range(4):
            for i in range(4):
                block = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
                if j == 2:
                    block = np.outer(block[0], block[1])
                part = torch.from_numpy(block)
                weight[0, j * dim : (j + 1) * dim, i * dim : (i + 1) * dim] = part
    write_run(tmp_path / "run", model, sets=1, dim=dim)

    found = diagnose(tmp_path / "run")

    assert found.subembeddings.pullers == ["c"]
    assert any("'c'" in finding for finding in found.summary.verdict.findings)


def test_the_sets_of_a_run_are_compared(tmp_path):
    model = ClickModel("dcnv2", CARDINALITIES, dim=3, sets=2)
    with torch.no_grad():
        model.embedding.weight[:, 3:] = 2 * model.embedding.weight[:, :3]  # one set, twice
    write_run(tmp_path / "run", model, sets=2, dim=3)

    found = diagnose(tmp_path / "run").diversity

    assert found.mean.rank_aware_diversity == pytest.approx(0, abs=1e-6)
    assert found.mean.weighted_overlap == pytest.approx(1)
    assert found.random_mean.rank_aware_diversity > 0.3
    assert found.pairs.shape == (2, 2)


@pytest.mark.parametrize("file", ["dcnv2_se", "dcnv2_me"])
def test_sub_embeddings_of_the_reference_are_products_of_table_and_block(golden, tmp_path, file):
    shapes = json.loads((golden / "index.json").read_text())
    sizes, dim = shapes["field_cardinalities"], shapes["embedding_dim"]
    names = shapes["models"][file]["parameters"]
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(shape, generator=generator) for n, shape in names.items()}
    torch.save(weights, tmp_path / "model.pt")

    found = diagnose(tmp_path / "model.pt", cardinalities=sizes)

    starts = np.cumsum([0, *sizes])
    sets = [
        [n for n in names if n.startswith("embedding")],
        [n for n in names if ".W.0" in n or n == "cn.W.0"],
    ]
    for i in range(len(sizes)):
        rows = slice(starts[i], starts[i + 1])
        for j in range(len(sizes)):
            parts = [
                weights[t].numpy()[rows]
                @ weights[w].numpy()[j * dim : (j + 1) * dim, i * dim : (i + 1) * dim].T
                for t, w in zip(*sets, strict=True)
            ]
            naive = abundance(np.concatenate(parts, axis=1))
            assert found.subembeddings.layers[0].abundance[i, j] == pytest.approx(naive, rel=1e-5)


def test_json_holds_every_field_and_no_number_that_json_lacks():
    tables = {"zero": np.zeros((9, 3)), "equal": np.ones((9, 3)), "one": np.ones((1, 3))}

    found = json.loads(diagnose({**tables, "fine": table(40, 3)}).to_json())

    assert found["format"] == 2
    assert [f["name"] for f in found["fields"]] == ["zero", "equal", "one", "fine"]
    assert found["fields"][0]["information_abundance"] == 0
    assert found["fields"][0]["condition"] is None  # infinite
    assert found["fields"][3]["information_abundance"] == pytest.approx(abundance(table(40, 3)))
    assert len(found["fields"][3]["singular_values"]) == 3


def test_averages_are_over_fields_unweighted():
    found = diagnose({"a": table(500, 4), "b": table(5, 4, seed=1)}).summary

    expected = (abundance(table(500, 4)) + abundance(table(5, 4, seed=1))) / 2
    assert found.information_abundance == pytest.approx(expected)
    assert (found.fields, found.rows, found.parameters) == (2, 505, 2020)
    assert found.dim == 4


def test_progress_is_told_after_every_field():
    told = []

    diagnose({"a": table(5, 2), "b": table(5, 3)}, progress=lambda *step: told.append(step))

    assert told == [(1, 2), (2, 2)]


def test_a_number_that_is_not_finite_is_placed():
    matrix = table(30, 4)
    matrix[17, 2] = np.nan

    with pytest.raises(DataError, match="table 'x' must hold finite numbers, got nan in row 17"):
        diagnose({"x": matrix})


@pytest.mark.parametrize(
    ("tables", "counts", "message"),
    [
        ({}, None, "must name at least one table, got none"),
        (
            {"x": np.zeros((0, 3))},
            None,
            r"table 'x' must have rows and columns, got shape \(0, 3\)",
        ),
        ({"x": np.zeros(3)}, None, "table 'x' must have rows and columns"),
        ({"x": np.zeros((3, 2), dtype=complex)}, None, "table 'x' must hold real numbers"),
        ({"x": np.ones((3, 2))}, {"y": np.ones(3, dtype=int)}, "fields of the model, got 'y'"),
        ({"x": np.ones((3, 2))}, {"x": np.ones(4, dtype=int)}, "one count per row, 3, got 4"),
        ({"x": np.ones((3, 2))}, {"x": np.array([1, -1, 0])}, "must be finite and >= 0, got -1"),
    ],
)
def test_wrong_tables_and_counts_are_refused(tables, counts, message):
    with pytest.raises(DataError, match=message):
        diagnose(tables, counts=counts)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("best.safetensors", b"short", "must be a whole safetensors file"),
        ("best.safetensors", None, "must be present"),
        ("schema.json", b"{}", "schema.json: format_version must be 1, got None"),
        ("config.toml", b"[model]\n", "must have 10 columns, as config.toml says, got 2"),
        ("config.toml", b"=", "config.toml must be TOML"),
        ("row_counts.npy", b"noise", "must hold 163 whole numbers as NumPy saves them"),
    ],
)
def test_a_broken_run_is_refused_in_one_line(tmp_path, file, content, message):
    write_run(tmp_path / "run", ClickModel("dcnv2", CARDINALITIES, dim=2), sets=1, dim=2)
    if content is None:
        (tmp_path / "run" / file).unlink()
    else:
        (tmp_path / "run" / file).write_bytes(content)

    with pytest.raises(InputError, match=message) as caught:
        diagnose(tmp_path / "run")

    assert "\n" not in str(caught.value)


def test_columns_of_one_set_are_split_for_comparison():
    wide = table(120, 6)
    found = diagnose({"a": wide}, split_sets=2).diversity

    angles = subspace_angles(wide[:, :3], wide[:, 3:])
    assert found.split
    assert found.mean.diversity == pytest.approx(1 - np.cos(angles).mean(), abs=1e-9)


@pytest.mark.parametrize("sets", [1, 4])
def test_columns_that_do_not_divide_are_refused(sets):
    with pytest.raises(DataError, match="split_sets must divide the 6 columns of field a"):
        diagnose({"a": table(120, 6)}, split_sets=sets)
