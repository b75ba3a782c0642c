"""Readers: what other libraries wrote comes back whole, and what is broken is said in one line."""

import json
import os
import pickle
import sys
import types
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.cardinalities import parse_cardinalities
from multiembed.diagnosis.readers.checkpoint import read_checkpoint

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SIZES = {"a": 7, "b": 5, "c": 11, "d": 4}
DIM = 6


def table(rows=9, dim=DIM, seed=0, dtype=torch.float32):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)).to(dtype)


def read(path, **options):
    return read_checkpoint(Path(path), **options)


def whole(checkpoint):
    """Return every table as the chunks give it."""
    return {
        t.name: torch.from_numpy(np.concatenate([np.float64(chunk) for _, chunk in t.chunks()]))
        for t in checkpoint.tables
    }


def assert_tables(checkpoint, expected):
    found = whole(checkpoint)

    assert list(found) == list(expected)
    for name, matrix in expected.items():
        assert torch.equal(found[name], matrix.to(torch.float64)), name


def saved(tmp_path, content, name="model.pt"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    ("file", "layout", "prefix", "fields"),
    [
        (
            "fuxictr/dcnv2.model",
            "FuxiCTR",
            "embedding_layer.embedding_layer.embedding_layers.",
            ["site", "hour", "ad", "age"],
        ),
        ("deepctr_torch.pt", "DeepCTR-Torch", "embedding_dict.", ["site", "hour", "ad"]),
        ("torch_rechub.pth", "torch-rechub", "embedding.embed_dict.", ["site", "hour", "ad"]),
    ],
)
def test_tables_written_by_libraries_come_back(file, layout, prefix, fields):
    weights = torch.load(CHECKPOINTS / file, weights_only=True)

    checkpoint = read(CHECKPOINTS / file)

    assert checkpoint.layout == layout
    assert_tables(checkpoint, {f: weights[f"{prefix}{f}.weight"] for f in fields})
    side = 4 * len(fields)
    assert [layer.shape for layer in checkpoint.cross_layers] == [(1, side, side)] * 2
    crossed = [n for n in weights if "cross" in n and weights[n].shape[-2:] == (side, side)]
    first = weights[crossed[0]].reshape(-1, side, side)[:1]
    assert torch.equal(checkpoint.cross_layers[0].whole(), first)


@pytest.mark.parametrize("file", ["torchrec.pt", "torchrec_distributed"])
def test_tables_written_by_torchrec_come_back(file):
    weights = torch.load(CHECKPOINTS / "torchrec.pt", weights_only=True)
    prefix = "sparse_arch.embedding_bag_collection.embedding_bags."
    fields = ["t_site", "t_hour", "t_ad"]

    checkpoint = read(CHECKPOINTS / file)

    assert checkpoint.layout == "TorchRec"
    assert_tables(checkpoint, {f: weights[f"{prefix}{f}.weight"] for f in fields})


def test_every_tensor_is_a_table_a_cross_layer_or_skipped_with_a_reason():
    weights = torch.load(CHECKPOINTS / "torch_rechub.pth", weights_only=True)

    checkpoint = read(CHECKPOINTS / "torch_rechub.pth")

    named = len(checkpoint.tables) + len(checkpoint.cross_layers) + len(checkpoint.skipped)
    assert named == len(weights)
    assert all(item.reason for item in checkpoint.skipped)


def test_a_pickled_model_is_read_without_its_library():
    assert "deepctr_torch" not in sys.modules

    checkpoint = read(CHECKPOINTS / "deepctr_torch_whole_model.h5")

    assert_tables(checkpoint, whole(read(CHECKPOINTS / "deepctr_torch.pt")))
    assert "deepctr_torch" not in sys.modules


def test_a_feature_map_gives_the_order_of_fields(tmp_path):
    weights = torch.load(CHECKPOINTS / "fuxictr" / "dcnv2.model", weights_only=True)
    save_file(weights, tmp_path / "model.safetensors")  # which forgets the order
    assert read(tmp_path).cross_layers == ()
    (tmp_path / "feature_map.json").write_bytes(
        (CHECKPOINTS / "fuxictr" / "feature_map.json").read_bytes()
    )

    checkpoint = read(tmp_path)

    assert [t.name for t in checkpoint.tables] == ["site", "hour", "ad", "age"]
    assert len(checkpoint.cross_layers) == 2


