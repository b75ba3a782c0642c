"""Reports: the page in a real browser, the table in a terminal of 80 columns."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from multiembed import diagnose
from multiembed.diagnosis.page import comparison_page
from multiembed.diagnosis.terminal import terminal_table
from multiembed.runs.metrics import Reliability

REPORT = Path(__file__).resolve().parents[1] / "src/multiembed/report"


def table(rows, dim, *, decay=1.0, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, dim)) * decay ** np.arange(dim) + offset


def diagnosis(fields=6, dim=8, *, seed=0):
    kinds = [{}, {"decay": 0.3}, {"offset": 2.0}]
    names = [f"C{i}" for i in range(fields)]
    sizes = np.geomspace(4, 300, fields).astype(int)
    return diagnose(
        {
            n: table(r, dim, seed=seed + i, **kinds[i % 3])
            for i, (n, r) in enumerate(zip(names, sizes, strict=True))
        }
    )


def crossed_model(folder, *, fields=5, sets=2):
    """Diagnose a checkpoint of the paper's layout: cross layers, and several sets."""
    rows = [130 + i for i in range(fields)]  # large enough for closed-form nulls
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for m in range(sets):
        shape = (sum(rows), 4)
        weights[f"embeddings.{m}.embedding.weight"] = torch.randn(shape, generator=generator)
        side = 4 * fields
        weights[f"cns.{m}.0.W.0"] = torch.randn(side, side, generator=generator)
    torch.save(weights, folder / "model.pt")
    return diagnose(folder / "model.pt", cardinalities=rows)


FIELDS = diagnosis(12)


@pytest.fixture(scope="module")
def shown(open_page):
    """One page for all tests that only look and click."""
    return open_page(FIELDS.to_html())


def cells(page, column):
    """Return one column of the fields' table as text."""
    heads = page.locator("table.fields th").all_inner_texts()
    place = [head.replace("\n", " ").strip() for head in heads].index(column) + 1
    return page.locator(f"table.fields tr.field td:nth-child({place})").all_inner_texts()


def see(page, selector):
    """Scroll to a chart, which draws it, and return it."""
    page.locator(selector).first.scroll_into_view_if_needed()
    drawn = page.locator(f"{selector}.js-plotly-plot").first
    drawn.wait_for()
    return drawn


def sort_by(page, column):
    page.locator("table.fields th button", has_text=re.compile(f"^{column}$")).click()


def test_a_page_shows_its_verdict_first_and_every_field(shown):
    assert shown.locator("h2").first.inner_text() == "Verdict"
    assert shown.locator(".headline").inner_text() == FIELDS.summary.verdict.headline
    assert sorted(cells(shown, "field")) == sorted(f.name for f in FIELDS.fields)


def test_the_table_sorts_by_every_heading_both_ways(shown):
    sort_by(shown, "rows")
    rising = [int(text.replace(",", "")) for text in cells(shown, "rows")]
    sort_by(shown, "rows")
    falling = [int(text.replace(",", "")) for text in cells(shown, "rows")]

    assert rising == sorted(f.cardinality for f in FIELDS.fields)
    assert falling == rising[::-1]
    sort_by(shown, "field")
    assert cells(shown, "field") == [f"C{i}" for i in range(12)]  # C2 before C10
    assert shown.locator("th[aria-sort=ascending]").inner_text().strip() == "field"


def test_the_table_finds_fields_and_verdicts(shown):
    shown.locator("input[type=search]").fill("low rank")
    found = cells(shown, "field")
    shown.locator("input[type=search]").fill("")

    low = [f.name for f in FIELDS.fields if f.verdict.label == "low rank"]
    assert sorted(found) == sorted(low)
    assert len(cells(shown, "field")) == 12


def test_a_row_opens_on_its_finding_and_marks_its_spectrum(shown):
    widths = "document.querySelector('#spectra .chart').data.map((t) => t.line.width)"

    shown.locator("tr.field", has_text="C3").click()

    finding = next(f for f in FIELDS.fields if f.name == "C3").verdict.finding
    assert finding in shown.locator("tr.detail").inner_text()
    assert max(shown.evaluate(widths)) > 3
    shown.locator("tr.field", has_text="C3").click()
    assert shown.locator("tr.detail").count() == 0
    assert max(shown.evaluate(widths)) < 3


