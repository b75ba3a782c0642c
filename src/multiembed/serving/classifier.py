"""A click model that is fitted to a table in memory, in the manner of scikit-learn."""

import tempfile
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.validation import checked, known_name
from multiembed.config import ModelConfig, RecipeName, RunConfig, TrainingConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.models.naming import SequencePooling
from multiembed.runs.given_config import laid_over
from multiembed.runs.recipe import RECIPES, recipe_table
from multiembed.runs.run import Run
from multiembed.runs.scoring import predict_ids
from multiembed.runs.unseen import UnseenTally, warn_of
from multiembed.serving.tabular import (
    FeatureTable,
    read_classes,
    read_table,
    read_weights,
    write_table,
)
from multiembed.training.start import train


@dataclass(eq=False, repr=False)
class ClickClassifier:
    """A multi-embedding click model with `fit`, `predict_proba` and `predict`.

    It follows scikit-learn's conventions and works in its pipelines and searches, without needing
    scikit-learn. Columns of text, codes and whole numbers of few values are categories, other
    numbers are cut into buckets; a missing value is a value of its own, and so is one that
    `fit` did not see.

    Args:
        architecture: `dcnv2`, `dnn`, …; `dcnv2:2,dnn:1` mixes two.
        dim: Size of one set's embedding; the architecture's base size if None.
        sets: Number of embedding sets; one, or what `architecture` says, if None.
        options: Options of the architecture: hidden, dropout, ….
        pretrained: Vectors of a column's values: column to file, or to a table of `file`,
            `trained`, `sets` and `values`.
        recipe: What says all that is not given: `robust`, or the paper's protocol, `paper`.
        training: Settings of the training: learning_rate, batch_size, max_epochs, …. A tenth of
            the rows of each class, at least one, is held back to say when to stop.
        numeric_rule: How numbers are cut: 32 buckets of equal counts, or the paper's rule.
        numeric_embedding: How numbers are embedded: by their buckets, or as numbers (`linear`,
            `plr`: periodic functions, `soft`: soft buckets).
        min_count: Values seen less often share one embedding.
        sequences: Columns of histories, such as the items clicked before, and the column whose
            values each holds: `{"clicked": "item"}`. Cells are lists; the last 50 values are read.
        sequence_pooling: What becomes of a history: `mean`, `attention` or `softmax`.
        random_state: Seed of initialisation, order and the rows that are held back.

    Raises:
        ConfigError: By `fit`, if one of these is unknown or out of range.
        DataError: By `fit` and `predict`, if rows or labels are of no use.

        >>> import multiembed as me
        >>> rows = [[n % 3, n % 2] for n in range(60)]
        >>> model = me.ClickClassifier("dnn", dim=2, options={"hidden": [4]})
        >>> model.fit(rows, [n % 2 for n in range(60)]).predict_proba(rows[:5]).shape
        (5, 2)

    After `fit` there are `classes_` (both labels, the positive one last), `n_features_in_`,
    `feature_names_in_` where columns have names, and `n_iter_`, the epochs trained.
    """

    architecture: str = "dcnv2"
    _: KW_ONLY
    dim: int | None = None
    sets: int | None = None
    options: Mapping[str, object] | None = None
    pretrained: Mapping[str, object] | None = None
    recipe: RecipeName = "robust"
    training: Mapping[str, object] | None = None
    numeric_rule: Literal["quantiles", "log"] = "quantiles"
    numeric_embedding: Literal["buckets", "linear", "plr", "soft"] = "buckets"
    min_count: int = 1
    random_state: int | None = 0
    sequences: Mapping[str, str] | None = None
    sequence_pooling: SequencePooling | None = None

    def fit(self, X: object, y: object, sample_weight: object = None) -> "ClickClassifier":
        """Train on rows `X`, a data frame or a matrix, and labels `y` of two classes.

        `sample_weight` says what every row counts; rows of weight 0 are left out.

        Raises:
            ConfigError: If a parameter is unknown or out of range.
            DataError: If there are not two rows of each of two classes.
        """
        config = self._config()
        table = read_table(X)
        weights = read_weights(sample_weight, rows=table.rows.height)
        classes, labels = read_classes(y, rows=table.rows.height, weights=weights)
        with tempfile.TemporaryDirectory(prefix="multiembed-") as name:
            folder, seed = Path(name) / "dataset", config.training.seed
            rows, options = table.rows, self._options()
            encoder = write_table(rows, labels, options, folder, seed=seed, weights=weights)
            dataset = open_dataset(folder)
            run = train(self._laid_over(config, dataset), dataset=dataset, run=Path(name) / "run")
            self.n_iter_ = int(run.records[-1]["epoch"])
            self._keep(run, table)
        self.classes_ = classes
        self._encoder = encoder
        return self

    def predict_proba(self, X: object) -> Float[np.ndarray, "rows 2"]:
        """Return the probabilities of both classes, in the order of `classes_`.

        Warns:
            UnseenWarning: For each field that has far more values which `fit` never saw, or missing
                ones, than the rows of `fit` had.
        """
        table = self._table(X)
        encoded = self._encoder.read(table.rows)
        tally = UnseenTally(*self._trained)
        tally.add(table.rows, encoded.ids)
        warn_of(tally.fields, stacklevel=2)
        positive = predict_ids(self._model, *encoded, negative_rate=self._negative_rate)
        positive = positive if self._calibration is None else self._calibration.apply(positive)
        return np.stack([1 - positive, positive], axis=1).astype(np.float64)

    def predict(self, X: object) -> Shaped[np.ndarray, " rows"]:
        """Return the more probable class of every row."""
        positive = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[positive.astype(np.int64)]

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return the share of rows whose class is predicted right, of what `sample_weight` says."""
        right = self.predict(X) == np.asarray(y)
        return float(np.average(right, weights=read_weights(sample_weight, rows=len(right))))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters that it was made with."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **parameters: object) -> "ClickClassifier":
        """Change parameters; `fit` reads them.

        Raises:
            ConfigError: If there is no such parameter.
        """
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise ConfigError(f"parameter must be one of {', '.join(known)}, got {name!r}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> object:
        """Tell scikit-learn, which alone calls this, what kind of estimator it is."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_class=False),
            input_tags=InputTags(categorical=True, string=True, allow_nan=True),
        )

    def __repr__(self) -> str:
        """Show the parameters that are not the defaults."""
        shown = [(field, getattr(self, field.name)) for field in fields(self)]
        inside = ", ".join(f"{f.name}={got!r}" for f, got in shown if got is not f.default)
        return f"{type(self).__name__}({inside})"

    def _config(self) -> RunConfig:
        model = {
            "architecture": self.architecture,
            "dim": self.dim,
            "sets": self.sets,
            "options": dict(self.options or {}),
            "sequence_pooling": self.sequence_pooling,
            "pretrained": dict(self.pretrained) if self.pretrained else None,
        }
        seed = {} if self.random_state is None else {"seed": int(self.random_state)}
        training = {**seed, **(self.training or {})}
        known_name(self.recipe, RECIPES, subject="recipe")
        return RunConfig(
            model=checked(ModelConfig, model, at="model."),
            training=checked(TrainingConfig, training, at="training."),
        )

    def _laid_over(self, config: RunConfig, dataset: Dataset) -> RunConfig:
        """Return the configuration with all that the recipe says of rows like these."""
        own = config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return laid_over(recipe_table(self.recipe, dataset.schema), own, source="parameters")

    def _options(self) -> PrepareOptions:
        rules = {"numeric_rule": self.numeric_rule, "min_count": self.min_count}
        rules["sequences"] = dict(self.sequences or {})
        if self.numeric_embedding != "buckets":
            rules["numeric_embedding"] = self.numeric_embedding
        return checked(PrepareOptions, {"format": "table", **rules})

    def _keep(self, run: Run, table: FeatureTable) -> None:
        self._model, self._calibration = run.model, run.calibration
        self._trained = run.schema, run.vocabularies
        self._negative_rate = run.config.training.negative_rate
        self.n_features_in_ = table.rows.width
        self._columns = table.rows.columns
        if table.names is not None:
            self.feature_names_in_ = np.array(table.names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _table(self, rows: object) -> FeatureTable:
        """Read rows to score, whose columns must be those of `fit`."""
        if not hasattr(self, "classes_"):
            raise _not_fitted(f"{type(self).__name__} must be fitted first, got one that is not")
        table = read_table(rows)
        if table.rows.width != self.n_features_in_:
            raise DataError(
                f"X has {table.rows.width} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        known = self._columns  # not the fields: a moment becomes two, and histories come last
        if table.names is not None and list(table.names) == known:
            return table
        if table.names is not None and hasattr(self, "feature_names_in_"):
            raise DataError(_other_names(table.names, known))
        renamed = table.rows.rename(dict(zip(table.rows.columns, known, strict=True)))
        return FeatureTable(renamed, None)


def _not_fitted(message: str) -> Exception:
    """Return scikit-learn's own exception where it is installed."""
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return DataError(message)
    return NotFittedError(message)


def _other_names(names: tuple[str, ...], known: list[str]) -> str:
    """Say how columns differ from those of `fit`, in the words that scikit-learn checks for."""
    unseen = sorted(set(names) - set(known))
    missing = sorted(set(known) - set(names))
    lines = ["The feature names should match those that were passed during fit."]
    if unseen:
        lines += ["Feature names unseen at fit time:", *(f"- {name}" for name in unseen[:5])]
    if missing:
        lines += ["Feature names seen at fit time, yet now missing:"]
        lines += [f"- {name}" for name in missing[:5]]
    if not unseen and not missing:
        lines += ["Feature names must be in the same order as they were in fit."]
    return "\n".join(lines) + "\n"
