"""Checkpoints of the reference code that are not what they should be, refused in one line."""

import numpy as np
import pytest
import torch

from multiembed.base.errors import ConfigError
from multiembed.models.reference import from_reference

CARDINALITIES = [3, 4]


def dnn_arrays() -> dict[str, np.ndarray]:
    """Return a DNN checkpoint of dim 2 and hidden sizes (5, 3), as the reference names it."""
    shapes = {"embedding.embedding.weight": (7, 2)}
    for at, (outputs, inputs) in {0: (5, 4), 4: (3, 5), 8: (1, 3)}.items():
        shapes |= {f"mlp.mlp.{at}.weight": (outputs, inputs), f"mlp.mlp.{at}.bias": (outputs,)}
    for at, width in {1: 5, 5: 3}.items():
        parts = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"mlp.mlp.{at}.{part}": (width,) for part in parts}
    rng = np.random.default_rng(0)
    arrays = {key: rng.random(shape, dtype=np.float32) for key, shape in shapes.items()}
    return arrays | {"mlp.mlp.1.num_batches_tracked": np.array(7)}


def test_sizes_are_read_off_the_arrays():
    model = from_reference("dnn", dnn_arrays(), CARDINALITIES, dropout=0.1)

    assert (model.embedding.dim, model.embedding.sets) == (2, 1)
    assert model.state_dict()["head.hidden.0.linear.weight"].shape == (1, 3, 5)
    assert model.groups[0].interaction.projection.dropout == 0.1


def test_tensors_do_as_well_as_arrays_and_stay_untouched():
    arrays = {key: torch.from_numpy(value) for key, value in dnn_arrays().items()}
    table = arrays["embedding.embedding.weight"]

    model = from_reference("dnn", arrays, CARDINALITIES)
    with torch.no_grad():
        model.embedding.weight.zero_()

    assert table.all()


def without(key: str) -> dict[str, np.ndarray]:
    return {k: v for k, v in dnn_arrays().items() if k != key}


@pytest.mark.parametrize(
    ("name", "arrays", "cardinalities", "said"),
    [
        ("autoint", dnn_arrays(), [3, 4], "name must begin with one of dnn, .*, got 'autoint'"),
        ("dcnv2", dnn_arrays(), [3, 4], "cross_layers must be"),
        ("dnn", {}, [3, 4], "must hold an embedding table, got none"),
        ("dnn", dnn_arrays() | {"cn.W.0": np.ones(3)}, [3, 4], "names, got 'cn.W.0'"),
        ("dnn", dnn_arrays(), [3, 5], "one row for each of the 8 ids, got shape"),
        (
            "dnn",
            dnn_arrays(),
            [3, 3, 1],
            r"mlp.mlp.0.weight must have shape \(5, 6\), got \(5, 4\)",
        ),
        ("dnn", without("mlp.mlp.8.bias"), [3, 4], "must fill 'head.logit.bias'"),
        ("dnn", without("mlp.mlp.1.running_var"), [3, 4], "must fill .*running_var"),
        (
            "dnn",
            dnn_arrays() | {"mlp.mlp.5.bias": np.ones(4, dtype=np.float32)},
            [3, 4],
            r"mlp.mlp.5.bias must have shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, arrays, cardinalities, said):
    with pytest.raises(ConfigError, match=said) as refused:
        from_reference(name, arrays, cardinalities)

    assert "\n" not in str(refused.value)


def test_a_set_without_a_table_is_refused():
    arrays = {
        f"embeddings.{m}.0.embedding.weight": np.ones((7, 2), dtype=np.float32) for m in (0, 2)
    }
    one = dnn_arrays()
    for m in range(3):
        for part in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
            arrays[f"embeddings.{m}.2.mlp.{part}"] = one[f"mlp.mlp.{part}"]
    head = {f"mlp.mlp.{at - 4}": f"mlp.mlp.{at}" for at in (4, 5, 8)}
    for ours, theirs in head.items():
        arrays |= {
            key.replace(theirs, ours): value for key, value in one.items() if key.startswith(theirs)
        }

    with pytest.raises(ConfigError, match=r"must fill 'embedding.weight'"):
        from_reference("dnn", arrays, CARDINALITIES)
