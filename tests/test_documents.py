"""Every kind of file a text may come in, and what is wrong with those that are damaged or hostile."""

import gzip
import io
import json
import os
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_core import corpus, documents, text_stream
from minigpt_core.corpus import load_corpus, load_encoded
from minigpt_core.errors import UsageError, UserError
from minigpt_core.sources import Document

POEM = "Über allen Gipfeln\nist Ruh,\n" * 50


def in_gzip(data: bytes) -> bytes:
    """The same bytes at any time: they name a test."""
    return gzip.compress(data, mtime=0)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory, and a cache, of this test's own."""
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(params=["short", "long"])
def text_of(request, monkeypatch):
    """The text that `--data` names, read as a short one and as a long one; nothing else is left in the cache."""
    if request.param == "long":
        monkeypatch.setattr(corpus, "LARGE", 1)

    def read(data, **options):
        if request.param == "short":
            return load_corpus(data, **options).text
        found = load_encoded(data, **options)
        assert isinstance(found.tokens, np.memmap)
        assert not [
            path for path in Path(os.environ["MINIGPT_TUI_CACHE"]).iterdir() if path.suffix in (".txt", ".work")
        ]
        return found.tokenizer.decode(found.tokens)

    return read


def refusal(data, **options):
    with pytest.raises(UserError) as caught:
        load_encoded(data, **options)
    assert "\n" not in str(caught.value)
    assert not [*Path(os.environ["MINIGPT_TUI_CACHE"]).glob("**/*")]
    return str(caught.value)


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


# --- what is read ---


def test_packed_text(text_of):
    Path("poem.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + POEM.replace("\n", "\r\n").encode()))
    assert text_of("poem.txt.gz") == POEM
    assert load_corpus("poem.txt.gz").name == "poem"


@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_json(text_of, packed):
    data = b"\xef\xbb\xbf" + lines({"id": 1, "text": "one"}, {"text": ""}, {"text": "two\r\nlines"}) + b"\n  \n"
    data += lines({"text": "Über \U0001f600", "meta": {"text": "not this"}}).rstrip()
    name = "data.jsonl.gz" if packed else "data.jsonl"
    Path(name).write_bytes(gzip.compress(data) if packed else data)
    assert text_of(name) == "one\ntwo\nlines\nÜber \U0001f600"


def test_another_field(text_of):
    Path("wiki.jsonl").write_bytes(lines({"body": "one"}, {"body": "two"}))
    assert text_of("wiki.jsonl", text_field="body") == "one\ntwo"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252", "UTF8", "utf-8-sig"])
def test_encodings(text_of, encoding, monkeypatch):
    monkeypatch.setattr(text_stream, "PIECE", 7)
    Path("poem.txt").write_bytes(POEM.replace("\n", "\r\n").encode(encoding))
    assert text_of("poem.txt", encoding=encoding) == POEM


def test_a_folder_of_all_kinds_is_joined_in_order(text_of):
    Path("sub").mkdir()
    Path("sub/a.md").write_text("a")
    Path("sub/b.jsonl").write_bytes(lines({"text": "b"}, {"text": "c"}))
    Path("sub/c.TXT.GZ").write_bytes(gzip.compress(b"d\n"))
    Path("sub/d.txt").write_text("")
    Path("sub/e.jsonl.gz").write_bytes(gzip.compress(b""))
    Path("sub/f.txt").write_text("e")
    Path("sub/image.gz").write_bytes(b"none of these")
    assert text_of("sub") == "a\nb\nc\nd\n\ne"


def test_patterns(text_of, place):
    for name in ("docs/z.md", "docs/deep/er/a.md", "docs/deep/b.txt", "docs/.hidden.md", "docs/[1].md"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    assert text_of("docs/**/*.md") == "docs/[1].md\ndocs/deep/er/a.md\ndocs/z.md"
    assert text_of("docs/[1].md") == "docs/[1].md", "a file of that name comes first"
    assert text_of(f"{place}/docs/deep/?.txt") == "docs/deep/b.txt"
    with pytest.raises(UsageError, match=r"no file matches 'docs/\*.rst'"):
        load_corpus("docs/*.rst")


def test_a_pipe_is_read_once(monkeypatch):
    monkeypatch.setattr(corpus, "LARGE", 100)
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:
        stream.write(POEM.encode())
    with os.fdopen(reader, "rb"):
        found = load_encoded(f"/dev/fd/{reader}")
    assert found.tokenizer.decode(found.tokens) == POEM


def test_a_long_standard_input(monkeypatch):
    monkeypatch.setattr(corpus, "LARGE", 100)
    monkeypatch.setattr(text_stream, "PIECE", 64)
    monkeypatch.setattr(documents.sys, "stdin", io.TextIOWrapper(io.BytesIO(POEM.encode())))
    found = load_encoded("-")
    assert found.tokenizer.decode(found.tokens) == POEM
    assert found.identity["source"] == "standard input"
    assert [path.suffix for path in sorted(Path(os.environ["MINIGPT_TUI_CACHE"]).iterdir())] == [".json", ".npy"]


def test_a_packed_text_is_unpacked_once(monkeypatch):
    monkeypatch.setattr(corpus, "LARGE", 1)
    path = Path("poem.txt.gz")
    path.write_bytes(gzip.compress(POEM.encode()))
    os.utime(path, (10**9, 10**9))
    first = load_encoded("poem.txt.gz")
    monkeypatch.setattr(documents, "gzip", None)
    again = load_encoded("poem.txt.gz")
    assert again.identity == first.identity
    assert again.facts == first.facts


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5))
def test_any_texts_in_lines_of_json(texts):
    data = b"".join(
        json.dumps({"text": text}, ensure_ascii=i % 2 == 0).encode() + b"\n" for i, text in enumerate(texts)
    )
    read = b"".join(documents._records(io.BytesIO(data), "x", documents.reading())).decode()
    assert read == "\n".join(text.replace("\r\n", "\n") for text in texts if text)


