"""Files behind URLs: what servers may do, where they may lead, and what is kept of secrets."""

import base64
import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from multiembed.base.errors import DataError, InputError, without_secrets
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.sources import fetching, web
from multiembed.data.store.schema import SourceFile
from multiembed.training.start import train

ROWS = b"click,a\n" + b"1,x\n0,y\n" * 20
END = b"\r\n\r\n"


@contextmanager
def serving(*answers, host="127.0.0.1"):
    """Answer every path `/N` by the Nth function of a connection, the request and the port."""
    with socket.create_server((host, 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=[connection], daemon=True).start()

        def answer(connection):
            with connection:
                asked = b""
                try:
                    while END not in asked:
                        asked += connection.recv(1 << 16)
                    answers[int(asked.split()[1][1:2])](connection, asked, port)
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://{host}:{port}"
        listener.shutdown(socket.SHUT_RDWR)


def sent(*parts, head=b"", pause=0.0):
    def answer(connection, asked, port):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + END)
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)

    return answer


def redirect(place):
    def answer(connection, asked, port):
        to = place.replace("PORT", str(port))
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: %b\r\n\r\n" % to.encode())

    return answer


def for_the_right_one(connection, asked, port):
    word = base64.b64encode(b"me:p@ss").decode()
    right = f"Authorization: Basic {word}".encode() in asked
    (sent(ROWS) if right else sent(head=b"X: y"))(connection, asked, port)


def prepared(url, folder, **chosen):
    return prepare(url, folder / "dataset", PrepareOptions(format="table", label="click", **chosen))


def refusal(url, folder, **chosen):
    with pytest.raises(DataError) as caught:
        prepared(url, folder, **chosen)
    assert not list(folder.iterdir())
    return str(caught.value).removeprefix(without_secrets(url))


@pytest.mark.parametrize(
    ("answer", "chosen", "reason"),
    [
        (sent(ROWS, head=b"Content-Length: 99999"), {}, f"{len(ROWS)} bytes of 99999"),
        (sent(head=b"Content-Length: 1" + b"0" * 15), {}, "bytes that the disk has free"),
        (sent(ROWS), {"max_download_bytes": 50}, "more than the 50 bytes that max_download_bytes"),
        (sent(*[ROWS * 99] * 999), {"max_download_bytes": 10**6}, "max_download_bytes"),
        (sent(*[b"0"] * 99, pause=0.05), {"max_download_seconds": 0.2}, "max_download_seconds"),
        (sent(ROWS, b"", pause=0.5), {"max_download_seconds": 0.2}, "timed out"),
        (lambda connection, asked, port: connection.sendall(b"what?"), {}, "what?"),
        (lambda connection, asked, port: None, {}, "Remote end closed connection"),
        (redirect("http://127.0.0.1:PORT/0?sig=SECRET"), {}, "an infinite loop"),
        (redirect("file:///etc/passwd"), {}, "'file:///etc/passwd' is not allowed"),
        (redirect("ftp://me:SECRET@host/x"), {}, "a redirect to ftp://"),
    ],
)
def test_what_a_server_may_not_do_is_one_line(tmp_path, answer, chosen, reason):
    with serving(answer) as url:
        said = refusal(f"{url}/0?token=SECRET", tmp_path, **chosen)

    assert said.startswith(" must be readable, got: ")
    assert reason in said
    assert "SECRET" not in said
    assert "\n" not in said


def test_what_is_as_large_and_slow_as_it_may_be_is_read(tmp_path):
    limits = {"max_download_bytes": len(ROWS), "max_download_seconds": 60.0}
    with serving(sent(ROWS, head=b"Content-Length: %d" % len(ROWS))) as url:
        schema = prepared(f"{url}/0", tmp_path, **limits)

    assert schema.splits["train"].rows == 32
    assert not schema.options.keys() & limits.keys()


def test_rows_to_score_are_downloaded_within_the_same_limits(tmp_path, call):
    (tmp_path / "rows.csv").write_bytes(ROWS)
    prepared(tmp_path / "rows.csv", tmp_path)
    model = ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
    config = RunConfig(model=model, training=TrainingConfig(max_epochs=1, threads=1))
    train(config, dataset=tmp_path / "dataset", run=tmp_path / "run")
    with serving(sent(ROWS, head=b"Content-Length: %d" % len(ROWS))) as url:
        asked = ["predict", tmp_path / "run", f"{url}/0", tmp_path / "out.csv"]

        code, _, said = call(*asked, "--max-download-bytes", "50")
        assert (code, said.count("\n")) == (2, 1)
        assert "more than the 50 bytes that max_download_bytes" in said
        code, _, said = call(*asked, "--max-download-seconds", "nan")
        assert (code, said.count("\n")) == (2, 1)
        assert "max_download_seconds must be" in said
        code, _, said = call(*asked, "--max-download-bytes", len(ROWS))
        assert code == 0, said


