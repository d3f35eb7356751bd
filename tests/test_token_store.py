"""Long texts: encoded in pieces as a short one is as a whole, kept in a cache that may be damaged, old or missing."""

import hashlib
import os
import time

import numpy as np
import pytest

from minigpt_core import corpus, data, parts, stored, text_stream
from minigpt_core.batches import gather
from minigpt_core.corpus import load_corpus, load_encoded
from minigpt_core.errors import UserError
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.sources import Document
from minigpt_core.stored import read_config
from minigpt_core.token_store import encode_documents, open_entry
from minigpt_core.tokenizer import CharTokenizer
from minigpt_core.tokenizer_spec import TokenizerSpec
from tests.conftest import TINY

TEXT = "\ufeffnaïve\r\n世界 \U0001f600\rplain ASCII, and more of it\r\n" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test's own, and pieces so small that characters and line ends are cut in two."""
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_stream, "PIECE", 7)
    monkeypatch.setattr(corpus, "LARGE", 1)
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes(TEXT.encode())
    old(path)
    return path


def old(path):
    """Changed long ago: its time of change can be trusted."""
    os.utime(path, (1_000_000_000, 1_000_000_000))


def never(*_):
    raise AssertionError("read again")


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 7, 64, 10_000])
@pytest.mark.parametrize("vocab_size", [None, 8])
def test_in_pieces_as_a_whole(file, monkeypatch, piece, vocab_size):
    monkeypatch.setattr(text_stream, "PIECE", piece)
    whole = load_corpus(str(file))
    tokenizer = CharTokenizer.from_text(whole.text, vocab_size)
    encoded = load_encoded(str(file), TokenizerSpec(vocab_size=vocab_size))
    assert encoded.tokenizer == tokenizer
    assert np.array_equal(encoded.tokens, tokenizer.encode(whole.text))
    assert isinstance(encoded.tokens, np.memmap)
    assert encoded.tokens.dtype == np.uint8
    assert encoded.identity == whole.identity | {"cache": encoded.identity["cache"]}
    assert encoded.identity["sha256"] == hashlib.sha256(whole.text.encode()).hexdigest()


def test_a_large_vocabulary_takes_two_bytes(tmp_path):
    path = tmp_path / "han.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x4F80))), encoding="utf-8")
    encoded = encode_documents([Document(path)])
    assert encoded.tokens.dtype == np.uint16
    assert np.array_equal(encoded.tokens, np.arange(0x180))


def test_a_folder_is_joined_as_a_short_one_is(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, content in {
        "a.txt": b"\xef\xbb\xbfone\r\n",
        "b.md": b"",
        "c.txt": b"\xef\xbb\xbf",
        "d.txt": b"two",
    }.items():
        (folder / name).write_bytes(content)
    encoded, whole = load_encoded(str(folder)), load_corpus(str(folder))
    assert encoded.tokenizer.decode(encoded.tokens) == whole.text == "one\n\ntwo"
    assert encoded.identity["sha256"] == whole.sha256


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbf", b"0123456789\0", b"0123456789 caf\xe9 au lait", b"cut \xe2\x80"]
)
def test_bad_content_is_refused_in_the_same_words(tmp_path, content, monkeypatch):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as whole:
        load_corpus(str(path))
    with pytest.raises(UserError) as pieces:
        encode_documents([Document(path)])
    assert str(pieces.value) == str(whole.value)


def test_a_text_is_read_once(file, monkeypatch):
    first = load_encoded(str(file))
    monkeypatch.setattr(parts, "pieces", never)
    monkeypatch.setattr(parts, "utf8_unchecked", never)
    again = load_encoded(str(file))
    assert again.tokenizer == first.tokenizer
    assert again.identity == first.identity
    assert np.array_equal(again.tokens, first.tokens)


def test_a_changed_text_is_read_anew(file):
    before = load_encoded(str(file))
    file.write_bytes(file.read_bytes().replace(b"plain", b"PLAIN"))
    after = load_encoded(str(file))
    assert after.identity["sha256"] != before.identity["sha256"]
    assert "PLAIN" in after.tokenizer.decode(after.tokens)


