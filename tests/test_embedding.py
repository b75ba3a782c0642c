"""Tables of all fields and sets in one matrix: who is where, how they begin, what is refused."""

import math

import pytest
import torch

from multiembed.base.errors import ConfigError, DataError
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets, Row
from multiembed.models.naming import named_architecture

CARDINALITIES = [3, 2, 4]


def numbered(embedding: EmbeddingSets) -> EmbeddingSets:
    """Fill the matrix with its own row and column: row + column / 100."""
    rows, columns = embedding.weight.shape
    with torch.no_grad():
        embedding.weight.copy_(torch.arange(rows)[:, None] + torch.arange(columns) / 100)
    return embedding


def test_every_field_and_set_reads_its_own_part():
    embedding = numbered(EmbeddingSets(CARDINALITIES, dim=2, sets=2))

    found = embedding(torch.tensor([[2, 0, 3]]))

    # Rows 2, 3 + 0 and 5 + 3; set 1 begins at column 2.
    torch.testing.assert_close(found[0, 0, :, 0], torch.tensor([2.00, 3.00, 8.00]))
    torch.testing.assert_close(found[0, 1, :, 1], torch.tensor([2.03, 3.03, 8.03]))


def test_a_row_may_hold_several_embeddings_and_a_first_order_weight():
    embedding = numbered(EmbeddingSets([3, 2], dim=2, sets=2, row=Row(blocks=2, first_order=True)))

    found = embedding(torch.tensor([[1, 1]]))

    torch.testing.assert_close(found[0, 1, 0], 1 + torch.tensor([5.0, 6, 7, 8, 9]) / 100)


def test_fields_are_blocks_of_rows():
    embedding = numbered(EmbeddingSets(CARDINALITIES, dim=2))

    assert [block[:, 0].tolist() for block in embedding.by_field()] == [
        [0, 1, 2],
        [3, 4],
        [5, 6, 7, 8],
    ]


def test_tables_begin_uniform_over_the_concatenated_table():
    torch.manual_seed(0)
    bound = math.sqrt(6 / (2010 + 20))

    small, large = EmbeddingSets([10, 2000], dim=20, sets=2).by_field()

    assert large.abs().max() <= bound
    assert large.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert small.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_tables_may_begin_by_the_size_of_each_field():
    torch.manual_seed(0)

    small, large = EmbeddingSets([10, 2000], dim=20, sets=2, init="field").by_field()

    assert small.abs().max() <= math.sqrt(6 / 30)
    assert small.std().item() == pytest.approx(math.sqrt(2 / 30), rel=0.1)
    assert large.std().item() == pytest.approx(math.sqrt(2 / 2020), rel=0.02)


def test_tables_may_begin_normal():
    torch.manual_seed(0)

    embedding = EmbeddingSets([2000], dim=20, init=0.5)

    assert embedding.weight.std().item() == pytest.approx(0.5, rel=0.02)
    assert embedding.weight.abs().max() > 1.5


def test_every_table_of_ffm_begins_as_a_table_of_its_own_and_its_weights_normal():
    torch.manual_seed(0)
    bound = math.sqrt(6 / (3000 + 8))

    model = ClickModel("ffm", [1000, 2000], sets=2)

    rows = model.embedding.weight.detach().view(3000, 2, 2 * 8 + 1)
    assert rows[..., :-1].abs().max() <= bound
    assert rows[..., :-1].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert rows[..., -1].std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("outside", [-1, 2, 1000])
def test_an_id_outside_its_field_is_named_with_field_row_and_cardinality(outside):
    model = ClickModel("dnn", CARDINALITIES)

    with pytest.raises(DataError, match=rf"field 1 .* cardinality 2, got {outside} in row 1"):
        model(torch.tensor([[0, 1, 0], [0, outside, 0]]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_an_id_outside_its_field_is_refused_on_a_gpu():
    model = ClickModel("dnn", CARDINALITIES).cuda()

    with pytest.raises(DataError, match=r"field 2 .* cardinality 4, got 4 in row 0"):
        model(torch.tensor([[0, 1, 4]], device="cuda"))


def test_a_wrong_number_of_fields_is_refused():
    with pytest.raises(DataError, match="ids must have 3 fields, got 2"):
        ClickModel("dnn", CARDINALITIES)(torch.tensor([[0, 1]]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"cardinalities": [3, 0]}, "cardinality of field 1 must be at least 1, got 0"),
        ({"cardinalities": []}, "cardinalities must name at least one field, got none"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"sets": 0}, "sets must be from 1 to 1000, got 0"),
        ({"embedding_init": 0.0}, "embedding init must be a positive deviation, got 0.0"),
        ({"architecture": "dcn2"}, "architecture .*'dcn2'.*did you mean 'dcnv2'"),
        ({"architecture": "transformer"}, "architecture .*'transformer'"),
    ],
)
def test_a_wrong_size_or_name_is_one_clear_line(arguments, said):
    with pytest.raises(ConfigError, match=said) as refused:
        ClickModel(**{"architecture": "dnn", "cardinalities": CARDINALITIES} | arguments)

    assert "\n" not in str(refused.value)


def test_a_wrong_option_is_one_clear_line():
    with pytest.raises(ConfigError, match=r"cross_layers must be .*1.*, got 0"):
        named_architecture("dcnv2", {"cross_layers": 0})
