"""Contenders without interactions: the base rate, and logistic regression on one-hot ids."""

import warnings

import numpy as np

from multiembed.experiments.compare.contenders import Contender, Fitted, Task
from multiembed.runs.metrics import log_loss

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
"""What `C` of scikit-learn may be: what a row weighs against the L2 penalty, rising."""
_ROUNDS, _TOLERANCE = 1000, 1e-5


def _base_rate(task: Task) -> Fitted:
    """Predict the share of positives among the training rows, by weight, for every row."""
    train = task.columns.train
    rate = float(np.average(train.labels, weights=train.weights))
    valid, test = (np.full(len(of.labels), rate) for of in (task.columns.valid, task.columns.test))
    return Fitted(valid, test, {"rate": round(rate, 6)})


def _logistic_regression(task: Task) -> Fitted:
    """Fit one model for each penalty, from the strongest on, until validation rows get worse."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    columns, train, valid = task.columns, task.columns.train, task.columns.valid
    rows, of_valid, of_test = (columns.one_hot(name) for name in ("train", "valid", "test"))
    model = LogisticRegression(max_iter=_ROUNDS, tol=_TOLERANCE, warm_start=True)
    best, least = None, np.inf
    for at, penalty in enumerate(PENALTIES):
        model.set_params(C=penalty)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the next one goes on from here
            model.fit(rows, train.labels, sample_weight=train.weights)
        found, test = (model.predict_proba(of)[:, 1] for of in (of_valid, of_test))
        loss = log_loss(valid.labels, found, valid.weights)
        task.advance(at + 1, len(PENALTIES), f"C {penalty:g}  log loss {loss:.5f}")
        if loss >= least:
            break
        best, least = Fitted(found, test, {"C": penalty}), loss
    assert best is not None, "a log loss is finite"
    return best


BASE_RATE = Contender(title="base rate", fit=_base_rate)
LOGISTIC_REGRESSION = Contender(
    title="logistic regression",
    fit=_logistic_regression,
    settings={"C": list(PENALTIES), "penalty": "L2", "max_iter": _ROUNDS, "tol": _TOLERANCE},
    packages=("sklearn",),
)
