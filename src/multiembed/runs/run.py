"""A trained run: its model, its probabilities, its evaluation."""

from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.config import RunConfig, read_config
from multiembed.data.encoding.vocabulary import ArrowTable, Encoder, as_polars
from multiembed.data.store.dataset import Dataset, Split, open_dataset
from multiembed.data.store.schema import Schema
from multiembed.kernels.setting import using_kernels
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets, FactoredEmbeddings
from multiembed.runs.calibration import Calibration, read_calibration, weights_name
from multiembed.runs.directory import RunDirectory, load_tensors
from multiembed.runs.metrics import (
    auc,
    calibration_ratio,
    expected_calibration_error,
    group_auc,
    log_loss,
    normalized_entropy,
    reliability_curve,
)
from multiembed.runs.scoring import EVALUATION_BATCH, predict_batches, predict_ids


def build_model(
    config: RunConfig, cardinalities: tuple[int, ...], slots: tuple[int, ...] | None = None
) -> ClickModel:
    """Build the untrained model of a resolved configuration.

    Args:
        config: Resolved; one with `model.table_dims` gives factored tables.
        cardinalities: Number of ids of every field, *other* included.
        slots: Columns of ids that every field has, one each if not given.
    """
    dim, sets = config.model.shape()
    kept = config.model.table_dims
    if kept is None:
        pooling, init = config.model.pooling or "mean", config.model.embedding_init
        tables = partial(EmbeddingSets, slots=slots, pooling=pooling, init=init)
    else:
        tables = partial(FactoredEmbeddings, kept=kept)
    return ClickModel(
        config.model.built(),
        cardinalities,
        dim=dim,
        sets=sets,
        shared_interaction=config.model.shared_interaction,
        gate=config.model.gate,
        tables=tables,
    )


