"""What is written about a diagnosis agrees with it: the schema, the guide, its pictures."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from multiembed import diagnose, diagnose_over_time
from multiembed.diagnosis.verdict import VERDICTS
from multiembed.report.plot import SHAPES, picture
from multiembed.spectra.catalogue import MEASURES

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDE = (DOCS / "diagnosis.md").read_text(encoding="utf-8")


def loaded(name):
    """Load a script of the documents."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


schema_script = loaded("diagnosis_schema")
pictures = loaded("diagnosis_pictures")
SCHEMAS = {
    name: json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))
    for name in schema_script.RECORDS
}
SCHEMA = SCHEMAS["diagnosis"]


def sections():
    """Return the text below every heading of the third level."""
    parts = re.split(r"^###? (.+)$", GUIDE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def crossed(folder):
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for m in range(2):
        weights[f"embeddings.{m}.embedding.weight"] = torch.randn((90, 4), generator=generator)
        weights[f"cns.{m}.0.W.0"] = torch.randn(12, 12, generator=generator)
    torch.save(weights, folder / "model.pt")
    return diagnose(folder / "model.pt", cardinalities=[20, 30, 40])


def counted(_):
    rng = np.random.default_rng(0)
    return diagnose({"a": rng.normal(size=(40, 3))}, counts={"a": np.arange(40) % 3})


def degenerate(_):
    return diagnose({"zero": np.zeros((9, 3)), "equal": np.ones((9, 3)), "one": np.ones((1, 2))})


@pytest.mark.parametrize("made", [crossed, counted, degenerate])
def test_json_follows_its_schema(made, tmp_path):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    found = json.loads(made(tmp_path).to_json())

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)

    del found["fields"][0]["verdict"]["rests_on"]
    with pytest.raises(jsonschema.ValidationError, match="rests_on"):
        jsonschema.Draft202012Validator(SCHEMA).validate(found)


def shifted(count):
    """Checkpoints of which the later half holds another direction, and one row more."""
    rng = np.random.default_rng(0)
    rows, other = rng.normal(size=(90, 4)), rng.normal(size=(91, 4))
    halves = [rows] * (count // 2) + [other] * (count - count // 2)
    return [{"a": half + 0.1 * rng.normal(size=half.shape), "b": rows} for half in halves]


@pytest.mark.parametrize(
    "checkpoints",
    [
        shifted(2),
        shifted(6),
        [{"zero": np.zeros((9, 3)), "a": np.eye(9)}, {"zero": np.ones((9, 3))}],
    ],
)
def test_json_over_time_follows_its_schema(checkpoints):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    found = json.loads(diagnose_over_time(checkpoints).to_json())

    jsonschema.Draft202012Validator.check_schema(SCHEMAS["over_time"])
    jsonschema.Draft202012Validator(SCHEMAS["over_time"]).validate(found)

    assert found["alarm"] == (len(checkpoints) == 6)
    del found["fields"][0]["steps"][0]["turn"]["cka"]
    with pytest.raises(jsonschema.ValidationError, match="cka"):
        jsonschema.Draft202012Validator(SCHEMAS["over_time"]).validate(found)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_that_of_the_records(name):
    """If this fails: python docs/diagnosis_schema.py --write."""
    assert json.loads(schema_script.text(name)) == SCHEMAS[name]


def test_the_schema_explains_its_keys():
    field = SCHEMA["$defs"]["FieldDiagnosis"]["properties"]

    assert field["k99"] == {
        "description": "Fewest directions that hold 99% of the energy",
        "type": ["integer", "null"],
    }
    assert SCHEMA["$defs"]["Verdict"]["properties"]["label"]["enum"] == list(VERDICTS)


@pytest.mark.parametrize("label", VERDICTS)
def test_every_verdict_has_its_section_and_picture(label):
    assert re.search(r"!\[[^\]]+\]\(diagnosis/[a-z0-9-]+\.svg\)", sections()[label])


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_explained(name):
    assert f"`{name}`" in GUIDE


@pytest.mark.parametrize("label", VERDICTS)
def test_the_planted_table_of_a_verdict_gets_it(label):
    counts = {label: pictures.COUNTS[label]} if label in pictures.COUNTS else None

    [field] = diagnose({label: pictures.PLANTED[label]}, counts=counts).fields

    assert field.verdict.label == label


@pytest.mark.parametrize("label", VERDICTS)
def test_every_verdict_can_be_drawn(label):
    assert VERDICTS[label].symbol in SHAPES


def test_every_picture_is_shown_and_every_shown_picture_is_made():
    shown = set(re.findall(r"\(diagnosis/([a-z0-9-]+)\.svg\)", GUIDE))

    assert shown == set(pictures.PICTURES)
    assert shown == {path.stem for path in (DOCS / "diagnosis").glob("*.svg")}


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_that_of_its_script(name):
    """If this fails: python docs/diagnosis_pictures.py. Places may differ in their last digits."""
    kept = (DOCS / "diagnosis" / f"{name}.svg").read_text(encoding="utf-8")
    made = picture(pictures.PICTURES[name](), width=560)
    number = r"-?\d+\.?\d*"

    assert re.sub(number, "", kept) == re.sub(number, "", made)
    here, there = ([float(n) for n in re.findall(number, text)] for text in (kept, made))
    np.testing.assert_allclose(here, there, rtol=2e-2, atol=0.2)
