"""The map of every file in CONTRIBUTING.md, taken from the modules' first lines.

python tests/file_map.py --write
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "multiembed"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- file map: python tests/file_map.py --write -->", "<!-- end of file map -->"


def file_map() -> str:
    """Every file of the source below its room, with the first line of its docstring."""
    lines = []
    folders = [SOURCE, *sorted(p for p in SOURCE.rglob("*") if (p / "__init__.py").is_file())]
    for folder in folders:
        title = folder.relative_to(SOURCE.parent).as_posix()
        lines += ["", f"**`{title}/`** {first_line(folder / '__init__.py')}", ""]
        files = [p for p in sorted(folder.glob("*.py")) if p.name != "__init__.py"]
        lines += [f"- `{path.name}`: {first_line(path)}" for path in files]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def parts() -> tuple[str, str, str]:
    """What CONTRIBUTING.md has before the map, the map in it, and what comes after."""
    before, _, rest = CONTRIBUTING.read_text(encoding="utf-8").partition(f"{BEGIN}\n\n")
    written, _, after = rest.partition(f"\n\n{END}")
    return before, written, after


if __name__ == "__main__" and "--write" in sys.argv:
    before, _, after = parts()
    text = f"{before}{BEGIN}\n\n{file_map()}\n\n{END}{after}"
    CONTRIBUTING.write_text(text, encoding="utf-8")
