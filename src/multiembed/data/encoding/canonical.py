r"""One text for every value, whatever it comes in. Bundles carry this file: it needs Python alone.

| value | its text | also written |
|---|---|---|
| true, false | `true`, `false` | `True`, `TRUE`, `False`, `FALSE` |
| whole number | its digits: `5` | `5.0`, `5.00`, `5e+00`; not `05`, `+5`, which are codes |
| other number | its shortest digits, no exponent: `5.5`, `0.00001` | `5.50`, `1e-05`, `1.0E-5` |
| moment | `2024-06-01T05:36:34.5`; at midnight the day alone | ` ` for `T`, zeros at the end |
| moment of a zone | the same in UTC, with a `Z` | `+02:00`, `+0200`, `+02` |
| day, time of day | `2024-06-01`, `05:36:34.5` | zeros at the end of a fraction |
| text | itself, without blanks around it | |
| bytes | their text, or hexadecimal digits where they are not UTF-8 | |
| missing | the empty text | the words of `MISSING` |

What is written looks at one text alone, never at its column: `1e5` and `12e45`, which may be parts
of a hash, stay as they are, for no library writes a number so; `007` is a code.
"""

import ast
import json
import re
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

BLANKS = " \t\n\r\v\f"
MISSING = (
    *("", "NULL", "null", "\\N", "NaN", "nan", "-nan", "None", "<NA>", "NaT"),
    *("N/A", "n/a", "#N/A"),
)
"""Texts that stand for a missing value in any column; `NA` is no such: it is Namibia."""
NO_NUMBER = ("NA", "na", "none", "?", "-", "--", ".")
"""More of them, where a number or a moment should stand."""
WORDS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
WORDS |= dict.fromkeys(MISSING, "")
NUMBER = re.compile(
    r"-?(0|[1-9][0-9]*)(\.[0-9]+([eE][+-]?[0-9]{1,3})?|[eE][+-][0-9]{1,3})|-0", re.ASCII
)
"""Numbers that libraries write: with a point, or with a sign in the exponent."""
WHOLE_TEXT = r"^(-?(?:0|[1-9][0-9]*))\.0+$"
"""A whole number that had to be a float, for one is missing beside it."""
MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(\.[0-9]+)?"
    r" ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?",
    re.ASCII,
)
TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]+", re.ASCII)
ASKING = "|".join(
    [
        r"^[ \t\n\r\x0b\x0c]",
        r"[ \t\n\r\x0b\x0c]$",
        "^(?:" + "|".join(re.escape(word) for word in WORDS) + ")$",
        r"^-0$",
        r"^-?[0-9]+\.[0-9]*0$",
        r"^-?[0-9]+\.[0-9]+[eE][+-]?[0-9]+$",
        r"^-?[0-9]+[eE][+-][0-9]+$",
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]",
        r"^[0-9]{2}:[0-9]{2}:[0-9]{2}\.",
    ]
)
"""What every text that is not its own canonical one looks like, for a quick search; few others."""
MONEY = (
    r"(?:(?:[A-Z]{1,2})?\$|[€£¥₹₽₩₺₫₪₴₱฿]|USD|EUR|GBP|CHF|JPY|CNY|INR|BRL|CAD|AUD|SEK|NOK|DKK|PLN|"
    r"kr\.?|zł|Kč)"
)
CURRENCY = re.compile(rf"^([+-]?)\s*{MONEY}\s*|\s*{MONEY}$")
PLAIN = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.ASCII | re.IGNORECASE
)
SPACED = re.compile(r"[+-]?\d{1,3}(?:[ '\u00a0\u202f\u2019]\d{3})+(?:[.,]\d+)?", re.ASCII)
DRESSES: dict[str, re.Pattern[str]] = {
    "": re.compile(r"(?!)"),
    ".": re.compile(r"[+-]?\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?", re.ASCII),
    ",": re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d*)?|[+-]?,\d+", re.ASCII),
}
DRESSES |= {"%": DRESSES[""], ",%": DRESSES[","]}
"""Numbers with a comma, by the mark before their fraction; and the same all in percent."""
SINCE_1970 = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
"""Microseconds in a unit of numbers that count from 1970."""
HOUR, DAY = 3_600_000_000, 86_400_000_000
LASTS = (631_152_000_000_000, 4_102_444_800_000_000)
"""Moments are from 1990 to 2099 only, in microseconds: others count another unit."""
ISO = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]+)?)?)?"
)
OFFSET = "(:[0-9]{2}(?:[.][0-9]+)?) ?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)$"
"""An offset behind a time: it is left out, for hours are local."""
FRACTION = "[.][0-9]+$"
QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
LIST = re.compile(rf"""\[(?:{QUOTED}|[^\[\](){{}}'"])*\]""")
"""A cell that is a list of plain values as Python, JSON or NumPy write it."""
ELEMENT = rf"""{QUOTED}|[^, \t\n\r\x0b\x0c'"]+"""
"""An element of a list in which something stands in quotes."""
WHOLE_OF_NUMPY = r"^(-?[0-9]+)\.$"
BETWEEN = "\x1f"
"""Stands before every value of a cell that came as a list."""


def canonical_text(text: str, missing: Collection[str] = ()) -> str:
    """Return the one text of the value that a text is; `missing` are more words of `MISSING`."""
    text = text.strip(BLANKS)
    if text in missing:
        return ""
    found = _canonical(text)
    return "" if found in missing else found


def _canonical(text: str) -> str:
    if text in WORDS:
        return WORDS[text]
    if NUMBER.fullmatch(text):
        digits = format(Decimal(text), "f")
        digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
        return digits if digits.strip("-0") else "0"
    if TIME.fullmatch(text):
        return text.rstrip("0").rstrip(".")
    parts = MOMENT.fullmatch(text)
    return text if parts is None else _moment(text, *parts.groups(""))


