"""What changed over time as HTML without scripts: a section for a page, or a page of its own."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from multiembed.report.shell import html_page

_SECTION = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<section class="over-time">
<h2>{{ found.headline }}</h2>
{% for line in found.findings %}
<p>{{ line }}</p>
{% endfor %}
<h3>From {{ found.sources[0] }} to {{ found.sources[-1] }}</h3>
<div class="scrolls"><table>
<thead><tr><th>field</th><th>rows compared</th><th>new</th><th>gone</th><th>directions kept</th>
<th>lost</th><th>gained</th><th>turned</th><th>CKA</th><th>after Procrustes</th>
{% if several %}<th>largest step</th><th>by</th><th>p</th>{% endif %}</tr></thead>
<tbody>
{% for field in found.fields %}
{% set turn = field.whole.turn %}
<tr{% if field.alarm %} class="alarm"{% endif %}><th>{{ field.name }}</th><td>{{ field.rows }}</td>
<td>{{ field.whole.new.count }}</td><td>{{ field.whole.gone.count }}</td>
<td>{{ turn.kept }} of {{ turn.before }}</td><td>{{ turn.lost }}</td><td>{{ turn.gained }}</td>
<td>{{ "%.1f°"|format(turn.mean_angle) }}</td><td>{{ "%.3f"|format(turn.cka) }}</td>
<td>{{ "%.1f%%"|format(100 * turn.procrustes) }}</td>
{% if several %}<td>to {{ found.sources[field.largest + 1] }}</td><td>{{ field.kind }}</td>
<td>{{ "%.4f"|format(field.p_value) }}</td>{% endif %}</tr>
{% endfor %}
</tbody></table></div>
{% if several %}
<h3>Step by step: how far the leading directions turned, and how many were lost and gained</h3>
<div class="scrolls"><table class="steps">
<thead><tr><th>field</th>{% for name in found.sources[1:] %}<th>{{ name }}</th>{% endfor %}</tr>
</thead><tbody>
{% for field in found.fields %}
<tr><th>{{ field.name }}</th>{% for step in field.steps %}
<td style="background:rgba(200,60,40,{{ "%.2f"|format(0.7 * step.turn.mean_angle / 90) }})"
{% if field.alarm and loop.index0 == field.largest %} class="alarm"{% endif %}>
{{- "%.0f°"|format(step.turn.mean_angle) }}
{%- if step.turn.lost %} &minus;{{ step.turn.lost }}{% endif %}
{%- if step.turn.gained %} +{{ step.turn.gained }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<h3>Centred information abundance at every checkpoint</h3>
<div class="scrolls"><table>
<thead><tr><th>field</th>{% for name in found.sources %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for field in found.fields %}
<tr><th>{{ field.name }}</th>{% for value in field.abundance %}
<td>{{ "%.2f"|format(value) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% for field in found.fields if field.shift %}
<h3>{{ field.name }}: what was lost and gained at the step to
{{ found.sources[field.largest + 1] }}</h3>
<p>{{ field.shift.before }} directions last before it, {{ field.shift.after }} after it,
{{ field.shift.kept }} in both.</p>
<ul>
{% for what, directions in (("lost", field.shift.lost), ("gained", field.shift.gained)) %}
{% for of in directions %}
<li>{{ what }}: {{ "%.1f%%"|format(100 * of.energy) }} of the energy;
{{ "%.0f%%"|format(100 * of.share) }} of it in the rows {{ of.rows|join(", ") }}</li>
{% endfor %}
{% endfor %}
</ul>
{% endfor %}
{% if new %}
<h3>Rows that are new</h3>
<ul>
{% for name, changes in new %}
<li>{{ name }}: {% for source, change in changes %}
{{ source }} {{ change.count }} ({{ change.rows[:10]|join(", ") }}
{%- if change.rows|length > 10 %}, …{% endif %}){{ "" if loop.last else ", " }}
{% endfor %}</li>
{% endfor %}
</ul>
{% endif %}
{% if found.apart %}<p>Not in every checkpoint: {{ found.apart|join(", ") }}.</p>{% endif %}
<p class="note">Rows are matched by what they stand for, or by their number, and compared as
patterns, which no rotation or scaling of a table changes. Leading directions hold 99% of the
energy; one is kept where its principal angle is below 45°. multiembed {{ found.version }},
{{ found.date }}.</p>
</section>
"""
)
_STYLE = """
.over-time .scrolls { overflow-x: auto; }
.over-time table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.over-time th, .over-time td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
.over-time th:first-child { text-align: left; }
.over-time tr.alarm > *, .over-time td.alarm { font-weight: 700; }
.over-time td.alarm { outline: 2px solid currentColor; outline-offset: -2px; }
"""


def drift_section(found: Mapping[str, Any]) -> str:
    """Return a fragment of HTML of one comparison, given as `DriftDiagnosis.to_dict` writes it."""
    new = []
    for field in found["fields"]:
        steps = zip(found["sources"][1:], field["steps"], strict=True)
        changes = [(source, step["new"]) for source, step in steps if step["new"]["count"]]
        new += [(field["name"], changes)] if changes else []
    return _SECTION.render(found=found, several=len(found["sources"]) > 2, new=new)


def drift_page(found: Mapping[str, Any]) -> str:
    """Return one self-contained page of one comparison, given as `to_dict` writes it."""
    title = f"Embeddings from {found['sources'][0]} to {found['sources'][-1]}"
    heading = Environment(autoescape=True).from_string("<header><h1>{{ title }}</h1></header>")
    body = f"{heading.render(title=title)}<main>{drift_section(found)}</main>"
    return html_page(title=title, body=body, style=_STYLE, scripted=False)
