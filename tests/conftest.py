"""What all tests share: shapes are checked, golden numbers are here, pages open."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported, which torch may do

install_import_hook("multiembed", "beartype.beartype")

# Every run of the tests tries the same cases; `make fuzz` draws new ones.
settings.register_profile("same", derandomize="MULTIEMBED_FUZZ" not in os.environ)
settings.load_profile("same")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TESTS = Path(__file__).resolve().parent
REAL_DATA = TESTS.parents[1] / "shared" / "data"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers written by the paper's reference code."""
    return TESTS / "golden"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real Criteo and Avazu rows."""
    if not REAL_DATA.is_dir():
        pytest.skip("real rows are no part of the product: they lie beside a checkout")
    return REAL_DATA


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process; its exit code, and what it said on both outputs."""
    from multiembed.__main__ import main  # after the hook above

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["multiembed", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser found; looked for {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def open_page(browser, tmp_path_factory):
    """Open HTML from a file, offline; what the console says is kept."""
    complaints, contexts = [], []

    def opened(html, *, width=1280):
        file = tmp_path_factory.mktemp("page") / "report.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(offline=True, viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)  # a crowded machine is slow, not wrong
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.goto(file.as_uri())
        return page

    opened.complaints = complaints
    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(autouse=True)
def quiet(request):
    """Fail a test whose page wrote to the console or asked for anything."""
    yield
    if "open_page" in request.fixturenames:
        complaints = request.getfixturevalue("open_page").complaints
        heard = [*complaints]
        complaints.clear()
        assert heard == []
