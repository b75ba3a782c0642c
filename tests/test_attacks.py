"""Hostile files: each is refused in one line, at once, and nothing in it runs or writes."""

import os
import sys
import time
import warnings
from pathlib import Path

import pytest
from hostile_files import HOSTILE
from hostile_pickles import OUTSIDE

from multiembed import diagnose
from multiembed.base.errors import InputError

FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.kill", "os.putenv", "shutil.", "socket.", "ctypes.", "exec"),
    *("pickle.find_class", "marshal.", "code.__new__", "urllib.", "sqlite3.", "pty.", "import"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
SECONDS, BYTES = 4.0, 300 * 2**20
"""Of a processor, and of memory beside what is there already."""


class Watch:
    """Notes what must not happen, while it is armed: a hook cannot be taken off again."""

    def __init__(self):
        self.armed, self.seen = False, []
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if not self.armed:
            return
        if event == "import" and arguments[0] in ("equinox", "wadler_lindig"):  # by jaxtyping
            return
        if event == "exec" and is_check_of_types(arguments[0].co_filename, sys._getframe(1)):
            return
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        if opened or event.startswith(FORBIDDEN):
            self.seen.append((event, arguments))

    def __enter__(self):
        self.seen, self.armed = [], True
        return self

    def __exit__(self, *_):
        self.armed = False


WATCH = Watch()


def is_check_of_types(file, caller):
    """Whether code is that of jaxtyping or beartype, which look on in the tests alone."""
    return file.startswith("<@beartype") or "jaxtyping" in caller.f_code.co_filename


def memory(name):
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Read one good file of every kind, so that what is imported late is there."""
    folder = tmp_path_factory.mktemp("warm")
    for said in HOSTILE:
        if said.startswith(("npy: negative", "csv", "json: a n", "torch: os", "gzip: in", "arrow")):
            file = folder / "hostile.file"
            HOSTILE[said](file)
            with pytest.raises(InputError):
                diagnose(file)


@pytest.mark.parametrize("said", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hostile.file"
    HOSTILE[said](file)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.iterdir()}
    forget_peak()
    held, started = memory("VmRSS"), time.process_time()

    with warnings.catch_warnings(), WATCH:
        warnings.simplefilter("error")
        with pytest.raises(InputError) as refused:
            diagnose(file)

    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 1000
    assert time.process_time() - started < SECONDS
    assert memory("VmHWM") - held < BYTES
    if not said.startswith(("gzip", "zlib")):  # which is unpacked into a temporary file
        assert WATCH.seen == []
    assert not Path(OUTSIDE).exists()
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.iterdir()} == before
