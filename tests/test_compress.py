"""Compression: exact where tables have a low rank, honest about the rest, a run like any other."""

import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from multiembed.base.errors import ConfigError, DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.diagnosis.diagnose import diagnose
from multiembed.models.click_model import ClickModel
from multiembed.models.factored import FactoredEmbeddings, FactoredTable
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.runs.compress import compress_run, factor
from multiembed.runs.directory import load_tensors, save_tensors
from multiembed.runs.run import load_run
from multiembed.spectra.measures import dims_for_energy
from multiembed.spectra.spectrum import principal_directions
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train

RANK = 2


def low_rank(rows, columns, rng, rank=RANK):
    """Return a table of that rank about an offset, exact in float32."""
    factors = rng.integers(-3, 4, (rows, rank)), rng.integers(-3, 4, (rank, columns))
    return (factors[0] @ factors[1] + rng.integers(-3, 4, columns)) / 64


# --- how many dims a table needs


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99, 1.0])
def test_dims_are_the_fewest_that_numpy_finds(keep):
    table = np.random.default_rng(1).standard_normal((200, 8)) * 0.6 ** np.arange(8) + 1
    centred = table - table.mean(axis=0)
    shares = np.cumsum(np.linalg.svd(centred, compute_uv=False) ** 2) / np.sum(centred**2)

    found = principal_directions(table, keep=keep)

    assert len(found.basis) == int(np.argmax(shares >= keep - 1e-12)) + 1
    kept = centred @ found.basis.T
    assert np.sum(kept**2) >= (keep - 1e-12) * np.sum(centred**2)
    np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(len(found.basis)), atol=1e-12)
    np.testing.assert_allclose(found.mean, table.mean(axis=0))


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_a_common_offset_does_not_hide_what_tells_ids_apart(offset):
    rng = np.random.default_rng(2)
    table = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 10)) + offset

    assert len(principal_directions(table, keep=1 - 1e-9).basis) == 3
    if offset > 1:
        assert dims_for_energy(table, 0.99) == 1  # what the raw spectrum would have kept


def test_equal_rows_need_no_direction():
    assert len(principal_directions(np.full((5, 4), 3.0), keep=1.0).basis) == 0


def test_an_id_that_is_alone_needs_none():
    assert len(principal_directions(np.arange(4.0)[None], keep=1.0).basis) == 0


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.0001, float("nan")])
def test_what_is_no_share_is_refused(keep):
    with pytest.raises(ConfigError, match="keep must be above 0 and at most 1, got"):
        principal_directions(np.eye(3), keep=keep)


# --- factored tables in any model

CARDINALITIES = (60, 40, 90)


def low_rank_model(architecture, sets):
    rng = np.random.default_rng(3)
    model = ClickModel(architecture, CARDINALITIES, dim=8, sets=sets).eval()
    with torch.no_grad():
        for block in model.embedding.by_field():
            ends = model.embedding.row.first_order
            table = low_rank(*block.shape, rng)
            if ends:  # first-order weights are no part of what has a low rank
                width = model.embedding.width
                table[:, width - 1 :: width] = rng.integers(-9, 10, (len(table), sets)) / 8
            block.copy_(torch.from_numpy(table))
    return model


def factored(model, *, keep):
    fields, tables = factor(model.embedding, ["a", "b", "c"], keep=keep)
    stored = [field.stored for field in fields]
    like = ClickModel(
        [*model.mix],
        CARDINALITIES,
        dim=model.embedding.dim,
        sets=model.embedding.sets,
        tables=partial(FactoredEmbeddings, kept=stored),
    ).eval()
    state = {n: t for n, t in model.state_dict().items() if n != "embedding.weight"}
    for at, table in enumerate(tables):
        state |= {f"embedding.tables.{at}.{name}": t for name, t in table.items()}
    like.load_state_dict(state)
    return like, stored


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_at_full_rank_no_architecture_sees_a_difference(architecture, sets):
    model = low_rank_model(architecture, sets)
    ids = torch.from_numpy(np.random.default_rng(4).integers(0, CARDINALITIES, (256, 3)))

    narrow, stored = factored(model, keep=1.0)

    own = sets if model.embedding.row.first_order else 0
    assert stored == [RANK + own] * 3
    with torch.no_grad():
        difference = (narrow(ids) - model(ids)).abs().max()
        assert difference <= 1e-6 * max(1.0, float(model(ids).abs().max()))
    torch.testing.assert_close(narrow.embedding.weight, model.embedding.weight.detach())


