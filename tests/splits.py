"""The rows of every split of a dataset that was prepared without a column to split by."""

import numpy as np

from multiembed.data.encoding.counting import split_codes


def split_rows(rows, seed):
    """Return the row numbers of train, valid and test in the order of the encoded dataset."""
    codes = split_codes(np.arange(rows), seed)
    return tuple(np.flatnonzero(codes == code) for code in range(3))
