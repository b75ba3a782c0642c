"""The command line: parse, call, print. No other room prints."""

import signal
from typing import Annotated

import typer

from multiembed import __version__
from multiembed.allocator import keep_freed_memory
from multiembed.cli import (
    calibrate,
    compress,
    demo,
    diagnose,
    embeddings,
    export,
    models,
    predict,
    prepare,
    reproduce,
    scale,
    train,
)
from multiembed.cli.console import app, err, out
from multiembed.errors import InputError

COMMANDS = (
    prepare.prepare,
    train.train,
    train.evaluate,
    calibrate.calibrate,
    predict.predict,
    export.export,
    embeddings.embeddings,
    models.models,
    diagnose.diagnose,
    compress.compress,
    scale.scale,
    reproduce.reproduce,
    demo.demo,
)
"""In the order of the help."""

app.registered_commands.sort(key=lambda command: COMMANDS.index(command.callback))


def _version(asked: bool | None) -> None:
    if asked:
        out.print(f"multiembed {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Say the version."),
    ] = None,
) -> None:
    """Click-through-rate models that keep getting better as they grow."""


def main() -> int:
    """Run the command line: 0 done, 2 the input is wrong (said in one line), 1 our bug."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    keep_freed_memory()
    try:
        return app(standalone_mode=False, prog_name="multiembed") or 0
    except InputError as error:
        err.print(
            f"multiembed: {error}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    except typer.TyperException as error:
        err.print(error.format_message(), highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        err.print("multiembed: interrupted; what was finished is kept", highlight=False)
        return 130
    return 2
