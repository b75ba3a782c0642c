"""The one HTML document that every page of this package is: self-contained, works offline."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from multiembed.report.plot import STYLE

TEMPLATES = Environment(
    loader=PackageLoader("multiembed.report", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
"""All text that enters a template is escaped, but for HTML that is marked as such."""


def html_page(*, title: str, body: str, style: str = "", scripted: bool = True) -> str:
    """Return one HTML document: everything can be read without scripts, which only add to it.

    Args:
        title: Plain text of the browser's tab.
        body: HTML, whose parts the caller has escaped.
        style: CSS beside `page.css`.
        scripted: Whether the body has anything that `page.js` adds to.
    """
    return TEMPLATES.get_template("document.html").render(
        title=title,
        body=Markup(body),
        style=Markup(_asset("page.css") + STYLE + style),
        script=Markup(_asset("page.js")) if scripted else "",
    )


def variants(
    menus: Sequence[tuple[str, Sequence[str]]], shown: Mapping[tuple[str, ...], str]
) -> str:
    """Return pieces of a page of which menus choose one; the first stays where no script runs.

    Args:
        menus: What each menu is called, and its choices.
        shown: HTML by the choices it belongs to, one of each menu.
    """
    controls = "".join(
        f"<label>{escape(text)}<select>"
        + "".join(f"<option>{escape(choice)}</option>" for choice in choices)
        + "</select></label>"
        for text, choices in menus
    )
    pieces = "".join(
        f'<div data-choice="{escape("|".join(choice))}"{" hidden" if number else ""}>{html}</div>'
        for number, (choice, html) in enumerate(shown.items())
    )
    return f'<div class="variants"><div class="controls">{controls}</div>{pieces}</div>'


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain text as HTML."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _asset(name: str) -> str:
    return files("multiembed.report").joinpath(name).read_text(encoding="utf-8")
