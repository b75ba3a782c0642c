"""What `diagnose` does with several checkpoints of one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from multiembed.base.errors import ConfigError
from multiembed.cli.console import Watcher, out, write
from multiembed.diagnosis.drift_words import drift_table
from multiembed.diagnosis.over_time import diagnose_over_time
from multiembed.diagnosis.readers.layouts import Cardinalities


def show_over_time(
    sources: Sequence[Path],
    cardinalities: Cardinalities | None,
    one_model: Mapping[str, object],
    *,
    html: Path | None,
    json_: str | None,
) -> None:
    """Compare checkpoints in order of time; print and write what was found."""
    for option, given in one_model.items():
        if given:
            raise ConfigError(f"{option} must be said of one model, got several checkpoints")
    with Watcher() as watcher:
        found = diagnose_over_time(
            sources,
            cardinalities=cardinalities,
            progress=lambda done, total: watcher.advance("fields", done, total),
        )
    if html is not None:
        write(found.to_html(), str(html))
    if json_ is not None:
        write(found.to_json(), json_)
    if json_ != "-":
        out.print(drift_table(found))