def test_hovering_a_spectrum_names_its_field(shown):
    see(shown, "#spectra .chart")

    shown.locator("#spectra .chart .points path").nth(3).hover(force=True)

    text = shown.locator("#spectra .hoverlayer .hovertext").first.text_content(timeout=5000)
    assert re.search(r"C\d.*of the largest", text)


def test_heatmaps_hover_and_change_their_order(open_page, tmp_path):
    found = crossed_model(tmp_path)
    page = open_page(found.to_html())
    z = "document.querySelector('#interaction .chart').data[0].z"
    see(page, "#interaction .chart")
    by_abundance = np.array(page.evaluate(z))

    page.locator("#interaction select").last.select_option(label="place in the model")

    expected = found.subembeddings.layers[0].abundance
    np.testing.assert_allclose(np.array(page.evaluate(z)), expected, rtol=1e-3)
    order = np.argsort([f.information_abundance for f in found.fields])
    np.testing.assert_allclose(by_abundance, expected[np.ix_(order, order)], rtol=1e-3)
    box = see(page, "#interaction .chart").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.6)
    page.mouse.move(box["x"] + box["width"] * 0.41, box["y"] + box["height"] * 0.6)
    hovered = page.locator("#interaction .hoverlayer .hovertext").first
    assert "carried into" in hovered.text_content(timeout=5000)
    assert page.locator("#diversity").count() == 1


def test_models_stand_side_by_side(open_page, tmp_path):
    models = {"small": FIELDS, "crossed": crossed_model(tmp_path)}
    rows = [
        {"model": "small", "parameters": 12345, "test_auc": 0.712341, "abundance": 3.14159},
        {"model": "crossed", "parameters": 67890, "test_auc": None, "abundance": 2.0},
    ]
    found = {name: diagnosis.to_dict() for name, diagnosis in models.items()}
    page = open_page(comparison_page(found, rows, title="Two models"))

    assert page.locator("h1").inner_text() == "Two models"
    results = page.locator("table.results").inner_text()
    assert all(text in results for text in ("test AUC", "12,345", "0.71234", "3.14"))
    assert page.locator("#compared-interaction h3").first.inner_text() == "crossed"
    page.locator("#one select").select_option(label="crossed")
    headline = models["crossed"].summary.verdict.headline
    assert page.locator(".headline").inner_text() == headline


def test_two_hundred_fields_stay_usable(open_page, tmp_path):
    found = crossed_model(tmp_path, fields=200, sets=1)
    html = found.to_html()
    page = open_page(html)

    sort_by(page, "abundance")
    see(page, "#interaction .chart")

    assert len(cells(page, "field")) == 200
    tallest = page.evaluate("document.documentElement.scrollHeight")
    assert tallest < 7000  # the table scrolls by itself
    assert len(html) < 9e6


CURVE = [(200, 0.01, 0.02), (200, 0.04, 0.03), (199, 0.12, 0.15), (201, 0.4, 0.38)]


def calibrated(bins):
    """Diagnose tables that come with the curve of a model."""
    error = sum(n * abs(p - y) for n, p, y in bins) / sum(n for n, _, _ in bins)
    named = tuple({"rows": n, "predicted": p, "observed": y} for n, p, y in bins)
    content = {"split": "valid", "expected_calibration_error": error, "bins": named}
    return replace(FIELDS, reliability=Reliability.model_validate(content))


