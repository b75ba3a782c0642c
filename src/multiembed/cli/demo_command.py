"""`multiembed demo`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multiembed.cli.console import Watcher, app, out
from multiembed.experiments.demo import DemoRow, run_demo


@app.command()
def demo(
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write to.")] = Path(
        "demo"
    ),
) -> None:
    """Train three models on real flight records and compare their collapse; minutes."""
    with Watcher() as watcher:
        result = run_demo(out_, watcher)
    out.print(_demo_table(result.rows))
    for sentence in result.findings:
        out.print(sentence, highlight=False)
    out.print(f"Report: {result.report}", highlight=False)


def _demo_table(rows: list[DemoRow]) -> Table:
    table = Table(title="DCNv2 on flight records: arrived more than 15 minutes late?")
    table.add_column("model", no_wrap=True)
    for heading in ("size", "test AUC", "log loss", "raw", "centred", "of null", "sec."):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.model,
            f"{row.parameters / 1e6:.2f}M",
            f"{row.test_auc:.5f}",
            f"{row.test_log_loss:.5f}",
            f"{row.abundance:.2f}",
            f"{row.centered_abundance:.2f}",
            f"{row.normalized_abundance:.2f}",
            f"{row.seconds:.0f}",
        )
    table.caption = (
        "size: parameters. raw, centred, of null (share of a random table's): "
        "information abundance, mean over fields"
    )
    return table
