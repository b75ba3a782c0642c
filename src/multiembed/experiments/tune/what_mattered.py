"""Which settings decided how good trials were: PED-ANOVA over all of them."""

import warnings
from collections import Counter
from collections.abc import Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import TrialState

FEWEST = 10
"""Trials that say anything of importance."""
_TOP = 5
"""Trials, or a tenth if that is more, that count as the good ones."""


def importances(study: Study) -> dict[str, float]:
    """Return how much each setting decides whether a trial is among the best; they add up to 1.

    PED-ANOVA (Watanabe et al., IJCAI 2023; for settings that only some trials have, its form for
    conditional ones): how far a setting's values in the best trials are from those in all. Trials
    that were pruned count by the best that they had: Optuna alone would leave them out, and the
    worst with them. Nothing for fewer than `FEWEST` trials, nor for what fewer than half as many
    had.
    """
    trials = [
        optuna.trial.create_trial(
            value=best(study, list(trial.intermediate_values.values())),
            params=trial.params,
            distributions=trial.distributions,
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.intermediate_values
    ]
    if len(trials) < FEWEST:
        return {}
    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    together = optuna.create_study(direction=study.direction)
    optuna.logging.set_verbosity(told)
    together.add_trials(trials)
    with warnings.catch_warnings():
        # A setting that one trial alone had: nothing can be said of it, and nothing is.
        warnings.filterwarnings("ignore", message="Some regimes for parameter")
        share = min(0.5, max(0.1, _TOP / len(trials)))
        found = PedAnovaImportanceEvaluator(target_quantile=share).evaluate(together)
    had = Counter(key for trial in trials for key in trial.params)
    found = {key: value for key, value in found.items() if had[key] >= FEWEST / 2}
    total = sum(found.values())
    return {key: value / total for key, value in found.items()} if total > 0 else {}


def best(study: Study, values: Sequence[float]) -> float:
    """Return the best of a trial's evaluations."""
    return max(values) if study.direction == optuna.study.StudyDirection.MAXIMIZE else min(values)
