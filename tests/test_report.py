"""Reports: the page in a real browser, the table in a terminal of 80 columns."""

import hashlib
import io
import itertools
import re
import shutil
import subprocess
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from multiembed import diagnose
from multiembed.diagnosis.diagnose import Diagnosis
from multiembed.diagnosis.field_rows import field_columns, field_rows
from multiembed.diagnosis.page import comparison_page
from multiembed.diagnosis.readers.table import Skipped
from multiembed.diagnosis.terminal import terminal_table
from multiembed.runs.metrics import Reliability
from multiembed.spectra.catalogue import MEASURES

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
    heads = page.locator("#fields table.fields th").all_inner_texts()
    place = [head.replace("\n", " ").strip() for head in heads].index(column) + 1
    return page.locator(
        f"#fields table.fields tr.field:visible td:nth-child({place})"
    ).all_inner_texts()


def sort_by(page, column):
    page.locator("#fields table.fields th button", has_text=re.compile(f"^{column}$")).click()


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
    picked = shown.locator("#spectra [data-choice]:not([hidden]) polyline.picked")
    row = shown.locator("tr.field", has_text="C3")
    finding = next(f for f in FIELDS.fields if f.name == "C3").verdict.finding
    assert shown.locator("tr.detail:visible").count() == 0

    row.click()

    assert finding in shown.locator("tr.detail:visible").inner_text()
    assert picked.count() == 2  # its own, and that of a random table of its shape
    assert float(picked.first.evaluate("e => parseFloat(getComputedStyle(e).strokeWidth)")) > 3
    row.click()
    assert shown.locator("tr.detail:visible").count() == picked.count() == 0


def test_pointing_at_a_spectrum_names_its_field(shown):
    mark = shown.locator("#spectra [data-choice]:not([hidden]) use[data-key=C7]").last
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()

    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    assert shown.locator(".tip").inner_text().startswith("C7, ")


def test_spectra_have_the_curve_of_a_random_table_and_a_scale(shown):
    """The largest table, 300 x 8: its curve falls to the root law's edge."""
    chart = shown.locator("#spectra [data-choice]:not([hidden])")
    curves = chart.locator("polyline[stroke-dasharray]:not(.faint)")
    rng = np.random.default_rng(5)
    values = np.linalg.svd(rng.normal(size=(200, 300, 8)), compute_uv=False).mean(axis=0)
    low, high = map(float, chart.locator("svg.plot").get_attribute("data-y").split()[1:])
    height = float(chart.locator("svg.plot").get_attribute("height"))

    points = curves.last.get_attribute("points").split()

    share = 1 - float(points[-1].split(",")[1]) / height
    smallest = 10 ** (np.log10(low) + share * (np.log10(high) - np.log10(low)))
    assert smallest == pytest.approx(values[-1] / values[0], abs=0.02)
    assert "random table of the same shape" in chart.locator(".key").inner_text()
    assert "less their mean" in shown.locator("#spectra select").inner_text()


def test_menus_choose_what_a_chart_shows(shown):
    shown.locator("#abundance select").last.select_option(label="fields in order")

    visible = shown.locator("#abundance [data-choice]:not([hidden])")
    assert visible.count() == 1
    assert "by rising value" in visible.inner_text()
    ranks = shown.evaluate(
        "[...document.querySelectorAll('#abundance [data-choice]:not([hidden]) use')].length"
    )
    assert ranks == 24  # every field and its random table
    shown.locator("#abundance select").last.select_option(label="cardinality")


def pixels(page, selector="#interaction .heatmap"):
    """Return the picture of a heatmap as the browser has it, the first row at the bottom."""
    read = """async (image) => {
        const drawn = new Image();
        drawn.src = image.getAttribute("href");
        await drawn.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [drawn.width, drawn.height];
        const context = canvas.getContext("2d");
        context.drawImage(drawn, 0, 0);
        return [...context.getImageData(0, 0, drawn.width, drawn.height).data];
    }"""
    flat = np.array(page.locator(f"{selector} image").first.evaluate(read))
    side = int(np.sqrt(len(flat) / 4))
    return flat.reshape(side, side, 4)[::-1, :, :3].astype(int)


