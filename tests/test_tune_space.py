"""What tuning varies: values that stay in their ranges, and configurations that can be trained."""

import json

import optuna
import pytest

from multiembed.base.errors import ConfigError
from multiembed.config import parse_config
from multiembed.data.store.schema import Field, NumberScale, Schema, SplitSummary
from multiembed.experiments.tune import knobs
from multiembed.experiments.tune.knobs import KNOBS, costs_of, space_of
from multiembed.experiments.tune.tune_options import TuneOptions
from multiembed.experiments.tune.what_mattered import FEWEST, importances
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.runs.recipe import recipe_table

SPLITS = {name: SplitSummary(rows=100, positives=30) for name in ("train", "valid", "test")}
FIELDS = tuple(Field(name=name, kind="categorical", cardinality=30, min_count=1) for name in "abc")
IDS = Schema(label="click", fields=FIELDS, splits=SPLITS)


def trial_of(space, **fixed):
    """A trial that takes these values; all others are drawn."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({key.replace("__", "."): value for key, value in fixed.items()})
    return study.ask()


def keys(space):
    return [knob.key for knob in space.knobs]


def test_every_architecture_makes_models_with_what_is_drawn_for_it():
    """Options that it has not are not drawn; NFwFM's size is in proportion to its base of 50."""
    space = space_of(TuneOptions(), IDS)

    for name in ARCHITECTURES:
        for number in range(2):
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
            study.enqueue_trial({"model.architecture": name})
            trial = study.ask()
            config = space.chosen_by(trial)
            assert costs_of(config, IDS.sizes) > (0, 0)
            assert config.model.architecture == name
            options = {key for key in trial.params if key.startswith("model.options.")}
            has = {f"model.options.{key}" for key in ARCHITECTURES[name].model_fields}
            assert options == has & set(keys(space))
            base = ARCHITECTURES[name].base_dim
            assert config.model.dim == round(trial.params["model.dim"] * base / 10)
            for knob in space.active(name):
                value = trial.params[knob.key]
                assert value in knob.choices if knob.choices else knob.low <= value <= knob.high


def test_the_first_trial_is_the_recipe_itself():
    for name in ("paper", "robust"):
        space = space_of(TuneOptions(recipe=name, seed=3), IDS)
        table = recipe_table(name, IDS)
        table["training"] |= {"seed": 3, "best_by": "log_loss"}

        first = space.chosen_by(trial_of(space, **{k: v for k, v in space.first().items()}))

        assert first == parse_config(table)
        for knob in space.active(first.model.architecture):
            value = space.first()[knob.key]
            assert value in knob.choices if knob.choices else knob.low <= value <= knob.high


def test_values_of_the_base_beyond_the_ranges_widen_them():
    said = ("training.learning_rate_decay=0.7", "training.batch_size=64")
    space = space_of(TuneOptions(settings=said), IDS)
    assert "training.learning_rate_decay" not in keys(space), "what is set is not varied"
    base = {"training.learning_rate": 0.5, "model.options.hidden": "7,5"}
    wide = type(space)(space.config(base), space.knobs).around_base()
    found = {knob.key: knob for knob in wide.knobs}
    assert found["training.learning_rate"].high == 0.5
    assert found["model.options.hidden"].choices[-1] == "7,5"
    assert wide.base.model.options["hidden"] == [7, 5]
    assert wide.base.training.batch_size == 64


def test_a_decay_can_be_taken_away():
    space = space_of(TuneOptions(), IDS)
    with_decay = type(space)(space.config({"training.learning_rate_decay": 0.5}), space.knobs)

    assert with_decay.base.training.learning_rate_decay == 0.5
    none = with_decay.config({"training.learning_rate_decay": None})
    assert none.training.learning_rate_decay is None


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"settings": "model.size=4"}, {"model.dim", "model.sets"}),
        ({"settings": "model.dim=4"}, {"model.dim"}),
        ({"settings": "model.architecture=dnn"}, {"model.architecture"}),
        (
            {"settings": "model.architecture='dcnv2:2,dnn:1'"},
            {"model.architecture", "model.sets"},
        ),
        ({"architectures": "finalmlp"}, {"model.architecture"}),
    ],
)
def test_what_settings_say_is_not_varied(options, absent):
    space = space_of(TuneOptions(**options), IDS)

    every = {knob.key for knob in KNOBS} - {"model.numeric.embedding"}
    assert set(keys(space)) == every - absent
    assert costs_of(space.chosen_by(trial_of(space)), IDS.sizes) > (0, 0)


