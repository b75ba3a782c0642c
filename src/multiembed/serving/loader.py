"""Raw values to the probability of a click, with NumPy, pyarrow and onnxruntime or torch alone.

import loader
bundle = loader.Bundle()
bundle.predict({"city": ["Paris", None], "price": [3.5, 7.0]})
"""

import bisect
import hashlib
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


class Bundle:
    """A model, and what turns raw values into its ids; `ValueError` if a file is not as it was."""

    def __init__(self, folder=Path(__file__).parent):
        folder = Path(folder).absolute()
        sums = (folder / "SHA256SUMS").read_text("utf-8").splitlines()
        for digest, name in (line.split("  ") for line in sums):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{folder / name} must be as it was exported, got others")
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        self.rules = Rules(folder / "canonical.py")
        self.fields = manifest["fields"]
        for field in (field for field in self.fields if field["vocabulary"]):
            self.rules.learn(
                field, pq.ParquetFile(folder / field["vocabulary"]).read()["value"].to_pylist()
            )
        self.score = _scorer(folder / manifest["model"])

    def predict(self, rows, batch=512):
        """Score a dictionary of lists, a pyarrow table, or a data frame of pandas or polars."""
        table = pa.table(rows)
        kinds = ["ids", "numbers"] if any("number" in of for of in self.fields) else ["ids"]
        columns = {kind: self.encode(table, kind) for kind in kinds}
        starts = range(0, len(columns["ids"]), batch)
        parts = [self.score({n: c[at : at + batch] for n, c in columns.items()}) for at in starts]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def encode(self, table, kind="ids"):
        """Turn raw values into ids; 0 is any value that training did not keep, -1 fills slots.

        Or into numbers on the scales of the fields that have one, NaN where one is missing.
        """
        fields = [field for field in self.fields if kind == "ids" or "number" in field]
        return np.hstack([self._column(field, table[field["column"]], kind) for field in fields])

    def _column(self, field, column, kind):
        try:
            return getattr(self.rules, kind)(field, column)
        except (pa.ArrowException, AttributeError, KeyError, TypeError):
            name = repr(field["column"])
            raise ValueError(f"column {name} must hold plain values, got {column.type}") from None


class Rules:
    """What makes an id of a value, by the texts of `canonical.py`."""

    def __init__(self, file):
        self.of = runpy.run_path(str(file))
        self.absent = {*self.of["MISSING"], *self.of["NO_NUMBER"]}

    def learn(self, field, values):
        """Keep a vocabulary: its texts as they are and, behind these, their canonical ones."""
        field["known"] = known = {value or "": place for place, value in enumerate(values, 1)}
        field["again"] = {self.of["canonical_text"](text): known[text] for text in reversed(known)}

    def ids(self, field, column):
        """Return a column of ids, or as many as the field has slots."""
        rule = field["date"]
        texts, places, typed = _distinct(column, self.of, local=rule is not None)
        format = None if rule is None else "iso" if typed else rule["format"]
        cells = ([*self.cell(field, text, format), *[-1] * field["slots"]] for text in texts)
        filled = [cell[: field["slots"]] for cell in cells]
        return np.array(filled, np.int64).reshape(-1, field["slots"])[places]

    def numbers(self, field, column):
        """Return a column of numbers on the scale of their field."""
        texts, places, _ = _distinct(column, self.of, local=False)
        found = [self.of["number_of"](text, field["decimal"], field["absent"]) for text in texts]
        finite = [math.nan if n is None or math.isinf(n) else float(n) for n in found]
        levels = np.interp(finite, field["number"]["values"], field["number"]["levels"])
        return np.where(np.isnan(finite), np.nan, levels).astype(np.float32)[places, None]

    def cell(self, field, text, format):
        """Return the ids of one cell."""
        if format is not None:
            return [self.moment(field, text.strip(self.of["BLANKS"]), format)]
        if field["kind"] == "numeric":
            return [self.number(field, text)]
        if field["kind"] == "multivalued":
            parts = self.of["cell_values"](text, field["delimiter"], field["absent"])
            parts = parts[-field["slots"] :] if field.get("history") else parts or [""]
            return [self.known(field, part) for part in parts]
        if field["hash_size"] is None and text in field["known"]:
            return [field["known"][text]]
        return [self.known(field, self.of["canonical_text"](text, field["absent"]))]

    def known(self, field, text):
        """Return the id of a canonical text."""
        if text and field["hash_size"] is not None:
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            text = str(int.from_bytes(digest, "little") % field["hash_size"])
        return field["known"].get(text) or field["again"].get(text, 0)

    def number(self, field, text):
        """Return the id of a number."""
        number = self.of["number_of"](text, field["decimal"], field["absent"])
        if number is None:
            return 0
        if field["vocabulary"]:
            digits = self.of["canonical_text"](str(number)) if math.isfinite(number) else ""
            return self.known(field, digits)
        if not math.isfinite(number):
            return field["missing"]
        return field["ids"][bisect.bisect_right(field["thresholds"], number)]

    def moment(self, field, text, format):
        """Return the id of the hour or the day of a moment, local as written."""
        if text in self.absent or not self.of["canonical_text"](text, field["absent"]):
            return field["known"].get("", 0)
        try:
            hour, day = self.of["hour_and_day"](text, format)
        except (ValueError, OverflowError):
            return 0
        part = {"hour": hour, "weekday": day, "weekend": int(day >= 6)}[field["date"]["part"]]
        return field["known"].get(str(part), 0)


