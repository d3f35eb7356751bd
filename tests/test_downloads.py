"""Texts with a name, fetched from a server of this test's own: what arrives is checked, and no part of it stays."""

import hashlib
import http.server
import io
import socket
import threading
import zipfile
from contextlib import suppress
from typing import ClassVar

import pytest

from minigpt_core import corpus, downloads
from minigpt_core.corpus import as_data, load_corpus, load_encoded
from minigpt_core.downloads import DOWNLOADS, here
from minigpt_core.errors import UserError
from minigpt_tui import cli

TEXT = b"To be, or not to be\n" * 10_000


def packed(content):
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", content)
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; `mode` says how badly."""

    files: ClassVar[dict[str, bytes]] = {}
    mode = ""
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        content = self.files.get(self.path)
        if content is None or self.mode == "404":
            return self.send_error(404)
        if self.mode == "wrong":
            content = b"X" + content[1:]
        if self.mode == "endless":
            content *= 50
        self.send_response(200)
        if self.mode != "no length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(ConnectionError):  # whoever has enough hangs up
            self.wfile.write(content[: len(content) // 2] if self.mode in ("truncated", "no length") else content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/texts"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def place(server, tmp_path, monkeypatch):
    """A cache of this test's own, a mirror, and two texts that are there."""
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINIGPT_TUI_MIRROR", server)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    archive = packed(TEXT)
    for name, content in {"shakespeare": TEXT, "enwik8": archive}.items():
        sha256 = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(DOWNLOADS, name, DOWNLOADS[name]._replace(sha256=sha256, n_bytes=len(content)))
    files = {"/texts/tinyshakespeare.txt": TEXT, "/texts/enwik8.zip": archive}
    for name, value in (("files", files), ("mode", ""), ("requests", 0)):
        monkeypatch.setattr(Handler, name, value)
    return tmp_path / "cache"


def refusal(name="shakespeare"):
    with pytest.raises(UserError) as caught:
        load_encoded(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kept(cache):
    return [path.name for path in cache.rglob("*") if path.is_file()]


def test_it_is_fetched_once_and_told_how_far(place):
    told = []
    assert not here("shakespeare")
    found = load_encoded("shakespeare", progress=told.append)
    assert found.tokenizer.decode(found.tokens) == TEXT.decode()
    assert found.identity["name"] == as_data(found.identity) == "shakespeare"
    assert found.identity["source"].startswith("shakespeare (https://raw.githubusercontent.com/")
    assert told[0] < 0.5
    assert told[-1] == 1
    assert here("shakespeare")
    assert load_corpus("shakespeare").text == TEXT.decode()
    assert Handler.requests == 1
    assert kept(place) == ["tinyshakespeare.txt"]


@pytest.mark.parametrize("large", [1, 10**9])
def test_an_archive_is_unpacked(place, monkeypatch, large):
    monkeypatch.setattr(corpus, "LARGE", large)
    found = load_encoded("enwik8")
    assert found.tokenizer.decode(found.tokens) == TEXT.decode()
    assert sorted(name.rpartition(".")[2] for name in kept(place)) == (
        ["json", "npy", "zip"] if large == 1 else ["zip"]
    )


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (
            "404",
            "/texts/tinyshakespeare.txt: the server says 404 Not Found; try again, or get tinyshakespeare.txt some",
        ),
        ("wrong", "/texts/tinyshakespeare.txt sends is not 'shakespeare': its SHA-256 must be"),
        ("truncated", "/texts/tinyshakespeare.txt: the connection broke off before the end; try again"),
        ("no length", "/texts/tinyshakespeare.txt sends is not 'shakespeare': its SHA-256 must be"),
        ("endless", "/texts/tinyshakespeare.txt sends more than the 200,000 bytes it must"),
    ],
)
def test_what_goes_wrong_is_told_in_a_line_and_leaves_nothing(place, monkeypatch, mode, told):
    monkeypatch.setattr(Handler, "mode", mode)
    assert told in refusal()
    assert kept(place) == []
    monkeypatch.setattr(Handler, "mode", "")
    assert load_corpus("shakespeare").text == TEXT.decode()


def test_offline(place, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MINIGPT_TUI_MIRROR", f"http://127.0.0.1:{port}")
    assert "no connection; try again, or get tinyshakespeare.txt some other way" in refusal()
    assert kept(place) == []


def test_a_server_that_does_not_answer(place, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MINIGPT_TUI_MIRROR", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "no answer in 0.1 seconds" in refusal()
    assert kept(place) == []


def test_ctrl_c_leaves_nothing(place):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_encoded("shakespeare", progress=stop)
    assert kept(place) == []


def test_a_damaged_download_is_fetched_again(place):
    load_corpus("shakespeare")
    (place / "downloads" / "tinyshakespeare.txt").write_bytes(TEXT[:-1])
    assert load_corpus("shakespeare").text == TEXT.decode()
    assert Handler.requests == 2


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot keep 'shakespeare' in" in refusal()


def test_the_command_tells_it_in_a_line(place, monkeypatch, capsys):
    monkeypatch.setattr(Handler, "mode", "404")
    monkeypatch.setattr("sys.argv", ["minigpt-tui", "data", "show", "shakespeare"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minigpt-tui: cannot download 'shakespeare' from http://127.0.0.1:")
    assert err.count("\n") == 1
