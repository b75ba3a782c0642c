"""Every command on disks that are full, have no file entries left or are read-only.

    python tests/chaos/full_disks.py [--short] [--only WORD]

Each command must end well, or with exit code 2 and one line that names the file; what it was to
write is then whole or not there. What can be resumed is made again when there is room, and must be
the same as where there always was room. Mounts small file systems, so it needs root.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = 1500
SIZES = (4, 8, 16, 32, 60, 100, 150, 200, 300, 400, 600)
"""Kilobytes left."""
SHORT = (4, 60, 200)
SETTINGS = [
    *("--set", "training.max_epochs=2", "--set", "training.batch_size=128"),
    *("--set", "training.monitor_every=5", "--set", "model.options.hidden=[8]"),
]
TRAIN = ["train", "{home}/ds", "{disk}/run", "--architecture", "dnn", "--dim", "20", *SETTINGS]
EXPERIMENT = ["--set", "training.max_epochs=1", "--set", "model.options.hidden=[8]"]
COMMANDS = {
    "prepare": ["prepare", "{home}/rows.csv", "{disk}/ds", "--label", "click"],
    "train": TRAIN,
    "evaluate": ["evaluate", "{home}/run", "--json", "{disk}/e.json"],
    "calibrate": ["calibrate", "{disk}/of/run"],
    "predict csv": ["predict", "{home}/run", "{home}/rows.csv", "{disk}/p.csv"],
    "predict parquet": ["predict", "{home}/run", "{home}/rows.csv", "{disk}/p.parquet"],
    "predict arrow": ["predict", "{home}/run", "{home}/rows.csv", "{disk}/p.arrow"],
    "predict jsonl": ["predict", "{home}/run", "{home}/rows.csv", "{disk}/p.jsonl"],
    "export onnx": ["export", "{home}/run", "{disk}/b"],
    "export torch": ["export", "{home}/run", "{disk}/b", "--format", "torch"],
    "embeddings": ["embeddings", "{home}/run", "{disk}/e"],
    "models": ["models", "{home}/ds", "--sizes", "1", "--json", "{disk}/m.json"],
    "diagnose html": ["diagnose", "{home}/run", "--html", "{disk}/d.html"],
    "diagnose json": ["diagnose", "{home}/run", "--json", "{disk}/d.json"],
    "compress": ["compress", "{home}/run", "{disk}/c"],
    "scale": [
        *("scale", "{home}/ds", "{disk}/g", "--sizes", "1", "--seeds", "1", "--scaling", "single"),
        *("--architectures", "dnn", *EXPERIMENT),
    ],
    "reproduce": [
        *("reproduce", "table1", "--dataset", "{home}/ds", "--out", "{disk}/paper"),
        *("--sizes", "1", "--seeds", "1", *EXPERIMENT),
    ],
    "compare": ["compare", "{home}/ds", "{disk}/compared", "--recipe", "paper", *EXPERIMENT],
    "tune": [
        *("tune", "{home}/ds", "{disk}/t", "--trials", "2", "--architectures", "dnn"),
        *("--only", "training.learning_rate", *EXPERIMENT),
    ],
    "demo": ["demo", "{disk}/demo"],
}
RESUMED = {"prepare": "ds", "train": "run"}
"""What can be gone on with, and where its result is."""
TEMPORARY = re.compile(r"\.multiembed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="three sizes alone")
    parser.add_argument("--only", default="", help="commands whose name holds this")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        print("full_disks: needs root to mount file systems; nothing was tried")
        return 0
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    wrong = tried = 0
    with tempfile.TemporaryDirectory() as folder, commands(Path(folder)) as multiembed:
        home = Path(folder)
        prepare_home(home, multiembed)
        for name, line in COMMANDS.items():
            if asked.only not in name:
                continue
            for left in (*(SHORT if asked.short else SIZES), "12 inodes", "read-only"):
                with disk(home, left) as grow:
                    said, problem = attempt(name, line, home, multiembed, grow)
                shown = f"{left}k" if isinstance(left, int) else left
                print(f"{'WRONG ' + problem if problem else 'ok':5} {name}, {shown}: {said}")
                sys.stdout.flush()
                tried, wrong = tried + 1, wrong + bool(problem)
    print(f"{tried} tried, {wrong} wrong")
    return int(wrong > 0)


@contextmanager
def commands(folder):
    """Commands that start at once."""
    warm = [sys.executable, HERE.parent / "warm_commands.py", folder / "bin"]
    (folder / "bin").mkdir()
    with subprocess.Popen(warm, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        try:
            yield folder / "bin" / "multiembed"
        finally:
            server.kill()


def prepare_home(home, multiembed):
    lines = [f"{n * 7 % 3 % 2},v{n % 30},w{n * n % 29},{n % 101}\n" for n in range(ROWS)]
    (home / "rows.csv").write_text("click,f0,f1,n0\n" + "".join(lines))
    (home / "disk").mkdir()
    for line in (COMMANDS["prepare"], TRAIN):
        own = [part.format(home=home, disk=home) for part in line]
        subprocess.run([multiembed, *own], check=True, capture_output=True)


@contextmanager
def disk(home, left):
    """Mount a disk that holds a run and has so much room; yields a function that makes room."""
    place = home / "disk"
    mount("-t", "tmpfs", "-o", "size=500m,nr_inodes=2000", "tmpfs", place)
    try:
        shutil.copytree(home / "run", place / "of" / "run")
        found = os.statvfs(place)
        used = (found.f_blocks - found.f_bfree) * found.f_bsize
        room = f"nr_inodes={found.f_files - found.f_ffree + 12}"
        if isinstance(left, int):
            room = f"size={used + 1024 * left}"
        mount("-o", f"remount,{'ro' if left == 'read-only' else room}", place)
        yield lambda: mount("-o", "remount,rw,size=500m,nr_inodes=2000", place)
    finally:
        subprocess.run(["umount", place], check=True)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def attempt(name, line, home, multiembed, grow):
    """Return the last that a command said, and what is wrong with how it ended."""
    place = home / "disk"
    own = [part.format(home=home, disk=place) for part in line]
    before = contents(place)
    code, err = run([multiembed, *own])
    said = [part for part in err.splitlines() if part.startswith("multiembed: ")]
    last = (err.splitlines() or ["done" if code == 0 else f"exit code {code}"])[-1]
    if "Traceback" in err or code not in (0, 2) or (code == 2 and len(said) != 1):
        return last, f"(exit code {code}, {len(said)} lines)"
    if code == 2 and (str(place) not in said[0] or TEMPORARY.search(said[0])):
        return last, "(names no file of the user's)"
    if code == 0:
        return last, ""
    changed = [path for path, content in before.items() if contents(place).get(path) != content]
    if changed:
        return last, f"(changed {changed[0]})"
    if name in RESUMED:
        return last, resumed(name, own, home, multiembed, grow)
    left = [path for path in contents(place) if path not in before and whole_target(path, own)]
    return last, f"(left {left[0]})" if left else ""


def whole_target(path, own):
    """Whether a file that is left is what a command should have written whole."""
    single = {Path(part).name for part in own if Path(part).suffix and "/disk/" in part}
    return path in single or path.split("/")[0] in {"b", "e", "c"}


def resumed(name, own, home, multiembed, grow):
    grow()
    place = home / "disk" / RESUMED[name]
    again = ["--resume"] if name == "train" and (place / "config.toml").exists() else []
    code, err = run([multiembed, *own, *again])
    if code != 0:
        return f"(resumed: {err.splitlines()[-1]})"
    wanted, got = contents(home / RESUMED[name]), contents(place)
    volatile = {"README.md", "summary.json", "metrics.jsonl", "collapse.jsonl", "last.safetensors"}
    differ = [path for path in wanted if path not in volatile and wanted[path] != got.get(path)]
    return f"(resumed: {differ[0]} differs)" if differ else ""


def run(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return -1, "does not end"
    return done.returncode, done.stderr


def contents(folder):
    """Every file below a directory with a hash of its content, but for what is hidden."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(lasting(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts[-4:])
    }


def lasting(path):
    """Return what a file holds; of weights without the header, which says how long they took."""
    content = path.read_bytes()
    if path.suffix != ".safetensors":
        return content
    return content[8 + int.from_bytes(content[:8], "little") :]


if __name__ == "__main__":
    sys.exit(main())
