"""One entry is enough: a measure, a verdict or a layout added for a test arrives everywhere."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from multiembed import diagnose
from multiembed.diagnosis.readers.layouts import LAYOUTS, Layout
from multiembed.diagnosis.readers.table import Contents, StoredTensor
from multiembed.diagnosis.readers.tensor_files import FILE_KINDS, FileKind
from multiembed.diagnosis.terminal import terminal_table
from multiembed.diagnosis.verdict import VERDICTS
from multiembed.experiments.grid.outcome import Outcome, write_csv
from multiembed.models.embedding import EmbeddingSets
from multiembed.spectra.catalogue import MEASURES, Measure
from multiembed.training.monitor import observe

LARGEST = Measure(
    function=lambda table: float(table.raw.singular_values[0]),
    places=frozenset({"field", "view", "model", "training", "outcome"}),
    heading="largest",
    words="The largest singular value",
    terminal="s1",
    menu="largest singular value",
    card="largest value, mean over fields",
    of_view="largest {}",
)


def tables():
    return {"a": np.diag([7.0, 1.0, 1.0]), "b": np.diag([9.0, 1.0, 1.0])}


def terminal(found):
    console = Console(file=io.StringIO(), width=100)
    console.print(terminal_table(found))
    return console.file.getvalue()


@pytest.fixture
def largest(monkeypatch):
    monkeypatch.setitem(MEASURES, "largest", LARGEST)


@pytest.fixture
def odd(monkeypatch):
    """Add a verdict on tables whose largest singular value is 9, more pressing than all others."""
    label = replace(
        VERDICTS["common mean"],
        holds=lambda case: case.view.information_abundance == 11 / 9,
        finding=lambda _: "It is odd.",
        means="an odd table",
        rule="Of an odd number.",
        phrase="odd",
    )
    others = dict(VERDICTS)
    VERDICTS.clear()
    monkeypatch.setitem(VERDICTS, "odd one", label)
    VERDICTS.update(others)
    yield
    VERDICTS.clear()
    VERDICTS.update(others)


def test_a_measure_arrives_in_records_json_and_terminal(largest):
    found = diagnose(tables())

    assert [field.largest for field in found.fields] == [7.0, 9.0]
    assert found.summary.largest == 8.0
    assert json.loads(found.to_json())["fields"][1]["largest"] == 9.0
    assert json.loads(found.to_json())["fields"][1]["verdict"]["view"]["largest"] == 9.0
    assert "s1" in terminal(found)
    assert "9.00" in terminal(found)


def test_a_measure_arrives_in_the_monitor(largest):
    seen = observe(EmbeddingSets([20], dim=3), ["only"], step=1)

    assert seen.record()["mean"]["largest"] == seen.fields["only"].largest > 0
    assert "largest/only" in seen.metrics()


def test_a_measure_arrives_in_outcomes_and_results(largest, tmp_path):
    known = {name: 0 for name in Outcome.model_fields if name != "measures"}
    known |= {"run": "r", "information_abundance": 1.5, "centered_information_abundance": 1.0}
    known |= {"normalized_information_abundance": 0.5, "largest": 8.0}

    outcome = Outcome.model_validate(known)
    write_csv(tmp_path / "results.csv", [outcome.model_dump()])

    assert outcome.largest == 8.0
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome
    head, row = (tmp_path / "results.csv").read_text().splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["largest"] == "8.0"


def test_a_measure_arrives_on_the_page(largest, open_page):
    page = open_page(diagnose(tables()).to_html())

    assert "largest" in page.locator("table.fields thead").inner_text()
    assert "largest value, mean over fields" in page.locator("#verdict").inner_text()
    page.locator("#abundance select").first.select_option(label="largest singular value")


def test_a_verdict_arrives_in_the_terminal_and_in_the_headline(odd):
    found = diagnose(tables())

    assert found.fields[1].verdict.finding == "It is odd."
    assert "odd one" in terminal(found)
    assert "1 odd" in found.summary.verdict.headline


def test_a_verdict_arrives_on_the_page(odd, open_page):
    page = open_page(diagnose(tables()).to_html())

    assert "an odd table" in page.locator("#verdict").inner_text()
    assert "Of an odd number." in page.locator("#rules").inner_text()
    assert page.locator(".chip", has_text="odd one").count() == 1


PARTS = {
    "one per field": ({"odd_0.a": (9, 3), "odd_1.b": (5, 3)}, None, [1, 1]),
    "all fields in one": ({"odd_0.x": (14, 3), "odd_1.x": (14, 3)}, {"a": 9, "b": 5}, [2, 2]),
    "one per pair": ({"odd_0.x": (14, 3), "odd_1.x": (14, 3)}, {"a": 9, "b": 5}, [1, 1]),
}
"""By kind of layout: shapes of tensors, sizes of fields, and sets found of each field."""


@pytest.mark.parametrize("kind", PARTS)
def test_a_layout_is_recognised(kind, monkeypatch, tmp_path):
    shapes, sizes, sets = PARTS[kind]
    monkeypatch.setitem(LAYOUTS, "odd", Layout(r"odd_\d\.(?P<field>\w+)", kind))
    tensors = {f"net.{name}": torch.randn(shape) for name, shape in shapes.items()}
    torch.save(tensors, tmp_path / "model.pt")

    found = diagnose(tmp_path / "model.pt", cardinalities=sizes)

    assert found.layout == "odd"
    assert [(f.name, f.cardinality) for f in found.fields] == [("a", 9), ("b", 5)]
    assert [f.sets for f in found.fields] == sets
    assert found.skipped == ()


def test_a_kind_of_file_is_opened_alone_and_in_a_directory(monkeypatch, tmp_path):
    def read(path):
        matrix = torch.tensor(json.loads(path.read_text().removeprefix("lists\n")))
        return Contents(tensors={"emb_l.0.weight": StoredTensor.of(matrix)})

    def is_of_lists(seen):
        return seen.starts(b"lists")

    monkeypatch.setitem(FILE_KINDS, "lists", FileKind(read, (".lists",), is_of_lists))
    (tmp_path / "model.lists").write_text("lists\n[[3.0, 0.0], [0.0, 1.0]]")

    for path in (tmp_path, tmp_path / "model.lists"):
        found = diagnose(path)
        assert (found.layout, found.fields[0].information_abundance) == ("DLRM", 4 / 3)