def test_heatmaps_show_their_values_in_any_order(open_page, tmp_path, monkeypatch):
    """Cividis grows lighter with the value, so that sums of colours sort as values do."""
    monkeypatch.setattr("multiembed.report.heatmap.PACKED_FROM", 2)  # as of hundreds of fields
    found = crossed_model(tmp_path)
    page = open_page(found.to_html())
    values = found.subembeddings.layers[0].abundance
    order = np.argsort([f.information_abundance for f in found.fields])

    first = pixels(page)
    page.locator("#interaction select").last.select_option(label="place in the model")
    in_place = pixels(page)

    ranks = np.argsort(np.argsort(values, axis=None)).reshape(values.shape)
    brightness = in_place.sum(axis=2)
    assert (np.diff(brightness.ravel()[np.argsort(ranks, axis=None)]) >= 0).all()
    # The first is drawn by Python, the second by the page's script.
    assert np.abs(first - in_place[np.ix_(order, order)]).max() <= 1
    page.locator("#interaction .heatmap image").scroll_into_view_if_needed()
    box = page.locator("#interaction .heatmap image").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.9 * box["height"])
    assert f"carried into {found.fields[0].name}, abundance: {values[0, 0]:.4g}" in (
        page.locator(".tip").inner_text()
    )
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
    results = page.locator("#results table").inner_text()
    assert all(text in results for text in ("test AUC", "12,345", "0.71234", "3.14"))
    assert page.locator("#compared-interaction h3").first.inner_text() == "crossed"
    page.locator("#one select").select_option(label="crossed")
    headline = models["crossed"].summary.verdict.headline
    assert page.locator(".headline:visible").inner_text() == headline


def test_two_hundred_fields_stay_usable(open_page, tmp_path):
    found = crossed_model(tmp_path, fields=200, sets=1)
    html = found.to_html()
    page = open_page(html)

    sort_by(page, "abundance")

    assert len(cells(page, "field")) == 200
    tallest = page.evaluate("document.documentElement.scrollHeight")
    assert tallest < 7000  # the table scrolls by itself
    assert len(html) < 2.5e6


CURVE = [(200, 0.01, 0.02), (200, 0.04, 0.03), (199, 0.12, 0.15), (201, 0.4, 0.38)]


def calibrated(bins):
    """Diagnose tables that come with the curve of a model."""
    error = sum(n * abs(p - y) for n, p, y in bins) / sum(n for n, _, _ in bins)
    named = tuple({"rows": n, "predicted": p, "observed": y} for n, p, y in bins)
    content = {"split": "valid", "expected_calibration_error": error, "bins": named}
    return replace(FIELDS, reliability=Reliability.model_validate(content))


def axes_of(page):
    """Return the ends of both axes of the curve of reliability."""
    plot = page.locator("#calibration svg.plot")
    return [plot.get_attribute(name).split() for name in ("data-x", "data-y")]


def test_a_curve_of_reliability_is_drawn_beside_its_diagonal(open_page):
    page = open_page(calibrated(CURVE).to_html(), width=390)
    mark = page.locator("#calibration use").nth(2)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()

    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    text = page.locator(".tip").inner_text()
    assert "predicted 12.000%" in text and "positive 15.000%" in text and "199 rows" in text
    diagonal = page.locator("#calibration polyline").first.get_attribute("points").split()
    height = page.locator("#calibration svg.plot").get_attribute("height")
    assert diagonal == [f"0,{height}", "1000,0"]
    x, y = axes_of(page)
    assert x == y and x[0] == "log"
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

    x, y = axes_of(page)

    low, high = map(float, x[1:])
    assert x == y
    assert all(low <= value <= high for _, p, y in bins for value in (p, y))
    assert page.locator("#calibration use").count() == len(bins)


def test_no_curve_no_section(shown):
    assert shown.locator("#calibration").count() == 0


LONG = [
    "the_embedding_of_item_category_level_three",
    "the_embedding_of_item_category_level_four",
    "the_embedding_of_user_category_level_four",
]


