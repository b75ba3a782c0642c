"""Programs that take turns: each in a process of its own, as its users would run it.

A contender answers every line on its input with one JSON line on its output. Python's standard
library only: a contender may live in another environment than the one that asks it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

GO, PEAK = "go", "peak\n"


class Contender:
    """A process that waits for its turn."""

    def __init__(self, command, *, threads, environment=None):
        numbers = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        numbers |= environment or {}
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | numbers,
        )
        self.about = self._answer()

    def go(self, times=1):
        """Let it work so many times in a row; return the means of what it measured."""
        return self._ask(f"{GO} {times}\n")

    def peak(self):
        """Bytes it has held at most."""
        return self._ask(PEAK)["peak"]

    def close(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, question):
        self.process.stdin.write(question)
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.process.args[:2])} ended, see above")
        return json.loads(line)


def serve(work, about):
    """Be a contender: call `work` whenever asked to. It returns what to report."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        if line == PEAK:
            report = {"peak": peak_memory()}
        else:
            reports = [work() for _ in range(int(line.removeprefix(GO)))]
            report = {name: mean(one[name] for one in reports) for name in reports[0]}
        print(json.dumps(report), flush=True)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts what this process's threads ran, whatever else the machine was busy with."""


def timed_step(batches, step, clock):
    """Fetch a batch and train on it; both are part of a step."""
    now = CLOCKS[clock]
    start = now()
    batch = next(batches)
    fetched = now()
    step(batch)
    return {"seconds": now() - start, "batch": fetched - start}


def for_ever(epoch):
    """Batches of one epoch after the other."""
    while True:
        yield from epoch()


def peak_memory():
    """Bytes this process has held at most; the kernel's other counter begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