def test_a_name_and_password_reach_their_host_alone(tmp_path):
    with serving(for_the_right_one, redirect("http://127.0.0.1:PORT/0")) as url:
        own = url.replace("://", "://me:p%40ss@")
        assert prepared(f"{own}/0", tmp_path / "a").splits["train"].rows == 32
        (tmp_path / "b").mkdir()
        assert "must hold column names" in refusal(f"{own}/1", tmp_path / "b")
    assert [one.name for one in tmp_path.rglob("*downloads*")] == []


def test_no_redirect_leads_from_a_public_address_to_a_private_one(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "is_private", lambda address: address == "127.0.0.1")
    with (
        serving(sent(ROWS)) as own,
        serving(sent(ROWS), redirect(own + "/0"), host="127.0.0.2") as far,
    ):
        assert refusal(f"{far}/1", tmp_path).endswith("a redirect to the private address 127.0.0.1")
        with serving(redirect(far + "/0")) as near:
            assert prepared(f"{near}/0", tmp_path).splits["train"].rows == 32


def test_private_addresses():
    private = "127.0.0.1 10.9.9.9 172.16.0.1 172.31.9.9 192.168.0.1 169.254.169.254 0.0.0.0"
    for one in (*private.split(), "::1", "fc00::1", "fe80::1%eth0", "::ffff:10.0.0.1", "::"):
        assert web.is_private(one), one
    for one in ("8.8.8.8", "172.32.0.1", "193.168.0.1", "2606:4700::1", "::ffff:8.8.8.8"):
        assert not web.is_private(one), one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:pw@host/a?token=1", "http://host/a"),
        ("'s3://key:pw@b/p?x=y' and https://h:80/@a", "'s3://b/p and https://h:80/@a"),
        ("ftp://me:p/w?@h/x#y", "ftp://h/x"),
        ("http://[::1]:80/@x is it?", "http://[::1]:80/@x is it?"),
        ("C://x a://b?c://me:pw@d", "C://x a://b"),
    ],
)
def test_secrets_are_cut_from_urls(text, expected):
    assert without_secrets(text) == expected
    assert str(InputError(text)) == expected
    assert SourceFile(path=text, bytes=0, sha256="").path == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://me:SECRET@127.0.0.1:9/x.csv",
        "http://me:SEC/RET@127.0.0.1:9/x.csv",
        "https://127.0.0.1:SECRET@x/y",
        "s3://me:SECRET@x/y?endpoint_override=127.0.0.1%3A9&scheme=none&region=SECRET",
        "file://me:SECRET@host/x",
        "nothing://me:SECRET@h/x?sig=SECRET",
    ],
)
def test_no_password_is_said(tmp_path, url):
    assert not {"SECRET", "RET"} & set(refusal(url, tmp_path).replace("'", " ").split())
    with pytest.raises(InputError) as caught:
        prepare("rows.csv", url, PrepareOptions())
    assert "SEC" not in str(caught.value)


def test_nothing_secret_is_kept_and_what_is_fetched_goes(tmp_path):
    (tmp_path / "dataset.downloads/mine").mkdir(parents=True)
    with serving(sent(ROWS)) as url:
        prepared(f"{url}/0?sig=SECRET", tmp_path)

        assert (
            json.loads((tmp_path / "dataset/schema.json").read_text())["sources"][0]["path"]
            == f"{url}/0"
        )
    assert all(
        b"SECRET" not in file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()
    )
    assert [one.name for one in (tmp_path / "dataset.downloads").iterdir()] == ["mine"]


def test_an_interrupted_call_knows_its_source_again(tmp_path):
    asked = []

    def counted(connection, request, port):
        asked.append(request)
        sent(ROWS)(connection, request, port)

    with serving(counted) as url, fetching.downloading(tmp_path / "x") as downloads:
        for query in ("?sig=1", "?sig=1", "?sig=2"):
            fetching.fetch(url + "/0" + query, downloads)
    assert len(asked) == 2
