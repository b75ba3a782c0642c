"""Compiled loops over delimited text: where records end, and the same text as others write it."""

# Compiled loops: what they do byte by byte stays in one place, and numba finds the types.
# ruff: noqa: ANN001, ANN201, ANN202, C901, SIM110

from typing import no_type_check

import numpy as np

from multiembed.base.loops import compiled

NEWLINE, RETURN, COMMA, QUOTE, SPACE = (ord(mark) for mark in '\n\r," ')
_PLAIN, _NEWLINE, _SEPARATOR, _QUOTE, _ESCAPE = range(5)
BROKEN = -1
"""Columns of a record in which something follows a quote that closes a value."""


def special_bytes(separator: bytes, quote: bytes, escape: bytes) -> np.ndarray:
    """Return for every byte whether it may begin something."""
    special = np.full(256, _PLAIN, np.uint8)
    special[NEWLINE] = _NEWLINE
    for mark, kind in ((escape, _ESCAPE), (quote, _QUOTE), (separator, _SEPARATOR)):
        if mark:
            special[mark[0]] = kind
    return special


@compiled
@no_type_check
def _begins(text, place, word):
    if place + len(word) > len(text):
        return False
    for step in range(len(word)):
        if text[place + step] != word[step]:
            return False
    return True


@compiled
@no_type_check
def scan_records(text, special, separator, comment, line, found):
    """Find where records end, how many columns they have, and the line where each begins.

    Blank lines and comments have 0 columns. A quote at the beginning of a value encloses it; any
    other is a character like others. Inside quotes everything belongs to the value, and a
    doubled quote stands for one. Returns the number of records, the line after the last of them,
    and whether there are quotes that enclose nothing.
    """
    ends, columns, lines = found[0], found[1], found[2]
    records, begin, field, count, first = 0, 0, 0, 1, line
    behind, closed, inside, broken, loose = 0, 0, False, False, False
    width = len(separator)
    skipped = len(comment) > 0 and _begins(text, 0, comment)
    for place in range(len(text)):
        kind = special[text[place]]
        if kind == _PLAIN:
            continue
        if kind == _NEWLINE:
            line += 1
            if inside or place < behind:
                continue
            length = place - begin
            returned = length > 0 and text[place - 1] == RETURN
            broken = broken or (closed > field and closed != place - returned)
            ends[records] = place + 1
            columns[records] = 0 if skipped or length == returned else BROKEN if broken else count
            lines[records] = first
            records += 1
            begin, field, count, first, broken = place + 1, place + 1, 1, line, False
            skipped = len(comment) > 0 and _begins(text, begin, comment)
        elif place < behind or skipped:
            continue
        elif kind == _SEPARATOR:
            if not inside and (width == 1 or _begins(text, place, separator)):
                broken = broken or (closed > field and closed != place)
                count += 1
                field = behind = place + width
        elif kind == _QUOTE:
            if inside:
                inside, closed = False, place + 1
            elif place in (field, closed):  # behind one that closed, it stands for itself
                inside = True
            else:
                loose = True
        else:  # an escape
            behind = place + 2
    return records, first, loose


@compiled
@no_type_check
def write_plain(text, special, separator, out):
    """Write whole records so that a comma separates, and quotes enclose, every value.

    An escaped quote, escape, separator or newline stands for itself; before others the escape is a
    character. Returns the bytes written to `out`, which needs twice those of `text` and more.
    """
    size, width, place, end, field = len(text), len(separator), 0, 0, True
    inside, quoted = False, False
    while place < size:
        kind = special[text[place]]
        if field:  # a value begins
            field, inside = False, kind == _QUOTE
            quoted = inside or not (kind == _NEWLINE or _begins(text, place, separator))
            if text[place] == RETURN and place + 1 < size and text[place + 1] == NEWLINE:
                quoted = False
            if quoted:
                out[end] = QUOTE
                end += 1
            if inside:
                place += 1
                continue
        byte = text[place]
        step = 1
        if kind == _QUOTE and inside:
            if place + 1 < size and special[text[place + 1]] == _QUOTE:
                step = 2
            else:
                inside = False
                place += 1
                continue
        elif not inside and (kind == _NEWLINE or _begins(text, place, separator)):
            if quoted:
                cut = kind == _NEWLINE and text[place - 1] == RETURN
                out[end - cut] = QUOTE
                end += 1 - cut
            out[end] = NEWLINE if kind == _NEWLINE else COMMA
            end += 1
            place += 1 if kind == _NEWLINE else width
            field = True
            continue
        elif kind == _ESCAPE and place + 1 < size and special[text[place + 1]] != _PLAIN:
            byte, step = text[place + 1], 2
        if byte == QUOTE:
            out[end] = QUOTE
            end += 1
        out[end] = byte
        end += 1
        place += step
    return end