# --- what is refused ---


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"not JSON", "is no JSON object"),
        (b'["text"]', "is no JSON object"),
        (b'{"text": "cut off', "is no JSON object"),
        (b"[" * 100_000, "is no JSON object"),
        (b'{"body": "one", "id": 1}', "has no field 'text' but 'body', 'id'; name the one with the text: --text-field"),
        (b"{}", "has no field 'text' but nothing"),
        (b'{"text": 7}', "field 'text' is no text"),
        (b'{"text": null}', "field 'text' is no text"),
        (b'{"text": "caf\xe9"}', "field 'text' is no text"),
        (b'{"text": "nul\\u0000"}', "field 'text' holds a NUL character"),
        (b'{"text": "\\ud800"}', "is no JSON object"),
        (b'{"text": "' + b"x" * 200 + b'"}', "has more than 200 bytes"),
    ],
)
@pytest.mark.parametrize("large", [1, 10**6])
def test_a_bad_line_is_named(line, told, large, monkeypatch):
    monkeypatch.setattr(corpus, "LARGE", large)
    if told.endswith("200 bytes"):
        monkeypatch.setattr(documents, "LONGEST_LINE", 200)
    Path("bad.jsonl").write_bytes(lines({"text": "good"}) + b"\n" + line + b"\n")
    message = refusal("bad.jsonl")
    assert message.startswith(f"line 3 of '{Path.cwd() / 'bad.jsonl'}'")
    assert told in message


@pytest.mark.parametrize("large", [1, 10**6])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (in_gzip(random.Random(0).randbytes(9999))[:5000], "cannot unpack"),
        (in_gzip(POEM.encode())[:-9], "cannot unpack"),
        (in_gzip(POEM.encode())[:-5] + b"12345", "cannot unpack"),
        (POEM.encode(), "cannot unpack"),
        (in_gzip(b"\0" * 10**6), "is binary (NUL byte at offset 0)"),
        (in_gzip("café".encode("latin-1")), "is not UTF-8 (byte 0xe9 at offset 3); name its encoding, as --enc"),
        (in_gzip(b""), "is empty"),
    ],
)
def test_bad_packing_is_named(content, told, large, monkeypatch):
    monkeypatch.setattr(corpus, "LARGE", large)
    Path("bad.txt.gz").write_bytes(content)
    message = refusal("bad.txt.gz")
    assert "bad.txt.gz'" in message
    assert told in message


@pytest.mark.parametrize("large", [1, 10**6])
def test_what_is_not_of_the_encoding_is_named_with_its_place(large, monkeypatch):
    monkeypatch.setattr(corpus, "LARGE", large)
    monkeypatch.setattr(text_stream, "PIECE", 5)
    Path("bad.txt").write_bytes("Straße".encode("utf-16-le") + b"\x00\xd8" + b"a\0")
    assert "is not UTF-16-LE (byte 0x00 at offset 12)" in refusal("bad.txt", encoding="utf-16-le")
    Path("bad.txt").write_bytes(b"0123456\x81")
    assert "is not CP1252 (byte 0x81 at offset 7)" in refusal("bad.txt", encoding="cp1252")
    assert "is not UTF-8 (byte 0x81 at offset 7); name its encoding, as --encoding latin-1" in refusal("bad.txt")
    assert "is not ASCII (byte 0x81 at offset 7)" in refusal("bad.txt", encoding="ascii")


@pytest.mark.parametrize("encoding", ["klingon", "rot13", "zlib", "base64", "", "undefined", "../x", "a\0b"])
def test_what_is_no_encoding(encoding):
    Path("a.txt").write_text("text")
    if encoding:
        assert f"no such encoding: {encoding!r}" in refusal("a.txt", encoding=encoding)
    else:
        assert load_corpus("a.txt", encoding=encoding).text == "text"


def test_a_bomb_takes_little_memory_and_no_more_disk_than_the_cache_may_hold(monkeypatch):
    """40 MB of spaces in 40 KB."""
    Path("bomb.txt.gz").write_bytes(gzip.compress(b" " * 40_000_000))
    Path("bomb.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + b" " * 40_000_000))
    monkeypatch.setattr(corpus, "LARGE", 10**6)
    monkeypatch.setattr(documents, "LONGEST_LINE", 10**6)
    monkeypatch.setenv("MINIGPT_TUI_CACHE_SIZE", "30MB")
    tracemalloc.start()
    try:
        assert "unpacks to more than the 30.0 MB that the cache may hold" in refusal("bomb.txt.gz")
        assert "has more than 1,000,000 bytes" in refusal("bomb.jsonl.gz")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_document_knows_whether_it_is_plain(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    assert Document(tmp_path / "a.txt").plain
    assert not Document(tmp_path / "pipe.txt").plain
    assert not Document(tmp_path / "a.jsonl", lines=True).plain