def test_a_phone_needs_no_scrolling_sideways(open_page, tmp_path):
    page = open_page(crossed_model(tmp_path).to_html(), width=390)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_on_a_phone_findings_wrap_and_the_table_says_that_it_scrolls(open_page):
    page = open_page(diagnose({n: table(60, 6, decay=0.3) for n in LONG}).to_html(), width=390)

    page.locator("tr.field").first.click()

    finding = page.locator("tr.detail:visible .finding").bounding_box()
    assert finding["x"] >= 0 and finding["x"] + finding["width"] <= 390
    box = page.locator("#fields .scroll")
    said = "e => getComputedStyle(e, '::after').content"
    assert "more columns" in box.evaluate(said)
    box.evaluate("e => e.scrollTo(9999, 0)")
    page.wait_for_function("!document.querySelector('#fields .scroll.more-right')")
    assert box.evaluate(said) == "none"


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_are_cut_in_the_middle_and_stay_apart(open_page, width):
    page = open_page(diagnose({n: table(60, 6) for n in LONG}).to_html(), width=width)

    shown = cells(page, "field")

    assert len(set(shown)) == 3
    assert all("…" in name and len(name) <= 26 for name in shown)


def test_axes_have_numbers_on_a_phone(open_page):
    page = open_page(FIELDS.to_html(), width=390)

    ticks = page.locator("#abundance [data-choice]:not([hidden]) text.t")

    boxes = [ticks.nth(k).bounding_box() for k in range(ticks.count())]
    assert len(boxes) >= 6
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    across = sorted(box["x"] for box in boxes if box["y"] > boxes[0]["y"] + 5)
    assert all(b - a > 15 for a, b in itertools.pairwise(across))


def test_everything_can_be_read_without_scripts(browser, tmp_path):
    found = calibrated(CURVE)
    (tmp_path / "page.html").write_text(found.to_html(), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()

    page.goto((tmp_path / "page.html").as_uri())

    text = page.locator("body").inner_text()
    assert found.summary.verdict.headline in text
    for field in found.fields:
        verdict = field.verdict
        assert all(said in text for said in (field.name, verdict.label, verdict.finding))
        assert verdict.rests_on in text
    assert page.locator("svg.plot:visible").count() == 3  # spectra, abundance, calibration
    assert page.locator("select:visible, input:visible").count() == 0
    context.close()


def test_on_paper_all_findings_are_printed_and_nothing_is_cut(open_page):
    page = open_page(FIELDS.to_html(), width=690)

    page.emulate_media(media="print")

    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    text = page.locator("#fields").inner_text()
    assert all(field.verdict.finding in text for field in FIELDS.fields)
    assert page.locator("input:visible, nav:visible").count() == 0


def test_a_page_says_when_by_what_and_of_which_file(open_page, tmp_path):
    np.savez(tmp_path / "model.npz", a=table(50, 4))
    content = (tmp_path / "model.npz").read_bytes()
    page = open_page(diagnose(tmp_path / "model.npz").to_html())

    text = page.locator("header").inner_text()

    assert hashlib.sha256(content).hexdigest() in text
    assert f"model.npz, {len(content) / 1e3:.1f} kB" in text
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC, by multiembed \d", text)
    assert "counts unknown: judged on all rows" in text


def test_a_page_of_a_small_model_is_small():
    """Two fields: mail programs and wikis take it; a chart library alone was 4.8 MB."""
    html = diagnose({"a": table(100, 8), "b": table(50, 8, decay=0.3)}).to_html()

    assert len(html.encode()) < 100_000


@dataclass(frozen=True, kw_only=True, eq=False)
class More(Diagnosis):
    """What readers may hand over beside fields and what was skipped."""

    odd_ones: tuple[Skipped, ...]


def test_any_list_arrives_everywhere():
    """Tensors with a reason each, and matrices that are measured but not judged with the rest."""
    items = (Skipped("odd.weight", (3, 4), "it could be anything"),)
    apart = diagnose({"W_q": table(20, 5)}).fields
    known = {of.name: getattr(FIELDS, of.name) for of in fields(FIELDS)}
    found = More(**(known | {"odd_ones": items, "unknown_role": apart}))
    console = Console(file=io.StringIO(), width=200)

    console.print(terminal_table(found))

    text = console.file.getvalue()
    assert "Odd ones: 1 tensor, it could be anything (odd.weight)." in text
    assert "Matrices of unknown role. No verdict above rests on these.\nfield" in text
    html = found.to_html()
    assert "<h2>Odd ones</h2>" in html and "odd.weight (3 × 4)" in html
    assert "<h2>Matrices of unknown role</h2>" in html and 'data-key="W_q"' in html


def test_a_page_fetches_nothing():
    html = FIELDS.to_html()

    assert not re.search(r"<(script|link|img|image)[^>]+(src|href)=[\"']?https?:", html)
    assert "url(" not in html and "@import" not in html


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
        *("field", "verdict", "rests", "on", "rows", "trained", "dim"),
        *(of.terminal for of in MEASURES.values() if of.terminal),
    ]


