"""What is in memory is diagnosed as the same numbers in a file would be."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from torch import nn

from multiembed import ClickModel, diagnose
from multiembed.base.errors import DataError

ROWS = np.random.default_rng(0).normal(size=(50, 4))

FORMS = {
    "array": ROWS,
    "big-endian": ROWS.astype(">f8"),
    "tensor": torch.from_numpy(ROWS),
    "list": ROWS.tolist(),
    "pandas": pd.DataFrame(ROWS),
    "pandas with ids": pd.DataFrame(ROWS, columns=[*"abcd"]).assign(item_id=np.arange(50)),
    "pandas of lists": pd.DataFrame({"v": list(ROWS)}),
    "polars": pl.DataFrame({"id": range(50), "v": ROWS.tolist()}),
    "polars series": pl.Series(ROWS.tolist()),
    "Arrow": pa.table({"v": ROWS.tolist()}),
    "sparse tensor": torch.from_numpy(ROWS).to_sparse(),
    "objects": ROWS.astype(object),
    "columns first": np.asfortranarray(ROWS),
    "SciPy": scipy.sparse.csr_matrix(ROWS),
    "vectors by word": {f"w{i}": row for i, row in enumerate(ROWS)},
    "lists by word": {f"w{i}": row for i, row in enumerate(ROWS.tolist())},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_the_same_in_every_form(form):
    [field] = diagnose(FORMS[form]).fields

    values = np.linalg.svd(ROWS, compute_uv=False)
    np.testing.assert_allclose(field.singular_values, values, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")  # torch says that such tensors are deprecated
def test_quantised_tensors_are_what_they_stand_for():
    quantised = torch.quantize_per_tensor(torch.from_numpy(ROWS).float(), 0.05, 3, torch.qint8)

    [field] = diagnose(quantised).fields

    values = np.linalg.svd(quantised.dequantize().double().numpy(), compute_uv=False)
    np.testing.assert_allclose(field.singular_values, values, rtol=1e-5)


@pytest.mark.parametrize("given", [ROWS.astype(complex), torch.from_numpy(ROWS).to(torch.cfloat)])
def test_complex_numbers_are_refused(given):
    with pytest.raises(DataError, match="must hold real numbers, got complex numbers"):
        diagnose(given)


NO_TABLES = [None, 3, {}, [], [[1.0, 2.0], [3.0]], ROWS[:, 0], ROWS[:0], {*"ab"}, [print, print]]


@pytest.mark.parametrize("given", NO_TABLES)
def test_what_is_no_table_is_refused_in_one_line(given):
    with pytest.raises(DataError, match=r"^(?!.*\n)"):
        diagnose(given)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([ROWS, ROWS[:30]], ["0", "1"]),
        ((torch.from_numpy(ROWS), ROWS), ["0", "1"]),
        ([nn.Embedding(9, 4), nn.Embedding(9, 4)], ["0", "1"]),
        ({"user.id": nn.Embedding(9, 4), "items": nn.EmbeddingBag(7, 4)}, ["user.id", "items"]),
        ({"user": {"u1": ROWS[0], "u2": ROWS[1], "u3": ROWS[2]}}, ["user"]),
        ({"a": ROWS, "cold": ROWS[:0], "bias": ROWS[:, 0]}, ["a"]),
        ({"p": pd.DataFrame(ROWS), "q": pl.DataFrame(ROWS), "l": ROWS.tolist()}, ["p", "q", "l"]),
    ],
)
def test_several_tables_are_named_by_their_keys_or_places(given, names):
    assert [field.name for field in diagnose(given).fields] == names


def test_codes_are_scaled_in_memory_as_in_files_and_masked_numbers_are_missing():
    codes = (ROWS * 20).astype(np.int8)
    scales = np.linspace(1, 9, 50)
    masked = np.ma.masked_greater(ROWS, 2)

    found = diagnose({"item": codes, "item_scale": scales, "masked": masked})

    values = np.linalg.svd(codes * scales[:, None], compute_uv=False)
    np.testing.assert_allclose(found.fields[0].singular_values, values, rtol=1e-6)
    assert [f.name for f in found.fields] == ["item"]
    assert [f.name for f in found.broken] == ["masked"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("frozen_emb", torch.randn(20, 4))
        self.register_buffer("pe", torch.randn(90, 4))
        self.a = nn.Embedding(50, 4)
        self.b = nn.EmbeddingBag(30, 4)
        self.first_order = nn.Embedding(50, 1)
        self.table = nn.Linear(4, 60)
        self.rnn = nn.LSTM(4, 8)
        self.out = nn.Linear(4, 50, bias=False)
        self.out.weight = self.a.weight


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel])
def test_modules_say_themselves_what_is_a_table(wrap):
    model = Model()

    found = diagnose(wrap(model))

    assert [(f.name, f.cardinality) for f in found.fields] == [
        ("frozen_emb", 20),
        ("a", 50),
        ("b", 30),
    ]
    values = np.linalg.svd(model.a.weight.detach().double().numpy(), compute_uv=False)
    np.testing.assert_allclose(found.fields[1].singular_values, values, rtol=1e-5)
    assert found.unknown_role == []


class Quantised(nn.Module):
    """A module of another library: no torch embedding, and of the same sizes."""

    def __init__(self):
        super().__init__()
        self.num_embeddings, self.embedding_dim = 20, 3
        self.weight = nn.Parameter(torch.randn(20, 3))


def test_modules_of_other_libraries_are_told_by_their_sizes():
    found = diagnose(nn.ModuleDict({"x": Quantised(), "y": nn.Linear(3, 40)}))

    assert [(f.name, f.cardinality) for f in found.fields] == [("x", 20)]


def test_a_state_dict_is_no_mapping_of_tables():
    weights = {"user_emb.weight": torch.randn(50, 4), "fc.weight": torch.randn(60, 4)}
    weights["fc.bias"] = torch.zeros(60)

    assert [f.name for f in diagnose(weights).fields] == ["user_emb"]


def test_a_live_model_of_this_package_is_read_by_field_and_set():
    model = ClickModel("dcnv2", [10, 20, 30], dim=4, sets=2)

    found = diagnose(model)

    assert [(f.name, f.cardinality, f.dim, f.sets) for f in found.fields] == [
        ("0", 10, 4, 2),
        ("1", 20, 4, 2),
        ("2", 30, 4, 2),
    ]
    own = model.embedding.weight.detach()[10:30].double().numpy()
    values = np.linalg.svd(own, compute_uv=False)
    np.testing.assert_allclose(found.fields[1].singular_values, values, rtol=1e-5)
    assert found.subembeddings is not None


def test_collections_of_torchrec_give_their_tables_names():
    torchrec = pytest.importorskip("torchrec", reason="torchrec is not installed")

    def configs(kind, names):
        return [
            kind(name=name, num_embeddings=20 + at, embedding_dim=4, feature_names=[name])
            for at, name in enumerate(names)
        ]

    bags = torchrec.EmbeddingBagCollection(
        tables=configs(torchrec.EmbeddingBagConfig, ["site", "ad"])
    )
    sequences = torchrec.EmbeddingCollection(tables=configs(torchrec.EmbeddingConfig, ["item"]))
    both = nn.ModuleDict({"bags": bags, "sequences": sequences})

    for given in (both, both.state_dict()):
        found = diagnose(given)
        assert [(f.name, f.cardinality) for f in found.fields] == [
            ("site", 20),
            ("ad", 21),
            ("item", 20),
        ]


SMALL = {"vocab_size": 90, "num_layers": 1, "num_hidden_layers": 1, "n_layer": 1}
WIDTHS = {"hidden_size": 16, "d_model": 16, "n_embd": 16, "intermediate_size": 32, "d_ff": 32}
HEADS = {"num_attention_heads": 2, "num_heads": 2, "n_head": 2, "d_kv": 8, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("BertForMaskedLM", "word_embeddings"),
        ("GPT2LMHeadModel", "wte"),
        ("T5Model", "embed_tokens"),
        ("LlamaForCausalLM", "embed_tokens"),
    ],
)
def test_models_of_hugging_face_give_their_token_embeddings_alone(kind, name):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    kind = getattr(transformers, kind)
    heads = {} if "Llama" in kind.__name__ else {"bos_token_id": 1, "eos_token_id": 2}
    model = kind(kind.config_class(**SMALL, **WIDTHS, **HEADS, **heads))

    for given in (model, model.state_dict()):
        found = diagnose(given)
        assert [(f.name, f.cardinality, f.dim) for f in found.fields] == [(name, 90, 16)]
        assert found.unknown_role == []
        own = model.get_input_embeddings().weight.detach().double().numpy()
        values = np.linalg.svd(own, compute_uv=False)
        np.testing.assert_allclose(found.fields[0].singular_values, values, rtol=1e-5)