def test_a_curve_of_reliability_is_drawn_beside_its_diagonal(open_page):
    found = calibrated(CURVE)
    page = open_page(found.to_html(), width=390)
    drawn = "document.querySelector('#calibration .chart')"
    see(page, "#calibration .chart")

    page.locator("#calibration .points path").nth(2).hover(force=True)

    text = page.locator("#calibration .hoverlayer .hovertext").first.text_content(timeout=5000)
    assert "predicted 12%" in text and "positive 15%" in text and "199 rows" in text
    diagonal, curve = page.evaluate(f"{drawn}.data.map((t) => [t.x, t.y, t.line.dash || ''])")
    assert diagonal[0] == diagonal[1] and diagonal[2] == "dash"
    assert diagonal[0][0] <= 0.01 and diagonal[0][1] >= 0.4
    assert curve[:2] == [[p for _, p, _ in CURVE], [y for _, _, y in CURVE]]
    assert page.evaluate(f"{drawn}.layout.xaxis.type") == "log"
    assert page.locator("#calibration p").first.inner_text() == (
        "Predicted probabilities are off by 1.7 percentage points on average, "
        "where 15% of the rows are positive."
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    "bins", [[(9, 0.0, 0.0)], [(9, 1.0, 1.0)], [(9, 0.0, 0.0), (9, 0.3, 0.5)], [(5, 1e-9, 1e-9)]]
)
def test_a_curve_of_any_range_lies_inside_its_axes(open_page, bins):
    page = open_page(calibrated(bins).to_html())
    axes = "(({xaxis, yaxis}) => [...xaxis.range, ...yaxis.range])"
    see(page, "#calibration .chart")

    ranges = page.evaluate(f"{axes}(document.querySelector('#calibration .chart')._fullLayout)")

    low, high = ranges[:2]
    assert ranges[2:] == [low, high]
    assert all(low <= value <= high for _, p, y in bins for value in (p, y))


def test_no_curve_no_section(shown):
    assert shown.locator("#calibration").count() == 0


def test_a_phone_needs_no_scrolling_sideways(open_page, tmp_path):
    page = open_page(crossed_model(tmp_path).to_html(), width=390)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_names_cannot_become_markup(open_page):
    name = "</script><img src=x onerror=alert(1)><b>&"
    page = open_page(diagnose({name: table(50, 4), "b": table(60, 4)}).to_html())

    assert name in cells(page, "field")
    assert page.locator("img").count() == 0


def test_a_page_fetches_nothing_and_holds_its_data():
    html = FIELDS.to_html()

    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?https?:", html)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    fields = json.loads(data[1])["models"][0]["fields"]
    assert [f["name"] for f in fields] == [f.name for f in FIELDS.fields]
    assert fields[0]["information_abundance"] == pytest.approx(
        FIELDS.fields[0].information_abundance, rel=1e-3
    )


def test_the_terminal_table_fits_eighty_columns(tmp_path):
    tables = {
        "a_field_with_a_very_long_name_indeed": table(1_234_567, 2, decay=0.2),
        "untrained": table(99_999, 2, seed=1),
        "tiny": table(1, 2),
    }
    counts = {name: np.arange(len(matrix)) % 4 // 3 for name, matrix in tables.items()}
    console = Console(file=io.StringIO(), width=80)

    console.print(terminal_table(diagnose(tables, counts=counts)))

    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    [row] = [line for line in lines if line.startswith("untrained ")]
    assert "untrained rows" in row and "100k" in row and "25%" in row
    headings = next(line for line in lines if line.startswith("field"))
    assert headings.split() == [
        "field",
        "verdict",
        "rows",
        "trained",
        "dim",
        "abund.",
        "centred",
        "/random",
        "K99",
    ]


def test_the_terminal_says_what_was_not_measured(tmp_path):
    weights = {"a.weight": table(50, 4), "head.bias": np.zeros(3), "b.bias": np.ones(4)}
    weights |= {"steps": np.arange(2)}
    np.savez(tmp_path / "model.npz", **weights)
    console = Console(file=io.StringIO(), width=200)

    console.print(terminal_table(diagnose(tmp_path / "model.npz")))

    [line] = [s for s in console.file.getvalue().splitlines() if s.startswith("Not measured")]
    assert line.split(": ")[1].split("; ") == [
        "2 tensors, not a matrix (head.bias, b.bias)",
        "1 tensor, not floating point (steps).",
    ]


def test_the_terminal_does_not_speak_of_what_is_not_there(tmp_path):
    found = crossed_model(tmp_path)
    console = Console(file=io.StringIO(), width=80)

    console.print(terminal_table(found))

    text = console.file.getvalue()
    assert found.summary.verdict.headline.split(".")[0] in text
    assert "Not measured" not in text  # everything was
    assert "2x4" in text


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("script", sorted(REPORT.glob("*.js")), ids=lambda path: path.name)
def test_scripts_are_javascript(script):
    """The browser, where there is one, runs them; node at least reads them."""
    read = subprocess.run(["node", "--check", script], capture_output=True, text=True)

    assert read.returncode == 0, read.stderr
    assert script.read_text(encoding="utf-8").startswith('"use strict";\n')