def test_a_text_changed_a_moment_ago_may_change_unseen(file):
    """Same size, same time, same inode, other content: only a file left alone for a while is trusted."""
    now = time.time_ns()
    os.utime(file, ns=(now, now))
    load_encoded(str(file))
    with file.open("r+b") as same:
        same.write(file.read_bytes().replace(b"plain", b"PLAIN"))
    os.utime(file, ns=(now, now))
    encoded = load_encoded(str(file))
    assert "PLAIN" in encoded.tokenizer.decode(encoded.tokens)


@pytest.mark.parametrize("suffix", ["npy", "json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_a_damaged_entry_is_made_again(file, cache, suffix, damage):
    first = load_encoded(str(file))
    wanted, name = np.array(first.tokens), first.identity["cache"]
    del first
    part = cache / f"{name}.{suffix}"
    content = part.read_bytes()
    part.unlink()
    if damage != "gone":
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        part.write_bytes({"cut": content[:-3], "flipped": flipped, "empty": b""}[damage])
    again = load_encoded(str(file))
    assert np.array_equal(again.tokens, wanted)
    found = open_entry(name)
    assert found is not None
    assert np.array_equal(found[1], wanted)


def test_without_a_cache_it_is_encoded_in_memory(file, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "a file" / "cache"))
    encoded = load_encoded(str(file))
    assert "cache" not in encoded.identity
    assert encoded.tokenizer.decode(encoded.tokens) == load_corpus(str(file)).text


def test_a_text_that_changes_meanwhile_is_refused(file, cache):
    def grow(done):
        with file.open("ab") as more:
            more.write(b"more")

    with pytest.raises(UserError, match="changed while it was read"):
        encode_documents([Document(file)], progress=grow)
    assert not list(cache.glob("*.json"))


def test_progress_rises_to_the_end(file):
    told = []
    encode_documents([Document(file)], progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < 0.1
    assert told[-1] == 1


def test_windows_of_a_text_left_where_it_is_are_those_of_one_copied(monkeypatch):
    tokens = np.random.default_rng(0).integers(0, 300, 101).astype(np.uint16)
    starts = np.array([0, 5, 90, 95, 100])
    copied = data.TokenWindows(tokens, 8, "cpu")
    monkeypatch.setattr(data, "MOST_COPIED", 10)
    left = data.TokenWindows(tokens, 8, "cpu")
    assert left.mapped is tokens
    for one, other, truth in zip(copied(starts), left(starts), gather(tokens, starts, 8), strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, truth)
        assert np.array_equal(other, truth)


def test_a_run_on_a_long_text_goes_on_from_the_cache(text_file, tmp_path, cache, monkeypatch):
    """It keeps no copy; its text may go, and with the cache gone too a resume is refused in one line."""
    monkeypatch.setattr(stored, "STORED_TOKENS", 100)
    monkeypatch.setattr(text_stream, "PIECE", 1000)
    monkeypatch.setattr(data, "MOST_COPIED", 100)
    settings = {"steps": 2, "batch_size": 2, "device": "cpu", "threads": 1}
    out = str(tmp_path / "runs")
    plan = prepare(Request(data=str(text_file), model=TINY, train=settings, name="run", out=out))
    list(plan.build())
    plan.release()
    assert not plan.run.tokens.exists()
    assert (cache / f"{read_config(plan.run)['corpus']['cache']}.npy").is_file()

    text_file.unlink()
    again = prepare_resume("run", {"steps": 3}, out)
    assert np.array_equal(again.tokens, plan.tokens)
    assert [row.step for row in again.build()] == [3]
    again.release()
    del again

    for entry in cache.iterdir():
        entry.unlink()
    with pytest.raises(UserError, match="run 'run' kept no copy of its text, and no such file") as refused:
        prepare_resume("run", {}, out)
    assert "\n" not in str(refused.value)
