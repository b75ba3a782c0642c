"""Configurations: there and back through TOML, and every mistake in one line."""

import tomllib

import pytest
from pydantic import BaseModel, Field

from multiembed.base.errors import ConfigError
from multiembed.base.validation import checked
from multiembed.config import ModelConfig, RunConfig, TrainingConfig, parse_config, read_config
from multiembed.models.interactions.architectures import ARCHITECTURES

MODELS = [
    *({"architecture": name, "sets": 2} for name in ARCHITECTURES),
    {"architecture": "dcnv2", "size": 4, "scaling": "multi"},
    {"architecture": "nfwfm", "size": 3},
    {"architecture": "dcnv2:2,dnn:1,finalmlp", "gate": "learned", "options": {"hidden": [9, 8]}},
    {"architecture": "dnn,dcnv2", "sets": 6, "options": {"dcnv2": {"cross_layers": 2}}},
    {"architecture": "nfwfm,dnn", "dim": 12, "shared_interaction": True},
    {"architecture": "dnn", "embedding_init": 0.01, "options": {"dropout": 0.0}},
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["architecture"])
def test_a_resolved_configuration_goes_through_toml_and_back(model):
    training = {"regularizers": {"singular_spread": 1e-3}, "time_limit": 60, "shuffle": False}
    config = parse_config({"dataset": "here", "model": model, "training": training})

    resolved = config.resolved()
    again = parse_config(tomllib.loads(resolved.to_toml()))

    assert again == resolved
    assert again.resolved() == resolved
    assert again.model.built() == config.model.built()
    assert again.model.shape() == config.model.shape()


def test_a_file_is_read_as_it_was_written(tmp_path):
    config = RunConfig(training=TrainingConfig(seed=3)).resolved()
    (tmp_path / "run.toml").write_text(config.to_toml())

    assert read_config(tmp_path / "run.toml") == config


def test_resolving_writes_everything_out():
    model = ModelConfig(architecture="dcnv2", size=4, scaling="multi").resolved()

    assert (model.dim, model.sets, model.size) == (10, 4, None)
    assert model.options["cross_layers"] == 4
    assert model.options["hidden"] == [400, 400]