def test_the_terminal_tells_long_names_apart():
    console = Console(file=io.StringIO(), width=80)

    console.print(terminal_table(diagnose({n: table(60, 6) for n in LONG})))

    rows = [line.split()[0] for line in console.file.getvalue().splitlines() if "…" in line]
    assert len(set(rows)) == len(rows) == 3


def test_the_terminal_says_what_was_not_measured(tmp_path):
    weights = {"a.weight": table(50, 4), "head.bias": np.zeros(3), "b.bias": np.ones(4)}
    weights |= {"steps": np.ones((2, 3), np.int64)}
    np.savez(tmp_path / "model.npz", **weights)
    console = Console(file=io.StringIO(), width=200)

    console.print(terminal_table(diagnose(tmp_path / "model.npz")))

    [line] = [s for s in console.file.getvalue().splitlines() if s.startswith("Not measured")]
    assert line.split(": ")[1].split("; ") == [
        "2 tensors, not a matrix (head.bias, b.bias)",
        "1 tensor, int64, not floating point (steps).",
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


ODD = {
    "": np.zeros((3, 3)),
    "one number": np.ones((1, 1)),
    "one row": np.ones((1, 5)),
    "one column": np.arange(7.0)[:, None],
    "equal rows": np.ones((6, 2)),
    "quotes \" and | bars '": table(5, 2),
    "ünï©ode ☃ " * 9: 1e30 * np.eye(4, 2),
    "small": 1e-30 * np.eye(4, 2),
}


def test_tables_and_names_of_any_kind_have_a_page(open_page):
    found = diagnose(ODD)
    page = open_page(found.to_html())

    page.locator("tr.field").nth(2).click()
    page.locator("#abundance select").first.select_option(index=1)

    assert page.locator("tr.field").count() == len(ODD)
    assert "nan" not in page.locator("main").inner_text().lower().split()
    assert len(found._repr_html_()) > 1000


def test_the_columns_and_the_verdict_are_of_the_same_rows():
    """Of 500 rows training met 50, which lie on a line; the others would need 8 of 8 columns."""
    rng = np.random.default_rng(0)
    rows, counts = rng.normal(size=(500, 8)), np.zeros(500, np.int64)
    rows[:50], counts[:50] = np.outer(rng.normal(size=50), rng.normal(size=8)), 3

    found = diagnose({"site": rows}, counts={"site": counts})

    [row] = field_rows(found.to_dict()["fields"])
    headings = [column.heading for column in field_columns(found.to_dict()["fields"])]
    cells = dict(zip(headings, [cell["html"] for cell in row["cells"]], strict=True))
    assert (cells["rests on"], cells["K99"], cells["abundance"]) == ("K99 1 of 8", "1", "1.00")
    assert "<b>1.00</b><span>information abundance, mean over fields" in found.to_html()
    console = Console(width=80, file=io.StringIO())
    console.print(terminal_table(found))
    last = next(line for line in console.file.getvalue().splitlines() if line.startswith("site"))
    assert last.split()[-2:] == ["1.00", "1"]
