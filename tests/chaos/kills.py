"""Kills at many moments of every command that writes.

    python tests/chaos/kills.py [--moments 60] [--only NAME ...]

Each command is killed at moments spread over its time. What it was to write must then be absent,
the old or the new, and the same command, done again, must give what an undisturbed one gives.
Prints a line per command; ends with 1 if any differs.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import harness
import numba
import torch
from harness import EXPORT, SCALE, SMALL, Command, content, copied, done, litter

from multiembed.base.devices import has_bfloat16_products

DEEDS = {
    # name: (arguments, how it is taken up again, what it writes)
    "prepare": (["prepare", "rows.csv", "out", "--label", "click"], [], "out"),
    "prepare --overwrite": (
        ["prepare", "rows.csv", "ds", "--label", "click", "--seed", "3", "--overwrite"],
        [],
        "ds",
    ),
    "train": (["train", "ds", "out", *SMALL], ["--resume"], "out"),
    "train bfloat16": (
        ["train", "ds", "out", *SMALL, "--set", "training.precision=bfloat16"],
        ["--resume"],
        "out",
    ),
    "train --overwrite": (["train", "ds", "run", *SMALL, "--set", "training.seed=5"], [], "run"),
    "scale --workers 2": (
        [*SCALE, "--sizes", "1,2", "--workers", "2"],
        [],
        "out",
    ),
    "compress": (["compress", "run", "out"], [], "out"),
    "embeddings": (["embeddings", "run", "out"], [], "out"),
    "export": (EXPORT, [], "out"),
    "predict": (["predict", "run", "rows.csv", "out.csv"], [], "out.csv"),
    "calibrate": (["calibrate", "run"], [], "run/calibration.json"),
    "diagnose": (["diagnose", "run", "--html", "out.html", "--json", "out.json"], [], "out.html"),
}


def main():
    """Kill, do again, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--moments", type=int, default=60)
    parser.add_argument("--only", nargs="*", default=list(DEEDS))
    asked = parser.parse_args()
    load_all()
    if not has_bfloat16_products(torch.device("cpu")) and "train bfloat16" in asked.only:
        sys.stdout.write("train bfloat16: left out, this CPU multiplies none\n")
        asked.only.remove("train bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        base = harness.workshop(Path(folder) / "base")
        differ = sum(tried(base, name, asked.moments) for name in asked.only)
    return int(differ > 0)


def load_all():
    """Load what commands need, once for all that are forked."""
    from importlib import import_module

    numba.njit(lambda: 0)()
    for name in ("multiembed.cli.commands", "multiembed.training.start", "torch.export"):
        import_module(name)


def tried(base, name, moments):
    """Kill one command at so many moments; print a line, and return how often it went wrong."""
    arguments, again, target = DEEDS[name]
    over = ["--overwrite"] if name == "train --overwrite" else []
    undisturbed = copied(base)
    seconds = done(undisturbed, *arguments, *over)
    before, after = content(base / target), content(undisturbed / target)
    started, found = time.monotonic(), []
    for number in range(moments):
        folder = copied(base)
        command = Command(folder, *arguments, *over)
        time.sleep(seconds * (number + 0.5) / moments)
        command.kill()
        problem = problem_after(folder, name, [*arguments, *again], target, before, after)
        found += [f"moment {number}: {problem}"] if problem else []
    share = f"{moments - len(found)} of {moments} kills leave the old or the new, and end the same"
    sys.stdout.write(f"{name}: {share} ({time.monotonic() - started:.0f} s)\n")
    sys.stdout.write("".join(f"    {line}\n" for line in found))
    sys.stdout.flush()
    return len(found)


def problem_after(folder, name, arguments, target, before, after):
    """Do a killed command again, and say what is wrong with what it left or gives."""
    left = content(folder / target)
    resumable = name in ("train", "train bfloat16", "scale --workers 2")
    if name == "train --overwrite":  # the card is written of a run that is there
        before, left = ({**of, "README.md": after["README.md"]} for of in (before, left))
    if not resumable and left not in (before, after) and left:
        return f"left neither the old nor the new: {difference(left, after)}"
    arguments = list(arguments)
    if name == "train --overwrite":
        begun = any(folder.glob(".run.multiembed/run/config.toml"))
        arguments += ["--resume"] if begun or left == after else ["--overwrite"]
    try:
        # What is there already is not made again, and says so.
        done(folder, *arguments, codes=(0, 2) if left == after else (0,))
    except AssertionError as error:
        return str(error)
    given = content(folder / target)
    if given != after:
        return f"gives something else: {difference(given, after)}"
    if litter(folder):  # of what was done when it was killed: the next that writes clears it away
        done(folder, "evaluate", "run", "--json", "after.json")
    return f"left {litter(folder)}" if litter(folder) else ""


def difference(one, other):
    """Name the first file that differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted(one.keys() | other.keys())
        return next(name for name in names if one.get(name) != other.get(name))
    return f"{str(one)[:60]} for {str(other)[:60]}"


if __name__ == "__main__":
    sys.exit(main())
