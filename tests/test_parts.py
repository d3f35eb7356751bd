"""A long text in parts: wherever it is cut, whoever works on it, and whoever is killed, the tokens are the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_core import parts, text_stream, token_parts
from minigpt_core.cache import items, remove
from minigpt_core.errors import UserError
from minigpt_core.parts import cut, in_parallel
from minigpt_core.sources import Document
from minigpt_core.token_parts import PartFiles
from minigpt_core.token_store import encode_documents
from minigpt_core.tokenizer import CharTokenizer
from minigpt_core.tokenizer_spec import TokenizerSpec, fit

TEXT = "naïve\r\n世界 \U0001f600\rplain ASCII, and more of it\r\n" * 300
CRLF_LINES = st.lists(st.sampled_from(["\r", "\n", "\r\n", "a", "ß", "世", "\U0001f600", " ", "word"]), max_size=60)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_stream, "PIECE", 50)
    monkeypatch.setattr(parts, "PART", 997)
    monkeypatch.setattr(parts, "WINDOW", 3)
    return tmp_path / "cache"


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes(TEXT.encode())
    os.utime(path, (10**9, 10**9))
    return Document(path)


# --- cutting ---


def before_each_word(text):
    """A rule for tokenizers whose tokens begin with a space: the last place before one, with something before it."""
    return max(text.rfind(" "), 0)


@given(st.lists(CRLF_LINES.map("".join), min_size=1, max_size=4), st.integers(1, 40), st.integers(1, 9), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_cut_gives_the_text_of_the_whole(tmp_path_factory, texts, size, window, words):
    folder = tmp_path_factory.mktemp("parts")
    files = []
    for i, text in enumerate(texts):
        data = (b"\xef\xbb\xbf" if i % 2 else b"") + text.encode()
        (folder / str(i)).write_bytes(data)
        files.append((folder / str(i), len(data)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", size)
        patch.setattr(parts, "WINDOW", window)
        patch.setattr(text_stream, "PIECE", 5)
        found = cut(files, before_each_word if words else len)
        read = [b"".join(piece.utf8 for piece in part.pieces()).decode() for part in found]
    whole = "\n".join(text.removeprefix("\ufeff").replace("\r\n", "\n") for text in texts if text)
    assert "".join(read) == whole
    tokenizer = CharTokenizer.from_text(whole or "x")
    together = np.concatenate([tokenizer.encode(text) for text in [*read, ""]])
    assert np.array_equal(together, tokenizer.encode(whole))
    if words:
        assert all(text.startswith(" ") for text in read[1:] if text)


def test_parts_are_about_as_long_as_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART", 1000)
    monkeypatch.setattr(parts, "WINDOW", 10)
    path = tmp_path / "a.txt"
    path.write_text("x" * 10_500)
    short = tmp_path / "b.txt"
    short.write_text("y" * 100)
    sizes = [sum(s.end - s.start for s in part.segments) for part in cut([(path, 10_500), *[(short, 100)] * 100], len)]
    assert sum(sizes) == 20_500
    assert all(1000 <= size <= 1010 for size in sizes[:-1])


# --- working ---


def stored(cache):
    """The bytes of the one entry."""
    (path,) = cache.glob("*.npy")
    return path.read_bytes()


def test_any_number_of_workers_makes_the_same_entry(cache, document):
    found = set()
    for workers in (1, 2, 3, 16):
        encoded = encode_documents([document], workers=workers)
        assert isinstance(encoded.tokens, np.memmap)
        del encoded
        found.add(stored(cache))
        for item in items():
            assert remove(item)
        for path in cache.iterdir():
            path.unlink()
    assert len(found) == 1


@pytest.mark.parametrize("spec", [TokenizerSpec("byte"), TokenizerSpec("bpe", 300), TokenizerSpec("char", 9)])
@pytest.mark.parametrize("part", [37, 500, 10**6])
def test_every_tokenizer_reads_parts_as_the_whole(cache, document, monkeypatch, spec, part):
    monkeypatch.setattr(parts, "PART", part)
    encoded = encode_documents([document], spec=spec)
    whole = TEXT.replace("\r\n", "\n")
    tokenizer = fit(spec, lambda: [whole])
    assert encoded.tokenizer == tokenizer
    assert np.array_equal(encoded.tokens, tokenizer.encode(whole))
    assert spec.key in encoded.entry


def test_of_several_errors_the_first_in_the_text_is_told(cache, tmp_path):
    data = bytearray(b"x" * 20_000)
    for place in (1_500, 1_700, 9_000, 19_999):
        data[place] = 0xFF
    (tmp_path / "bad.txt").write_bytes(data)
    for _ in range(8):
        with pytest.raises(UserError, match="offset 1,500"):
            encode_documents([Document(tmp_path / "bad.txt")], workers=8)


def test_work_that_nobody_waits_for_stops():
    done = []

    def work(tell):
        for i in range(10_000):
            time.sleep(0.001)
            tell(1)
            done.append(i)

    def stop(n_bytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel([work] * 4, 2, stop)
    assert len(done) < 100


# --- resuming ---


class StopError(Exception):
    pass


def stop_at(share):
    def say(done):
        if done >= share:
            raise StopError

    return say


def finished(cache):
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.work/*.part")}


def test_finished_parts_are_used_again(cache, document, monkeypatch):
    with pytest.raises(StopError):
        encode_documents([document], progress=stop_at(0.75), workers=1)
    there = finished(cache)
    assert 3 <= len(there) <= 11
    assert [item.kind for item in items()] == ["unfinished"]

    made = []
    monkeypatch.setattr(token_parts, "tokens_of", spy(made, token_parts.tokens_of))
    encoded = encode_documents([document])
    assert len(made) + len(there) == len(cut([(document.path, document.path.stat().st_size)], len))
    assert encoded.tokenizer.decode(encoded.tokens) == TEXT.replace("\r\n", "\n")
    assert not list(cache.glob("*.work"))


def spy(made, function):
    def call(part, *rest):
        made.append(part)
        return function(part, *rest)

    return call


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_part_is_made_again(cache, document, damage):
    with pytest.raises(StopError):
        encode_documents([document], progress=stop_at(0.75), workers=1)
    path = sorted(cache.glob("*.work/*.part"))[0]
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-1], "flipped": bytes([data[0] ^ 1]) + data[1:], "empty": b""}[damage])
    encoded = encode_documents([document])
    assert encoded.tokenizer.decode(encoded.tokens) == TEXT.replace("\r\n", "\n")


def test_two_that_want_the_same_text_make_it_once(cache, document, monkeypatch):
    made = []
    monkeypatch.setattr(PartFiles, "encode", spy(made, PartFiles.encode))
    found = []
    threads = [threading.Thread(target=lambda: found.append(encode_documents([document]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 3
    assert all(np.array_equal(one.tokens, found[0].tokens) for one in found)
    assert not list(cache.glob("*.work"))


KILLED = """
import sys
from pathlib import Path
from minigpt_core import parts, text_stream, token_store
from minigpt_core.sources import Document