def _scorer(file):
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        read = [of.name for of in session.get_inputs()]  # a model of numbers alone reads no ids
        return lambda columns: session.run(None, {name: columns[name] for name in read})[0]
    import torch

    module = torch.export.load(file).module()
    return lambda columns: module(*map(torch.from_numpy, columns.values())).detach().numpy()


def _plain(array):
    """Return an array of the type that stands behind those that only say how it is stored."""
    kind, of = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return pa.array([str(value or "") for value in array.to_pylist()], pa.string())
        plain = {"arrow.bool8": pa.bool_(), "arrow.json": pa.string()}
        return array.storage.cast(plain[kind.extension_name])
    if of.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    if of.is_dictionary(kind):
        return _plain(array.dictionary).take(array.indices)
    if of.is_list_view(kind) or of.is_large_list_view(kind):
        return pa.array(array.to_pylist(), pa.large_list(kind.value_type))
    if of.is_float16(kind):
        halves = array.fill_null(np.float16(np.nan)).to_numpy(zero_copy_only=False)
        return pa.array([str(value) for value in halves])
    as_text = of.is_null(kind) or of.is_decimal(kind) or kind == pa.string_view()
    return array.cast(pa.string()) if as_text else array


def _distinct(column, rules, *, local):
    """Return the distinct texts of a column, where each row's is, and whether it has moments."""
    parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    array = pa.concat_arrays([_plain(part) for part in parts or [pa.nulls(0, column.type)]])
    kind, of = array.type, pa.types
    if of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind):
        if of.is_nested(kind.value_type):
            raise TypeError
        texts = np.full(len(array), "", object)
        elements, places, _ = _distinct(pc.list_flatten(array), rules, local=local)
        for row, place in zip(pc.list_parent_indices(array).to_pylist(), places, strict=True):
            texts[row] += rules["BETWEEN"] + elements[place]
        array = pa.array(texts, pa.string())
    elif of.is_duration(kind) or of.is_interval(kind):
        raise TypeError
    array = array.dictionary_encode()
    texts = [text or "" for text in _texts(array.dictionary, rules, local=local)]
    places = array.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return [*texts, ""], places, of.is_timestamp(kind) or of.is_date(kind)


def _texts(values, of, *, local):
    """Return text that means the same as values of any plain type."""
    kind = values.type
    if pa.types.is_floating(kind):
        return [str(value) for value in values.to_numpy(zero_copy_only=False)]
    if "binary" in str(kind):
        return [of["text_of_bytes"](value) for value in values.cast(pa.binary()).to_pylist()]
    if pa.types.is_timestamp(kind) and kind.tz:
        zone = pa.timestamp(kind.unit, "UTC")
        values = pc.local_timestamp(values) if local else values.cast(zone)
    return values.cast(pa.string()).to_pylist()