def test_a_feature_map_of_another_model_is_refused(tmp_path):
    weights = torch.load(CHECKPOINTS / "fuxictr" / "dcnv2.model", weights_only=True)
    saved(tmp_path, weights)
    features = [{name: {"vocab_size": 99}} for name in ("site", "hour", "ad", "age")]
    (tmp_path / "feature_map.json").write_text(json.dumps({"features": features}))

    with pytest.raises(DataError, match="size of 'site' must be its table's 11 rows, got 99"):
        read(tmp_path)


def concatenated(sets=1):
    rows = sum(SIZES.values())
    return [table(rows, seed=m) for m in range(sets)]


def by_field(*tables):
    """Cut concatenated tables by hand: offsets 0, 7, 12, 23."""
    starts = {"a": 0, "b": 7, "c": 12, "d": 23}
    return {
        name: torch.cat([t[start : start + SIZES[name]] for t in tables], dim=1)
        for name, start in starts.items()
    }


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("token_embedding_table.embedding.weight", "RecBole"),
        ("embedding.embedding.weight", "pytorch-fm"),
    ],
)
def test_one_concatenated_table_is_cut_by_cardinalities(tmp_path, name, layout):
    [matrix] = concatenated()
    path = saved(tmp_path, {name: matrix, "linear.fc.weight": matrix[:, :1].clone()})

    checkpoint = read(path, cardinalities=SIZES)

    assert checkpoint.layout == layout
    assert_tables(checkpoint, by_field(matrix))
    assert [(s.name, s.reason) for s in checkpoint.skipped] == [
        ("linear.fc.weight", "one column: a linear term")
    ]


def test_one_concatenated_table_asks_for_cardinalities(tmp_path):
    path = saved(tmp_path, {"embedding.embedding.weight": concatenated()[0]})

    with pytest.raises(DataError, match=r"one table of 27 rows holds every field.*--cardinalities"):
        read(path)
    with pytest.raises(DataError, match="must add up to the table's 27 rows, got 12"):
        read(path, cardinalities=[7, 5])


@pytest.mark.parametrize("middle", ["", "0."])
def test_the_sets_of_the_papers_code_lie_side_by_side(tmp_path, middle):
    tables = concatenated(sets=2)
    weights = {f"embeddings.{m}.{middle}embedding.weight": t for m, t in enumerate(tables)}
    side = len(SIZES) * DIM
    for m in range(2):
        for layer in range(3):
            weights[f"cns.{m}.0.W.{layer}"] = table(side, side, seed=10 + 2 * layer + m)

    checkpoint = read(saved(tmp_path, weights), cardinalities=SIZES)

    assert_tables(checkpoint, by_field(*tables))
    assert {t.sets for t in checkpoint.tables} == {2}
    assert len(checkpoint.cross_layers) == 3
    second = checkpoint.cross_layers[1].whole()
    assert torch.equal(second, torch.stack([weights["cns.0.0.W.1"], weights["cns.1.0.W.1"]]))


def test_the_tables_of_an_ffm_leave_out_what_no_model_reads(tmp_path):
    tables = concatenated(sets=4)
    path = saved(tmp_path, {f"ffm.embeddings.{j}.weight": t for j, t in enumerate(tables)})

    checkpoint = read(path, cardinalities=SIZES)

    assert checkpoint.field_aware
    expected = by_field(tables[0], tables[2], tables[3])["b"]
    assert torch.equal(whole(checkpoint)["b"], expected.double())


def test_dlrm_tables_keep_their_numbers_in_order(tmp_path):
    weights = {f"emb_l.{i}.weight": table(5 + i, seed=i) for i in range(12)}
    weights["bot_l.0.weight"] = table(3, 4)

    checkpoint = read(saved(tmp_path, {"state_dict": weights, "iter": 3}))

    assert checkpoint.layout == "DLRM"
    assert_tables(checkpoint, {str(i): weights[f"emb_l.{i}.weight"] for i in range(12)})