def number_of(text: str, decimal: str = "", missing: Collection[str] = ()) -> float | None:
    """Return the number that a text is: nan where it is missing, none where it is no number.

    Args:
        text: As it is written; a currency and spaces between thousands are always read.
        decimal: How it is written, one of `DRESSES`.
        missing: More words of `MISSING`.
    """
    text = text.strip(BLANKS)
    number = float("nan") if text in missing else _number(text, decimal)
    absent = number is not None and number in [_number(word, decimal) for word in missing]
    return float("nan") if absent else number


def _number(text: str, decimal: str) -> float | None:
    if text in MISSING or text in NO_NUMBER:
        return float("nan")
    if WORDS.get(text, text) in ("true", "false"):
        return float(WORDS.get(text, text) == "true")
    text = text.replace("\u2212", "-")
    if decimal.endswith("%"):
        if not text.endswith("%"):
            return None
        text = text[:-1].rstrip(BLANKS)
    text = re.sub(r"^\((.*)\)$", r"-\1", text)  # as accountants write debts
    text = CURRENCY.sub(r"\1", CURRENCY.sub(r"\1", text))
    if SPACED.fullmatch(text):
        text = re.sub(r"[ '\u00a0\u202f\u2019]", "", text)
    if DRESSES[decimal].fullmatch(text):
        text = text.replace("," if decimal == "." else ".", "").replace(",", ".")
    elif decimal.startswith(",") and "." in text:
        return None
    return float(text) if PLAIN.fullmatch(text) else None


def cell_values(cell: str, delimiter: str | None, missing: Collection[str] = ()) -> list[str]:
    """Return the values of a cell, each as its canonical text; what is missing is no value."""
    cell = cell.strip(BLANKS)
    if cell.startswith(BETWEEN):
        parts = cell.split(BETWEEN)
    elif LIST.fullmatch(cell):
        parts = list_elements(cell)
    else:
        parts = cell.split(delimiter) if delimiter else [cell]
    return [text for part in parts if (text := canonical_text(part, missing))]


def list_elements(cell: str) -> list[str]:
    """Return the elements of a list as Python, JSON or NumPy write it."""
    inside = cell.strip(BLANKS)[1:-1]
    if "'" in inside or '"' in inside:
        return [_unquoted(part) for part in re.findall(ELEMENT, inside)]
    parts = inside.split(",") if "," in inside else re.findall(f"[^{BLANKS}]+", inside)
    return [re.sub(WHOLE_OF_NUMPY, r"\1", part.strip(BLANKS)) for part in parts]


def _unquoted(part: str) -> str:
    if part[0] not in "'\"":
        return part
    for read in (json.loads, ast.literal_eval) if "\\" in part else ():
        with suppress(ValueError, SyntaxError):
            found = read(part)
            found.encode()  # half a character has no bytes
            return found
    return part[1:-1]


def plain_format(format: str) -> tuple[str, bool, bool]:
    """Return a format of `strptime` in basic directives, and what else stands at the end of a text.

    Returns:
        The format; whether a fraction of a second follows, and whether an offset does.
    """
    for short, long in {"T": "%H:%M:%S", "F": "%Y-%m-%d", "R": "%H:%M", "D": "%m/%d/%y"}.items():
        format = format.replace(f"%{short}", long)
    plain = format.removesuffix("%z").rstrip() if format.endswith("%z") else format
    whole = plain.removesuffix("%.f").removesuffix(".%f")
    return whole, whole != plain, plain != format


def hour_and_day(text: str, format: str) -> tuple[int, int]:
    """Return the hour of a moment, local as written, and its day of the week, 1 for Monday.

    Raises:
        ValueError: If the text is no moment in this format: `iso`, a unit, or one of `strptime`.
        OverflowError: If it counts beyond all years.
    """
    if format in SINCE_1970:
        since = float(text if PLAIN.fullmatch(text) else "nan") * SINCE_1970[format]
        if not LASTS[0] <= since < LASTS[1]:
            raise ValueError
        return int(since) % DAY // HOUR, (int(since) // DAY + 3) % 7 + 1
    plain, fraction, offset = plain_format(format)
    if offset or format == "iso":
        text = re.sub(OFFSET, r"\1", text)
    text = re.sub(FRACTION, "", text) if fraction else text
    text = text if "." in plain else re.sub(WHOLE_TEXT, r"\1", text)
    if format != "iso":
        moment = datetime.strptime(text, plain)
    elif re.fullmatch(ISO, text := text.replace(" ", "T", 1)):
        moment = datetime.fromisoformat(text[:16])
    else:
        raise ValueError
    if not 1990 <= moment.year < 2100:
        raise ValueError
    return moment.hour, moment.isoweekday()


def text_of_bytes(value: bytes | None) -> str | None:
    """Return the text of bytes, or their hexadecimal digits where they are none."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _moment(text: str, day: str, minute: str, second: str, fraction: str, offset: str) -> str:
    second, fraction = second or ":00", fraction.rstrip("0").rstrip(".")
    moment = f"{day}T{minute}{second}"
    if not offset:
        return day if moment.endswith("T00:00:00") and not fraction else moment + fraction
    sign, digits = offset[0], offset[1:].replace(":", "").ljust(4, "0")
    try:
        ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) if sign != "Z" else None
        utc = datetime.fromisoformat(moment) - (ahead or timedelta()) * (-1 if sign == "-" else 1)
    except (ValueError, OverflowError):
        return text
    return f"{utc.isoformat()}{fraction}Z"
