"""A trained run: its model, its probabilities, its evaluation."""

from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.config import read_config
from multiembed.data.encoding.frames import ArrowTable, as_polars
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.data.store.schema import Schema
from multiembed.kernels.setting import using_kernels
from multiembed.models.click_model import ClickModel, value_vectors
from multiembed.runs.building import build_model
from multiembed.runs.by_group import GroupDrift, drift_by
from multiembed.runs.calibration import Calibration, read_calibration, weights_name
from multiembed.runs.directory import RunDirectory, load_tensors
from multiembed.runs.evaluation import Scores, measure
from multiembed.runs.scoring import EVALUATION_BATCH, predict_batches, predict_ids
from multiembed.runs.unseen import FieldShares, UnseenTally, warn_of


class Run:
    """What a run directory holds, ready for use; the model carries the best weights.

    `model` is a `ClickModel` in evaluation; `config`, `schema`, `vocabularies` and `records` say
    what was trained on what, and how it went.

    Args:
        path: A run directory, as `train` writes it. A run that is open is returned as it is.
        model: A model of the run's configuration that may be had, to spare building one; it gets
            the best weights, and goes to the CPU.

    Raises:
        DataError: If it holds no trained run, or weights of another model than it describes.

    Example:
        >>> import numpy as np
        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("clicks", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
        >>> config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=1, threads=1))
        >>> run = me.train(config, dataset="clicks", run="run")
        >>> run.predict(np.array([[17, 3], [0, 7]])).shape  # ids of rows x fields
        (2,)
        >>> run.predict_proba(pl.DataFrame({"f0": ["17", "new"], "f1": ["3", None]})).shape
        (2,)
        >>> sorted(run.evaluate("test"))[:2]
        ['auc', 'calibration_ratio']
    """

    def __init__(self, path: Path | str, *, model: ClickModel | None = None) -> None:
        self.directory = RunDirectory(path)
        if not self.directory.config.is_file():
            raise DataError(f"{path} must be a run directory, got no config.toml in it")
        if not self.directory.best.is_file():
            raise DataError(f"{path} must hold a trained model, got a run without an evaluation")
        self.path = self.directory.path
        self.config = read_config(self.directory.config)
        self.schema = Schema.load(self.directory.schema)
        tensors, self.best_state = load_tensors(self.directory.best)
        self.directory.check_same()
        model = self._empty_model() if model is None else model.cpu()
        self._check_shapes(model.state_dict(), tensors)
        # Memory of their own: those of the file are mapped from it, aligned to a few bytes only.
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        model.load_state_dict(copies, assign=True)
        for vectors in value_vectors(model):
            vectors.check(self.directory.best)
        self.model = model.eval()

    def _empty_model(self) -> ClickModel:
        """Build the model without memory: weights are not yet known to be its own."""
        try:
            with torch.device("meta"):
                return build_model(self.config, *self.schema.sizes)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{self.path} must describe a model, got: {reason}") from None

    def _check_shapes(self, expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
        """Refuse weights of another model."""
        for name in sorted(expected.keys() | tensors.keys()):
            found, wanted = (_described(of.get(name)) for of in (tensors, expected))
            if found != wanted:
                raise DataError(
                    f"{self.directory.best}: {name} must be {wanted}, as config.toml and "
                    f"schema.json say, got {found}"
                )

    @cached_property
    def vocabularies(self) -> dict[str, pl.DataFrame]:
        """The kept values of every field (null: missing), their counts and their ids.

        Raises:
            DataError: If a vocabulary is not whole or is another field's.
        """
        return self.directory.read_vocabularies(self.schema)

    @cached_property
    def encoder(self) -> Encoder:
        """What turns raw values into ids, as it was when the rows of training were encoded."""
        return Encoder(self.schema.fields, self.vocabularies)

    @property
    def records(self) -> list[dict[str, int | float]]:
        """One record per evaluation of the training."""
        return self.directory.read_metrics()

    def dataset(self, other: Dataset | Path | str | None = None) -> Dataset:
        """Open the dataset that the run was trained on, or return another one of its fields.

        Raises:
            DataError: If it is no longer where it was, another one is there, or the other one has
                other fields.
        """
        if other is not None:
            other = open_dataset(other)
            if not other.schema.is_of(self.schema, rows=False):
                raise DataError(f"{other.path} must have the fields of the run, got others")
            return other
        if self.config.dataset is None:
            raise DataError(f"{self.path} must name its dataset in config.toml, got none")
        dataset = open_dataset(self.config.dataset)
        check_dataset(dataset, self.schema, self.path)
        return dataset

    def predict(
        self,
        ids: Int[np.ndarray, "rows fields"],
        numbers: Float32[np.ndarray, "rows numbers"] | None = None,
    ) -> Float[np.ndarray, " rows"]:
        """Return the probability of a click for rows of ids, without the run's calibration.

        Args:
            ids: As the run's `encoder` gives them; 0 is *other*.
            numbers: As the encoder's `read` gives them, for a model that embeds some.

        Raises:
            DataError: If the weights give no numbers, or there are none where the model needs some.
        """
        rate = self.config.training.negative_rate
        with using_kernels(self.config.training.kernels):
            probabilities = predict_ids(self.model, ids, numbers, negative_rate=rate)
        _check_numbers(probabilities, self.directory.best)
        return probabilities

    def predict_proba(self, rows: ArrowTable) -> Float[np.ndarray, " rows"]:
        """Return the probability of a click for raw rows; columns that are no field are ignored.

        A run that has a calibration applies it.

        Args:
            rows: A data frame of polars or pandas, or any other table that speaks Arrow. A value
                that training never saw is *other*; a missing one is a value of its own.

        Warns:
            UnseenWarning: For each field that has far more values which training never saw, or
                missing ones, than training had.

        Raises:
            DataError: If a field has no column.
        """
        tally = UnseenTally(self.schema, self.vocabularies)
        probabilities = self.score_rows(as_polars(rows), tally)
        warn_of(tally.fields, stacklevel=2)
        return probabilities

    def unseen(self, rows: ArrowTable) -> tuple[FieldShares, ...]:
        """Return for every field how many values training never saw, beside how many it had.

        Args:
            rows: As for `predict_proba`.
        """
        tally, table = UnseenTally(self.schema, self.vocabularies), as_polars(rows)
        tally.add(table, self.encoder.encode(table))
        return tally.fields

    def score_rows(self, rows: pl.DataFrame, tally: UnseenTally) -> Float[np.ndarray, " rows"]:
        """Do what `predict_proba` does, and count what training never saw instead of warning."""
        encoded = self.encoder.read(rows)
        tally.add(rows, encoded.ids)
        probabilities, calibration = self.predict(*encoded), self.calibration
        return probabilities if calibration is None else calibration.apply(probabilities)

    @property
    def calibration(self) -> Calibration | None:
        """The calibration kept with the run, if there is one.

        Raises:
            DataError: If it is broken, or was fitted to other weights.
        """
        return read_calibration(self.directory.calibration, weights_name(self.best_state))

    def applied(self, calibrated: bool | None) -> Calibration | None:
        """Return the calibration with which quality is measured, see `score`.

        Raises:
            DataError: If the run is to be calibrated and is not.
        """
        own = calibrated is None and self.config.training.calibration != "none"
        calibration = self.calibration if calibrated or own else None
        if calibrated and calibration is None:
            raise DataError(f"{self.path} must be calibrated first, got a run that is not")
        return calibration

    def score(
        self,
        split: str = "test",
        *,
        dataset: Dataset | Path | str | None = None,
        calibrated: bool | None = None,
    ) -> Scores:
        """Return labels and probabilities of all rows of a split.

        Args:
            split: `train`, `valid` or `test`.
            dataset: Other rows, of the same vocabularies, in place of the run's own.
            calibrated: Whether the run's calibration is applied; if not said, one that its training
                asked for is.

        Raises:
            DataError: If there is no such split, the dataset is another one, or the run is to be
                calibrated and is not.
        """
        opened = self.dataset(dataset)
        rows = opened.split(split)
        rate = self.config.training.negative_rate
        batches = rows.batches(EVALUATION_BATCH)
        with using_kernels(self.config.training.kernels):
            labels, probabilities = predict_batches(self.model, batches, negative_rate=rate)
        _check_numbers(probabilities, self.directory.best)
        calibration = self.applied(calibrated)
        if calibration is not None:
            probabilities = calibration.apply(probabilities)
        return Scores(opened, split, labels, probabilities, rows.weights)

    def evaluate(
        self,
        split: str = "test",
        *,
        dataset: Dataset | Path | str | None = None,
        group: str | None = None,
        calibrated: bool | None = None,
    ) -> dict[str, float | None]:
        """Return the quality on a split; with `group`, also the AUC within that column's values.

        What rows of one class leave undefined is None.

        Args:
            split: `train`, `valid` or `test`.
            dataset: Other rows, of the same vocabularies, in place of the run's own.
            group: Name of a field of one value per row, or of a column that `prepare` kept.
            calibrated: Whether the run's calibration is applied; if not said, one that its training
                asked for is.

        Raises:
            DataError: If the split or the field does not exist, the dataset is another one, or
                the run is to be calibrated and is not.
        """
        return measure(self.score(split, dataset=dataset, calibrated=calibrated), group=group)

    def evaluate_by(
        self,
        column: str,
        split: str = "test",
        *,
        dataset: Dataset | Path | str | None = None,
        calibrated: bool | None = None,
    ) -> tuple[GroupDrift, ...]:
        """Return the quality within each value of a column, such as a day, and what drifted there.

        Args:
            column: A field of one value per row, or a column that `prepare` kept.
            split: `train`, `valid` or `test`.
            dataset: Other rows, of the same vocabularies, in place of the run's own.
            calibrated: Whether the run's calibration is applied; if not said, one that its training
                asked for is.

        Raises:
            DataError: As `evaluate`, or if the column has too many values.
        """
        scores = self.score(split, dataset=dataset, calibrated=calibrated)
        return drift_by(scores, column, self.row_counts)

    @property
    def row_counts(self) -> list[Int[np.ndarray, " rows"]]:
        """How often training had each id of every field, in earlier runs that it began with, too.

        Raises:
            DataError: If the file is not there, or holds anything else.
        """
        return self.directory.read_row_counts(self.schema.cardinalities)


def load_run(path: Run | Path | str) -> Run:
    """Open a trained run.

    Args:
        path: A run directory, as `train` writes it. A run that is open is returned as it is.

    Raises:
        DataError: If `path` holds no trained run, or weights of another model than it describes.

    Example:
        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("clicks", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
        >>> config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=1, threads=1))
        >>> _ = me.train(config, dataset="clicks", run="run")
        >>> me.load_run("run").model.embedding.weight.shape  # rows of all fields x sets * dim
        torch.Size([28, 2])
    """
    return path if isinstance(path, Run) else Run(path)


def check_dataset(dataset: Dataset, schema: Schema, run: Path) -> None:
    """Refuse a dataset that is not the one a run was trained on.

    Raises:
        DataError: If its vocabularies or rows are others than the run's schema says.
    """
    if not dataset.schema.is_of(schema):
        raise DataError(
            f"{dataset.path} must be the dataset that {run} was trained on, got another one of "
            "that name: prepared anew, of other rows or in another way"
        )


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _check_numbers(probabilities: Float[np.ndarray, " rows"], file: Path) -> None:
    wrong = int(np.count_nonzero(np.isnan(probabilities)))
    if wrong:
        raise DataError(
            f"{file} must hold weights that give probabilities, got NaN in {wrong} of "
            f"{len(probabilities)} rows"
        )
