"""Roles: which matrices of a foreign checkpoint are tables, and what becomes of the others."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from multiembed import diagnose
from multiembed.base.errors import DataError


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def names(fields):
    return [field.name for field in fields]


def reasons(found):
    return {item.name: item.reason for item in found.skipped}


def saved(tmp_path, content, name="model.pt"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
@pytest.mark.parametrize("sizes", [(100, 50, 20), (30, 30, 30)])
def test_a_list_of_embeddings_is_one_table_a_field(tmp_path, prefix, sizes):
    weights = {f"{prefix}embeddings.{i}.weight": random(n, 8) for i, n in enumerate(sizes)}
    head = {f"{prefix}fc.weight": random(1, 24), f"{prefix}fc.bias": random(1)}

    found = diagnose(saved(tmp_path, weights | head))

    assert [(f.name, f.cardinality, f.dim) for f in found.fields] == [
        (str(i), n, 8) for i, n in enumerate(sizes)
    ]
    # Sizes that say what the tables say themselves do not make an FFM of them.
    again = diagnose(saved(tmp_path, weights | head), cardinalities=sizes)
    assert [f.cardinality for f in again.fields] == list(sizes)


def test_what_belongs_to_other_layers_is_no_table(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.user_emb = nn.Embedding(60, 16)
            self.pos_emb = nn.Embedding(50, 16)
            self.shared = nn.Linear(16, 64)
            self.gru = nn.GRU(16, 32, bias=False)
            self.attention = nn.MultiheadAttention(16, 2)
            self.norm = nn.LayerNorm(16)
            self.proj = nn.Linear(16, 90, bias=False)

    found = diagnose(saved(tmp_path, Model().state_dict()))

    assert names(found.fields) == ["user_emb"]
    assert found.unknown_role == []
    told = reasons(found)
    assert told["shared.weight"] == "a linear layer: it has a bias"
    assert told["gru.weight_ih_l0"] == told["gru.weight_hh_l0"] == "a recurrent layer"
    assert told["attention.in_proj_weight"] == "a linear layer: it has a bias"
    assert told["pos_emb.weight"] == "of positions or types, not of a field's values"
    assert told["proj.weight"] == "named like a dense layer"


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        ("fc_w", "fc_b"),
        ("dense/kernel", "dense/bias"),
        ("W1", "b1"),
        ("tower.weight_v", "tower.bias"),
    ],
)
def test_a_weight_is_told_by_its_bias_however_they_are_named(tmp_path, weight, bias):
    matrix, rows = np.ones((40, 6)), np.zeros(40)
    emb = random(30, 4).double().numpy()
    np.savez(tmp_path / "model.npz", **{"item_emb": emb, weight: matrix, bias: rows})

    found = diagnose(tmp_path / "model.npz")

    assert names(found.fields) == ["item_emb"]
    assert reasons(found)[weight] == "a linear layer: it has a bias"


def test_layouts_add_and_never_replace(tmp_path):
    weights = {
        "text.word_embeddings.weight": random(400, 16),
        "user.weight": random(500, 16, seed=1),
        "item.weight": random(300, 16, seed=2),
    }

    found = diagnose(saved(tmp_path, weights))

    assert found.layout == "Hugging Face"
    assert names(found.fields) == ["word_embeddings", "user", "item"]


def test_what_is_uncertain_is_apart_and_decides_nothing(tmp_path):
    collapsed = random(50, 1) @ random(1, 8)
    weights = {"item_emb.weight": random(300, 8), "mystery.weight": collapsed}

    found = diagnose(saved(tmp_path, weights))

    assert names(found.unknown_role) == ["mystery"]
    assert found.unknown_role[0].information_abundance == pytest.approx(1, abs=1e-5)
    assert found.summary.fields == 1
    assert set(found.summary.verdict.counts) == {found.fields[0].verdict.label}
    assert "have collapsed" not in found.summary.verdict.headline


def test_where_nothing_is_certain_shapes_decide_and_the_layout_says_so(tmp_path):
    np.savez(tmp_path / "m.npz", a=random(50, 4).numpy(), b=random(40, 4).numpy())

    found = diagnose(tmp_path / "m.npz")

    assert names(found.fields) == ["a", "b"]
    assert found.layout == "unknown, tables told by their shape"


def test_patterns_choose_and_leave_out(tmp_path):
    weights = {f"{name}_emb.weight": random(40, 4) for name in ("user", "item", "tag")}
    path = saved(tmp_path, weights | {"fc.weight": random(30, 4), "fc.bias": random(30)})

    assert names(diagnose(path, tables=["*user*", "item"]).fields) == ["user_emb", "item_emb"]
    assert names(diagnose(path, leave_out=["tag_emb"]).fields) == ["user_emb", "item_emb"]
    assert names(diagnose(path, tables=["fc.weight"]).fields) == ["fc"]
    left = diagnose(path, leave_out=["tag*"])
    assert reasons(left)["tag_emb.weight"] == "left out by --not"
    with pytest.raises(DataError, match=r"--tables must fit a matrix .*, got 'films'"):
        diagnose(path, tables=["films"])
    with pytest.raises(DataError, match=r"--not must fit a matrix .*, got 'films'"):
        diagnose(path, leave_out=["films"])


class TwoTables(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_emb = nn.Embedding(50, 8)
        self.item_emb = nn.Embedding(30, 8)
        self.fc = nn.Linear(16, 1)

    def forward(self, users, items):
        return self.fc(torch.cat([self.user_emb(users), self.item_emb(items)], dim=1)).sum()


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.Adagrad, torch.optim.RMSprop])
@pytest.mark.parametrize("keys", [("model", "optimizer"), ("model_dict", "optim_dict")])
def test_moments_are_no_tables_and_tell_which_rows_were_trained(tmp_path, optimizer, keys):
    model = TwoTables()
    rule = optimizer(model.parameters())
    model(torch.arange(12), torch.arange(20, 30).repeat(2)[:12]).backward()
    rule.step()
    path = saved(tmp_path, {keys[0]: model.state_dict(), keys[1]: rule.state_dict(), "epoch": 1})

    found = diagnose(path)

    assert [(f.name, f.rows_trained) for f in found.fields] == [("user_emb", 12), ("item_emb", 10)]
    assert all(field.weighted is None for field in found.fields)  # how often is not known
    assert "second moments" in found.counts_from
    moments = [item.name for item in found.skipped if "optimizer remembers" in item.reason]
    assert len(moments) == sum(len(state) for state in rule.state_dict()["state"].values())


def test_moments_that_decay_feeds_everywhere_tell_nothing(tmp_path):
    model = TwoTables()
    rule = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    model(torch.arange(12), torch.arange(12)).backward()
    rule.step()

    found = diagnose({"model": model.state_dict(), "optimizer": rule.state_dict()})

    assert found.counts_from is None
    assert [field.rows_trained for field in found.fields] == [None, None]


def test_a_tensor_of_two_names_is_one_table(tmp_path):
    weight = random(40, 8)

    found = diagnose(saved(tmp_path, {"lm_head.weight": weight, "tok_emb.weight": weight}))

    assert names(found.fields) == ["tok_emb"]
    assert reasons(found)["lm_head.weight"] == "the same tensor as tok_emb.weight"


@pytest.mark.parametrize("memory", [True, False])
def test_sizes_cut_whatever_table_they_add_up_to_and_are_never_ignored(tmp_path, memory):
    table = random(27, 4).double().numpy()
    np.save(tmp_path / "all.npy", table)
    np.savez(tmp_path / "two.npz", all_emb=table, other_emb=table[:9])
    alone = table if memory else tmp_path / "all.npy"
    two = {"all_emb": table, "other_emb": table[:9]} if memory else tmp_path / "two.npz"

    found = diagnose(alone, cardinalities={"a": 7, "b": 20}).fields
    assert [(f.name, f.cardinality) for f in found] == [("a", 7), ("b", 20)]
    values = np.linalg.svd(table[7:], compute_uv=False)
    np.testing.assert_allclose(found[1].singular_values, values, rtol=1e-6)
    found = diagnose(two, cardinalities=[7, 20]).fields
    assert [(f.name, f.cardinality) for f in found] == [("0", 7), ("1", 20), ("other_emb", 9)]
    with pytest.raises(DataError, match="must add up to the table's 27 rows, got 8"):
        diagnose(alone, cardinalities=[7, 1])
    with pytest.raises(DataError, match=r"rows of the tables \(all_emb 27, .*got 7, 1"):
        diagnose(two, cardinalities=[7, 1])


def counted(tmp_path, kind):
    import polars as pl

    counts = {"item": np.arange(30) % 2, "user": np.arange(50) % 3}
    if kind == "npz":
        np.savez(tmp_path / "c.npz", **counts)
    elif kind == "npy":
        np.save(tmp_path / "c.npy", np.concatenate(list(counts.values())))
    else:
        rows = [
            {"field": name, "id": i, "count": int(n)}
            for name, of in counts.items()
            for i, n in enumerate(of)
            if n
        ]
        frame = pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=0)
        frame.write_csv(tmp_path / "c.csv") if kind == "csv" else frame.write_parquet(
            tmp_path / "c.parquet"
        )
    return tmp_path / f"c.{kind}"


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "parquet"])
def test_counts_come_from_files(tmp_path, kind):
    save_file(
        {"user.weight": random(50, 4), "item.weight": random(30, 4)}, tmp_path / "m.safetensors"
    )

    found = diagnose(tmp_path / "m.safetensors", counts=counted(tmp_path, kind))

    trained = {field.name: field.rows_trained for field in found.fields}
    assert trained == {"user": np.count_nonzero(np.arange(50) % 3), "item": 15}
    assert found.counts_from == f"c.{kind}"
    assert all(field.weighted is not None for field in found.fields)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones(7), "must hold one count per row, 50, got 7"),
        (np.full(50, -1), "must hold whole numbers from 0, got -1 in row 0"),
        (np.full(50, 0.5), "must hold whole numbers from 0, got 0.5 in row 0"),
    ],
)
def test_counts_that_do_not_fit_are_refused(tmp_path, counts, message):
    np.save(tmp_path / "t.npy", random(50, 4).numpy())
    np.save(tmp_path / "c.npy", counts)

    with pytest.raises(DataError, match=message):
        diagnose(tmp_path / "t.npy", counts=tmp_path / "c.npy")


def test_a_broken_table_is_reported_and_the_others_are_measured(tmp_path):
    broken = random(50, 4).numpy()
    broken[[3, 7], 1] = np.nan
    np.savez(tmp_path / "m.npz", a_emb=random(50, 4).numpy(), b_emb=broken)

    found = diagnose(tmp_path / "m.npz")

    assert names(found.fields) == ["a_emb"]
    assert [(b.name, b.reason) for b in found.broken] == [
        ("b_emb", "2 of 50 rows hold NaN or infinity")
    ]
