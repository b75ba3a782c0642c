"""Exported models: every architecture and kind scores in other runtimes as it does here."""

from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch

from multiembed.models.click_model import ClickModel
from multiembed.models.factored import FactoredEmbeddings
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import named_architecture
from multiembed.runs.calibration import Calibration
from multiembed.serving import export
from multiembed.serving.export import EXPORT_FORMATS, ProbabilityModel

SIZES = [9, 5, 7]
SMALL = {
    "xdeepfm": {"cin": [2], "hidden": [4]},
    "dcnv2": {"cross_layers": 1, "hidden": [4]},
    "autoint": {"attention_layers": 1, "heads": 1, "head_dim": 2},
    "ffm": {},
}
ISOTONIC = Calibration(
    method="isotonic", weights="w", points=((0.3, 0.2), (0.4, 0.2), (0.43, 0.6), (0.55, 0.7))
)
PLATT = Calibration(method="platt", weights="w", slope=0.7, intercept=0.1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(name):
    return named_architecture(name, SMALL.get(name, {"hidden": [4]}))


def click_model(mix, **options):
    return ClickModel(mix, SIZES, dim=3, embedding_init=0.5, **options).eval()


def compressed():
    """Return a model whose tables are codes, but for one."""
    tables = partial(FactoredEmbeddings, kept=[2, 6, 1])
    model = ClickModel("dcnv2", SIZES, dim=3, sets=2, tables=tables)
    for parameter in model.embedding.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def some_ids(rows):
    random = np.random.default_rng(rows)
    return np.stack([random.integers(0, size, rows) for size in SIZES], axis=1)


class Together(torch.nn.Module):
    """Several models as one, because exporting takes seconds each time."""

    def __init__(self, models):
        super().__init__()
        self.models = torch.nn.ModuleList(models)

    def forward(self, ids):
        """Return one column per model."""
        return torch.stack([model(ids) for model in self.models], dim=1)


def check_onnx(models, expected, file):
    """Compare ONNX Runtime's columns, by name, with what NumPy makes of the logits."""
    export.write_model(Together(models.values()).eval(), file, EXPORT_FORMATS["onnx"], columns=3)

    session = onnxruntime.InferenceSession(file)
    for rows in (1, 2, 37):
        ids = some_ids(rows)
        [found] = session.run(None, {"ids": ids})
        assert found.shape == (rows, len(models))
        for column, key in zip(found.T, models, strict=True):
            exact = expected[key](torch.from_numpy(ids))
            np.testing.assert_allclose(column, exact, atol=1e-5, err_msg=key)


def in_double(model, ids):
    return model(ids).detach().double().numpy()


def twice_too_high(model, ids):
    """Return what a model says that saw half of the negatives: odds twice too high."""
    return 1 / (1 + np.exp(-in_double(model, ids) - np.log(0.5)))


def test_every_architecture_runs_in_onnxruntime(tmp_path):
    models = {name: click_model([(small(name), 2)]) for name in sorted(ARCHITECTURES)}

    check_onnx(
        {name: ProbabilityModel(model, negative_rate=0.5) for name, model in models.items()},
        {name: partial(twice_too_high, model) for name, model in models.items()},
        tmp_path / "model.onnx",
    )


def test_every_kind_of_model_runs_in_onnxruntime(tmp_path):
    """Calibrated ones too."""
    dcnv2, dnn = small("dcnv2"), small("dnn")
    model = click_model([(dnn, 2)])
    models = {
        "one set": click_model([(dcnv2, 1)]),
        "shared interaction": click_model([(dcnv2, 2)], shared_interaction=True),
        "mixed and gated": click_model([(dcnv2, 1), (dnn, 2)], gate="learned"),
        "compressed": compressed(),
    }
    wrapped = {name: ProbabilityModel(of, negative_rate=0.5) for name, of in models.items()}
    expected = {name: partial(twice_too_high, of) for name, of in models.items()}
    for calibration in (ISOTONIC, PLATT):
        wrapped[calibration.method] = ProbabilityModel(
            model, negative_rate=1.0, calibration=calibration
        )
    expected["isotonic"] = lambda ids: np.interp(
        1 / (1 + np.exp(-in_double(model, ids))), *np.array(ISOTONIC.points).T
    )
    expected["platt"] = lambda ids: 1 / (1 + np.exp(-0.7 * in_double(model, ids) - 0.1))

    steps = expected["isotonic"](torch.from_numpy(some_ids(37)))
    assert steps.min() == 0.2 and steps.max() > 0.6  # rows fall on all of its lines
    check_onnx(wrapped, expected, tmp_path / "model.onnx")


def test_every_architecture_runs_in_torch_alone_for_any_number_of_rows(tmp_path):
    models = [click_model([(small(name), 2)]) for name in ARCHITECTURES]
    wrapped = (ProbabilityModel(model, negative_rate=1.0) for model in models)

    file = tmp_path / "model.pt2"
    export.write_model(Together(wrapped).eval(), file, EXPORT_FORMATS["torch"], columns=3)

    module = torch.export.load(file).module()
    for rows in (1, 2, 37):
        ids = torch.from_numpy(some_ids(rows))
        for column, model in zip(module(ids).T, models, strict=True):
            torch.testing.assert_close(column, torch.sigmoid(model(ids)), atol=1e-5, rtol=0)
