"""A model card: what a run was trained on and how, how good it is, and how to use it."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from multiembed.base.errors import UNSEEN, DataError
from multiembed.base.files import write_text
from multiembed.base.markdown import code, code_cell, plain_text
from multiembed.data.store.schema import Field, Schema
from multiembed.diagnosis.diagnose import diagnose
from multiembed.models.vector_settings import Pretrained
from multiembed.runs.calibration import read_self_calibrated
from multiembed.runs.run import Run
from multiembed.serving.raw_rows import rows_of

FIELDS_SHOWN = 60
MEASURES_SHOWN = {
    "auc": "AUC",
    "log_loss": "log loss",
    "normalized_entropy": "normalised entropy",
    "calibration_ratio": "expected over observed positives",
    "expected_calibration_error": "expected calibration error",
}


def write_card(run: Run) -> Path:
    """Write the model card of a trained run, `README.md` in its directory.

    The test split is measured where the dataset is there; else the card says that it was not.
    """
    parts = [
        f"# {plain_text(run.path.resolve().name)}",
        _model(run),
        _data(run),
        _protocol(run),
        _quality(run),
        _collapse(run),
        _use(run),
    ]
    card = run.directory.card
    write_text(card, "\n\n".join(parts) + "\n")
    return card


def _model(run: Run) -> str:
    model = run.config.model
    dim, sets = model.shape()
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    sets_text = "one embedding set" if sets == 1 else f"{sets} embedding sets"
    return (
        f"A click model, `{model.architecture}` with {sets_text} of size {dim}: "
        f"{parameters:,} parameters. It gives the probability of {code(run.schema.label)}."
        + "".join(_vectors(name, of) for name, of in (model.pretrained or {}).items())
    )


def _vectors(field: str, of: Pretrained) -> str:
    return (
        f"\n\nPretrained vectors of {code(field)}: {of.described()}, of {code(of.file)}, SHA-256 "
        f"{code(str(of.sha256))}."
    )


def _data(run: Run) -> str:
    schema = run.schema
    splits = [
        f"| {name} | {split.rows:,} | {split.positives / max(1, split.rows):.3%} |"
        for name, split in schema.splits.items()
    ]
    sources = [
        f"- {code(s.path)}, {s.bytes:,} bytes, SHA-256 {code(s.sha256)}" for s in schema.sources
    ]
    return "\n".join(
        [
            "## Data",
            "",
            f"Encoded in {code(str(run.config.dataset))}."
            + (f" Rows count by {code(schema.weight)}." if schema.weight else ""),
            *sources,
            "",
            "| split | rows | positive |",
            "| --- | ---: | ---: |",
            *splits,
            "",
            *_fields(schema),
        ]
    )


def _fields(schema: Schema) -> list[str]:
    train, test = (max(1, schema.splits[name].rows) for name in ("train", "test"))
    rows = [
        f"| {code_cell(field.name)} | {_kind(field)} | {field.cardinality:,} | "
        f"{field.other.get('train', 0) / train:.2%} | {field.other.get('test', 0) / test:.2%} |"
        for field in schema.fields[:FIELDS_SHOWN]
    ]
    more = len(schema.fields) - FIELDS_SHOWN
    return [
        "| field | kind | ids | other in train | other in test |",
        "| --- | --- | ---: | ---: | ---: |",
        *rows,
        *([f"\n… and {more} more, see `schema.json`."] if more > 0 else []),
    ]


def _kind(field: Field) -> str:
    if field.number is not None:
        return field.kind_in_words
    return field.kind if field.shares is None else f"history of {code_cell(field.shares)}"


def _protocol(run: Run) -> str:
    training = run.config.training
    best = run.best_state
    measure = "validation AUC" if training.best_by == "auc" else "validation log loss"
    epochs = "1 epoch" if training.max_epochs == 1 else f"{training.max_epochs} epochs"
    stop = f"until {training.patience} evaluations in a row brought no better {measure}"
    made_from = run.config.recipe
    recipe = f"Recipe {made_from}, with what was given in its place: " if made_from else ""
    return "\n".join(
        [
            "## Protocol",
            "",
            f"{recipe}Adam, learning rate {training.learning_rate:g}, batches of "
            f"{training.batch_size:,}, seed {training.seed}; at most {epochs}, {stop}. "
            f"The weights are those of step {best.get('step', 0):,}, "
            f"epoch {best.get('epoch', 0)}. Everything that "
            "decided the run is in `config.toml`.",
        ]
    )


def _quality(run: Run) -> str:
    valid: Mapping[str, object] = run.best_state
    test: Mapping[str, object] = {}
    note = ""
    try:
        valid, test = run.evaluate("valid"), run.evaluate("test")
    except DataError as error:
        note = f"\n\nThe test split was not measured: {plain_text(str(error))}."
    rows = [
        f"| {words} | {_number(valid.get(name))} | {_number(test.get(name))} |"
        for name, words in MEASURES_SHOWN.items()
    ]
    table = ["| measure | validation | test |", "| --- | ---: | ---: |", *rows]
    found = read_self_calibrated(run.directory.summary)
    said = [] if found is None else [f"The model {found.words}.", ""]
    return "\n".join(["## Quality", "", *said, *table]) + note


def _collapse(run: Run) -> str:
    summary = diagnose(run.path).summary
    lines = [summary.verdict.headline, *summary.verdict.findings, *summary.verdict.advice]
    abundance = (
        f"Information abundance, mean over fields: {summary.information_abundance:.2f} raw, "
        f"{summary.centered_information_abundance:.2f} without the common mean."
    )
    said = (f"- {plain_text(line)}" for line in [*lines, abundance])
    return "\n".join(["## Collapse", "", *said])


def _use(run: Run) -> str:
    path = shlex.quote(UNSEEN.sub("?", str(run.path)))
    return "\n".join(
        [
            "## Use",
            "",
            "```",
            f"multiembed predict {path} new_rows.csv scored.csv",
            f"multiembed diagnose {path} --html collapse.html",
            f"multiembed export {path} bundle --format onnx",
            "```",
            "",
            "Raw rows of any data frame, here one of every field's most frequent value:",
            "",
            "```python",
            "import multiembed as me",
            "import polars as pl",
            "",
            f"run = me.load_run({str(run.path)!r})",
            "rows = pl.DataFrame(",
            "    {",
            *(f"        {name!r}: [{value!r}]," for name, value in _example(run).items()),
            "    }",
            ")",
            "print(run.predict_proba(rows))",
            "```",
        ]
    )


def _example(run: Run) -> dict[str, str]:
    """Return a raw row of most frequent values; "" stands for a missing one."""
    fields = run.schema.fields
    first = [[min(1, f.cardinality - 1), *[-1] * (f.slots - 1)] for f in fields]
    ids = np.concatenate(first).astype(np.int32)
    values = rows_of(run.encoder, ids.reshape(1, -1)).row(0, named=True)
    return {name: value or "" for name, value in values.items()}


def _number(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, float) else "not measured"
