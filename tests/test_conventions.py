"""Rules of the house that a machine can check: who imports whom, and how big things may be."""

import ast
from pathlib import Path

import pytest

import multiembed

SOURCE = Path(__file__).resolve().parents[1] / "src" / "multiembed"
MODULES = sorted(SOURCE.rglob("*.py"))

MAY_IMPORT = {
    "base": set(),
    "data": {"base"},
    "kernels": {"base", "models", "tables"},
    "models": {"base", "kernels"},
    "tables": {"base", "kernels", "models"},
    "config": {"base", "models"},
    "spectra": {"base"},
    "runs": {"base", "config", "data", "models", "spectra"},
    "report": {"base"},
    "diagnosis": {"base", "report", "runs", "spectra"},
    "training": {"base", "config", "data", "models", "runs", "spectra", "tables"},
    "serving": {"base", "config", "data", "diagnosis", "models", "runs", "spectra", "training"},
    "overrides": {"base", "config"},
    "experiments": {
        "base",
        "config",
        "data",
        "diagnosis",
        "models",
        "report",
        "runs",
        "spectra",
        "training",
    },
    "cluster": {"base", "experiments", "training"},
}
"""Data walks downwards through this list; a room imports only what is named here."""

TOP = {"__init__", "__main__", "cli"}
"""The public names and the command line see everything."""


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.Module):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    own = room(path)
    ours = {name for name in imports(parsed(path)) if name.startswith("multiembed.")}
    rooms = {name.split(".")[1] for name in ours}

    assert own in {"__main__", "cli"} or "cli" not in rooms
    if own not in TOP:
        assert rooms - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_fit_their_budgets(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 350
    for function in functions(parsed(path)):
        if room(path) == "cli":
            continue  # a command's parameters are its options, one line each
        parameters = function.args.args + function.args.kwonlyargs
        named = [p for p in parameters if p.arg not in ("self", "cls")]
        assert function.end_lineno - function.lineno < 60, function.name
        assert len(named) <= 8, function.name
        if function.name != "set_params":  # scikit-learn says what that one takes
            assert function.args.kwarg is None, f"{function.name} takes **{function.args.kwarg}"


def test_only_the_command_line_prints():
    printing = {
        str(path.relative_to(SOURCE))
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }

    assert all(path.startswith("cli/") for path in printing)


def test_no_room_knows_of_other_processes():
    for path in MODULES:
        if room(path) != "cluster":
            known = imports(parsed(path))
            assert not any(n.startswith(("ray", "torchrec", "torch.distributed")) for n in known)


def test_every_public_name_has_one_home_and_loads_from_it():
    homes = [name for names in multiembed.HOMES.values() for name in names]

    assert sorted(homes) == sorted(multiembed.__all__)
    for name in homes:
        assert getattr(multiembed, name).__module__.startswith("multiembed.")
        assert name in dir(multiembed)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = multiembed.nothing
