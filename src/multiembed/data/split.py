"""Which rows train, which validate and which test."""

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

GROUP = 10
"""Of every ten rows, eight train, one validates and one tests."""


def split_codes(numbers: Int64[np.ndarray, " rows"], seed: int) -> UInt8[np.ndarray, " rows"]:
    """Say for every row number to which split it belongs: 0 train, 1 valid, 2 test.

    The rows are permuted within tens, by the seed, and the ninth and the tenth of each are
    valid and test. So the shares are exact, a row's split depends on its own number only,
    and rows that come later change nothing: no pass over the file is needed beforehand.
    """
    if len(numbers) == 0:
        return np.zeros(0, np.uint8)
    first = int(numbers.min()) // GROUP
    last = int(numbers.max()) // GROUP + 1
    ranks = _mixed(np.arange(first * GROUP, last * GROUP, dtype=np.uint64), seed)
    order = np.argsort(ranks.reshape(-1, GROUP), axis=1, kind="stable")
    codes = np.zeros(order.shape, np.uint8)
    np.put_along_axis(codes, order[:, :1], 1, axis=1)
    np.put_along_axis(codes, order[:, 1:2], 2, axis=1)
    return codes.reshape(-1)[numbers - first * GROUP]


def split_rows(rows: int, seed: int) -> tuple[Int64[np.ndarray, " _"], ...]:
    """Return the row numbers of train, valid and test in the order of the encoded dataset."""
    codes = split_codes(np.arange(rows), seed)
    return tuple(np.flatnonzero(codes == code) for code in range(3))


def _mixed(numbers: UInt64[np.ndarray, " rows"], seed: int) -> UInt64[np.ndarray, " rows"]:
    """Hash row numbers (the finaliser of splitmix64), the same on every machine."""
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
