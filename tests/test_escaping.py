"""Names from files are text on every page, card and in every notebook: none becomes markup."""

from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt

import multiembed as me
from multiembed import diagnose
from multiembed.base.markdown import code, code_cell, plain_text
from multiembed.serving.card import write_card
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

NAMES = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)",
    "</title></style><b>bold</b>",
    "<!-- comment",
    "]]><svg onload=alert(1)>",
    "&lt;b&gt;{{ 7 * 7 }}{% raw %}",
    "`|` | ``` [a](javascript:alert(1)) ![b](http://x/y.png) <i>",
    "\\<b>*bold* __bold__ ~~gone~~ # heading",
    "a\n\n# heading\n| x | y |\n\n<b>",
]


class Elements(HTMLParser):
    """Counts the elements of a page with the names of their attributes."""

    def __init__(self):
        super().__init__()
        self.found = {}

    def handle_starttag(self, tag, attrs):
        what = (tag, *sorted({name for name, _ in attrs}))
        self.found[what] = self.found.get(what, 0) + 1


def elements(html):
    parser = Elements()
    parser.feed(html)
    return parser.found


def tables(names):
    random = np.random.default_rng(0)
    return {f"{name}": random.normal(size=(40, 4)) for name in names}


def plain(names):
    """Return as many harmless names, as long as these."""
    return [f"{at:02d}".ljust(len(name), "x") for at, name in enumerate(names)]


@pytest.mark.parametrize("show", [me.Diagnosis.to_html, me.Diagnosis._repr_html_])
def test_a_page_has_the_same_elements_whatever_fields_are_called(show):
    strange = elements(show(diagnose(tables(NAMES))))

    harmless = elements(show(diagnose(tables(plain(NAMES)))))

    assert strange.keys() == harmless.keys()
    assert {of: n for of, n in strange.items() if of[0] in ("script", "img", "style", "title")} == {
        of: n for of, n in harmless.items() if of[0] in ("script", "img", "style", "title")
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_markdown_is_text(name):
    text = f"# {plain_text(name)}\n\nof {code(name)}\n\n| a | b |\n| --- | --- |\n"
    text += f"| {code_cell(name)} | {plain_text(name)} |\n\n- {plain_text(name)}\n"
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)

    assert set(elements(html)) == {
        *((tag,) for tag in ("h1", "p", "code", "table", "thead", "tbody", "tr", "th", "td")),
        *((tag,) for tag in ("ul", "li")),
    }


def test_a_card_has_no_element_of_a_name(tmp_path):
    name = "<b>`*(b) "
    write_planted(
        tmp_path / f"{name}clicks", PlantedClicks(cardinalities=(9, 4), ranks=2, rows=400)
    )
    model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
    config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=1, threads=1))
    run = me.train(config, dataset=tmp_path / f"{name}clicks", run=tmp_path / f"{name}run")

    text = write_card(run).read_text(encoding="utf-8")

    found = {tag for tag, *_ in elements(MarkdownIt("commonmark").enable("table").render(text))}
    known = "h1 h2 p code ul li pre table thead tbody tr th td"
    assert found <= set(known.split())
    assert name in text
