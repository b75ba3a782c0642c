"""Two processes that write one place, or one that reads while another writes.

    python tests/chaos/two_at_once.py [--tries 30] [--only NAME ...]

Each must end well or in one line, and what is there at the end must be whole and the work of one
of them. Prints a line per pair; ends with 1 if any goes wrong.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import harness
from harness import EXPORT, SCALE, SMALL, Command, content, copied, done, litter
from kills import load_all

SEEDED = [*SMALL, "--set", "training.seed=5"]
PAIRS = {
    # name: (one, other, what both write; both may succeed)
    "prepare": (
        ["prepare", "rows.csv", "out", "--label", "click"],
        ["prepare", "rows.csv", "out", "--label", "click", "--seed", "3"],
        "out",
    ),
    "train": (["train", "ds", "out", *SMALL], ["train", "ds", "out", *SEEDED], "out"),
    "compress": (
        ["compress", "run", "out"],
        ["compress", "run", "out", "--keep", "0.5"],
        "out/best.safetensors",
    ),
    "embeddings": (["embeddings", "run", "out"], ["embeddings", "run", "out"], "out"),
    "export": (EXPORT, EXPORT, "out/manifest.json"),
    "calibrate": (
        ["calibrate", "run"],
        ["calibrate", "run", "--method", "platt"],
        "run/calibration.json",
    ),
    "predict": (
        ["predict", "run", "rows.csv", "out.csv"],
        ["predict", "run", "other.csv", "out.csv"],
        "out.csv",
    ),
    "diagnose": (
        ["diagnose", "run", "--json", "out.json"],
        ["diagnose", "ds2run", "--json", "out.json"],
        "out.json",
    ),
    "evaluate while overwritten": (
        ["train", "ds", "run", *SEEDED, "--overwrite"],
        ["evaluate", "run"],
        "run/best.safetensors",
    ),
    "train while its dataset is overwritten": (
        ["train", "ds", "out", *SMALL],
        ["prepare", "rows.csv", "ds", "--label", "click", "--overwrite"],
        "ds",
    ),
    "scale": (
        [*SCALE, "--sizes", "1", "--scaling", "single"],
        [*SCALE, "--sizes", "1", "--scaling", "single"],
        "out/results.csv",
    ),
}


def main():
    """Start both, wait for both, compare with each alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=list(PAIRS))
    asked = parser.parse_args()
    load_all()
    with tempfile.TemporaryDirectory() as folder:
        base = harness.workshop(Path(folder) / "base")
        harness.write_rows(base / "other.csv", seed=1)
        done(base, "train", "ds", "ds2run", *SEEDED)
        wrong = sum(tried(base, name, asked.tries) for name in asked.only)
    return int(wrong > 0)


def tried(base, name, tries):
    """Run one pair so often, the second a little later each time; return how often it failed."""
    one, other, target = PAIRS[name]
    alone, seconds = [content(base / target)] if (base / target).exists() else [], 0.0
    for arguments in (one, other):
        folder = copied(base)
        seconds = max(seconds, done(folder, *arguments))
        alone.append(content(folder / target))
    found = []
    for number in range(tries):
        folder = copied(base)
        first = Command(folder, *one)
        time.sleep(seconds * number / tries)
        codes = [command.ended() for command in (first, Command(folder, *other))]
        said = (folder / "said.txt").read_text(errors="replace")
        if not set(codes) <= {0, 2} or 0 not in codes or "Traceback" in said:
            found.append(f"try {number}: exit codes {codes}: {said[-400:]}")
        elif content(folder / target) not in alone:
            found.append(f"try {number}: what is there is of neither")
        elif litter(folder):
            found.append(f"try {number}: left {litter(folder)}")
    sys.stdout.write(f"{name}: {tries - len(found)} of {tries} times both end well\n")
    sys.stdout.write("".join(f"    {line}\n" for line in found))
    sys.stdout.flush()
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
