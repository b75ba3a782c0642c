"""Training with products in bfloat16: what is in which precision, and what it gives."""

import pytest
import torch
from safetensors.torch import load_file

from multiembed.base.devices import has_bfloat16_products
from multiembed.base.errors import ConfigError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.grid.grid import RunLabels, case_of
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train
from multiembed.training.step import check_precision, products_in

CPU = torch.device("cpu")
CAPABILITIES = [
    ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
    ({"avx2": True, "avx512_bf16": False}, "float32"),
]
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16_products(CPU), reason="this CPU has no bfloat16 products"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "dataset"
    write_planted(
        path, PlantedClicks(cardinalities=(50, 20, 8, 4), ranks=3, rows=8000, strength=2.0)
    )
    return open_dataset(path)


def config(**training):
    model = ModelConfig(architecture="dcnv2", dim=4, sets=2, options={"hidden": [16, 8]})
    training = {"max_epochs": 2, "batch_size": 256, "threads": 1, "device": "cpu"} | training
    return RunConfig(model=model, training=TrainingConfig(**training))


@needs_bfloat16
def test_bfloat16_learns_the_same_with_everything_kept_in_float32(dataset, tmp_path):
    runs = {
        precision: train(config(precision=precision), dataset=dataset, run=tmp_path / precision)
        for precision in ("float32", "bfloat16")
    }

    auc = {name: run.evaluate("test")["auc"] for name, run in runs.items()}
    assert auc["bfloat16"] == pytest.approx(auc["float32"], abs=0.02)
    states = [load_file(tmp_path / name / "last.safetensors") for name in runs]
    for name, tensor in states[1].items():
        assert tensor.dtype == states[0][name].dtype
    weight = "model.groups.0.interaction.cross.0.weight"
    assert not torch.equal(*(state[weight] for state in states)), "nothing was in bfloat16"
    # Evaluation in training was float32, as predictions are.
    best = max(runs["bfloat16"].records, key=lambda record: record["auc"])
    assert runs["bfloat16"].evaluate("valid")["log_loss"] == best["log_loss"]


@needs_bfloat16
def test_products_are_bfloat16_and_their_gradients_float32():
    weight, rows = torch.randn(5, 3, requires_grad=True), torch.randn(4, 3)

    with products_in("bfloat16", CPU):
        mapped = torch.nn.functional.linear(rows, weight)
    mapped.float().sum().backward()

    assert mapped.dtype == torch.bfloat16
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_bfloat16_is_refused_where_it_would_be_emulated(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})

    with pytest.raises(ConfigError, match=r"float32 on this cpu.*got bfloat16"):
        train(config(precision="bfloat16"), dataset=dataset, run=tmp_path / "run")

    for precision in ("float32", "auto"):
        check_precision(precision, CPU)


@pytest.mark.parametrize(("capabilities", "meant"), CAPABILITIES)
def test_auto_is_bfloat16_where_there_are_such_products(dataset, monkeypatch, capabilities, meant):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    def named(**training):
        return case_of(config(**training), dataset, LABELS).name

    assert config(precision="auto").resolved() == config(precision=meant).resolved()
    assert named(precision="auto") == named(precision=meant)
    assert named(precision="float32") == named(), "runs of before keep their names"
    assert named(precision="bfloat16") != named()


def test_a_gpu_that_is_not_there_is_refused_before_its_precision_is_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match="got cuda on a machine without a usable GPU"):
        config(precision="auto", device="cuda").resolved()


LABELS = RunLabels(architecture="dcnv2", size=None, scaling="multi")
