"""How numbers, counts, sizes and names are written wherever there is little room."""

import math
from collections.abc import Sequence

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short(number: int) -> str:
    """Write a count in at most five characters."""
    if number < 10_000:
        return str(number)
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if number >= 0.9995 * size:
            return _three_digits(number / size) + letter
    return _three_digits(number / 1e3) + "k"


def short_number(value: float | int) -> str:
    """Write a number of an axis in few characters: 250, 1k, 0.001, 10⁻⁶."""
    size = abs(value)
    if size >= 1e12 or 0 < size < 1e-3:
        exponent = math.floor(math.log10(size) + 1e-9)
        digits = f"{value / 10**exponent:.3g}"
        return f"{'' if digits == '1' else digits + '·'}10{str(exponent).translate(SUPERSCRIPTS)}"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}"


def size_in_bytes(number: int) -> str:
    """Write the size of a file, in decimal units."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= 0.9995 * size:
            return f"{_three_digits(number / size)} {unit}"
    return f"{number} bytes"


def cut_name(name: str, width: int) -> str:
    """Leave out the middle of a long name: what tells names apart is at their ends, or starts."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def cut_apart(names: Sequence[str], width: int) -> dict[str, str]:
    """Cut long names so that no two look alike.

    Where they would, each is shown from the place on where it differs from the others.
    """
    found = {name: cut_name(name, width) for name in names}
    for _ in names:
        alike: dict[str, list[str]] = {}
        for name, text in found.items():
            alike.setdefault(text, []).append(name)
        twins = [group for group in alike.values() if len(group) > 1]
        if not twins:
            break
        for group in twins:
            same = _common(group)
            found |= {name: _from(name, same, width) for name in group}
    return found


def _common(names: Sequence[str]) -> int:
    """Return how many letters names share at their beginning."""
    least, most = min(names), max(names)
    return next(
        (at for at, pair in enumerate(zip(least, most, strict=False)) if len(set(pair)) > 1),
        len(least),
    )


def _from(name: str, first: int, width: int) -> str:
    """Show `width` letters of a name, of which the one at `first` is the second or a later one."""
    start = max(0, min(first - 1, len(name) - width + 1))
    rest = name[start + 1 :] if start else name
    shown = f"…{rest}" if start else rest
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"