def test_ids_outside_their_field_are_refused_as_ever():
    narrow, _ = factored(low_rank_model("dnn", 1), keep=1.0)

    with pytest.raises(DataError, match="id of field 1 must be below its cardinality 40, got 40"):
        narrow(torch.tensor([[0, 40, 0]]))


def test_a_table_without_its_width_is_refused():
    with pytest.raises(ConfigError, match="table_dims must be one per table, 3, got 2"):
        ClickModel("dnn", CARDINALITIES, tables=partial(FactoredEmbeddings, kept=(2, 2)))


def test_a_factored_lookup_is_a_product_by_hand():
    table = FactoredTable(2, 1, 3)
    with torch.no_grad():
        table.codes.copy_(torch.tensor([[2.0], [-1.0]]))
        table.basis.copy_(torch.tensor([[1.0, 0.0, 3.0]]))
        table.mean.copy_(torch.tensor([0.5, 1.0, 0.0]))

    found = table(torch.tensor([1, 0]))

    torch.testing.assert_close(found, torch.tensor([[-0.5, 1.0, -3.0], [2.5, 1.0, 6.0]]))


def test_a_table_that_would_not_shrink_stays_as_it_is():
    model = ClickModel("dnn", (60, 5, 90), dim=8)
    before = [block.clone() for block in model.embedding.by_field()]

    fields, tables = factor(model.embedding, ["a", "b", "c"], keep=0.999)

    # Random tables need all dims; 5 rows need 4, but 5*4 codes and 4*8 + 8 for the way back are 60.
    assert [field.needed for field in fields] == [8, 4, 8]
    for table, block in zip(tables, before, strict=True):
        assert list(table) == ["codes"]
        assert torch.equal(table["codes"], block)


# --- whole runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a run whose larger tables were given rank 2, and the folder it lies in."""
    folder = tmp_path_factory.mktemp("compress")
    planted = PlantedClicks(cardinalities=(80, 60, 4), ranks=2, rows=5000)
    write_planted(folder / "dataset", planted)
    model = ModelConfig(architecture="dcnv2", dim=6, sets=2, options={"hidden": [16, 8]})
    config = RunConfig(model=model, training=TrainingConfig(max_epochs=2, batch_size=256))
    run = train(config, dataset=open_dataset(folder / "dataset"), run=folder / "run")
    tensors, state = load_tensors(run.directory.best)
    blocks = list(tensors["embedding.weight"].double().split([80, 60, 4]))
    for at in (0, 1):
        mean = blocks[at].mean(dim=0)
        left, values, right = np.linalg.svd((blocks[at] - mean).numpy(), full_matrices=False)
        flat = (left[:, :RANK] * values[:RANK]) @ right[:RANK]
        blocks[at] = torch.from_numpy(flat) + mean
    tensors["embedding.weight"] = torch.cat(blocks).float()
    save_tensors(run.directory.best, tensors, state)
    return folder


