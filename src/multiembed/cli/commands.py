"""All commands, and what becomes of their mistakes."""

import signal
from typing import Annotated

import typer

from multiembed import __version__
from multiembed.base.errors import InputError
from multiembed.base.memory import keep_freed_memory
from multiembed.cli import calibrate_command as calibrate
from multiembed.cli import compress_command as compress
from multiembed.cli import demo_command as demo
from multiembed.cli import diagnose_command as diagnose
from multiembed.cli import embeddings_command as embeddings
from multiembed.cli import export_command as export
from multiembed.cli import models_command as models
from multiembed.cli import predict_command as predict
from multiembed.cli import prepare_command as prepare
from multiembed.cli import reproduce_command as reproduce
from multiembed.cli import scale_command as scale
from multiembed.cli import train_command as train
from multiembed.cli.console import app, err, out

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
INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt, and shells of a program that one ended."""

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


def run() -> int:
    """Run the command line: 0 done, 2 the input is wrong (said in one line), 1 our bug."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    keep_freed_memory()
    try:
        code = app(standalone_mode=False, prog_name="multiembed") or 0
    except InputError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        message = error.format_message()
        if message.startswith("Usage: "):  # the help, for no command at all
            err.print(message, highlight=False, markup=False, soft_wrap=True)
            return 2
        # What was typed may hold line ends, which our own errors show as such.
        return _refuse(str(InputError(message.replace("Value error, ", ""))))
    if code == INTERRUPTED:
        err.print("multiembed: interrupted; what was finished is kept", highlight=False)
    return code


def _refuse(message: str) -> int:
    """Say in one line what is wrong with the input, and return the exit code for that."""
    err.print(f"multiembed: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
    return 2
