"""Commands that start at once: forked from a process that has loaded everything already.

    python tests/warm_commands.py FOLDER

Puts `multiembed` and `python` into FOLDER, for scripts that call them dozens of times. What these
do is done by a child of this process, with the caller's arguments, folder, environment and files.
"""

import json
import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

from numba import njit

from multiembed import HOMES

LOADED = (
    "multiembed.cli.commands",
    "multiembed.cli.data_output",
    "multiembed.cli.experiment_output",
    "multiembed.cli.run_output",
    *(f"multiembed.{home}" for home in HOMES),
    "pandas",
    "sklearn.metrics",
    "onnxruntime",
    "onnxscript",
    "torch._dynamo",
    "torch.export._trace",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._torchlib.ops",
)
"""What takes seconds."""
CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(call).to_bytes(4, "little")], [0, 1, 2])
server.sendall(call)
sys.exit(int(server.recv(8) or 1))
"""


def main(folder):
    for name in LOADED:
        import_module(name)
    njit(lambda: 0)()  # what the first of all compiled loops loads

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen()
    for name in ("python", "multiembed"):
        text = CLIENT.format(python=sys.executable, address=str(folder / "socket"), name=name)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            serve(caller)
        caller.close()


def serve(caller):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(caller, 4, 3)
    call = b""
    while len(call) < int.from_bytes(size, "little"):
        call += caller.recv(1 << 20)
    name, arguments, folder, environment = json.loads(call)
    for place, file in enumerate(files):
        os.dup2(file, place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        code = multiembed_command(arguments) if name == "multiembed" else python(arguments)
    except SystemExit as end:
        code = int(end.code) if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.sendall(str(int(code)).encode())
        os._exit(0)


def multiembed_command(arguments):
    from multiembed.__main__ import main as command

    sys.argv = ["multiembed", *arguments]
    return command()


def python(arguments):
    """Run a script from standard input, from an argument, or from a file."""
    first, *rest = arguments or ["-"]
    if first == "-c":
        first, text, rest = "-c", rest[0], rest[1:]
    else:
        text = sys.stdin.read() if first == "-" else Path(first).read_text()
    sys.argv = [first, *rest]
    exec(compile(text, first, "exec"), {"__name__": "__main__"})
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
