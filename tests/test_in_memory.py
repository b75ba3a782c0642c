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


@pytest.mark.parametrize("given", [None, 3, {}, [], [[1.0, 2.0], [3.0]], ROWS[:, 0]])
def test_what_is_no_table_is_refused_in_one_line(given):
    with pytest.raises(DataError, match=r"^(?!.*\n)"):
        diagnose(given)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
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

    assert [(f.name, f.cardinality) for f in found.fields] == [("a", 50), ("b", 30)]
    values = np.linalg.svd(model.a.weight.detach().double().numpy(), compute_uv=False)
    np.testing.assert_allclose(found.fields[0].singular_values, values, rtol=1e-5)
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