def test_torchrec_tables_come_out_of_a_distributed_checkpoint(tmp_path):
    name = "model.sparse_arch.ebc.embedding_bags.{}.weight"
    weights = {name.format(f"t_cat_{i}"): table(50 + i, seed=i) for i in range(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it saves without a process group
        dcp.save({**weights, "step": 7}, checkpoint_id=tmp_path / "dcp")

    checkpoint = read(tmp_path / "dcp")

    assert checkpoint.layout == "TorchRec"
    expected = {f"t_cat_{i}": weights[name.format(f"t_cat_{i}")] for i in range(3)}
    assert_tables(checkpoint, expected)


@pytest.mark.parametrize("written", ["dtensor", "fsdp2", "torchrec_sharded"])
def test_tables_that_two_processes_wrote_are_put_together(written, monkeypatch):
    monkeypatch.setattr("multiembed.diagnosis.readers.table.CHUNK_BYTES", 8 * 4 * 3)
    weights = load_file(CHECKPOINTS / f"{written}.safetensors")

    found = whole(read(CHECKPOINTS / written))

    expected = {
        name.removesuffix(".weight").rpartition(".")[2]: matrix.double()
        for name, matrix in weights.items()
        if not name.startswith("fc")
    }
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], matrix) for name, matrix in expected.items())


def test_sharded_moments_tell_which_rows_were_trained():
    users = read(CHECKPOINTS / "fsdp2").counts["user_emb"]

    assert np.flatnonzero(users).tolist() == [0, 1, 2, 5]  # what write_distributed.py looked up


def test_one_processs_part_of_a_table_is_named_and_not_taken_for_the_table():
    checkpoint = read(CHECKPOINTS / "dtensor_rank0.pt")

    assert [t.name for t in checkpoint.tables] == ["by_none_emb", "on_one_emb"]
    parts = {s.name: s.shape for s in checkpoint.skipped if "one process's part" in s.reason}
    assert parts == {"by_rows_emb": (7, 4), "by_columns_emb": (6, 5), "by_both_emb": (5, 4)}


@pytest.mark.filterwarnings("ignore")  # torch says that such tensors are deprecated
def test_other_kinds_of_tensors_are_read_or_named(tmp_path):
    scales, zeros = torch.rand(9) + 0.1, torch.arange(9)
    by_row = torch.quantize_per_channel(table(), scales, zeros, 0, torch.qint8)
    alike = torch.quantize_per_tensor(table(), 0.05, 3, torch.quint8)
    odd = {"sparse": table().to_sparse(), "none": table().to("meta"), "complex": table() * 1j}

    checkpoint = read(saved(tmp_path, {"a_emb": by_row, "b_emb": alike, **odd}))

    assert_tables(checkpoint, {"a_emb": by_row.dequantize(), "b_emb": alike.dequantize()})
    assert {s.name for s in checkpoint.skipped} == {*odd}


def test_token_embeddings_come_out_of_a_sharded_hugging_face_model(tmp_path):
    shared = table(32, 8, dtype=torch.bfloat16)
    save_file({"shared.weight": shared}, tmp_path / "model-00001-of-00002.safetensors")
    save_file(
        {"encoder.block.0.q.weight": table(8, 8)}, tmp_path / "model-00002-of-00002.safetensors"
    )
    places = {
        "shared.weight": "model-00001-of-00002.safetensors",
        "encoder.block.0.q.weight": "model-00002-of-00002.safetensors",
    }
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    torch.save({"adam": table(32, 8)}, tmp_path / "optimizer.pt")

    checkpoint = read(tmp_path)

    assert checkpoint.layout == "Hugging Face"
    assert_tables(checkpoint, {"shared": shared})
    assert [s.name for s in checkpoint.skipped] == ["encoder.block.0.q.weight"]


