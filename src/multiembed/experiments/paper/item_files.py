"""What an item found, in files: CSV, PNG, SVG, and one page for all items."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from multiembed.experiments.analysis.plots import draw
from multiembed.experiments.grid.results import write_csv
from multiembed.experiments.paper.study import Analysis
from multiembed.runs.directory import write_whole

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The paper, reproduced</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid #ddd; }}
img {{ max-width: 100%; }}
</style>
</head>
<body>
<h1>Embedding collapse (Guo et al., ICML 2024), reproduced on {dataset}</h1>
{body}
</body>
</html>
"""


def write_analysis(name: str, found: Analysis, folder: Path) -> list[Path]:
    """Write the data of an item as CSV and its panels as PNG and SVG; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, rows in found.data.items():
        path = folder / f"{name}_{kind}.csv"
        write_csv(path, [dict(row) for row in rows])
        written.append(path)
    return [*written, *(draw(found.panels, folder, name) if found.panels else [])]


def write_page(folder: Path, found: Mapping[str, tuple[str, Analysis]], *, dataset: str) -> Path:
    """Write one page of all items; it refers to the pictures beside it."""
    body = "\n".join(_section(name, title, one) for name, (title, one) in found.items())
    text = _PAGE.format(dataset=escape(dataset), body=body)
    path = folder / "index.html"
    write_whole(path, lambda to: to.write_text(text, encoding="utf-8"))
    return path


def _section(name: str, title: str, found: Analysis) -> str:
    said = "".join(f"<p>{escape(finding)}</p>" for finding in found.findings)
    data = ", ".join(f'<a href="{name}_{kind}.csv">{escape(kind)}</a>' for kind in found.data)
    picture = f'<p><img src="{name}.svg" alt="{escape(title)}"></p>' if found.panels else ""
    tables = "".join(map(_table, found.tables))
    heading = f"<h2>{name}: {escape(title)}</h2>"
    return f"{heading}{picture}{tables}{said}<p>Data: {data}</p>"


def _table(lines: Sequence[Mapping[str, str]]) -> str:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(line.get(column, ''))}</td>" for column in columns) + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
