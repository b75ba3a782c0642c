"""A diagnosis in a notebook, as a frame, and where it says it comes from."""

import builtins
import hashlib
import re
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import numpy as np
import polars
import pytest

from multiembed import diagnose
from multiembed.base.errors import ConfigError
from multiembed.diagnosis import origin


def tables():
    rng = np.random.default_rng(0)
    return {"a<b": rng.normal(size=(40, 3)), "flat": np.ones((9, 3)), "one": np.ones((1, 3))}


def test_a_frame_has_one_row_per_field():
    found = diagnose(tables(), counts={"flat": np.arange(9)})

    frame = found.to_frame()

    assert isinstance(frame, polars.DataFrame)
    assert frame["field"].to_list() == ["a<b", "flat", "one"]
    assert frame["rows_trained"].to_list() == [None, 8, None]
    assert frame["verdict"].to_list() == [field.verdict.label for field in found.fields]
    values = np.linalg.svd(tables()["a<b"], compute_uv=False)
    assert frame["information_abundance"][0] == pytest.approx(values.sum() / values[0])


def test_a_frame_of_pandas_is_the_same():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    found = diagnose(tables())

    frame = found.to_frame(pandas=True)

    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == found.to_frame().columns
    assert list(frame["cardinality"]) == [40, 9, 1]


def test_without_pandas_the_mistake_is_one_line(monkeypatch):
    load = builtins.__import__
    monkeypatch.setattr(
        "multiembed.diagnosis.frame.import_module",
        lambda name: load("no_such_module_as_pandas"),
    )

    with pytest.raises(ConfigError, match=r"pandas must be installed .* got none"):
        diagnose(tables()).to_frame(pandas=True)


def test_a_notebook_shows_verdict_table_and_spectra_without_scripts():
    found = diagnose(tables())

    html = found._repr_html_()

    assert found.summary.verdict.headline in html
    assert "a&lt;b" in html and "a<b" not in html
    assert "<script" not in html
    assert html.count("<tr>") == 1 + 3
    assert len(re.findall("<svg[^>]*role=.img", html)) == 1
    assert "counts unknown: judged on all rows" in html


def test_a_notebook_names_how_many_fields_it_leaves_out():
    many = {f"f{k}": np.eye(5, 3) for k in range(30)}

    assert "10 more fields" in diagnose(many)._repr_html_()


def test_a_notebook_shows_it_in_a_browser(open_page):
    page = open_page(diagnose(tables())._repr_html_(), width=700)

    box = page.locator("svg[role=img]").bounding_box()
    assert box["width"] > 300 and box["height"] > 150
    assert page.locator("polyline").count() >= 3


def test_the_origin_of_a_file_is_its_hash(tmp_path):
    np.savez(tmp_path / "model.npz", a=np.eye(4, 3))
    content = (tmp_path / "model.npz").read_bytes()

    found = diagnose(tmp_path / "model.npz").origin

    [file] = found.files
    assert (file.name, file.bytes) == ("model.npz", len(content))
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert found.version == version("multiembed")
    age = datetime.now(UTC) - datetime.fromisoformat(found.date)
    assert timedelta() <= age < timedelta(minutes=5)
    assert found.command is None


def test_the_origin_of_a_directory_is_every_file_in_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")

    found = origin.origin_of(tmp_path)()

    assert [file.name for file in found.files] == ["a", "deep/b"]
    assert [file.sha256 for file in found.files] == [
        hashlib.sha256(content).hexdigest() for content in (b"one", b"two")
    ]


def test_files_that_are_too_large_are_named_and_not_hashed(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"12345")
    monkeypatch.setattr(origin, "HASHED", 4)

    [file] = origin.origin_of(tmp_path / "a")().files

    assert (file.bytes, file.sha256) == (5, None)


def test_tables_in_memory_have_no_file():
    assert diagnose(tables()).origin.files == ()
