"""Charts, numbers and names, by what stands in them: ticks, places, pixels, letters."""

import base64
import io
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multiembed.report.axes import Axis, axis_of
from multiembed.report.heatmap import CIVIDIS, HeatmapChart, HeatmapView, heatmap, numbers
from multiembed.report.plot import AROUND, Chart, Trace, picture, plot
from multiembed.report.wording import cut_apart, cut_name, short, short_number, size_in_bytes
from multiembed.spectra.null_spectrum import null_spectrum


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0, 5, False, ["0", "1", "2", "3", "4", "5"]),
        (0, 0.31, False, ["0", "0.1", "0.2", "0.3"]),
        (-0.2, 0.2, False, ["-0.2", "-0.1", "0", "0.1", "0.2"]),
        (1, 2e6, True, ["1", "10", "100", "1k", "10k", "100k", "1M"]),
        (1e-6, 1, True, ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1"]),
        (3, 40, True, ["5", "10", "20"]),
        (10, 10.5, True, ["10", "10.1", "10.2", "10.3", "10.4", "10.5"]),
    ],
)
def test_ticks_are_round_numbers(low, high, log, ticks):
    found = Axis(title="", low=low, high=high, log=log).ticks()

    assert [text for _, text in found] == ticks
    assert all(-1e-9 <= place <= 1 + 1e-9 for place, _ in found)


def test_places_follow_the_scale():
    linear, log = (Axis(title="", low=1, high=100, log=log) for log in (False, True))

    assert linear.places([50.5, None, 101, math.nan]) == [pytest.approx(0.5), None, None, None]
    assert log.places([10, 0, math.inf]) == [pytest.approx(0.5), None, None]
    assert linear.clipped(1e9) == 1 and log.clipped(1e-9) == 0
    named = Axis(title="", low=-0.5, high=1.5, names=("a", "b")).ticks()
    assert named == [(0.25, "a"), (0.75, "b")]


@given(
    st.lists(st.floats(-1e12, 1e12) | st.none(), max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_an_axis_holds_its_values_and_has_ticks(values, log, from_zero):
    axis = axis_of(values, "", log=log, from_zero=from_zero)

    held = [v for v in values if v is not None and (v > 0 or not log)]
    assert None not in axis.places(held)
    assert len(axis.ticks()) >= 2


def drawn(series, **changes):
    axes = {"x": Axis(title="across", low=0, high=10), "y": Axis(title="up", low=0, high=1)}
    return Chart(**{**axes, "series": series, "words": "A test", "height": 200, **changes})


def test_marks_and_lines_lie_where_their_numbers_say():
    series = Trace(x=[0, 5, 10], y=[0.0, None, 1.0], color="#123456", line="dash", symbol="star")

    html = plot(drawn([series]))

    assert '<polyline points="0,200 1000,0"' in html
    places = re.findall(r'<use href="#me-star" x="([\d.]+)%" y="([\d.]+)"', html)
    assert [tuple(map(float, place)) for place in places] == [(0, 200), (100, 0)]


def test_intervals_end_at_the_axis():
    series = Trace(x=[5], y=[0.75], color="#123456", reach=[0.5])

    assert re.search(r'y1="150" y2="0" stroke="#123456"', plot(drawn([series])))


def test_a_picture_is_a_document_whose_names_are_no_markup():
    tips = ["</svg><script>alert(1)</script>"]
    series = Trace(x=[1], y=[0.5], color="red", symbol="x", name="a < b & c", tips=tips)

    root = ElementTree.fromstring(picture(drawn([series]), width=400))

    assert root.get("width") == "400"
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
    texts = [element.text for element in root.iter() if element.text]
    assert "a < b & c" in texts and "across" in texts and tips[0] in texts
    inner = next(e for e in root if e.tag.endswith("svg"))
    assert int(inner.get("width")) == 400 - AROUND["left"] - AROUND["right"]


def test_a_heatmap_has_one_pixel_a_cell_of_the_colour_of_its_value():
    values = [[0.0, 1.0, 2.0], [3.0, 4.0, None], [9.0, 9.0, 9.0]]
    html = heatmap(
        HeatmapChart(
            names=["a", "b", "c"],
            views=[HeatmapView(name="", values=values, unit="")],
            orders=[("", [2, 0, 1])],
            rows="i",
            columns="j",
            joined="to",
        )
    )

    png = base64.b64decode(re.search(r"image/png;base64,([^\"]+)", html)[1])
    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGB"))[::-1]  # the first row is below

    hexes = [[bytes(pixel).hex() for pixel in row] for row in pixels]
    lightest, darkest = f"{CIVIDIS[-1]:06x}", f"{CIVIDIS[0]:06x}"
    assert hexes[0] == [lightest] * 3  # "c" first
    assert hexes[1][1] == darkest and hexes[2][0] == "ffffff"  # a to a, and b to c
    assert hexes[1][0] == f"{CIVIDIS[2]:06x}"  # 2 of 9 lies on the third of ten colours


def test_many_numbers_are_packed_and_come_back():
    values = np.random.default_rng(0).normal(size=(120, 120))
    values[3, 4] = np.nan

    packed = numbers([[None if np.isnan(v) else v for v in row] for row in values])

    codes = np.frombuffer(base64.b64decode(packed["codes"]), "<u2").reshape(values.shape)
    back = packed["low"] + (codes - 1.0) / 65533 * (packed["high"] - packed["low"])
    assert codes[3, 4] == 0 and np.count_nonzero(codes) == values.size - 1
    np.testing.assert_allclose(back[codes > 0], values[codes > 0], atol=np.ptp(back) / 1e5)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (123_456, "123k"),
        (1_234_567, "1.2M"),
        (5e9, "5.0G"),
    ],
)
def test_counts_are_short(number, text):
    assert short(int(number)) == text


