"""Axes of charts: what lies where along them, and which numbers stand beside them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from multiembed.report.wording import short_number

Number = float | int
"""What charts draw: counts as well as measures."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from `low` to `high`, linear or logarithmic."""

    title: str
    low: Number
    high: Number
    log: bool = False
    percent: bool = False
    """Whether its numbers are written as percentages."""
    names: Sequence[str] = ()
    """What stands at 0, 1, 2, …, instead of numbers."""

    @property
    def data(self) -> str:
        """What the page's script must know to read a value off it."""
        return f"{'log' if self.log else 'linear'} {self.low:.6g} {self.high:.6g}"

    def places(self, values: Iterable[Number | None]) -> list[float | None]:
        """Return where values lie, 0 at the low end and 1 at the high one; `None` beyond."""
        low, length = self._level(self.low), self._length
        least = 0.0 if self.log else -math.inf
        shares = [
            ((math.log10(v) if self.log else v) - low) / length
            if v is not None and least < v < math.inf
            else -1.0
            for v in values
        ]
        return [share if -1e-9 <= share <= 1 + 1e-9 else None for share in shares]

    def clipped(self, value: Number) -> float:
        """Return where a value lies, or the end beyond which it does."""
        inside = min(max(value, self.low), self.high)
        return (self._level(inside) - self._level(self.low)) / self._length

    def ticks(self) -> list[tuple[float, str]]:
        """Return places along the axis and what stands there."""
        if self.names:
            marked = list(enumerate(self.names))
        else:
            values = _log_steps(self.low, self.high) if self.log else _steps(self.low, self.high)
            marked = [(value, self._written(value)) for value in values]
        places = zip(self.places([value for value, _ in marked]), marked, strict=True)
        return [(place, text) for place, (_, text) in places if place is not None]

    @property
    def _length(self) -> Number:
        return self._level(self.high) - self._level(self.low)

    def _level(self, value: Number) -> Number:
        return math.log10(value) if self.log else value

    def _written(self, value: Number) -> str:
        if self.percent:
            return f"{100 * value:.6g}%"
        return short_number(value)


def axis_of(
    values: Iterable[Number | None],
    title: str,
    *,
    log: bool = False,
    from_zero: bool = False,
    percent: bool = False,
) -> Axis:
    """Return an axis that holds all values that it can hold, with a little room at its ends."""
    known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
    low, high = (min(known), max(known)) if known else (1.0, 1.0)
    if log:
        room = max((high / low) ** 0.04, 1.15)
        return Axis(title=title, low=low / room, high=high * room, log=True, percent=percent)
    low = min(low, 0.0) if from_zero else low
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low = low if from_zero and low == 0 else low - room
    return Axis(title=title, low=low, high=high + room, percent=percent)


def _steps(low: Number, high: Number) -> list[float]:
    """Return round numbers between two, about five."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(size * unit for size in (1, 2, 5, 10) if size * unit >= 0.999 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _log_steps(low: Number, high: Number) -> list[float]:
    """Return powers of ten between two, thinned to eight, or filled up where there are few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = range(first, last + 1)
    if len(powers) >= 3:
        return [10.0**k for k in powers if (k - first) % (1 + len(powers) // 9) == 0]
    digits = [d * 10.0**k for k in range(first - 1, last + 1) for d in (1, 2, 5)]
    inside = [value for value in digits if low <= value <= high]
    return inside if len(inside) >= 2 else _steps(low, high)
