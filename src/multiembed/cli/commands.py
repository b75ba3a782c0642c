"""All commands, and what becomes of their mistakes."""

import errno
import sys
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.text import Text

from multiembed import __version__
from multiembed.base.errors import InputError, brief, said_of_surroundings
from multiembed.base.memory import keep_freed_memory
from multiembed.cli import compare_commands as comparisons
from multiembed.cli import data_commands as data
from multiembed.cli import experiment_commands as experiments
from multiembed.cli import run_commands as runs
from multiembed.cli import scoring_commands as scoring
from multiembed.cli.console import app, err, out
from multiembed.cli.streams import dropping, refusing_shortened_files, unheard_libraries

COMMANDS = (
    data.prepare_command,
    runs.train_command,
    scoring.evaluate_command,
    scoring.calibrate_command,
    scoring.predict_command,
    runs.export_command,
    runs.embeddings_command,
    runs.models_command,
    runs.diagnose_command,
    runs.compress_command,
    comparisons.compare_command,
    experiments.scale_command,
    experiments.tune_command,
    experiments.reproduce_command,
    experiments.demo_command,
)
"""In the order of the help."""
FEWEST_FILES, ENOUGH_FILES = 32, 1024
"""Open at once: with fewer, libraries end the process; what the limit is raised to, if it may."""
INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt, and shells of a program that one ended."""

app.registered_commands.sort(key=lambda command: COMMANDS.index(command.callback))


def _version(asked: bool | None) -> None:
    if asked:
        out.print(f"multiembed {__version__}")
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
    keep_freed_memory()
    files = _open_files()
    if files < FEWEST_FILES:
        rule = f"the limit of open files must be at least {FEWEST_FILES}"
        return _refuse(f"{rule}, got {files} (ulimit -n)")
    with ExitStack() as stack:
        stack.enter_context(unheard_libraries())
        stack.enter_context(refusing_shortened_files())
        stack.enter_context(dropping("stderr"))
        printed = stack.enter_context(dropping("stdout"))
        code = _run()
        sys.stdout.flush()
        if code == 0 and printed and printed.lost and printed.lost.errno != errno.EPIPE:
            code = _refuse(f"standard output must be writable, got: {printed.lost.strerror}")
    return code


def _open_files() -> int:
    """Return how many files may be open at once, after raising a low limit as far as we may."""
    if sys.platform == "win32":
        return ENOUGH_FILES
    import resource

    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft not in (most, unlimited) and soft < ENOUGH_FILES:
        soft = ENOUGH_FILES if most == unlimited else min(ENOUGH_FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
    return ENOUGH_FILES if soft == unlimited else soft


def _run() -> int:
    try:
        code = app(standalone_mode=False, prog_name="multiembed") or 0
    except InputError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        message = error.format_message()
        if message.startswith("Usage: "):  # the help, for no command at all
            err.print(Text(message), soft_wrap=True)
            return 2
        return _refuse(message.replace("Value error, ", ""))
    except BaseException as error:  # a library in Rust panics by what is no Exception
        said = said_of_surroundings(error)
        if said is None:
            raise
        return _refuse(said)
    if code == INTERRUPTED:
        err.print("multiembed: interrupted; what was finished is kept")
    return code


def _refuse(message: str) -> int:
    """Say in one line what is wrong with the input, and return the exit code for that."""
    err.print(f"multiembed: {brief(message)}", style="red", soft_wrap=True)
    return 2
