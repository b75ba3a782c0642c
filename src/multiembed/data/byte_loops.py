"""Loops over bytes and keys, compiled for the CPU. They hold no lock while they run.

Compiled functions carry no annotations: numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN201, ANN202

from collections.abc import Callable
from typing import no_type_check

import numpy as np
from numba import njit

NEWLINE, RETURN, QUOTE = ord("\n"), ord("\r"), ord('"')


def compiled(function: Callable) -> Callable:
    """Compile a function; its machine code is kept on disk where that is possible."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package nor the user has a directory we may write to
        return njit(nogil=True)(function)


@compiled
@no_type_check
def scan_records(text, separator, quoted, line, found):
    """Find where records end, how many columns they have, and the line where each begins.

    Blank lines have 0 columns. Between an odd and an even quote everything belongs to the value;
    a doubled quote inside a value closes and opens it again, which changes nothing. Returns the
    number of records and the line after the last of them.
    """
    ends, columns, lines = found
    records, begin, count, first, inside = 0, 0, 1, line, False
    for place in range(len(text)):
        byte = text[place]
        if byte == NEWLINE:
            line += 1
            if inside:
                continue
            size = place - begin
            blank = size == 0 or (size == 1 and text[begin] == RETURN)
            ends[records] = place + 1
            columns[records] = 0 if blank else count
            lines[records] = first
            records += 1
            begin, count, first = place + 1, 1, line
        elif byte == separator:
            count += not inside
        elif byte == QUOTE and quoted:
            inside = not inside
    return records, first


@compiled
@no_type_check
def intern_keys(keys, table, count, codes, fresh):
    """Give equal keys equal codes: those of `table`, or the next ones; return how many there are.

    `fresh` gets the rows that brought a new key. Slots hold codes plus one, so that 0 is free;
    there must be room for every row.
    """
    slots, known = table
    mask = np.uint64(len(slots) - 1)
    before = count
    for row in range(len(keys)):
        low, high = keys[row, 0], keys[row, 1]
        place = _place(low, high) & mask
        while True:
            code = slots[place]
            if code == 0:
                known[count, 0], known[count, 1] = low, high
                fresh[count - before] = row
                codes[row] = count
                count += 1
                slots[place] = count
                break
            if known[code - 1, 0] == low and known[code - 1, 1] == high:
                codes[row] = code - 1
                break
            place = (place + np.uint64(1)) & mask
    return count


@compiled
@no_type_check
def fill_slots(slots, known, count):
    """Put known keys into empty slots."""
    mask = np.uint64(len(slots) - 1)
    for code in range(count):
        place = _place(known[code, 0], known[code, 1]) & mask
        while slots[place] != 0:
            place = (place + np.uint64(1)) & mask
        slots[place] = code + 1


@compiled
@no_type_check
def _place(low, high):
    """Mix a key of two words (steps of splitmix64)."""
    mixed = (low ^ (high * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    return mixed >> np.uint64(20)