def test_resolving_a_mix_writes_the_sets_and_options_of_each():
    model = ModelConfig(
        architecture="dcnv2:2,dnn", sets=6, options={"dropout": 0.1, "dnn": {"hidden": [7]}}
    ).resolved()

    assert (model.architecture, model.dim, model.sets) == ("dcnv2:4,dnn:2", 10, 6)
    assert model.options.keys() == {"dcnv2", "dnn"}
    assert model.options["dnn"] == {"hidden": [7], "dropout": 0.1, "batch_norm": True}
    assert model.options["dcnv2"]["dropout"] == 0.1


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"modle": {}}, "'modle' is unknown; did you mean 'model'?"),
        ({"model": {"architectur": "dnn"}}, "'model.architectur' is unknown; .*'architecture'?"),
        ({"training": {"learning_rat": 1}}, "'training.learning_rat' is .*'learning_rate'?"),
        ({"training": {"xyz": 1}}, "'training.xyz' is unknown; there are learning_rate, "),
        ({"model": 3}, "model must be a table, got 3"),
        ({"model": {"dim": 0}}, "model.dim must be at least 1, got 0"),
        ({"model": {"dim": 1.5}}, "model.dim must be a whole number, got 1.5"),
        ({"model": {"dim": "wide"}}, "model.dim must be a whole number, got 'wide'"),
        ({"model": {"scaling": "both"}}, "scaling must be 'single' or 'multi', got 'both'"),
        ({"model": {"gate": "open"}}, "model.gate must be 'mean' or 'learned', got 'open'"),
        (
            {"model": {"embedding_init": "tabel"}},
            "embedding_init must be 'table' or 'field' or a number, got 'tabel'",
        ),
        (
            {"model": {"embedding_init": -1}},
            "embedding_init must be 'table' or 'field' or above 0, got -1",
        ),
        ({"model": {"options": 1}}, "model.options must be a table, got 1"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate must be above 0, got 0"),
        ({"training": {"learning_rate": float("inf")}}, "must be a finite number, got inf"),
        ({"training": {"shuffle": "perhaps"}}, "shuffle must be true or false, got 'perhaps'"),
        ({"training": {"learning_rate_decay": 1}}, "learning_rate_decay must be below 1, got 1"),
        ({"training": {"negative_rate": 2}}, "negative_rate must be at most 1, got 2"),
        (
            {"training": {"regularizers": {"unitary": -1}}},
            "training.regularizers.unitary must be at least 0, got -1",
        ),
        ({"dataset": 3}, "dataset must be text, got 3"),
    ],
)
def test_a_mistake_is_one_line_that_names_subject_rule_and_value(table, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_config(table, source="run.toml")

    message = str(caught.value)
    assert message.startswith("run.toml: ")
    assert "\n" not in message
    assert not any(word in message for word in ("Input", "constrained", "literal", "[int]"))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"model": {"size": 2, "dim": 3}}, "model.size must stand without model.dim"),
        ({"model": {"size": 2, "sets": 3}}, "model.size must stand without .* model.sets"),
        ({"model": {"scaling": "multi"}}, "model.scaling must stand with model.size"),
        ({"model": {"architecture": "dcnv2,dnn", "size": 2}}, "scaling must be multi"),
        ({"model": {"architecture": "dcnv2,dnn", "sets": 3}}, "must be a multiple of 2, .* got 3"),
        ({"model": {"architecture": "nfwfm,dnn"}}, "dim must be given for architectures of diff"),
        ({"model": {"architecture": "dnnn"}}, "got 'dnnn'; did you mean 'dnn'?"),
        ({"model": {"options": {"layers": 1}}}, "dcnv2 option 'layers' is unknown; .*cross_layers"),
        ({"model": {"options": {"hidden": []}}}, "hidden must be a list of at least 1, got"),
        (
            {"model": {"architecture": "dnn", "options": {"hidden": [4, -1]}}},
            r"dnn option hidden\[1\] must be at least 1, got -1",
        ),
        (
            {"model": {"architecture": "dnn", "options": {"hidden": [4, "x"]}}},
            r"dnn option hidden\[1\] must be a whole number, got 'x'",
        ),
        (
            {"model": {"architecture": "dnn"}, "training": {"regularizers": {"unitary": 1}}},
            "regularizer unitary must have a model with cross layers, dcnv2, got none",
        ),
        (
            {"training": {"regularizers": {"aligned_norm": 1}}},
            "regularizer must be one of .*, got 'aligned_norm'; did you mean 'aligned_norms'?",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_when_resolved(table, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_config(table).resolved()

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a = ", "must be TOML, got"), (b"\xff", "must be TOML, got"), (None, "must be a readable")],
)
def test_an_unreadable_file_is_one_line(tmp_path, content, said):
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=f"run.toml {said}"):
        read_config(file)


class Inner(BaseModel, extra="forbid"):
    needed: int
    either: int | list[int] = 1


class Outer(BaseModel):
    inner: Inner
    many: list[Inner] = Field(default_factory=list)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "inner must be given, got nothing"),
        ({"inner": {}}, "inner.needed must be given, got nothing"),
        ({"inner": {"neded": 1, "needed": 1}}, "'inner.neded' is unknown; did you mean 'needed'?"),
        (
            {"inner": {"needed": 1, "either": "x"}},
            "inner.either must be a whole number or a list, got 'x'",
        ),
        (
            {"inner": {"needed": 1}, "many": [{"needed": 1}, {"needed": "x"}]},
            "many[1].needed must be a whole number, got 'x'",
        ),
    ],
)
def test_a_place_is_written_as_a_person_would(values, said):
    with pytest.raises(ConfigError) as caught:
        checked(Outer, values, at="here: ")

    assert str(caught.value) == f"here: {said}"
