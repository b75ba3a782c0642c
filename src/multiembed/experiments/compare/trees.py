"""Gradient-boosted trees as contenders: LightGBM and CatBoost, stopped by validation rows."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from jaxtyping import Float

from multiembed.base.errors import DataError
from multiembed.experiments.compare.contender_columns import Columns, SplitColumns
from multiembed.experiments.compare.contenders import Contender, Fitted, Task
from multiembed.experiments.grid.pool import one_line

_MOST_ROUNDS, _PATIENCE, _LEARNING_RATE = 5000, 100, 0.05
_EXACT = 2**24
"""Whole numbers up to here are exact in float32."""


def _lightgbm(task: Task) -> Fitted:
    """Fit LightGBM with its defaults; ids are categories to it, what is missing is NaN."""
    import lightgbm

    columns, categorical = task.columns, places_of_categories(task.columns)
    train, valid, test = (tree_matrix(of) for of in (columns.train, columns.valid, columns.test))
    params = {
        "objective": "binary",
        "learning_rate": _LEARNING_RATE,
        "num_threads": task.threads,
        "seed": task.seed,
        "verbosity": -1,
    }
    rows = lightgbm.Dataset(
        train, columns.train.labels, weight=columns.train.weights, categorical_feature=categorical
    )
    stopping = rows.create_valid(valid, columns.valid.labels, weight=columns.valid.weights)

    def told(round_: lightgbm.callback.CallbackEnv) -> None:
        for _, _, loss, *_ in round_.evaluation_result_list or ():
            task.advance(round_.iteration + 1, _MOST_ROUNDS, f"log loss {loss:.5f}")

    model = lightgbm.train(
        params,
        rows,
        num_boost_round=_MOST_ROUNDS,
        valid_sets=[stopping],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False), told],
    )
    of_valid, of_test = (
        np.asarray(model.predict(of, num_threads=task.threads)) for of in (valid, test)
    )
    return Fitted(of_valid, of_test, {"rounds": model.best_iteration})


def places_of_categories(columns: Columns) -> list[int]:
    """Return where categories stand: behind the numbers."""
    first = len(columns.numbers)
    return list(range(first, first + len(columns.categories)))


def tree_matrix(rows: SplitColumns) -> Float[np.ndarray, "rows columns"]:
    """Return numbers, then categories: as LightGBM takes both in one matrix."""
    large = rows.categories.size and rows.categories.max() >= _EXACT
    categories = rows.categories.astype(np.float64 if large else np.float32)
    categories[rows.categories < 0] = np.nan
    return np.concatenate([rows.numbers, categories], axis=1, dtype=categories.dtype)


def _catboost(task: Task) -> Fitted:
    """Fit CatBoost with its defaults; ids are categories to it, what is missing is NaN."""
    import catboost
    import pandas as pd

    columns, categorical = task.columns, places_of_categories(task.columns)

    def pool(of: SplitColumns) -> catboost.Pool:
        frame = pd.concat([pd.DataFrame(of.numbers), pd.DataFrame(of.categories)], axis=1)
        frame.columns = pd.Index([str(at) for at in range(frame.shape[1])])
        return catboost.Pool(frame, of.labels, cat_features=categorical, weight=of.weights)

    def told(round_: SimpleNamespace) -> bool:
        loss = round_.metrics["validation"]["Logloss"][-1]
        task.advance(round_.iteration, _MOST_ROUNDS, f"log loss {loss:.5f}")
        return True

    model = catboost.CatBoostClassifier(
        iterations=_MOST_ROUNDS,
        learning_rate=_LEARNING_RATE,
        early_stopping_rounds=_PATIENCE,
        random_seed=task.seed,
        thread_count=task.threads,
        allow_writing_files=False,
        verbose=False,
    )
    train, valid, test = (pool(of) for of in (columns.train, columns.valid, columns.test))
    watcher = SimpleNamespace(after_iteration=told)
    model.fit(train, eval_set=valid, use_best_model=True, callbacks=[watcher])
    of_valid, of_test = (
        model.predict_proba(of, thread_count=task.threads)[:, 1] for of in (valid, test)
    )
    return Fitted(of_valid, of_test, {"rounds": model.tree_count_})


def _refusing(title: str, fit: Callable[[Task], Fitted]) -> Callable[[Task], Fitted]:
    """Turn what a library raises, each its own kind, into one line that names it."""

    def fitted(task: Task) -> Fitted:
        try:
            return fit(task)
        except MemoryError:
            raise
        except Exception as error:
            reason = one_line(error)
            raise DataError(f"{title} must be able to fit these rows, got: {reason}") from error

    return fitted


_SETTINGS = {"learning_rate": _LEARNING_RATE, "most_rounds": _MOST_ROUNDS, "patience": _PATIENCE}


def _trees(title: str, fit: Callable[[Task], Fitted], package: str, *, seeded: bool) -> Contender:
    return Contender(
        title=title,
        fit=_refusing(title, fit),
        settings=_SETTINGS,
        packages=(package,),
        seeded=seeded,
        is_tree=True,
    )


LIGHTGBM = _trees("LightGBM", _lightgbm, "lightgbm", seeded=False)
CATBOOST = _trees("CatBoost", _catboost, "catboost", seeded=True)
