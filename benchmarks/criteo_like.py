"""Write raw rows like Criteo's, any number of them, in bounded memory.

    python benchmarks/criteo_like.py 20000000 rows.txt

Label, 13 numbers and 26 hexadecimal categories, separated by tabs, no header. Numbers are
log-normal; the categories of a field follow Zipf's law over as many values as Criteo's field
has; cells are missing as often as they are in Criteo, roughly. About 245 bytes a row.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

CARDINALITIES = (
    *(1_460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5_683, 8_351_593, 3_194),
    *(27, 14_992, 5_461_306, 10, 5_652, 2_173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572),
)
"""Distinct values of Criteo's 26 categories."""
NUMBERS_MISSING = (0.45, 0, 0.21, 0.22, 0.03, 0.22, 0.04, 0, 0.04, 0.45, 0.04, 0.76, 0.22)
CATEGORIES_MISSING = (
    *(0, 0, 0.03, 0.03, 0, 0.12, 0, 0, 0, 0, 0, 0.03, 0, 0, 0, 0.03, 0, 0, 0.44, 0.44),
    *(0.03, 0.76, 0, 0.03, 0.44, 0.44),
)
BLOCK_ROWS = 250_000


def some_rows(rows, rng):
    """Return a block of rows as columns of text."""
    columns = {"label": pl.Series(rng.random(rows) < 0.256).cast(pl.UInt8).cast(pl.String)}
    for place, missing in enumerate(NUMBERS_MISSING, 1):
        numbers = np.floor(rng.lognormal(place % 5, 1.5, rows)).astype(np.int64) - (place == 2)
        columns[f"I{place}"] = with_holes(pl.Series(numbers).cast(pl.String), missing, rng)
    sizes = zip(CARDINALITIES, CATEGORIES_MISSING, strict=True)
    for place, (values, missing) in enumerate(sizes, 1):
        # Ranks whose logarithm is uniform follow Zipf's law with exponent 1.
        ranks = np.exp(rng.random(rows) * np.log(values + 1)).astype(np.uint64)
        columns[f"C{place}"] = with_holes(hexadecimal(ranks, place), missing, rng)
    return pl.DataFrame(columns)


def hexadecimal(ranks, place):
    """Give every rank eight hexadecimal digits of its own (a bijection of 32-bit numbers)."""
    codes = (ranks * np.uint64(2654435761) + np.uint64(place * 40503)) & np.uint64(0xFFFFFFFF)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    shifts = np.arange(28, -1, -4, dtype=np.uint64)
    text = digits[(codes[:, None] >> shifts) & np.uint64(15)]
    return pl.Series(np.ascontiguousarray(text).view("S8").reshape(-1)).cast(pl.String)


def with_holes(column, share, rng):
    if share == 0:
        return column
    return column.zip_with(pl.Series(rng.random(len(column)) >= share), pl.Series([""]))


def write(path, rows, seed=0):
    """Write a file of so many rows."""
    rng = np.random.default_rng(seed)
    with Path(path).open("wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            block = some_rows(min(BLOCK_ROWS, rows - start), rng)
            block.write_csv(file, separator="\t", include_header=False, quote_style="never")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    write(options.file, options.rows)
