"""Raw values to the probability of a click, with NumPy, pyarrow and onnxruntime or torch alone.

import loader
bundle = loader.Bundle()
bundle.predict({"city": ["Paris", None], "price": [3.5, 7.0]})
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


class Bundle:
    """A model, and what turns raw values into its ids; `ValueError` if a file is not as it was."""

    def __init__(self, folder=Path(__file__).parent):
        try:
            lines = (Path(folder) / "SHA256SUMS").read_text("utf-8").splitlines()
            files = {name: _whole(Path(folder) / name, sum) for sum, _, name in map(_split, lines)}
            self.manifest = json.loads(files["manifest.json"].read_text("utf-8"))
            self.score = _scorer(files[self.manifest["model"]])
            vocabularies = {f["name"]: f["vocabulary"] for f in self.manifest["fields"]}
            self.known = {n: pq.read_table(files[f])["value"] for n, f in vocabularies.items() if f}
        except (OSError, KeyError) as error:
            raise ValueError(f"{folder} must be a whole bundle, got: {error}") from None

    def predict(self, rows, batch=8192):
        """Score a dictionary of lists, a pyarrow table, or a data frame of pandas or polars."""
        ids = self.encode(pa.table(rows))
        parts = [self.score(ids[at : at + batch]) for at in range(0, len(ids), batch)]
        p = np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float64)
        calibration = self.manifest["calibration"] or {"method": None}
        if calibration["method"] == "isotonic":
            p = np.interp(p, *np.array(calibration["points"]).T)
        if calibration["method"] == "platt":
            logit = np.log(np.clip(p, 1e-7, 1 - 1e-7)) - np.log1p(-np.clip(p, 1e-7, 1 - 1e-7))
            p = 1 / (1 + np.exp(-calibration["slope"] * logit - calibration["intercept"]))
        return p.astype(np.float32)

    def encode(self, table):
        """Turn raw values into ids; 0 is any value that training did not keep."""
        absent = [f["name"] for f in self.manifest["fields"] if f["name"] not in table.column_names]
        if absent:
            raise ValueError(f"rows must have a column {absent[0]!r}, got {table.column_names}")
        columns = [np.zeros((len(table), 0), np.int64)]
        for field in self.manifest["fields"]:
            column = table[field["name"]]
            if column.type in (pa.string_view(), pa.null()):
                column = column.cast(pa.large_string())
            column = pc.dictionary_encode(column).combine_chunks()
            values, row_of = column.dictionary, pc.fill_null(column.indices, len(column.dictionary))
            find = self._texts if field["vocabulary"] else _numbers
            of_value = find(field, values)
            columns.append(np.append(of_value, field["missing"])[row_of.to_numpy(), None])
        return np.concatenate(columns, axis=1)

    def _texts(self, field, values):
        if pa.types.is_floating(values.type):
            values = pa.array([_text(value) for value in values.to_pylist()], pa.string())
        place = pc.index_in(values.cast(pa.string()), self.known[field["name"]].cast(pa.string()))
        ids = pc.fill_null(place, -1).to_numpy(zero_copy_only=False) + 1
        empty = pc.equal(values.cast(pa.string()), "").to_numpy(zero_copy_only=False)
        return np.where(empty, field["missing"], ids)


def _split(line):
    return line.partition("  ")


def _whole(file, digest):
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != digest:
            raise ValueError(f"{file} must be as it was exported, got other bytes")
    return file


def _scorer(file):
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda ids: session.run(None, {"ids": ids})[0]
    import torch

    module = torch.export.load(file).module()
    return lambda ids: module(torch.from_numpy(ids)).detach().numpy()


def _text(number):
    """Write a number that is a category: 5.0 is the category 5."""
    if number != number:
        return ""
    if abs(number) <= 2**53 and number == int(number):
        return str(int(number))
    if 1e-5 <= abs(number) < 1e16:
        return np.format_float_positional(number, trim="0")
    return np.format_float_scientific(number, trim="-", exp_digits=1)


def _numbers(field, values):
    """Number the intervals between thresholds; text that is no number is 0."""
    text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    parsed = map(_parsed, values) if text else values.cast(pa.float64(), safe=False).to_pylist()
    parsed = list(parsed)
    numbers, bad = np.array(parsed, float), np.array([number is None for number in parsed], bool)
    places = np.searchsorted(field["thresholds"], numbers, side="right")
    ids = np.where(np.isfinite(numbers), np.array(field["ids"])[places], field["missing"])
    return np.where(bad, 0, ids)


def _parsed(text):
    try:
        return text.cast(pa.float64()).as_py() if text.as_py() else np.nan
    except pa.ArrowInvalid:
        return None
