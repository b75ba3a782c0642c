"""Raw values to the probability of a click, with NumPy, pyarrow and onnxruntime or torch alone.

import loader
bundle = loader.Bundle()
bundle.predict({"city": ["Paris", None], "price": [3.5, 7.0]})
"""

import bisect
import hashlib
import json
import math
import re
import runpy
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HOUR, DAY = 3_600_000_000, 86_400_000_000


class Bundle:
    """A model, and what turns raw values into its ids; `ValueError` if a file is not as it was."""

    def __init__(self, folder=Path(__file__).parent):
        folder = Path(folder)
        sums = (folder / "SHA256SUMS").read_text("utf-8").splitlines()
        for digest, name in (line.split("  ") for line in sums):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{folder / name} must be as it was exported, got others")
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        self.rules = Rules(folder / "canonical.py")
        self.fields = manifest["fields"]
        for field in (field for field in self.fields if field["vocabulary"]):
            self.rules.learn(
                field, pq.read_table(folder / field["vocabulary"])["value"].to_pylist()
            )
        self.score = _scorer(folder / manifest["model"])

    def predict(self, rows, batch=512):
        """Score a dictionary of lists, a pyarrow table, or a data frame of pandas or polars."""
        ids = self.encode(pa.table(rows))
        parts = [self.score(ids[at : at + batch]) for at in range(0, len(ids), batch)]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def encode(self, table):
        """Turn raw values into ids; 0 is any value that training did not keep, -1 fills slots."""
        return np.hstack([self._ids(field, table[field["column"]]) for field in self.fields])

    def _ids(self, field, column):
        try:
            return self.rules.ids(field, column)
        except (pa.ArrowException, AttributeError, TypeError):
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
        texts, places, typed = _distinct(column, self.of["BETWEEN"], local=rule is not None)
        format = None if rule is None else "iso" if typed else rule["format"]
        cells = ([*self.cell(field, text, format), *[-1] * field["slots"]] for text in texts)
        filled = [cell[: field["slots"]] for cell in cells]
        return np.array(filled, np.int64).reshape(-1, field["slots"])[places]

    def cell(self, field, text, format):
        """Return the ids of one cell."""
        if format is not None:
            return [self.moment(field, text.strip(self.of["BLANKS"]), format)]
        if field["kind"] == "numeric":
            return [self.number(field, text)]
        if field["kind"] == "multivalued":
            parts = self.of["cell_values"](text, field["delimiter"], field["absent"])
            return [self.known(field, part) for part in parts or [""]]
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
        if text in self.absent or text in field["absent"]:
            return field["known"].get("", 0)
        try:
            hour, day = self.hour_and_day(text, format)
        except (ValueError, OverflowError):
            return 0
        part = {"hour": hour, "weekday": day, "weekend": int(day >= 6)}[field["date"]["part"]]
        return field["known"].get(str(part), 0)

    def hour_and_day(self, text, format):
        """Return the hour of a moment, and its day of the week, 1 for Monday."""
        of = self.of
        if format in of["SINCE_1970"]:
            since = float(text if of["PLAIN"].fullmatch(text) else "nan") * of["SINCE_1970"][format]
            if not of["LASTS"][0] <= since < of["LASTS"][1]:
                raise ValueError
            return int(since) % DAY // HOUR, (int(since) // DAY + 3) % 7 + 1
        plain, fraction, offset = of["plain_format"](format)
        if offset or format == "iso":
            text = re.sub(of["OFFSET"], r"\1", text)
        if fraction:
            text = re.sub(of["FRACTION"], "", text)
        if format != "iso":
            moment = datetime.strptime(text, plain)
        elif re.fullmatch(of["ISO"], text := text.replace(" ", "T", 1)):
            moment = datetime.fromisoformat(text[:16])
        else:
            raise ValueError
        return moment.hour, moment.isoweekday()


def _scorer(file):
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda ids: session.run(None, {"ids": ids})[0]
    import torch

    module = torch.export.load(file).module()
    return lambda ids: module(torch.from_numpy(ids)).detach().numpy()


def _distinct(column, between, *, local):
    """Return the distinct texts of a column, where each row's is, and whether it has moments."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.DictionaryArray):
        plain = pa.string() if array.type.value_type == pa.string_view() else array.type.value_type
        array = array.dictionary.cast(plain).take(array.indices)
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        texts = np.full(len(array), "", object)
        elements, places, _ = _distinct(pc.list_flatten(array), between, local=local)
        for row, place in zip(pc.list_parent_indices(array).to_pylist(), places, strict=True):
            texts[row] += between + elements[place]
        array = pa.array(texts, pa.string())
    if pa.types.is_float16(kind):
        array = pa.array([None if value is None else str(np.float16(value)) for value in array])
    elif pa.types.is_null(kind) or pa.types.is_decimal(kind) or kind == pa.string_view():
        array = array.cast(pa.string())
    array = array.dictionary_encode()
    texts = [text or "" for text in _texts(array.dictionary, local=local)]
    places = array.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return [*texts, ""], places, pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _texts(values, *, local):
    """Return text that means the same as values of any plain type."""
    kind = values.type
    if pa.types.is_floating(kind):
        return [str(value) for value in values.to_numpy(zero_copy_only=False)]
    if "binary" in str(kind):
        return [_decoded(value) for value in values.cast(pa.binary()).to_pylist()]
    if pa.types.is_timestamp(kind) and kind.tz:
        zone = pa.timestamp(kind.unit, "UTC")
        values = pc.local_timestamp(values) if local else values.cast(zone)
    return values.cast(pa.string()).to_pylist()


def _decoded(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