parts.PART, parts.WINDOW, text_stream.PIECE = 20_000, 100, 1000
def say(done):
    if done > 0.7:
        print("now", flush=True)
        import time
        time.sleep(60)
token_store.encode_documents([Document(Path(sys.argv[1]))], progress=say, workers=2)
"""


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    path = tmp_path / "long.txt"
    path.write_bytes(TEXT.encode() * 50)
    os.utime(path, (10**9, 10**9))
    monkeypatch.setattr(parts, "PART", 20_000)
    monkeypatch.setattr(parts, "WINDOW", 100)
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "straight"))
    encode_documents([Document(path)], workers=2)
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "killed"))
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    there = finished(tmp_path / "killed")
    assert len(there) >= 5
    assert not list((tmp_path / "killed").glob("*.npy"))

    made = []
    monkeypatch.setattr(token_parts, "tokens_of", spy(made, token_parts.tokens_of))
    encode_documents([Document(path)], workers=2)
    assert len(made) == len(cut([(path, path.stat().st_size)], len)) - len(there)
    assert stored(tmp_path / "killed") == stored(tmp_path / "straight")
    assert [p.name for p in sorted(Path(tmp_path / "killed").iterdir()) if not p.name.startswith(("index", "."))] == [
        p.name for p in sorted(Path(tmp_path / "straight").iterdir()) if not p.name.startswith("index")
    ]
