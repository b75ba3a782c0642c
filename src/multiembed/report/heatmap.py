"""Heatmaps: a picture of one pixel per cell beside names, and the numbers of other views."""

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from multiembed.report.wording import cut_apart

CIVIDIS = (
    *(0x00224E, 0x123570, 0x3B496C, 0x575D6D, 0x707173),
    *(0x8A8678, 0xA59C74, 0xC3B369, 0xE1CC55, 0xFEE838),
)
"""Nuñez, Anderton & Renslow (2018): even steps to all readers, whatever colours they see."""
NO_CELL = 0xFFFFFF
PACKED_FROM = 100
"""Rows from which on numbers are packed."""
NAMED_CELLS = 60
"""So many rows can carry their names."""
_NAME_LETTERS = 11
"""Of each."""


@dataclass(frozen=True, kw_only=True)
class HeatmapView:
    """One matrix to look at."""

    name: str
    values: Sequence[Sequence[float | None]]
    """By row i and column j; `None` where there is nothing."""
    unit: str


@dataclass(frozen=True, kw_only=True)
class HeatmapChart:
    """Matrices over the same names; the page shows the first, and others where scripts run."""

    names: Sequence[str]
    views: Sequence[HeatmapView]
    orders: Sequence[tuple[str, Sequence[int]]]
    """Ways to order the names, each with its own name."""
    rows: str
    """What a row is."""
    columns: str
    joined: str
    """Between two names: "carried into"."""
    low: float | None = None
    """The value of the darkest colour; the smallest one where it is `None`."""
    high: float | None = None
    height: int = 420


def heatmap(drawn: HeatmapChart) -> str:
    """Return the first view in the first order, with menus of the others."""
    view, (_, order) = drawn.views[0], drawn.orders[0]
    values = np.array(view.values, dtype=np.float64)[np.ix_(order, order)]
    low, high = _ends(drawn, values)
    menus = _menu("show", [v.name for v in drawn.views]) + _menu(
        "order fields by", [name for name, _ in drawn.orders]
    )
    short = cut_apart(drawn.names, _NAME_LETTERS)
    data = {
        "names": list(drawn.names),
        "short": [short[name] for name in drawn.names],
        "views": [{**numbers(v.values), "unit": v.unit} for v in drawn.views],
        "orders": [list(map(int, order)) for _, order in drawn.orders],
        "joined": drawn.joined,
        "ends": [drawn.low, drawn.high],
        "colors": [f"#{color:06x}" for color in CIVIDIS],
    }
    # A field may be called "</script>": no tag may open inside the data.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    gradient = ",".join(data["colors"])
    return (
        f'<figure class="chart heatmap">{f"<div class=controls>{menus}</div>" if menus else ""}'
        f"{_picture(drawn, values, order, (low, high))}"
        f'<figcaption class="colors"><output class="low">{low:.3g}</output>'
        f'<i style="background:linear-gradient(90deg,{gradient})"></i>'
        f'<output class="high">{high:.3g}</output> <span class="unit">{escape(view.unit)}</span>'
        f'</figcaption><script type="application/json">{text}</script></figure>'
    )


def numbers(values: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Return numbers for the page: four digits of each; of many, codes of two bytes.

    200 fields have 40,000 pairs in every view. A code is a place between lowest and highest, in
    65,534 steps from 1; 0 is where there is nothing.
    """
    if len(values) < PACKED_FROM:
        rows = [[None if v is None else float(f"{v:.4g}") for v in row] for row in values]
        return {"values": rows}
    array = np.array(values, dtype=np.float64)
    known = np.isfinite(array)
    low, high = map(float, (array[known].min(), array[known].max()) if known.any() else (0, 0))
    codes = np.zeros(array.shape, dtype="<u2")
    codes[known] = 1 + np.round((array[known] - low) / ((high - low) or 1) * 65533)
    return {"low": low, "high": high, "codes": base64.b64encode(codes.tobytes()).decode()}


def _ends(drawn: HeatmapChart, values: Float[np.ndarray, "rows columns"]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low = float(known.min(initial=np.inf)) if drawn.low is None else drawn.low
    high = float(known.max(initial=-np.inf)) if drawn.high is None else drawn.high
    return (low, high) if low <= high else (0.0, 1.0)


def _menu(text: str, choices: Sequence[str]) -> str:
    if len(choices) < 2:
        return ""
    options = "".join(f"<option>{escape(choice)}</option>" for choice in choices)
    return f'<label>{escape(text)}<select name="{escape(text)}">{options}</select></label>'


def _picture(
    drawn: HeatmapChart,
    values: Float[np.ndarray, "rows columns"],
    order: Sequence[int],
    ends: tuple[float, float],
) -> str:
    h, count = drawn.height, len(order)
    short = cut_apart(drawn.names, _NAME_LETTERS)
    names = [short[drawn.names[i]] for i in order] if count <= NAMED_CELLS else []
    small = " small" if count > 14 else ""
    ticks = "".join(
        f'<text class="t y row" x="-6" y="{h * (1 - (at + 0.5) / count):.4g}" dy="4">'
        f"{escape(name)}</text>"
        f'<svg x="{100 * (at + 0.5) / count:.4g}%" y="{h + 8}" overflow="visible">'
        f'<text class="t y column" transform="rotate(-50)" dy="6">{escape(name)}</text></svg>'
        for at, name in enumerate(names)
    )
    png = base64.b64encode(_png(_colors(values, *ends))).decode()
    return (
        f'<svg class="me plot{small}" height="{h}" overflow="visible" role="img" '
        f'aria-label="{escape(drawn.views[0].unit)} of {count} by {count}">'
        f'<image width="100%" height="{h}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{png}"/>{ticks}'
        f'<text class="m" x="50%" y="{h + 78}">{escape(drawn.columns)}</text>'
        f'<text class="m" transform="rotate(-90)" x="{-h / 2:g}" y="-80">{escape(drawn.rows)}'
        "</text></svg>"
    )


def _colors(
    values: Float[np.ndarray, "rows columns"], low: float, high: float
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return the colour of every cell, the first row at the bottom."""
    bytes_of = np.array([[c >> 16, c >> 8 & 255, c & 255] for c in CIVIDIS], dtype=np.float64)
    missing = np.isnan(values)
    level = np.clip((np.where(missing, low, values) - low) / ((high - low) or 1.0), 0, 1)
    at = level * (len(CIVIDIS) - 1)
    steps = np.arange(len(CIVIDIS))
    found = np.stack([np.interp(at, steps, channel) for channel in bytes_of.T], axis=-1)
    found[missing] = NO_CELL & 255
    return np.rint(found[::-1]).astype(np.uint8)


def _png(pixels: UInt8[np.ndarray, "rows columns 3"]) -> bytes:
    """Write pixels as PNG (RFC 2083), 8 bits a colour, every row unfiltered."""
    height, width, _ = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