def quality(
    labels: Int[np.ndarray, " rows"], probabilities: Float[np.ndarray, " rows"]
) -> dict[str, float]:
    """Return AUC, log loss, normalised entropy and calibration ratio.

    Args:
        labels: 0 or 1.
        probabilities: Of label 1.
    """
    return {
        "auc": auc(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "normalized_entropy": normalized_entropy(labels, probabilities),
        "calibration_ratio": calibration_ratio(labels, probabilities),
    }


class Scores(NamedTuple):
    """A split with the probabilities of its rows."""

    split: Split
    field_names: tuple[str, ...]
    labels: Int[np.ndarray, " rows"]
    probabilities: Float[np.ndarray, " rows"]
    slots: tuple[int, ...]
    """Columns of ids that every field has."""


class Run:
    """What a run directory holds, ready for use; the model carries the best weights.

    `model` is a `ClickModel` in evaluation; `config`, `schema`, `vocabularies` and `records` say
    what was trained on what, and how it went.

    Args:
        path: A run directory, as `train` writes it.
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
        model = self._empty_model() if model is None else model.cpu()
        self._check_shapes(model.state_dict(), tensors)
        # Memory of their own: those of the file are mapped from it, aligned to a few bytes only.
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        model.load_state_dict(copies, assign=True)
        self.model = model.eval()

    def _empty_model(self) -> ClickModel:
        """Build the model without memory: weights are not yet known to be its own."""
        try:
            with torch.device("meta"):
                return build_model(self.config, self.schema.cardinalities, self.schema.slots)
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

    def dataset(self) -> Dataset:
        """Open the dataset that the run was trained on.

        Raises:
            DataError: If it is no longer where it was.
        """
        if self.config.dataset is None:
            raise DataError(f"{self.path} must name its dataset in config.toml, got none")
        return open_dataset(self.config.dataset)

    def predict(self, ids: Int[np.ndarray, "rows fields"]) -> Float[np.ndarray, " rows"]:
        """Return the probability of a click for rows of ids, without the run's calibration.

        Args:
            ids: As the run's `encoder` gives them; 0 is *other*.

        Raises:
            DataError: If the weights give no numbers.
        """
        rate = self.config.training.negative_rate
        with using_kernels(self.config.training.kernels):
            probabilities = predict_ids(self.model, ids, negative_rate=rate)
        _check_numbers(probabilities, self.directory.best)
        return probabilities

    def predict_proba(self, rows: ArrowTable) -> Float[np.ndarray, " rows"]:
        """Return the probability of a click for raw rows; columns that are no field are ignored.

        A run that has a calibration applies it.

        Args:
            rows: A data frame of polars or pandas, or any other table that speaks Arrow. A value
                that training never saw is *other*; a missing one is a value of its own.

        Raises:
            DataError: If a field has no column.
        """
        probabilities = self.predict(self.encoder.encode(as_polars(rows)))
        calibration = self.calibration
        return probabilities if calibration is None else calibration.apply(probabilities)

    @property
    def calibration(self) -> Calibration | None:
        """The calibration kept with the run, if there is one.

        Raises:
            DataError: If it is broken, or was fitted to other weights.
        """
        return read_calibration(self.directory.calibration, weights_name(self.best_state))

    def score(
        self, split: str = "test", *, dataset: Dataset | None = None, calibrated: bool = False
    ) -> Scores:
        """Return labels and probabilities of all rows of a split.

        Args:
            split: `train`, `valid` or `test`.
            dataset: One of the same fields in place of the run's own.
            calibrated: Whether the run's calibration is applied.

        Raises:
            DataError: If there is no such split, the dataset is another one, or the run is to be
                calibrated and is not.
        """
        dataset = dataset or self.dataset()
        shape = (self.schema.cardinalities, self.schema.slots)
        if (dataset.cardinalities, dataset.slots) != shape:
            raise DataError(f"{dataset.path} must have the fields of the run, got others")
        rows = dataset.split(split)
        rate = self.config.training.negative_rate
        batches = rows.batches(EVALUATION_BATCH)
        with using_kernels(self.config.training.kernels):
            labels, probabilities = predict_batches(self.model, batches, negative_rate=rate)
        _check_numbers(probabilities, self.directory.best)
        if calibrated:
            calibration = self.calibration
            if calibration is None:
                raise DataError(f"{self.path} must be calibrated first, got a run that is not")
            probabilities = calibration.apply(probabilities)
        return Scores(rows, dataset.field_names, labels, probabilities, dataset.slots)

    def evaluate(
        self,
        split: str = "test",
        *,
        dataset: Dataset | None = None,
        group: str | None = None,
        calibrated: bool = False,
    ) -> dict[str, float]:
        """Return the quality on a split; with `group`, also the AUC within that field's values.

        Args:
            split: `train`, `valid` or `test`.
            dataset: One of the same fields in place of the run's own.
            group: Name of a field of one value per row.
            calibrated: Whether the run's calibration is applied.

        Raises:
            DataError: If the split or the field does not exist, the dataset is another one, or
                the run is to be calibrated and is not.
        """
        return measure(self.score(split, dataset=dataset, calibrated=calibrated), group=group)


def measure(scores: Scores, *, group: str | None = None) -> dict[str, float]:
    """Return the quality of scored rows; with `group`, also the AUC within that field's values.

    Raises:
        DataError: If there is no such field, or the rows are of one class.
    """
    rows, names, labels, probabilities, slots = scores
    if group is not None and group not in names:
        raise DataError(f"group must be one of the fields {', '.join(names)}, got '{group}'")
    result = {"rows": float(len(labels)), **quality(labels, probabilities)}
    curve = reliability_curve(labels, probabilities)
    result["expected_calibration_error"] = expected_calibration_error(curve)
    if group is not None:
        field = names.index(group)
        if slots[field] > 1:
            raise DataError(f"group must be a field of one value per row, got '{group}'")
        column = sum(slots[:field])
        of_row = [batch.ids[:, column] for batch in rows.batches(EVALUATION_BATCH)]
        result["group_auc"], counted = group_auc(labels, probabilities, np.concatenate(of_row))
        result["group_auc_rows"] = float(counted)
    return result


def load_run(path: Path | str) -> Run:
    """Open a trained run.

    Args:
        path: A run directory, as `train` writes it.

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
    return Run(path)


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