def test_numbers_and_sizes_are_short():
    assert [short_number(v) for v in (0, 0.25, -3, 1500, 2e-5, 1e13)] == [
        *("0", "0.25", "-3", "1.5k", "2·10⁻⁵", "10¹³"),
    ]
    assert [size_in_bytes(n) for n in (12, 1500, 25_000_000, 3 * 10**11)] == [
        *("12 bytes", "1.5 kB", "25.0 MB", "300 GB"),
    ]


def test_names_are_cut_in_the_middle():
    assert cut_name("short", 5) == "short"
    assert cut_name("embedding_dict.weight", 9) == "embe…ight"


@given(st.sets(st.text("ab.", min_size=1, max_size=40), max_size=8), st.integers(6, 16))
def test_cut_names_fit(names, width):
    found = cut_apart(sorted(names), width)

    assert set(found) == names
    assert all(len(text) <= width for text in found.values())
    assert all(found[name] == name for name in names if len(name) <= width)


@pytest.mark.parametrize(
    "names",
    [
        ["model.embedding_dict.user_id.weight", "model.embedding_dict.item_id.weight"],
        [f"encoder.layers.{k}.attention.query.weight" for k in range(24)],
        ["a" * 40 + "x" + "b" * 40, "a" * 40 + "y" + "b" * 40, "a" * 40 + "xx" + "b" * 39],
    ],
)
def test_cut_names_stay_apart(names):
    assert len(set(cut_apart(names, 16).values())) == len(names)


@pytest.mark.parametrize(("rows", "dim"), [(4, 16), (16, 16), (200, 8), (2000, 32)])
def test_a_random_tables_spectrum_is_that_of_normal_numbers(rows, dim):
    rng = np.random.default_rng(1)
    draws = 20 if rows > 1000 else 1000
    values = np.linalg.svd(rng.normal(size=(draws, rows, dim)), compute_uv=False).mean(axis=0)

    found = null_spectrum(rows, dim)

    np.testing.assert_allclose(found, values / values[0], atol=0.04)
    assert found[0] == 1 and (np.diff(found) <= 0).all()
