"""The one HTML document that every page of this package is: self-contained, works offline."""

import json
from collections.abc import Mapping, Sequence

from jinja2 import Environment
from markupsafe import Markup

_DOCUMENT = Environment(autoescape=True, keep_trailing_newline=True).from_string(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
{{ body }}
{% for id, text in data.items() -%}
<script type="application/json" id="{{ id }}">{{ text }}</script>
{% endfor -%}
{% for script in scripts -%}
<script>{{ script }}</script>
{% endfor -%}
</body>
</html>
"""
)


def html_page(
    *,
    title: str,
    body: str,
    style: str,
    data: Mapping[str, object] | None = None,
    scripts: Sequence[str] = (),
) -> str:
    """Return one HTML document.

    Args:
        title: Plain text of the browser's tab.
        body: HTML, whose parts the caller has escaped.
        style: CSS.
        data: What scripts read, by the id of its element: anything that JSON can hold.
        scripts: JavaScript, run in this order after the body and the data.

    Raises:
        ValueError: If `data` holds a number that JSON has not, such as infinity.
    """
    return _DOCUMENT.render(
        title=title,
        body=Markup(body),
        style=Markup(style),
        data={id_: Markup(_json(value)) for id_, value in (data or {}).items()},
        scripts=[Markup(script) for script in scripts],
    )


def _json(value: object) -> str:
    # A field may be called "</script>": no tag may open inside the data.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
