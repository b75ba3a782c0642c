"""Where the command line starts, also as `python -m multiembed`: before torch is loaded."""

import os
import sys

SPINS = "2000"
"""Turns that a waiting thread of GNU's OpenMP takes before it sleeps, about 0.1 ms: long enough
for the next of torch's operators, short enough to leave its core to compiled loops of ours, which
otherwise wait for it (300000 turns by default: a training step of four sets took 1.3 times as
long on two cores)."""


def main() -> int:
    """Run the command line: 0 done, 2 the input is wrong (said in one line), 1 our bug."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read once, by OpenMP, which comes with torch
    try:
        from multiembed.cli.streams import open_closed_streams

        open_closed_streams()  # before a library opens a file
        from multiembed.cli.commands import run

        return run()
    except KeyboardInterrupt:  # while this or that was loaded
        return 130


if __name__ == "__main__":
    sys.exit(main())
