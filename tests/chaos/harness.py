"""Commands forked from a process that has loaded everything, so that they can be killed."""

import hashlib
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from safetensors import safe_open

SMALL = ["--architecture", "dnn", "--dim", "4", "--set", "model.options.hidden=[8]"]
SMALL += ["--set", "training.max_epochs=3", "--set", "training.batch_size=128"]
EXPORT = ["export", "run", "out", "--format", "torch"]
SCALE = ["scale", "ds", "out", "--seeds", "1", "--architectures", "dnn"]
SCALE += ["--set", "training.max_epochs=1"]
TIMES = {"date", "seconds", "rows_per_second", "peak_memory_bytes", "weights"}
"""What differs between two runs of the same; `weights` names a calibration's run by its times."""


class Command:
    """One call of the command line, in a process of its own.

    Args:
        folder: Where it runs; what it prints lies in `said.txt` there.
        arguments: After `multiembed`.
    """

    def __init__(self, folder, *arguments):
        self.said = folder / "said.txt"
        self.started = time.monotonic()
        self.child = os.fork()
        if self.child:
            return
        code = 1
        try:
            os.setsid()  # so that its workers die with it
            os.chdir(folder)
            log = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            from multiembed.__main__ import main

            sys.argv = ["multiembed", *map(str, arguments)]
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(code)

    def ended(self, limit=120.0):
        """Return the exit code; what takes longer than `limit` seconds is killed, and None."""
        while time.monotonic() - self.started < limit:
            found, status = os.waitpid(self.child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        self.kill()
        return None

    def kill(self):
        """End it and all that it started, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.child, 0)


def done(folder, *arguments, codes=(0,)):
    """Run a command to its end, and return how long it took.

    Raises:
        AssertionError: If it ends otherwise, or says more of a mistake than one line.
    """
    started = time.monotonic()
    command = Command(folder, *arguments)
    code = command.ended()
    said = command.said.read_text(errors="replace")
    shown = f"{' '.join(map(str, arguments))}: exit {code}: {said[-2000:]}"
    assert code in codes and "Traceback" not in said, shown
    return time.monotonic() - started


def write_rows(file, rows=1500, seed=0):
    """Write clicks that depend on their fields."""
    draw = random.Random(seed)
    lines = ["click,f0,f1,n0"]
    for _ in range(rows):
        a, b = draw.randrange(30), draw.randrange(30)
        click = int(draw.random() < 0.2 + 0.5 * (a % 3 == 0))
        lines.append(f"{click},v{a},v{b},{draw.randrange(100)}")
    file.write_text("\n".join(lines) + "\n")


def workshop(folder):
    """Fill a directory with rows, their dataset, and a trained run."""
    folder.mkdir(parents=True)
    write_rows(folder / "rows.csv")
    done(folder, "prepare", "rows.csv", "ds", "--label", "click")
    done(folder, "train", "ds", "run", *SMALL)
    return folder


def copied(folder):
    """Return a copy of a workshop, which may be spoilt, always of the same name: files hold it."""
    target = folder.parent / "copy"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, symlinks=True)
    (target / "said.txt").unlink()
    return target


def content(place):
    """Return what lies at a path, such that two that should be the same are equal: digests of
    files by name; of weights their numbers; of records and summaries what is no measured time."""
    place = Path(place)
    if not place.is_dir():
        return digest(place)
    files = (file for file in sorted(place.rglob("*")) if file.is_file())
    return {
        str(file.relative_to(place)): digest(file)
        for file in files
        if file.name != ".lock" and "datasets" not in file.parts
    }


def digest(file):
    if not file.exists():
        return None
    if file.suffix == ".safetensors":
        with safe_open(file, framework="np") as weights:
            parts = [name.encode() + weights.get_tensor(name).tobytes() for name in weights.keys()]  # noqa: SIM118
        return hashlib.sha256(b"".join(sorted(parts))).hexdigest()
    data = file.read_bytes()
    if file.suffix == ".html":  # pages say how long things took
        return "a page" if data.rstrip().endswith(b"</html>") else "half a page"
    if file.suffix in (".json", ".jsonl", ".csv"):
        return without_times(file.suffix, data.decode())
    return hashlib.sha256(data).hexdigest()


def without_times(suffix, text):
    import csv
    import io
    import json

    def pruned(value):
        if isinstance(value, dict):
            return {name: pruned(one) for name, one in value.items() if name not in TIMES}
        return [pruned(one) for one in value] if isinstance(value, list) else value

    if suffix == ".csv":
        return pruned([dict(row) for row in csv.DictReader(io.StringIO(text))])
    lines = text.splitlines() if suffix == ".jsonl" else [text]
    return [pruned(json.loads(line)) for line in lines]


def litter(folder):
    """Return what of ours is left over in a directory."""
    return [str(path) for path in folder.rglob(".multiembed-*")]