def test_an_unknown_model_gives_what_is_named_like_a_table(tmp_path):
    weights = {
        "user_lookup.weight": table(4, 6),  # wider than tall, but named like a table
        "things.weight": table(40, 6),
        "fc.weight": table(40, 6),
        "fc.bias": torch.zeros(40),
        "mixer.weight": table(6, 6),
        "ids": torch.arange(4),
    }

    checkpoint = read(saved(tmp_path, weights))

    assert [t.name for t in checkpoint.tables] == ["user_lookup"]
    assert [t.name for t in checkpoint.unknown_role] == ["things"]
    assert {s.name: s.reason for s in checkpoint.skipped} == {
        "fc.weight": "a linear layer: it has a bias",
        "fc.bias": "not a matrix",
        "mixer.weight": "not named like a table, and no taller than wide",
        "ids": "not a matrix",
    }


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_weights_are_found_inside_a_training_checkpoint(tmp_path, wrapper):
    weights = OrderedDict({"embedding_dict.a.weight": table()})
    moments = {"state": {0: {"exp_avg": table(seed=1)}}}
    path = saved(tmp_path, {wrapper: weights, "optimizer": moments, "epoch": 3})

    checkpoint = read(path)

    assert_tables(checkpoint, {"a": table()})
    assert [(s.name, s.reason) for s in checkpoint.skipped] == [
        ("optimizer.state.0.exp_avg", "what an optimizer remembers, no weights")
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_precisions_are_read_as_stored(tmp_path, dtype, suffix):
    weights = {"embedding_dict.a.weight": table(dtype=dtype)}
    path = tmp_path / f"model{suffix}"
    if suffix == ".pt":
        torch.save(weights, path)
    else:
        save_file(weights, path)

    assert_tables(read(path), {"a": weights["embedding_dict.a.weight"]})


def test_numpy_archives_give_their_arrays(tmp_path):
    np.savez(tmp_path / "tables.npz", a=table().numpy(), b=table(seed=1).numpy(), n=np.arange(3))
    np.save(tmp_path / "one.npy", table(seed=2).numpy())
    np.save(tmp_path / "columns.npy", np.asfortranarray(table(seed=3).numpy()))

    assert_tables(read(tmp_path / "tables.npz"), {"a": table(), "b": table(seed=1)})
    assert_tables(read(tmp_path / "one.npy"), {"one": table(seed=2)})
    assert_tables(read(tmp_path / "columns.npy"), {"columns": table(seed=3)})


def test_large_tables_are_read_in_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("multiembed.diagnosis.readers.table.CHUNK_BYTES", 8 * DIM * 10)
    save_file({"embedding_dict.a.weight": table(95)}, tmp_path / "model.safetensors")

    checkpoint = read(tmp_path)

    chunks = [(start, len(chunk)) for start, chunk in checkpoint.tables[0].chunks()]
    assert chunks == [(10 * k, 10) for k in range(9)] + [(90, 5)]
    assert_tables(checkpoint, {"a": table(95)})


class RecBoleConfig:
    """Stands for a class that is not there when the pickle is read."""

    def __init__(self):
        self.parameters = {"learning_rate": 0.001}


def test_recbole_pickles_are_read_without_their_classes(tmp_path, monkeypatch):
    module = types.ModuleType("recbole_config_elsewhere")
    monkeypatch.setitem(sys.modules, "recbole_config_elsewhere", module)
    monkeypatch.setattr(RecBoleConfig, "__module__", "recbole_config_elsewhere")
    monkeypatch.setattr(module, "RecBoleConfig", RecBoleConfig, raising=False)
    weights = OrderedDict({"token_embedding_table.embedding.weight": concatenated()[0]})
    content = {"config": RecBoleConfig(), "epoch": 1, "state_dict": weights, "optimizer": {}}
    path = saved(tmp_path, content, "DCNV2.pth")
    monkeypatch.delitem(sys.modules, "recbole_config_elsewhere")

    checkpoint = read(path, cardinalities=[7, 5, 11, 4])

    expected = dict(zip("0123", by_field(concatenated()[0]).values(), strict=True))
    assert_tables(checkpoint, expected)


class Hostile:
    """Runs a command when unpickled by anything that obeys it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_never_executes(tmp_path, legacy):
    witness = tmp_path / "it_ran"
    content = {
        "config": Hostile(f"touch {witness}"),
        "state_dict": {"embedding_dict.a.weight": table()},
    }
    path = tmp_path / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    pickle.loads(pickle.dumps(Hostile(f"touch {tmp_path / 'control'}")))
    assert (tmp_path / "control").exists()  # so it would have run

    checkpoint = read(path)

    assert not witness.exists()
    assert_tables(checkpoint, {"a": table()})


def test_a_hostile_distributed_checkpoint_never_executes(tmp_path):
    witness = tmp_path / "it_ran"
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Hostile(f"touch {witness}")))

    with pytest.raises(DataError, match="must list tensors and their files"):
        read(tmp_path)

    assert not witness.exists()


def test_a_pickle_that_contains_itself_is_read_once(tmp_path):
    loop = {"emb.weight": table()}
    loop["again"] = loop

    assert_tables(read(saved(tmp_path, loop)), {"emb": table()})


def test_nesting_without_end_is_refused(tmp_path):
    deep = {"emb.weight": table()}
    for _ in range(70):
        deep = {"a": deep, "b": table(seed=1)}

    with pytest.raises(DataError, match="must nest at most 64 levels"):
        read(saved(tmp_path, deep))


def broken_files(tmp_path):
    save_file({"embedding_dict.a.weight": table(1000)}, tmp_path / "whole.safetensors")
    torch.save({"embedding_dict.a.weight": table(1000)}, tmp_path / "whole.pt")
    np.savez(tmp_path / "whole.npz", a=table(1000).numpy())
    np.save(tmp_path / "whole.npy", table(1000).numpy())
    for suffix in ("safetensors", "pt", "npz", "npy"):
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        yield f"cut.{suffix}", content[: len(content) // 2]
        yield f"noise.{suffix}", b"\x93 nothing that anyone wrote" * 9
        yield f"empty.{suffix}", b""


def test_broken_files_are_refused_in_one_line(tmp_path):
    for name, content in broken_files(tmp_path):
        path = tmp_path / name
        path.write_bytes(content)

        with pytest.raises(DataError, match=name.replace(".", r"\.")) as caught:
            read(path)

        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "must hold tensors, got none"),
        ({"fc.weight": table(2), "fc.bias": torch.zeros(2)}, "must hold embedding tables, got 2"),
    ],
)
def test_files_without_tables_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(saved(tmp_path, content))


def test_missing_and_empty_places_are_refused(tmp_path):
    with pytest.raises(DataError, match="got nothing there"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="got a directory without one"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sizes.json", '{"a": 7, "b": 5}'),
        (
            "schema.json",
            '{"fields": [{"name": "a", "cardinality": 7}, {"name": "b", "cardinality": 5}]}',
        ),
        ("sizes.txt", "a 7\nb 5\n"),
        ("sizes.csv", "a,7\nb,5\n"),
    ],
)
def test_cardinalities_come_from_files_with_names(tmp_path, name, content):
    (tmp_path / name).write_text(content)

    assert parse_cardinalities(str(tmp_path / name)) == {"a": 7, "b": 5}


def test_cardinalities_come_from_numbers_alone(tmp_path):
    (tmp_path / "sizes.txt").write_text("7\n5\n")
    (tmp_path / "sizes.json").write_text("[7, 5]")

    for text in ("7,5", "7, 5", str(tmp_path / "sizes.txt"), str(tmp_path / "sizes.json")):
        assert parse_cardinalities(text) == {"0": 7, "1": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7,0", "size of field '1' must be at least 1, got '0'"),
        ("seven", "must be numbers or a file of them, got 'seven'"),
    ],
)
def test_wrong_cardinalities_are_refused(text, message):
    with pytest.raises(DataError, match=message):
        parse_cardinalities(text)
