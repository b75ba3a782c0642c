"""What every architecture must do, earned by its entry in the registry."""

import pytest
import torch

from multiembed.base.errors import ConfigError
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.interactions.base import Architecture
from multiembed.models.naming import named_architecture
from multiembed.testing.contracts import InteractionContract

SMALL = {"hidden": (5, 4), "dropout": 0.0, "cin": (3, 2), "attention_layers": 2, "head_dim": 3}
VARIANTS = [
    ("dnn", {"batch_norm": False}),
    ("ipnn", {"include_embeddings": False}),
    ("nfwfm", {"pairs": "unordered"}),
    ("xdeepfm", {"linear": True}),
    ("dcnv2", {"block_weights": True}),
    ("finalmlp", {"feature_selection": 8}),
    ("autoint", {"hidden": ()}),
    ("ffm", {"own_block": False}),
    ("ffm", {"linear": False}),
]
CASES = [*((name, {}) for name in ARCHITECTURES), *VARIANTS]
ARRANGEMENTS = {"one": (1, False), "three": (3, False), "shared": (3, True)}


def case_name(case: tuple[str, dict[str, object]]) -> str:
    return "-".join([case[0], *(f"{k}={v}" for k, v in case[1].items())])


def small(name: str, options: dict[str, object]) -> Architecture:
    known = ARCHITECTURES[name].model_fields
    return named_architecture(name, {k: v for k, v in SMALL.items() if k in known} | options)


class TestInteractions(InteractionContract):
    @pytest.fixture(autouse=True, params=CASES, ids=case_name)
    def chosen(self, request):
        self.architecture = small(*request.param)

    @pytest.fixture(autouse=True, params=ARRANGEMENTS)
    def arranged(self, request):
        self.arrangements = [ARRANGEMENTS[request.param]]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
    def test_a_gpu_gives_the_same_logits(self):
        model = self._model(*self.arrangements[0]).double().eval()
        ids = self._ids(6)

        expected = model(ids)

        torch.testing.assert_close(model.cuda()(ids.cuda()).cpu(), expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_unknown_option_is_refused_with_the_near_word(name):
    option = next(iter(ARCHITECTURES[name].model_fields))

    with pytest.raises(ConfigError, match=f"{option[:-1]}.*did you mean '{option}'"):
        named_architecture(name, {option[:-1]: 1})
