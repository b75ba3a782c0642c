"""Rules of the house that a machine can check: who imports whom, and how big things may be."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from file_map import file_map, first_line, parts

import multiembed

SOURCE = Path(__file__).resolve().parents[1] / "src" / "multiembed"
MODULES = sorted(SOURCE.rglob("*.py"))

MAY_IMPORT = {
    "base": set(),
    "data": {"base"},
    "kernels": {"base"},
    "models": {"base", "kernels"},
    "tables": {"base", "kernels", "models"},
    "config": {"base", "kernels", "models", "tables"},
    "spectra": {"base"},
    "runs": {"base", "config", "data", "kernels", "models", "spectra"},
    "report": {"base"},
    "diagnosis": {"base", "config", "data", "models", "report", "runs", "spectra"},
    "testing": {"base", "data", "diagnosis", "models"},
    "training": {"base", "config", "data", "kernels", "models", "runs", "spectra", "tables"},
    "serving": {"base", "config", "data", "diagnosis", "models", "runs", "spectra", "training"},
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

UNIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios"}
"""Modules that other systems lack: nobody imports them at the top of a file."""


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


def named(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def at_the_top(tree: ast.Module) -> set[str]:
    """What a module defines at its top, without an underscore: imports are not definitions."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def in_several(homes: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: found for name, found in sorted(homes.items()) if len(found) > 1}


def test_no_base_name_occurs_twice():
    homes = defaultdict(list)
    for path in MODULES:
        if path.name != "__init__.py":
            homes[path.name].append(named(path))

    assert in_several(homes) == {}


def test_a_public_name_is_defined_in_one_module():
    homes = defaultdict(list)
    for path in MODULES:
        for name in at_the_top(parsed(path)):
            homes[name].append(named(path))

    assert in_several(homes) == {}


def test_packages_hold_a_docstring_and_nothing_else():
    packages = [p for p in MODULES if p.name == "__init__.py" and p.parent != SOURCE]
    full = [named(p) for p in packages if len(parsed(p).body) != 1 or not documented(p)]

    assert full == []


def test_every_module_begins_with_a_short_phrase():
    wrong = [named(p) for p in MODULES if not documented(p) or len(first_line(p)) > 97]

    assert wrong == []


def test_the_map_names_every_file_in_the_words_of_its_docstring():
    assert parts()[1].splitlines() == file_map().splitlines()


def documented(path: Path) -> bool:
    return ast.get_docstring(parsed(path)) is not None


def test_files_are_renamed_and_locked_in_one_place():
    """What only some systems have, and what must not be forgotten beside a rename: fsync."""
    forbidden = {"os.replace", "os.rename", "os.renames", "shutil.move"}
    offenders = []
    for path in MODULES:
        if named(path) in ("base/files.py", "base/workplaces.py"):
            continue
        tree = parsed(path)
        offenders += [
            f"{named(path)}:{node.lineno} {ast.unparse(node.func)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and (ast.unparse(node.func) in forbidden or renames_a_path(node))
        ]
        offenders += [f"{named(path)} imports {name}" for name in at_import(tree) & UNIX_ONLY]
        offenders += [f"{named(path)} imports fcntl" for name in imports(tree) if name == "fcntl"]

    assert offenders == []


def renames_a_path(call: ast.Call) -> bool:
    """Tell `path.rename(target)` from a frame's, which takes a mapping, or a column's new `name`.

    A string's `replace` takes two arguments.
    """
    if not isinstance(call.func, ast.Attribute) or len(call.args) != 1 or call.keywords:
        return False
    new = call.args[0]
    a_column = isinstance(new, ast.Dict | ast.DictComp) or ast.unparse(new).startswith("dict(")
    a_column = a_column or ast.unparse(new) == "name"
    return call.func.attr in ("rename", "replace") and not a_column


def at_import(tree: ast.Module) -> set[str]:
    """Modules that are loaded with this one: those named outside functions."""
    lazy = {id(inner) for function in functions(tree) for inner in ast.walk(function)}
    eager = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in lazy
    ]
    return {name.split(".")[0] for name in imports(ast.Module(eager, []))}


def test_pages_fit_their_columns():
    wide = [
        f"{named(path)}:{number}"
        for path in sorted(SOURCE.rglob("*.js"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > 100
    ]

    assert wide == []


def test_rooms_are_those_of_the_list():
    assert {room(path) for path in MODULES} - TOP == set(MAY_IMPORT)


def test_the_list_goes_one_way():
    """No room imports one below it, so that there is no circle."""
    order = list(MAY_IMPORT)
    against = [
        (own, seen)
        for own, rooms in MAY_IMPORT.items()
        for seen in rooms
        if order.index(seen) > order.index(own)
    ]

    assert against == []


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