def test_another_setting_is_one_entry(monkeypatch):
    more = knobs.Knob(key="training.batch_size", choices=(64, 128))
    monkeypatch.setattr(knobs, "KNOBS", (*KNOBS, more))
    space = space_of(TuneOptions(only="training.batch_size", recipe="paper"), IDS)
    config = space.chosen_by(trial_of(space, training__batch_size=128))

    assert config.training.batch_size == 128
    assert space.knobs[0].choices == (64, 128, 2048), "with the recipe's"
    assert space.shown(config) == {"training.batch_size": 128}


def test_only_some_are_varied():
    space = space_of(TuneOptions(only="model.dim, training.learning_rate"), IDS)
    assert keys(space) == ["model.dim", "training.learning_rate"]
    space = space_of(TuneOptions(only="model.dim", architectures="dnn,ffm"), IDS)
    assert keys(space) == ["model.architecture", "model.dim"]
    assert space.knobs[0].choices == ("dnn", "ffm")
    assert space.base.model.architecture == "dnn"


def test_architectures_that_contradict_a_setting_are_left_out():
    """Penalties on cross layers have nothing to act on elsewhere."""
    options = TuneOptions(settings="training.regularizers.unitary=1e-5")

    assert "model.architecture" not in keys(space_of(options, IDS))
    with pytest.raises(ConfigError, match="regularizer unitary must have a model with cross"):
        space_of(options.model_copy(update={"architectures": ("dnn",)}), IDS)


def test_numbers_are_embedded_in_other_ways_where_rows_keep_them():
    scale = NumberScale(embedding="plr")
    numbers = FIELDS[0].model_copy(update={"number": scale})
    schema = IDS.model_copy(update={"fields": (numbers, *FIELDS[1:])})
    space = space_of(TuneOptions(recipe="robust", architectures="dnn"), schema)

    assert "model.numeric.embedding" in keys(space)
    assert space.base.model.numeric.embedding == "plr", "as the rows say it"
    drawn = space.config({"model.numeric.embedding": "soft"})
    assert drawn.model.numeric.embedding == "soft"
    assert costs_of(drawn, schema.sizes) != costs_of(space.base, schema.sizes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"settings": "training.lerning_rate=1"}, "did you mean 'learning_rate'"),
        ({"settings": "training.best_by=auc"}, "--set training.best_by must be left out"),
        ({"settings": "dataset=here"}, "--set dataset must be left out"),
        ({"settings": "model.size"}, "--set must be KEY=VALUE"),
        ({"only": "model.dims"}, "only must be one of .*; did you mean 'model.dim'"),
        ({"only": "model.numeric.embedding"}, "only must name what is left open"),
        ({"only": "model.dim", "settings": "model.dim=4"}, "only must name what is left open"),
        ({"architectures": "dcnv3"}, "did you mean 'dcnv2'"),
        ({"architectures": "dnn", "settings": "model.architecture=dnn"}, "must stand without"),
        ({"architectures": "ffm", "only": "model.options.dropout"}, "must have something to vary"),
    ],
)
def test_a_mistake_is_one_line(options, said):
    with pytest.raises(ConfigError, match=said):
        space_of(TuneOptions(**options), IDS)


def objective(trial):
    trial.suggest_float("idle", 0, 1)
    if trial.suggest_categorical("kind", ["a", "b"]) == "b":
        return 5.0 + trial.suggest_float("of_b", 0, 1)
    return (trial.suggest_float("strong", 0, 1) - 0.3) ** 2


def test_what_decides_is_found():
    """Planted: one setting parts good from bad, one decides among the good, one does nothing."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(120):
        trial = study.ask()
        trial.report(objective(trial), 1)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)

    found = importances(study)

    assert sum(found.values()) == pytest.approx(1)
    assert set(found) == {"idle", "kind", "of_b", "strong"}
    assert found["idle"] < 0.25 * found["strong"]
    assert max(found, key=lambda key: found[key]) in ("strong", "kind")
    few = optuna.create_study()
    few.add_trials(study.trials[: FEWEST - 1])
    assert importances(few) == {}


def test_options_are_read_from_text_and_kept_as_json():
    options = TuneOptions(architectures=["dnn, dcnv2", "ffm"], settings="a=1,2")

    assert options.architectures == ("dnn", "dcnv2", "ffm")
    assert options.settings == ("a=1,2",)
    assert TuneOptions.model_validate(json.loads(options.model_dump_json())) == options
