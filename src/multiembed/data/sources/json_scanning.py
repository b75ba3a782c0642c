"""Compiled loops over JSON: arrays cut into lines, the keys that there are, and what is no JSON."""

# Compiled loops: what they do byte by byte stays in one place, and numba finds the types.
# ruff: noqa: ANN001, ANN201, ANN202, C901

from typing import no_type_check

import numpy as np

from multiembed.base.loops import compiled
from multiembed.data.sources.scanning import NEWLINE, QUOTE, SPACE

_COLON, _COMMA, _BACKSLASH = ord(":"), ord(","), ord("\\")
_OPEN, _CLOSE, _BEGIN, _END = ord("["), ord("]"), ord("{"), ord("}")
PLAIN_JSON, LISTS_TEXT, NESTED, NOTHING = range(4)
"""Kinds of values: one, several plain ones, what holds names or lists, and null."""
MOST_KEYS = 1 << 12
"""Pairs of a key and a kind of its values; a file with more has no columns."""


@compiled
@no_type_check
def _after_string(text, place):
    """Return the place behind a string that begins at `place`, or of the newline that cuts it."""
    place += 1
    while place < len(text) and text[place] != QUOTE:
        if text[place] == NEWLINE:
            return place
        place += 2 if text[place] == _BACKSLASH else 1
    return place + 1


@compiled
@no_type_check
def scan_array(text, depth, line, found):
    """Turn the items of an array into lines, in place, and find them as `scan_records` does.

    Args:
        text: From the array's beginning (depth 0) or an item's (depth 1) on.
        depth: How many brackets are open.
        line: Of the first byte.
        found: Filled with ends, columns (1, or 0 for what is blank) and lines.

    Returns:
        The number of records, and the line and depth after the last of them.
    """
    ends, columns, lines = found[0], found[1], found[2]
    records, first, filled, quoted, after, place = 0, line, False, False, depth, 0
    last = line
    while place < len(text):
        byte = text[place]
        if byte == NEWLINE:
            line += 1
            text[place] = SPACE
        elif byte == QUOTE:
            quoted = not quoted
        elif quoted:
            place += byte == _BACKSLASH
        elif byte in (_OPEN, _BEGIN):
            depth += 1
            if depth == 1 and byte == _OPEN:
                text[place] = SPACE
        elif byte in (_CLOSE, _END):
            depth = max(0, depth - 1)
        ended = not quoted and ((depth == 1 and byte == _COMMA) or (depth == 0 and byte == _CLOSE))
        if ended:
            text[place] = NEWLINE
            ends[records] = place + 1
            columns[records] = filled
            lines[records] = first
            records += 1
            filled, after, last = False, depth, line
        elif not filled and place < len(text) and text[place] > SPACE:
            filled, first = True, line
        place += 1
    return records, last, after


@compiled
@no_type_check
def _kind_of(text, place):
    """Tell the kind of the value behind a key that ends at `place`."""
    inside = False
    while place < len(text) and text[place] != NEWLINE:
        byte = text[place]
        if byte == _BEGIN or (byte == _OPEN and inside):
            return NESTED
        if byte == _OPEN:
            inside = True
        elif byte > SPACE and byte != _COLON:
            return LISTS_TEXT if inside else NOTHING if byte == ord("n") else PLAIN_JSON
        place += 1
    return NOTHING


@compiled
@no_type_check
def scan_keys(text, seen, found):
    """Find every key of the objects on these lines, once for every kind of its values.

    Args:
        text: Lines with an object each.
        seen: Hashes of what was found before, 0 where there is none; twice `MOST_KEYS` of them.
        found: Filled with the begin, end and kind of keys.

    Returns:
        How many are new, or -1 if there are too many.
    """
    depth, expected, count, place = 0, False, 0, 0
    mask = len(seen) - 1
    while place < len(text):
        byte = text[place]
        if byte == NEWLINE:
            depth, expected = 0, False
        elif byte == QUOTE:
            end = _after_string(text, place)
            if expected and end <= len(text):
                kind = _kind_of(text, end)
                code = np.uint64(14695981039346656037)
                for step in range(place, end):
                    code = (code ^ np.uint64(text[step])) * np.uint64(1099511628211)
                code = (code ^ np.uint64(kind + 1)) * np.uint64(1099511628211) | np.uint64(1)
                slot = np.int64(code >> np.uint64(40)) & mask
                while seen[slot] != 0 and seen[slot] != code:
                    slot = (slot + 1) & mask
                if seen[slot] == 0:
                    if count == len(found):
                        return -1
                    seen[slot] = code
                    found[count, 0], found[count, 1], found[count, 2] = place, end, kind
                    count += 1
            expected = False
            place = end
            continue
        elif byte in (_BEGIN, _OPEN):
            depth += 1
            expected = depth == 1 and byte == _BEGIN
        elif byte in (_END, _CLOSE):
            depth -= 1
        elif byte == _COMMA:
            expected = depth == 1
        place += 1
    return count


@compiled
@no_type_check
def write_nulls(text, out):
    """Copy JSON to `out` with null for NaN and the infinities; return the bytes written."""
    quoted, place, end = False, 0, 0
    while place < len(text):
        byte = text[place]
        length = 0
        if byte in (QUOTE, NEWLINE):
            quoted = byte == QUOTE and not quoted
        elif quoted and byte == _BACKSLASH and place + 1 < len(text):
            out[end] = byte
            end += 1
            place += 1
            byte = text[place]
        elif not quoted and byte == ord("N"):
            length = 3
        elif not quoted and byte == ord("I"):
            length = 8
        elif not quoted and byte == ord("-") and place + 1 < len(text):
            length = 9 if text[place + 1] == ord("I") else 0
        if length:
            for step in range(4):
                out[end + step] = (ord("n"), ord("u"), ord("l"), ord("l"))[step]
            end += 4
            place += length
        else:
            out[end] = byte
            end += 1
            place += 1
    return end
