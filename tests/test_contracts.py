"""The contracts hold for every measure and layout, and fail for what breaks them."""

import numpy as np
import pytest
import torch

from multiembed.spectra import measures
from multiembed.spectra.measures import null_information_abundance
from multiembed.testing.contracts import LayoutContract, MeasureContract

ROWS, DIM = 40, 6
NULL = null_information_abundance(ROWS, DIM)
EXPECTED = {
    "information_abundance": {},
    "centered_information_abundance": {},
    "normalized_information_abundance": {
        "low": 1 / NULL,
        "high": DIM / NULL,
        "rank_one": 1 / NULL,
        "isotropic": DIM / NULL,
    },
    "effective_rank": {},
    "stable_rank": {},
    "participation_ratio": {},
    "condition": {"high": np.inf, "rank_one": None, "isotropic": 1.0},
    "tail_slope": {"low": 0.0, "high": np.inf, "rank_one": None, "isotropic": 0.0},
    "mean_share": {"low": 0.0, "high": 1.0, "rank_one": 0.0, "isotropic": 0.0},
}
"""What differs from 1 for rank one and `dim` for an isotropic table."""


class TestMeasures(MeasureContract):
    rows, dim = ROWS, DIM

    @pytest.fixture(autouse=True, params=EXPECTED)
    def chosen(self, request):
        self.measure = getattr(measures, request.param)
        for name, value in EXPECTED[request.param].items():
            setattr(self, name, value)


class Mean(MeasureContract):
    """No measure of directions: neither scale-free nor known on known tables."""

    measure = staticmethod(lambda table: float(np.abs(np.asarray(table)).mean()))
    low = 0.0


@pytest.mark.parametrize(
    "broken",
    [
        "test_known_tables_have_known_values",
        "test_scale_and_rotation_of_the_columns_change_nothing",
        "test_a_table_of_zeros_is_refused",
    ],
)
def test_the_contract_refuses_what_is_no_measure(broken):
    with pytest.raises(AssertionError):
        getattr(Mean(), broken)()


def rows_of(number, dim=4):
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(number))


SITE, HOUR = rows_of(7), rows_of(5)
BOTH = torch.cat([SITE, HOUR])
ONE_EACH = {
    "FuxiCTR": "embedding_layer.embedding_layer.embedding_layers.{}.weight",
    "DeepCTR-Torch": "embedding_dict.{}.weight",
    "torch-rechub": "embedding.embed_dict.{}.weight",
    "TorchRec": "sparse_arch.embedding_bag_collection.embedding_bags.{}.weight",
}
ALL_IN_ONE = {
    "RecBole": "token_embedding_table.embedding.weight",
    "pytorch-fm": "embedding.embedding.weight",
}


class TestOneTablePerField(LayoutContract):
    @pytest.fixture(autouse=True, params=ONE_EACH)
    def chosen(self, request):
        self.layout = request.param
        self.tables = {"hour": HOUR, "site": SITE}  # as safetensors, which sorts, gives them
        self.tensors = {ONE_EACH[self.layout].format(f): t for f, t in self.tables.items()}
        self.tensors["dense.bias"] = torch.zeros(3)


class TestAllFieldsInOneTable(LayoutContract):
    cardinalities = (len(SITE), len(HOUR))

    @pytest.fixture(autouse=True, params=ALL_IN_ONE)
    def chosen(self, request):
        self.layout = request.param
        self.tensors = {ALL_IN_ONE[self.layout]: BOTH, "dense.bias": torch.zeros(3)}
        self.tables = {"0": SITE, "1": HOUR}


def test_the_contract_refuses_a_table_that_changed():
    changed = LayoutContract()
    changed.layout = "FuxiCTR"
    changed.tensors = {ONE_EACH["FuxiCTR"].format("site"): SITE}
    changed.tables = {"site": SITE + 1}

    with pytest.raises(AssertionError):
        changed.test_tables_come_back_whole_from_every_kind_of_file()
