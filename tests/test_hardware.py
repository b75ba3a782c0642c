"""What is found on a machine, as its parts come and go."""

import importlib.machinery
import sys
import types

import pytest

from multiembed.base import devices as hardware


@pytest.fixture(autouse=True)
def look_again():
    hardware.has_triton.cache_clear()
    yield
    hardware.has_triton.cache_clear()


@pytest.fixture
def triton_installed(monkeypatch):
    module = types.ModuleType("triton")
    module.__spec__ = importlib.machinery.ModuleSpec("triton", loader=None)
    monkeypatch.setitem(sys.modules, "triton", module)


@pytest.fixture
def path_of(monkeypatch, tmp_path):
    """Make a PATH that holds only the programs named."""

    def hold(*programs):
        for program in programs:
            (tmp_path / program).touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CC", raising=False)

    return hold


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_triton_serves_where_a_compiler_is(triton_installed, path_of, compiler):
    path_of(compiler)
    assert hardware.has_triton()


def test_triton_serves_with_the_compiler_that_cc_names(triton_installed, path_of, monkeypatch):
    path_of("special-cc")
    monkeypatch.setenv("CC", "special-cc")
    assert hardware.has_triton()


def test_triton_tries_no_other_than_cc_names(triton_installed, path_of, monkeypatch):
    path_of("gcc")
    monkeypatch.setenv("CC", "missing-cc")
    assert not hardware.has_triton()


def test_triton_without_a_compiler_is_not_used(triton_installed, path_of):
    path_of("other")
    assert not hardware.has_triton()


def test_a_compiler_without_triton_is_not_enough(path_of, monkeypatch):
    path_of("gcc")
    monkeypatch.setitem(sys.modules, "triton", None)
    assert not hardware.has_triton()
