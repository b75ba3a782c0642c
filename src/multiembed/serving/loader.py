"""Raw values to the probability of a click, with NumPy, pyarrow and onnxruntime or torch alone.

import loader
bundle = loader.Bundle()
bundle.predict({"city": ["Paris", None], "price": [3.5, 7.0]})
"""

import bisect
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.A | re.I)


class Bundle:
    """A model, and what turns raw values into its ids; `ValueError` if a file is not as it was."""

    def __init__(self, folder=Path(__file__).parent):
        sums = (Path(folder) / "SHA256SUMS").read_text("utf-8").splitlines()
        for digest, name in (line.split("  ") for line in sums):
            if hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{Path(folder) / name} must be as it was exported, got others")
        manifest = json.loads((Path(folder) / "manifest.json").read_text("utf-8"))
        self.fields = manifest["fields"]
        for field in (field for field in self.fields if field["vocabulary"]):
            values = pq.read_table(Path(folder) / field["vocabulary"])["value"].to_pylist()
            field["known"] = {value: place for place, value in enumerate(values, 1)}
        self.score = _scorer(Path(folder) / manifest["model"])

    def predict(self, rows, batch=512):
        """Score a dictionary of lists, a pyarrow table, or a data frame of pandas or polars."""
        ids = self.encode(pa.table(rows))
        parts = [self.score(ids[at : at + batch]) for at in range(0, len(ids), batch)]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def encode(self, table):
        """Turn raw values into ids; 0 is any value that training did not keep."""
        return np.stack([_ids(field, table[field["name"]]) for field in self.fields], axis=1)


def _scorer(file):
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda ids: session.run(None, {"ids": ids})[0]
    import torch

    module = torch.export.load(file).module()
    return lambda ids: module(torch.from_numpy(ids)).detach().numpy()


def _ids(field, column):
    if column.type in (pa.string_view(), pa.null()):
        column = column.cast(pa.string())
    column = column.dictionary_encode().combine_chunks()
    values, find = column.dictionary, _category if field["vocabulary"] else _bucket
    if field["vocabulary"] and not pa.types.is_floating(values.type):
        values = values.cast(pa.string())
    missing, values = field["missing"], values.to_pylist()
    ids = [missing if v in (None, "") or v != v else find(field, v) for v in values]
    return np.array([*ids, missing])[column.indices.fill_null(len(ids)).to_numpy()]


def _category(field, value):
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        value = str(int(value))  # 5.0 is the category 5
    elif isinstance(value, float):
        small = 1e-5 <= abs(value) < 1e-4
        value = np.format_float_positional(value) if small else repr(value).replace("e-0", "e-")
    return field["known"].get(value, 0)


def _bucket(field, value):
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return 0
    place = bisect.bisect_right(field["thresholds"], float(value))
    return field["ids"][place] if np.isfinite(float(value)) else field["missing"]