def test_a_compressed_run_is_opened_measured_and_diagnosed_like_any_other(trained, tmp_path):
    whole = load_run(trained / "run")

    done = compress_run(trained / "run", tmp_path / "out", keep=1 - 1e-9)

    narrow = load_run(tmp_path / "out")
    assert [field.stored for field in done.fields] == [RANK, RANK, 12]
    assert narrow.config.model.table_dims == (RANK, RANK, 12)
    test = open_dataset(trained / "dataset").split("test")
    np.testing.assert_allclose(narrow.predict(test.ids), whole.predict(test.ids), atol=1e-6)
    assert narrow.evaluate("test") == done.after
    assert done.before == whole.evaluate("test")
    assert done.after["auc"] == pytest.approx(done.before["auc"], abs=1e-4)
    assert narrow.records == whole.records
    ours, theirs = diagnose(tmp_path / "out"), diagnose(trained / "run")
    for mine, other in zip(ours.fields, theirs.fields, strict=True):
        assert mine.information_abundance == pytest.approx(other.information_abundance, abs=1e-4)
        assert mine.rows_trained == other.rows_trained
    assert not ours.skipped or all("embedding" not in item.name for item in ours.skipped)


def test_the_memory_said_is_the_memory_stored(trained, tmp_path):
    done = compress_run(trained / "run", tmp_path / "out", keep=0.9)

    stored = load_file(tmp_path / "out" / "best.safetensors")
    tables = [tensor for name, tensor in stored.items() if name.startswith("embedding.")]
    assert done.bytes_after == sum(4 * tensor.numel() for tensor in tables)
    assert done.bytes_before == 4 * (80 + 60 + 4) * 12
    kept = done.fields[0].stored
    assert done.fields[0].bytes_after == 4 * (80 * kept + kept * 12 + 12)
    said = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert said["fields"][0]["needed"] == kept
    assert said["after"]["auc"] == done.after["auc"]


def test_a_compressed_run_is_neither_trained_on_nor_compressed_again(trained, tmp_path):
    compress_run(trained / "run", tmp_path / "out")
    before = (tmp_path / "out" / "best.safetensors").read_bytes()

    with pytest.raises(ConfigError, match="table_dims must be absent in training"):
        train(None, run=tmp_path / "out", resume=True)
    with pytest.raises(DataError, match="must be a run as trained, got a compressed one"):
        compress_run(tmp_path / "out", tmp_path / "again")
    assert (tmp_path / "out" / "best.safetensors").read_bytes() == before


def test_a_failure_leaves_nothing_behind(trained, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multiembed.runs.compress.save_tensors", full)

    with pytest.raises(DataError, match="out must be writable, got: No space left on device"):
        compress_run(trained / "run", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_saves_and_costs(trained, tmp_path, call):
    code, out, _ = call("compress", trained / "run", tmp_path / "out", "--keep", "0.95")

    assert code == 0
    assert re.search(r"f0 +│ +80 │ +12 │ +[12] │ +[12] │", out)
    assert "0.007 MB -> 0.00" in out
    assert "test AUC 0." in out
    assert "test log loss 0." in out
    assert all(len(line) <= 80 for line in out.splitlines() if "written to" not in line)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "OUT", "--keep", "0"], "keep must be above 0 and at most 1, got 0"),
        (["RUN", "OUT", "--keep", "1.5"], "keep must be above 0 and at most 1, got 1.5"),
        (["RUN", "RUN"], "must not exist yet"),
        (["DATASET", "OUT"], r"must be a run directory, got no config\.toml"),
        (["nowhere", "OUT"], r"nowhere must be a run directory"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(trained, tmp_path, call, arguments, message):
    paths = {"RUN": trained / "run", "DATASET": trained / "dataset", "OUT": tmp_path / "out"}

    code, _, err = call("compress", *(paths.get(word, word) for word in arguments))

    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err), err
    assert not (tmp_path / "out").exists()


def test_the_tables_of_a_compressed_model_are_all_its_embedding_holds():
    narrow = factored(low_rank_model("dcnv2", 2), keep=1.0)[0]

    assert isinstance(narrow.embedding, FactoredEmbeddings)
    assert "embedding.weight" not in narrow.state_dict()
