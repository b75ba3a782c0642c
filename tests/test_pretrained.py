"""Pretrained vectors in a model: what they add, and who trains them."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import multiembed as me
from multiembed.config import TrainingConfig
from multiembed.data.store.shards import Batch
from multiembed.models.click_model import ClickModel, folded
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.signals import Signals
from multiembed.models.vector_settings import Pretrained, parse_pretrained
from multiembed.runs.given_config import configured
from multiembed.training.settling import settle_other
from multiembed.training.step import TrainingStep

SIZES = (4, 3, 5)
VECTORS = [[0.0, 0.0], [3.0, -1.0], [0.5, 2.0]]
PLACES = [0, 2, 0, 1]
"""The first field's id 1 has the second vector, id 3 the first; 0 and 2 have none."""


def with_vectors(architecture="dnn", *, sets=2, dim=3, slots=None, **settings):
    torch.manual_seed(0)
    of = Pretrained(file="", width=2, found=2, **settings)
    tables = partial(EmbeddingSets, signals=Signals(pretrained={0: of}), slots=slots)
    model = ClickModel(architecture, SIZES, dim=dim, sets=sets, tables=tables)
    vectors = np.array(VECTORS, np.float32)
    model.embedding.fill_vectors(0, np.array(PLACES, np.int32), vectors)
    return model


def test_an_embedding_by_hand():
    model = with_vectors(dim=1)
    table = model.embedding
    table.weight.data = torch.arange(24.0).view(12, 2)
    table.pretrained["0"].projection.data = torch.tensor([[[2.0], [1.0]], [[-1.0], [10.0]]])

    found = table(torch.tensor([[1, 0, 0], [2, 0, 0], [3, 2, 4], [0, 0, 0]]))

    # Row 1 is (2, 3); its vector (0.5, 2) adds 2 * 0.5 + 2 = 3 to set 0 and -0.5 + 20 to set 1.
    # Row 3 is (6, 7); its vector (3, -1) adds 6 - 1 = 5 and -3 - 10 = -13.
    assert found[:, :, 0, 0].tolist() == [[5.0, 22.5], [4.0, 5.0], [11.0, -6.0], [0.0, 1.0]]
    assert found[2, :, 1:, 0].tolist() == [[12.0, 22.0], [13.0, 23.0]]  # as without vectors


def test_one_set_alone_may_have_them():
    of = Pretrained(file="", width=2, found=2, sets=(2,))
    table = EmbeddingSets(SIZES, dim=1, sets=3, signals=Signals(pretrained={0: of}))
    table.fill_vectors(0, np.array(PLACES, np.int32), np.array(VECTORS, np.float32))
    plain = EmbeddingSets(SIZES, dim=1, sets=3)
    plain.weight.data = table.weight.data
    ids = torch.tensor([[3, 1, 2]])

    added = (table(ids) - plain(ids))[0, :, 0, 0]

    assert added[:2].tolist() == [0, 0]
    projection = table.pretrained["0"].projection
    assert projection.shape == (1, 2, 1)
    torch.testing.assert_close(added[2], (torch.tensor([3.0, -1.0]) @ projection[0])[0])


@pytest.mark.parametrize("trained", [False, True])
def test_it_is_torchs_own_layers_and_so_are_its_gradients(trained):
    model = with_vectors(trained=trained)
    ids = torch.tensor([[1, 0, 0], [2, 1, 3], [3, 2, 4], [0, 0, 0], [3, 1, 1]])
    pick = torch.randn(5, 2, 3, 3)
    lookup = nn.Embedding.from_pretrained(model.embedding.weight.detach(), freeze=False)
    vectors = nn.Embedding.from_pretrained(torch.tensor(VECTORS), freeze=not trained, padding_idx=0)
    project = [nn.Linear(2, 3, bias=False) for _ in range(2)]
    own = model.embedding.pretrained["0"]
    for layer, of_set in zip(project, own.projection.detach(), strict=True):
        layer.weight.data = of_set.T.clone()
    plain = lookup(ids + torch.tensor([0, 4, 7])).view(5, 3, 2, 3).transpose(1, 2)
    of_ids = vectors(torch.tensor(PLACES)[ids[:, 0]])
    added = torch.stack([layer(of_ids) for layer in project], dim=1)
    expected = torch.cat([plain[:, :, :1] + added.unsqueeze(2), plain[:, :, 1:]], dim=2)

    found = model.embedding(ids)
    (found * pick).sum().backward()
    (expected * pick).sum().backward()

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.embedding.weight.grad, lookup.weight.grad)
    slopes = torch.stack([layer.weight.grad.T for layer in project])
    torch.testing.assert_close(own.projection.grad, slopes)
    if trained:
        torch.testing.assert_close(own.vectors.grad, vectors.weight.grad)
    else:
        assert not own.vectors.requires_grad and own.vectors.grad is None


def test_linear_terms_get_nothing():
    model = with_vectors("ffm")
    row = model.embedding.row

    assert row.first_order
    of_sets = (m.embedding.weight.unflatten(1, (2, -1)) for m in (folded(model), model))
    assert torch.equal(*(row.split(of)[1] for of in of_sets))


