"""Measures of the code itself: how big, how repetitive, how scattered. Standard library only.

    python benchmarks/measure_house.py src > results/house_DATE.md
    python benchmarks/measure_house.py old=/path/to/old/src new=src

Counts Python files with the syntax tree, not by running them. JavaScript and CSS are counted only
as files and lines of their own row.
"""

import argparse
import ast
import io
import re
import statistics
import tokenize
from collections import Counter, defaultdict
from pathlib import Path

WINDOW = 6
"""Lines that must occur twice in a row to count as a copy."""

EXAMPLES = {
    "an architecture": "ipnn",
    "a measure": "normalized_information_abundance",
    "a raw format": "avazu",
    "an output format": ".jsonl",
    "a table optimizer": "lazy_adam",
    "a tracker": "mlflow",
    "a checkpoint layout": "torch-rechub",
    "a verdict label": "low rank",
    "a paper item": "table3",
}
"""One that exists of every kind of thing that can be added, as it is named in the code."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class House:
    """Every Python file below a folder, read and parsed once."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.rglob("*.py"))
        if not self.paths:
            raise SystemExit(f"{folder} must hold Python files, got none")
        self.texts = {path: path.read_text(encoding="utf-8") for path in self.paths}
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}
        self.pages = [p for p in sorted(folder.rglob("*")) if p.suffix in (".js", ".css", ".html")]

    def functions(self):
        """All functions and methods."""
        for tree in self.trees.values():
            yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def sizes(house: House) -> dict[str, str]:
    lengths = {path: len(text.splitlines()) for path, text in house.texts.items()}
    longest = max(lengths, key=lambda path: lengths[path])
    functions = sorted(node.end_lineno - node.lineno + 1 for node in house.functions())
    pages = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in house.pages)
    packages = sum(path.name == "__init__.py" for path in house.paths)
    return {
        "Python files, of them `__init__`": f"{len(lengths)}, {packages}",
        "lines of Python": f"{sum(lengths.values()):,}",
        "lines of JavaScript, CSS and HTML": f"{pages:,}",
        "median lines of a file (without `__init__`)": str(
            round(statistics.median(n for p, n in lengths.items() if p.name != "__init__.py"))
        ),
        "longest file": f"{lengths[longest]} (`{longest.name}`)",
        "functions": f"{len(functions):,}",
        "function's length: median, 90th percentile, longest": ", ".join(
            str(functions[min(int(len(functions) * share), len(functions) - 1)])
            for share in (0.5, 0.9, 1)
        ),
    }


def code_lines(text: str, tree: ast.Module) -> list[str]:
    """Lines that compute: neither imports, comments, docstrings nor blank, without indentation."""
    dropped = set()
    for node in ast.walk(tree):
        said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom) or (said and is_text(node.value)):
            dropped |= set(range(node.lineno, node.end_lineno + 1))
    numbered = enumerate(text.splitlines(), start=1)
    kept = [line.strip() for number, line in numbered if number not in dropped]
    return [line for line in kept if line and not line.startswith("#")]


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def duplicates(house: House) -> dict[str, str]:
    """The share of code lines that stand in a window that occurs more than once."""
    files = {path: code_lines(house.texts[path], tree) for path, tree in house.trees.items()}
    places = defaultdict(list)
    for path, lines in files.items():
        for start in range(len(lines) - WINDOW + 1):
            places[tuple(lines[start : start + WINDOW])].append((path, start))
    copied = {
        (path, start + offset)
        for found in places.values()
        if len(found) > 1
        for path, start in found
        for offset in range(WINDOW)
    }
    total = sum(map(len, files.values()))
    return {
        "lines of code (no imports, comments, docstrings, blanks)": f"{total:,}",
        f"of them in {WINDOW}-line windows that occur twice": f"{100 * len(copied) / total:.2f}%",
    }


def names(house: House) -> dict[str, str]:
    bases = Counter(path.name for path in house.paths if path.name not in ("__init__.py",))
    twice = sorted(name.removesuffix(".py") for name, count in bases.items() if count > 1)
    homes = defaultdict(set)
    for path, tree in house.trees.items():
        for name in public_names(tree):
            homes[name].add(path)
    shared = {name: len(found) for name, found in homes.items() if len(found) > 1}
    worst = sorted(shared, key=lambda name: (-shared[name], name))[:5]
    return {
        "base names that occur twice": listed(len(twice), twice[:8]),
        "public names defined in several modules": listed(
            len(shared), [f"{name} {shared[name]}" for name in worst]
        ),
    }


def public_names(tree: ast.Module) -> set[str]:
    """Classes, functions and assigned names at the top of a module, without an underscore."""
    found = set()
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def listed(count: int, some: list[str]) -> str:
    more = ", …" if count > len(some) else ""
    return f"{count} ({', '.join(some)}{more})" if some else str(count)


def words(house: House) -> dict[str, str]:
    comments = sum(
        token.type == tokenize.COMMENT
        for text in house.texts.values()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )
    code = sum(len(code_lines(house.texts[p], tree)) for p, tree in house.trees.items())
    public = [n for n in house.functions() if not n.name.startswith("_") and parameters(n)]
    told = sum("Args:" in (ast.get_docstring(node) or "") for node in public)
    examples = sum(
        ">>> " in (ast.get_docstring(node) or "")
        for tree in house.trees.values()
        for node in ast.walk(tree)
        if isinstance(node, Function | ast.ClassDef | ast.Module)
    )
    return {
        "comments in 100 lines of code": f"{100 * comments / code:.1f}",
        "public functions with parameters, of them with `Args:`": f"{len(public)}, {told}",
        "docstrings with an example": str(examples),
    }


def parameters(node: Function) -> list[str]:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [p.arg for p in every if p.arg not in ("self", "cls")]


def places(house: House) -> dict[str, str]:
    """In how many files, and how often, one existing thing of every kind is named."""
    found = {}
    for kind, example in EXAMPLES.items():
        said = {path: mentions(tree, example) for path, tree in house.trees.items()}
        for page in house.pages:
            said[page] = len(re.findall(bounded(example), page.read_text(encoding="utf-8")))
        files = sum(count > 0 for count in said.values())
        found[f"{kind} (`{example}`)"] = f"{files} files, {sum(said.values())} places"
    return found


def mentions(tree: ast.Module, name: str) -> int:
    """Count a name among identifiers, imports and strings; what docstrings say is not counted."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and node.value
    }
    pattern = re.compile(bounded(name), re.IGNORECASE)
    count = 0
    for node in ast.walk(tree):
        if is_text(node) and id(node) not in documentation:
            count += len(pattern.findall(node.value))
        else:
            count += sum(len(pattern.findall(text)) for text in identifiers(node))
    return count


def identifiers(node: ast.AST) -> list[str]:
    """Names that a node itself writes, without those of its children."""
    fields = ("id", "attr", "name", "asname", "arg", "module")
    return [text for field in fields if isinstance(text := getattr(node, field, None), str)]


def bounded(name: str) -> str:
    return rf"(?<![a-z0-9_]){re.escape(name)}(?![a-z0-9_])"


def measure(folder: Path) -> dict[str, str]:
    house = House(folder)
    parts = (sizes, duplicates, names, words, places)
    return {label: value for part in parts for label, value in part(house).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="[NAME=]FOLDER", help="what to measure")
    columns = {}
    for source in parser.parse_args().sources:
        name, _, folder = source.rpartition("=")
        columns[name or folder] = measure(Path(folder))
    print(f"| measure | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for label in next(iter(columns.values())):
        print(f"| {label} | {' | '.join(column[label] for column in columns.values())} |")


if __name__ == "__main__":
    main()
