"""A format of raw rows, or of scored ones, is one entry: it is then known wherever formats are."""

import json
import subprocess
import sys

import polars as pl
import pytest

from multiembed.base.errors import ConfigError
from multiembed.base.validation import checked
from multiembed.config import RunConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare, preview
from multiembed.data.sources.formats import FORMATS, Choice, RawFormat
from multiembed.data.sources.records import Dialect
from multiembed.data.sources.source import Column
from multiembed.data.sources.text import TextReader
from multiembed.data.store.dataset import open_dataset
from multiembed.serving.output_formats import OUTPUTS
from multiembed.serving.predict import predict
from multiembed.serving.rows_out import RowWriter
from multiembed.training.start import train

SMALL = {
    "model": {"architecture": "dnn", "dim": 2, "options": {"hidden": [4]}},
    "training": {"max_epochs": 1, "batch_size": 64, "device": "cpu"},
}


class BarFormat(RawFormat):
    """Values with bars between them and no header; the label, if there is one, comes first."""

    min_count = 3

    def open_file(self, file, options):
        return TextReader(file, Dialect("|", quote=""), ("bought", "a", "b"), header=False)

    def open_to_score(self, file, schema):
        return TextReader(file, Dialect("|", quote=""), schema.field_names, header=False)

    def choose(self, reader, options):
        return Choice("bought", (Column("a", "categorical"), Column("b", "numeric")))


class LengthOnly(RowWriter):
    """Writes how many rows there are, frame by frame."""

    def write(self, rows):
        self.file.write(f"{rows.columns[-1]} {rows.height}\n".encode())


@pytest.fixture
def bars(tmp_path):
    rows = [f"{n % 2}|{'xyz'[n % 3]}|{n % 7}" for n in range(200)]
    (tmp_path / "rows.bar").write_text("\n".join([*rows, "1|rare|1"]) + "\n")
    (tmp_path / "new.bar").write_text("x|3\nz|\nrare|5\n")
    return tmp_path / "rows.bar"


def test_a_new_format_is_prepared_previewed_and_scored(bars, tmp_path):
    with FORMATS.also("bars", BarFormat()), OUTPUTS.also(".len", LengthOnly):
        options = PrepareOptions(format="bars")
        shown = preview(bars, options, tmp_path)
        schema = prepare(bars, tmp_path / "dataset", options)
        config = checked(RunConfig, SMALL)
        run = train(config, dataset=open_dataset(tmp_path / "dataset"), run=tmp_path / "run")
        scored = predict(run, tmp_path / "new.bar", tmp_path / "out.len", column="p")
        predict(run, tmp_path / "new.bar", tmp_path / "out.csv", column="p")

    assert [one.field.name for one in shown.fields] == ["a", "b"]
    assert schema.label == "bought"
    assert [field.min_count for field in schema.fields] == [3, 3]
    assert schema.fields[0].cardinality == 4  # x, y, z and the rare ones
    assert scored == 3
    assert (tmp_path / "out.len").read_text() == "p 3\n"
    assert pl.read_csv(tmp_path / "out.csv").columns == ["a", "b", "p"]
    with pytest.raises(ValueError, match=r"format must be one of flights, criteo, .*, got 'bars'"):
        checked(PrepareOptions, {"format": "bars"})
    with pytest.raises(ConfigError, match=r"must end in one of \.csv, .*, got '\.len'"):
        predict(run, tmp_path / "new.bar", tmp_path / "other.len")


def test_the_command_line_lists_what_the_registries_hold():
    script = (
        "import sys\n"
        "from multiembed.data.sources.raw_formats import FORMATS\n"
        "from multiembed.serving.output_formats import OUTPUTS\n"
        "with FORMATS.also('bars', None), OUTPUTS.also('.len', None):\n"
        "    from multiembed.__main__ import main\n"
        "    for command in ('prepare', 'predict'):\n"
        "        sys.argv[1:] = [command, '--help']\n"
        "        main()\n"
    )

    command = [sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "|bars>" in said
    assert ".len" in said
    for name, format in FORMATS.items():
        assert f"{format.min_count} {name}" in " ".join(said.split())


def test_options_in_a_schema_keep_the_name_of_the_format(bars, tmp_path):
    with FORMATS.also("bars", BarFormat()):
        prepare(bars, tmp_path / "dataset", PrepareOptions(format="bars"))

    content = json.loads((tmp_path / "dataset" / "schema.json").read_text())
    assert list(content["options"])[:2] == ["format", "label"]
    assert content["options"]["format"] == "bars"
