"""What the command line makes of a machine that refuses, and of names that terminals obey."""

import errno
import io
import os
import re
import subprocess
import sys

import polars as pl
import pytest
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError

from multiembed.base.errors import InputError, WriteError, brief, said_of_surroundings, shown
from multiembed.cli.console import Terminal, write
from multiembed.cli.streams import Dropping, unheard_libraries

SHORTENED = """
import mmap
from multiembed.cli.streams import refusing_shortened_files, unheard_libraries
with open("rows", "w+b") as file:
    file.truncate(1 << 16)
    mapped = mmap.mmap(file.fileno(), 0)
    file.truncate(0)
with unheard_libraries(), refusing_shortened_files():
    mapped[5]
"""
FULL = "No space left on device"


class RustPanic(BaseException):
    """As pyo3 raises what a library in Rust could not go on from."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, FULL, "run/x"),
            f"run/x must be usable, got: {FULL}",
        ),
        (OSError(errno.ENOSPC, FULL), "the disk must have room for what is written"),
        (
            OSError(errno.EROFS, "whatever", b"a\xff"),
            r"a\\udcff must be usable, got: Read-only",
        ),
        (OSError(errno.ENAMETOOLONG, "", "x" * 300), "xxx must be usable, got: File name too long"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "files must be usable, got: .*Too many",
        ),
        (RustPanic("called `Result::unwrap()`: Os { code: 24, kind: X }"), "files must be usable"),
        (RuntimeError("unable to open file <a> in mode: Too many open files (24)"), "be usable"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "must have room .* Disk quota exceeded"),
        (OSError("Detail: [errno 28] of another"), "the disk must have room for what is written"),
        (pl.exceptions.ComputeError(FULL), "the disk must have room for what is written"),
        (SafetensorError("I/O error: (os error 5)"), "files must be usable, got: I/O error"),
        (MemoryError("Unable to allocate 7 TiB"), "memory must hold .* got: Unable to allocate 7"),
        (RecursionError("maximum recursion depth"), "nested less deeply, got: maximum recursion"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "must be UTF-8"),
        (UnicodeEncodeError("ascii", "\xef", 0, 1, "ordinal"), "the locale must hold every name"),
        (ValueError("embedded null byte"), "a path must hold no NUL"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_what_the_machine_refuses_is_one_line_whichever_library_found_out(
    call, monkeypatch, error, said
):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("multiembed.runs.run.load_run", refuse)

    code, out, err = call("evaluate", "run")

    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("multiembed: ")

    assert re.search(said, err)


def test_memory_that_torch_is_refused_is_told_from_our_own_mistakes():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60)

    assert "memory must hold what was asked for" in str(said_of_surroundings(refused.value))
    assert said_of_surroundings(RuntimeError("a shape")) is None


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain ünïcode 名前 🙂", "plain ünïcode 名前 🙂"),
        ("\x1b]0;pwned\x07", r"\x1b]0;pwned\x07"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x7f\x85\x9b31m", r"\x7f\x85\x9b31m"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("a\udcff\u2028", r"a\udcff\u2028"),
    ],
)
def test_what_terminals_obey_is_shown_as_an_escape(text, escaped, capsys):
    console = Terminal()
    console.print(text, soft_wrap=True)
    printed = capsys.readouterr().out

    assert shown(text) == str(InputError(text)) == printed.removesuffix("\n") == escaped


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]", ":smile:", "\x1b[2J", "a\nb", "[link=x]"])
def test_names_in_tables_are_neither_markup_nor_commands(name, capsys):
    table = Table(title=name, caption=name)
    table.add_column(name)
    table.add_row(name)
    Terminal().print(Group(table, Text(f"{name}\x1b")))
    printed = capsys.readouterr().out

    assert printed.count(shown(name)) >= 4
    assert "\x1b" not in printed


def test_json_on_standard_output_holds_no_commands_and_reads_the_same(capsys):
    write('{\n "\x9b\u202e": "ü"\n}', "-")

    assert capsys.readouterr().out == '{\n "\\u009b\\u202e": "ü"\n}\n'


def test_a_full_disk_behind_standard_output_is_said_and_a_reader_that_has_gone_is_not(
    call, monkeypatch
):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert call("--version")[::2] == (
            2,
            f"multiembed: standard output must be writable, got: {FULL}\n",
        )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert call("--help")[::2] == (0, "")
    monkeypatch.setattr(sys, "stdout", None)
    assert call("--version")[::2] == (0, "")


def test_what_is_lost_is_dropped_and_all_before_it_is_kept():
    class Small(io.RawIOBase):
        room, got = 5, b""

        def write(self, data):
            taken = bytes(data)[: self.room]
            self.room -= len(taken)
            if not taken:
                raise OSError(errno.ENOSPC, FULL)
            self.got += taken
            return len(taken)

    place = Small()
    raw = Dropping(place)
    with io.BufferedWriter(raw) as file:
        file.write(b"12345678")
    assert place.got == b"12345"
    assert raw.lost is not None
    assert raw.lost.errno == errno.ENOSPC


@pytest.mark.parametrize("kept", [True, False])
def test_a_training_that_could_not_write_says_whether_it_can_go_on(
    call, monkeypatch, tmp_path, kept
):
    def refuse(*_, run, **__):
        (run / "last.safetensors").write_text("") if kept else None
        raise WriteError(run / "metrics.jsonl", FULL)

    monkeypatch.setattr("multiembed.training.start.train", refuse)
    what = "its last checkpoint is kept: --resume goes on" if kept else "no checkpoint is there"

    (tmp_path / "settings.toml").write_text("")

    code, _, err = call("train", "dataset", tmp_path, "--config", tmp_path / "settings.toml")

    assert code == 2
    assert err == f"multiembed: {tmp_path}/metrics.jsonl must be writable, got: {FULL} ({what})\n"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("a/.multiembed-0123abcd/out.csv", "a/out.csv"),
        (".multiembed-0123abcd/b/model.pt2", "b/model.pt2"),
        ("/a/.ds.multiembed/ds/parts/1.arrow", "/a/ds/parts/1.arrow"),
        (".run.multiembed", "run"),
        ("a/.hidden/x.multiembed.csv", "a/.hidden/x.multiembed.csv"),
    ],
)
def test_a_file_that_is_written_elsewhere_first_has_the_name_that_the_user_knows(path, named):
    assert str(WriteError(path, FULL)) == f"{named} must be writable, got: {FULL}"
    copied = OSError(errno.ENOSPC, FULL, "/package/source.py", None, path)
    assert said_of_surroundings(copied) == f"{named} must be usable, got: {FULL}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody shorten mapped files")
def test_a_file_that_loses_its_end_while_it_is_mapped_is_one_line(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", SHORTENED], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"multiembed: a file that is read must stay as it is, got .*\n", ran.stderr)


def test_what_libraries_print_of_their_own_is_heard_with_a_mistake_of_ours_alone(capfd):
    with unheard_libraries():
        os.write(2, b"thread 'polars-1' panicked")
    assert capfd.readouterr().err == ""

    with pytest.raises(KeyError), unheard_libraries():
        os.write(2, b"thread 'polars-1' panicked")
        raise KeyError
    assert capfd.readouterr().err == "thread 'polars-1' panicked"

    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def test_a_message_keeps_its_ends():
    said = str(InputError("x" * 10**6 + " must be short, got it"))

    assert re.fullmatch(r"x+\[\.\.\.\]x+ must be short, got it", said)
    assert len(said) < 2100
    assert brief("x" * 2000) == "x" * 2000


@pytest.mark.parametrize("command", [("prepare", "rows.csv", "data", "--label", "y"), ("--help",)])
@pytest.mark.parametrize("limit", [7, 9, 31])
def test_too_few_open_files_are_one_line_and_a_limit_that_may_be_raised_is(
    command, limit, tmp_path
):
    resource = pytest.importorskip("resource", reason="no limits on Windows")
    (tmp_path / "rows.csv").write_text("y,a\n" + "0,x\n1,z\n" * 20)

    def ran(hard):
        limits = resource.RLIMIT_NOFILE, (limit, hard)
        return subprocess.run(
            [sys.executable, "-m", "multiembed", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(*limits),
        )

    refused, raised = ran(limit), ran(2000)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == [
        f"multiembed: the limit of open files must be at least 32, got {limit} (ulimit -n)"
    ]
    assert raised.returncode == 0, raised.stderr
