"""What somebody's own interaction, measure or checkpoint layout must satisfy, as test classes.

A contract is a class whose `test_` methods pytest runs in a class of yours:

    class TestMine(InteractionContract):
        architecture = Mine(hidden=(5, 4), dropout=0)
"""

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from multiembed.base.errors import DataError
from multiembed.base.number_kinds import NumericKind
from multiembed.diagnosis.readers.checkpoint import read_checkpoint
from multiembed.models.click_model import ClickModel, folded
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.histories import Histories
from multiembed.models.interactions.base import Architecture, Interaction
from multiembed.models.naming import Numeric
from multiembed.models.signals import Signals
from multiembed.models.vector_settings import Pretrained


class InteractionContract:
    """What an architecture must satisfy, for one set, for several, and for a shared interaction.

    Give it small layers and no dropout; another seed where a unit happens to be dead.
    """

    architecture: Architecture
    """What is tested."""
    cardinalities: Sequence[int] = (3, 4, 5)
    dim: int = 2
    arrangements: Sequence[tuple[int, bool]] = ((1, False), (3, False), (3, True))
    """Number of sets, and whether they share one interaction."""
    seed: int = 0

    def test_it_gives_one_representation_per_set_and_one_logit_per_row(self) -> None:
        for sets, shared in self.arrangements:
            interaction, embeddings = self._interaction(sets, shared)
            assert interaction(embeddings).shape == (3, sets, interaction.width)
            assert self._model(sets, shared)(self._ids(6)).shape == (6,)

    def test_rows_do_not_see_each_other_in_evaluation(self) -> None:
        for sets, shared in self.arrangements:
            model, ids = self._model(sets, shared).eval(), self._ids(6)
            alone = torch.cat([model(row.unsqueeze(0)) for row in ids])
            torch.testing.assert_close(model(ids), alone)

    def test_sets_do_not_see_each_other(self) -> None:
        for sets, shared in self.arrangements:
            interaction, embeddings = self._interaction(sets, shared)
            represented = interaction(embeddings)
            for m in range(sets):
                loss = represented[:, m].square().sum()
                (seen,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
                assert seen[:, m].any()
                assert not seen[:, [other for other in range(sets) if other != m]].any()

    def test_every_parameter_of_every_set_has_a_gradient(self) -> None:
        for sets, shared in self.arrangements:
            # In evaluation: a batch norm in training takes away the bias before it.
            model = self._model(sets, shared).eval()
            model(self._ids(64)).square().sum().backward()
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None, name
                slices = parameter.grad if name.startswith("groups") else parameter.grad[None]
                assert all(part.any() for part in slices), name

    def test_copies_of_one_set_equal_one_set(self) -> None:
        for sets, shared in self.arrangements:
            one, many = self._model(1, False).eval(), self._model(sets, shared, seed=1).eval()
            start, ids = one.state_dict(), self._ids(6)
            for key, copy in many.state_dict().items():
                sizes = zip(copy.shape, start[key].shape, strict=True)
                copy.copy_(start[key].repeat([there // here for there, here in sizes]))
            torch.testing.assert_close(many(ids), one(ids))

    def test_a_saved_model_loads_to_the_same_outputs(self) -> None:
        for sets, shared in self.arrangements:
            saved, loaded = self._model(sets, shared), self._model(sets, shared, seed=1)
            ids, file = self._ids(16), io.BytesIO()
            saved.train()(ids)  # gives batch norms something to remember
            torch.save(saved.state_dict(), file)
            file.seek(0)
            loaded.load_state_dict(torch.load(file))
            assert torch.equal(loaded.eval()(ids), saved.eval()(ids))

    def test_gradients_are_the_slopes_of_the_output(self) -> None:
        for sets, shared in self.arrangements:
            interaction, embeddings = self._interaction(sets, shared)
            parameters = dict(interaction.named_parameters())

            def represent(inputs: Tensor, *values: Tensor, of: Interaction = interaction) -> Tensor:
                names = [name for name, _ in of.named_parameters()]
                return functional_call(of, dict(zip(names, values, strict=True)), inputs)

            assert gradcheck(represent, (embeddings, *parameters.values()), fast_mode=True)

    def test_the_input_can_be_differentiated_twice(self) -> None:
        for sets, shared in self.arrangements:
            interaction, embeddings = self._interaction(sets, shared)
            pair = embeddings.detach()[:2].requires_grad_()
            assert gradgradcheck(interaction, (pair,), fast_mode=True)

    def test_pretrained_vectors_fold_into_the_tables(self) -> None:
        for sets, shared in self.arrangements:
            model, ids = self._model(sets, shared).eval(), self._ids(64)
            alone = model(ids)
            vectors = Pretrained(file="", width=3, found=1)
            torch.manual_seed(self.seed)
            model.embedding = EmbeddingSets(
                self.cardinalities,
                dim=self.dim,
                sets=sets,
                init=1.0,
                row=model.embedding.row,
                signals=Signals(pretrained={0: vectors}),
            )
            model.embedding.fill_vectors(
                0,
                np.arange(self.cardinalities[0], dtype=np.int32) % 2,
                np.array([[0, 0, 0], [1, -2, 3]], np.float32),
            )
            torch.testing.assert_close(folded(model)(ids), model(ids))
            without = ids[:, 0] % 2 == 0
            torch.testing.assert_close(model(ids)[without], alone[without])
            assert not torch.allclose(model(ids)[~without], alone[~without])

    def test_numbers_and_histories_are_read_as_fields_of_ids_are(self) -> None:
        sizes = (*self.cardinalities, 1)
        kinds: list[NumericKind | None] = [*[None] * len(self.cardinalities), "linear"]
        signals = Signals(Histories((0,)), Numeric(tuple(kinds)))
        ids, clicked = self._ids(16), self._ids(16)[:, :1]
        ids = torch.cat([ids, torch.zeros_like(clicked)], dim=1)
        for sets, shared in self.arrangements:
            model = partial(
                ClickModel,
                self.architecture,
                dim=self.dim,
                sets=sets,
                shared_interaction=shared,
            )
            torch.manual_seed(self.seed)
            slots = [*[1] * len(sizes), 2]
            tables = partial(EmbeddingSets, slots=slots, init=1.0, signals=signals)
            read, plain = model(sizes, tables=tables).eval(), model((*sizes, sizes[0])).eval()
            state = read.state_dict().items()
            rest = {name: of for name, of in state if not name.startswith("embedding.")}
            plain.load_state_dict(rest, strict=False)
            *blocks, (_, bias, slope) = read.embedding.by_field()
            rows = [*blocks, (bias + 0.5 * slope)[None], blocks[0]]
            plain.embedding.weight.data.copy_(torch.cat(rows))
            history = torch.cat([ids, clicked, torch.full_like(clicked, -1)], dim=1)
            found = read(history, torch.full((16, 1), 0.5))
            torch.testing.assert_close(found, plain(torch.cat([ids, clicked], dim=1)))

    def _model(self, sets: int, shared: bool, *, seed: int = 0) -> ClickModel:
        torch.manual_seed(self.seed + seed)
        # Embeddings of size one, so that no hidden unit is lost for want of signal.
        return ClickModel(
            self.architecture,
            self.cardinalities,
            dim=self.dim,
            sets=sets,
            shared_interaction=shared,
            embedding_init=1.0,
        )

    def _interaction(self, sets: int, shared: bool) -> tuple[Interaction, Tensor]:
        """Return the interaction alone in evaluation, and embeddings for it, in float64."""
        torch.manual_seed(self.seed)
        fields = len(self.cardinalities)
        interaction = self.architecture.interaction(
            fields=fields, dim=self.dim, sets=1 if shared else sets
        )
        width = self.architecture.row(fields).width(self.dim)
        embeddings = torch.randn(3, sets, fields, width, dtype=torch.double, requires_grad=True)
        return interaction.double().eval(), embeddings

    def _ids(self, rows: int) -> Tensor:
        return torch.stack([torch.randint(n, (rows,)) for n in self.cardinalities], dim=1)


class MeasureContract:
    """What a measure of how many directions a table uses must satisfy."""

    measure: Callable[[np.ndarray | Tensor], float]
    """Table (rows, dim) to number; assign a function as `staticmethod(function)`."""
    low: float = 1.0
    """No table has less."""
    high: float | None = None
    """No table of `rows x dim` has more; by default `dim`."""
    rank_one: float | None = 1.0
    """Its value for a table of rank one without a mean; None where rounding decides."""
    isotropic: float | None = None
    """Its value where all directions are used equally; by default `dim`."""
    rows: int = 40
    dim: int = 6

    def test_known_tables_have_known_values(self) -> None:
        random = np.random.default_rng(0)
        flat = self._orthonormal(random)
        best = self.dim if self.isotropic is None else self.isotropic
        np.testing.assert_allclose(self.measure(flat), best, rtol=1e-9, atol=1e-9)
        if self.rank_one is not None:
            thin = np.outer(flat[:, 0], random.standard_normal(self.dim))
            np.testing.assert_allclose(self.measure(thin), self.rank_one, rtol=1e-6, atol=1e-9)

    def test_it_stays_within_its_bounds(self) -> None:
        highest = self.dim if self.high is None else self.high
        for table in self._tables():
            assert self.low - 1e-9 <= self.measure(table) <= highest * (1 + 1e-9)

    def test_scale_and_rotation_of_the_columns_change_nothing(self) -> None:
        random = np.random.default_rng(1)
        turn = np.linalg.qr(random.standard_normal((self.dim, self.dim)))[0]
        for table in self._tables():
            found = self.measure(table)
            for moved in (1e-3 * table, 1e3 * table, table @ turn, table[::-1].copy()):
                np.testing.assert_allclose(self.measure(moved), found, rtol=1e-7)

    def test_a_tensor_and_an_array_give_the_same(self) -> None:
        for table in self._tables():
            assert self.measure(torch.from_numpy(table)) == self.measure(table)

    def test_a_table_of_zeros_is_refused(self) -> None:
        try:
            found = self.measure(np.zeros((self.rows, self.dim)))
        except DataError:
            return
        raise AssertionError(f"a table of zeros must be refused by a DataError, got {found}")

    def _orthonormal(self, random: np.random.Generator) -> np.ndarray:
        table = random.standard_normal((self.rows, self.dim))
        return np.linalg.qr(table - table.mean(axis=0))[0]

    def _tables(self) -> list[np.ndarray]:
        random = np.random.default_rng(2)
        return [
            random.standard_normal((self.rows, self.dim)) * 10.0 ** -np.linspace(0, depth, self.dim)
            + offset
            for depth, offset in ((0, 0), (1, 0), (3, 0), (1, 0.5))
        ]


class LayoutContract:
    """What reading a library's checkpoint must satisfy: every table comes back whole."""

    layout: str
    """What the reader calls it."""
    tensors: Mapping[str, Tensor]
    """A checkpoint, as the library names its tensors."""
    tables: Mapping[str, Tensor]
    """The fields' tables (rows, sets * dim) that are to be found in it, in order."""
    cardinalities: Sequence[int] | None = None
    """Sizes of the fields, where one tensor holds them all."""

    def test_tables_come_back_whole_from_every_kind_of_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            torch.save(dict(self.tensors), pickled := Path(folder, "model.pt"))
            save_file(dict(self.tensors), named := Path(folder, "model.safetensors"))
            for path in (pickled, named):
                found = read_checkpoint(path, cardinalities=self.cardinalities)
                assert found.layout == self.layout
                assert [table.name for table in found.tables] == list(self.tables)
                for table in found.tables:
                    read = np.concatenate([chunk for _, chunk in table.chunks()])
                    np.testing.assert_array_equal(read, self.tables[table.name].numpy())

    def test_every_tensor_that_is_no_table_is_named_with_a_reason(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            torch.save(dict(self.tensors), path := Path(folder, "model.pt"))
            skipped = read_checkpoint(path, cardinalities=self.cardinalities).skipped
            assert {each.name for each in skipped} <= set(self.tensors)
            assert all(each.reason for each in skipped)