def test_every_value_of_a_cell_has_its_own():
    model = with_vectors(slots=(3, 1, 1)).eval()
    ids = torch.tensor([[1, 3, -1, 0, 2], [2, -1, -1, 1, 1], [1, 2, 3, 0, 0]])

    found = model.embedding(ids)[:, :, 0]

    rows = model.embedding.by_field()[0].view(4, 2, 3)
    means = [rows[[1, 3]].mean(0), rows[2], rows[[1, 2, 3]].mean(0)]
    torch.testing.assert_close(found, torch.stack(means))
    torch.testing.assert_close(folded(model)(ids), model(ids))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("optimizer", ["dense_adam", "deferred_adam"])
def test_steps_are_those_of_torchs_adam(optimizer, trained):
    model = with_vectors("dcnv2:1,dnn:1", trained=trained)
    for part in model.modules():
        if isinstance(vars(part).get("dropout"), float):
            vars(part)["dropout"] = 0.0
    other, random = copy.deepcopy(model), np.random.default_rng(0)
    before = model.embedding.pretrained["0"].vectors.detach().clone()
    step = TrainingStep(
        model, TrainingConfig(table_optimizer=optimizer, weight_decay=1e-4), torch.device("cpu")
    )
    adam = torch.optim.Adam(other.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(6):
        ids = np.stack([random.integers(0, size, 8) for size in SIZES], 1).astype(np.int32)
        labels = random.integers(0, 2, 8).astype(np.uint8)
        step(Batch(ids, labels), 1e-3)
        adam.zero_grad()
        logits = other(torch.from_numpy(ids))
        nn.functional.binary_cross_entropy_with_logits(
            logits, torch.from_numpy(labels).float()
        ).backward()
        adam.step()
    step.tables.flush()

    for name, tensor in other.embedding.state_dict().items():
        ours = model.embedding.state_dict()[name]
        torch.testing.assert_close(ours, tensor, rtol=1e-4, atol=1e-5)
    after = model.embedding.pretrained["0"].vectors
    assert torch.equal(after, before) != trained
    assert not after[0].any()
    moments = {name for name in step.adam.state() if name.endswith("pretrained.0.vectors")}
    assert bool(moments) == trained


def test_other_gets_the_mean_of_what_is_looked_up():
    model = with_vectors()
    rows = model.embedding.by_field()[0]
    counts = np.array([0, 2, 1, 5, *[1] * 8])

    settle_other(model.embedding, counts)

    expected = (2 * rows[1] + rows[2] + 5 * rows[3]) / 8
    torch.testing.assert_close(model.embedding.by_field()[0][0], expected)
    torch.testing.assert_close(model.embedding.weight[0], expected)


def test_a_projection_begins_as_rows_do():
    torch.manual_seed(0)
    of = Pretrained(file="", width=300, found=900)
    table = EmbeddingSets([1000, 50], dim=16, sets=2, signals=Signals(pretrained={0: of}))
    vectors = np.random.default_rng(0).normal(size=(901, 300)).astype(np.float32)
    vectors[1:] /= np.linalg.norm(vectors[1:], axis=1, keepdims=True)
    table.fill_vectors(0, np.r_[0, np.arange(1, 901), [0] * 99].astype(np.int32), vectors)

    added = table.by_field()[0][1:901] - table.blocks()[0][1:901]

    assert added.std() == pytest.approx(float(table.blocks()[0].std()), rel=0.05)


def test_cost_counts_the_projection():
    model, plain = with_vectors(), ClickModel("dnn", SIZES, dim=3, sets=2)
    ours, theirs = model.summary(), plain.summary()

    assert ours.parameters.embedding - theirs.parameters.embedding == 2 * 2 * 3
    assert (ours.flops.embedding, theirs.flops.embedding) == (2 * 2 * 2 * 3, 0)
    learnt = with_vectors(trained=True).summary().parameters.embedding
    assert learnt - ours.parameters.embedding == 3 * 2


def test_the_flag_and_the_configuration_say_the_same():
    flag = parse_pretrained("it=em=a,b.npz,trained,sets=0+2")
    assert flag == ("it", {"file": "em=a,b.npz", "trained": True, "sets": [0, 2]})
    assert parse_pretrained("x=v.npy,values=n.txt")[1] == {"file": "v.npy", "values": "n.txt"}
    for wrong in ("item", "=v.npz", "item=", "item=,trained"):
        with pytest.raises(me.ConfigError, match="pretrained must be FIELD=FILE"):
            parse_pretrained(wrong)
    flags = {("model", "pretrained", "a.b", "file"): "v.npz", "model.sets": 3}
    both = configured(None, ["model.pretrained.c={file='w.npz', sets=[1]}"], flags).model
    assert both.pretrained == {
        "a.b": Pretrained(file="v.npz"),
        "c": Pretrained(file="w.npz", sets=(1,)),
    }
    assert me.ModelConfig(pretrained={"c": "w.npz"}).pretrained == {"c": Pretrained(file="w.npz")}
    assert "pretrained" not in me.RunConfig().resolved().to_toml()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sets": [1]}, "model.pretrained.item.sets must be different ones of the 1 sets"),
        ({"sets": []}, "must be different ones of the 1 sets, counted from 0, got []"),
        ({"sets": [0, 0]}, "must be different ones"),
        ({"trained": "maybe"}, "model.pretrained.item.trained must be true or false"),
        ({"fiel": "x"}, "'model.pretrained.item.fiel' is unknown; did you mean 'file'?"),
    ],
)
def test_settings_of_no_use_are_one_line(settings, message):
    with pytest.raises(me.ConfigError) as refused:
        table = {"model": {"pretrained": {"item": {"file": "v.npz", **settings}}}}
        me.config.parse_config(table).resolved()
    assert message in str(refused.value)
