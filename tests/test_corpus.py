import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_core.corpus import load_corpus, split, token_dtype
from minigpt_core.errors import UsageError, UserError


def refusal(data: str | None, folder: Path, **kwargs: object) -> str:
    """The one line that refuses `data`."""
    with pytest.raises(UserError) as caught:
        load_corpus(data, cwd=folder, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "My Poems.txt").write_text("naïve\n", encoding="utf-8")
    corpus = load_corpus("My Poems.txt", cwd=tmp_path)
    assert corpus.text == "naïve\n"
    assert corpus.name == "my-poems"
    assert corpus.source == str(tmp_path / "My Poems.txt")
    assert corpus.n_bytes == 7
    assert corpus.sha256 == hashlib.sha256("naïve\n".encode()).hexdigest()
    assert load_corpus(str(tmp_path / "My Poems.txt"), cwd=Path("/")) == corpus


@pytest.mark.parametrize(
    ("file", "name"), [("a.b.txt", "a-b"), ("data.csv", "data-csv"), ("世界.txt", "text"), ("x" * 99, "x" * 40)]
)
def test_names_are_short_and_safe(file: str, name: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("text")
    assert load_corpus(file, cwd=tmp_path).name == name


def test_byte_order_mark_and_carriage_returns_go(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\r\n")
    assert load_corpus("windows.txt", cwd=tmp_path).text == "one\ntwo\rthree\n"


def test_a_folder_is_its_text_files_sorted_by_path(tmp_path: Path) -> None:
    for name, text in {"b.txt": "B", "a/z.md": "Z", "a/UP.TXT": "U", "c.py": "no", "d.txt": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    corpus = load_corpus(".", cwd=tmp_path)
    assert corpus.text == "U\nZ\nB"
    assert corpus.source == str(tmp_path)


def test_a_folder_says_which_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "bad.md").write_bytes(b"caf\xe9")
    message = refusal(".", tmp_path)
    assert "sub/bad.md" in message
    assert "offset 3" in message


@pytest.mark.parametrize(("file", "what"), [("code.py", "no .txt or .md"), ("empty.txt", "only empty .txt or .md")])
def test_a_folder_without_text(file: str, what: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    message = refusal(str(tmp_path), tmp_path)
    assert str(tmp_path) in message
    assert what in message


def test_standard_input_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:
        stream.write("über\r\n".encode() * 1000)
    with os.fdopen(reader, "rb") as stream:
        corpus = load_corpus("-", stdin=stream)
    assert corpus.text == "über\n" * 1000
    assert (corpus.name, corpus.source) == ("stdin", "standard input")


@pytest.mark.parametrize(("sent", "told"), [(b"piped", "piped"), (b"", "standard input is empty")])
def test_the_process_s_own_standard_input(sent: bytes, told: str) -> None:
    script = """
from minigpt_core.corpus import load_corpus
try:
    print(load_corpus("-").text)
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], input=sent, capture_output=True, check=True)
    assert told in done.stdout.decode()


def test_without_data_input_txt_comes_before_the_built_in(tmp_path: Path) -> None:
    assert load_corpus(None, cwd=tmp_path).name == "pydocs"
    (tmp_path / "input.txt").write_text("mine")
    assert load_corpus(None, cwd=tmp_path).text == "mine"
    assert load_corpus("pydocs", cwd=tmp_path).name == "pydocs"


def test_the_built_in_corpus_is_english_and_always_the_same(tmp_path: Path) -> None:
    corpus = load_corpus("pydocs", cwd=tmp_path)
    assert corpus == load_corpus("pydocs", cwd=tmp_path)
    assert corpus.n_bytes > 300_000
    assert corpus.text.count(" the ") > 1000
    assert corpus.source.startswith("pydocs")
    assert "\r" not in corpus.text


def test_a_file_named_like_a_corpus_is_reached_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "pydocs").write_text("my own")
    assert load_corpus("./pydocs", cwd=tmp_path).text == "my own"


def test_an_unknown_name_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_corpus("pydcos", cwd=tmp_path)
    assert refusal("pydcos", tmp_path) == "no such file or corpus: 'pydcos'; did you mean 'pydocs'?"


@pytest.mark.parametrize("data", ["no/such/file.txt", "file.txt/below", "new\nline", "nul\0", "\udcff"])
def test_a_missing_file_is_named(data: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("a file, not a folder")
    message = refusal(data, tmp_path)
    assert message.startswith(f"no such file or corpus: {data!r}; ")
    assert "pydocs" in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is binary (NUL byte at offset 8)"),
        ("text".encode("utf-16"), "is binary (NUL byte at offset 3)"),
        ("Straße".encode("latin-1"), "is not UTF-8 (byte 0xdf at offset 4)"),
        (b"\xef\xbb\xbfcut \xe2\x80", "is not UTF-8 (byte 0xe2 at offset 7)"),
    ],
)
def test_bad_content_is_told_apart(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    message = refusal("bad.txt", tmp_path)
    assert repr(str(tmp_path / "bad.txt")) in message
    assert told in message
    assert f"standard input {told}" in refusal("-", tmp_path, stdin=io.BytesIO(content))


def test_an_empty_name_is_not_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert "empty" in refusal("", tmp_path)


def test_what_the_system_refuses_is_named(tmp_path: Path) -> None:
    assert "File name too long" in refusal("x" * 1000, tmp_path)
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    assert "loop.txt" in refusal(".", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_without_permission(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.txt").write_text("secret")
    (tmp_path / "sub" / "mine.txt").chmod(0)
    assert "mine.txt': Permission denied" in refusal("sub/mine.txt", tmp_path)
    assert "mine.txt': Permission denied" in refusal("sub", tmp_path)
    (tmp_path / "sub").chmod(0)
    try:
        assert "sub': Permission denied" in refusal(".", tmp_path)
        assert "mine.txt': Permission denied" in refusal("sub/mine.txt", tmp_path)
    finally:
        (tmp_path / "sub").chmod(0o700)


@given(st.integers(20, 5000), st.floats(0.01, 0.99), st.integers(1, 50))
def test_split_loses_nothing_and_shares_nothing(n: int, val_fraction: float, seq_len: int) -> None:
    tokens = np.arange(n)
    try:
        train, val = split(tokens, seq_len, val_fraction)
    except UserError:
        assert min(int(n * (1 - val_fraction)), n - int(n * (1 - val_fraction))) < seq_len + 1
        return
    assert np.array_equal(np.concatenate([train, val]), tokens)
    assert min(len(train), len(val)) > seq_len
    assert abs(len(val) - n * val_fraction) <= 1


def test_split_is_ninety_to_ten() -> None:
    train, val = split(np.arange(1_115_394), 64)
    assert (len(train), len(val)) == (1_003_854, 111_540)


def test_a_short_text_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError) as caught:
        split(np.arange(310), 64)
    assert str(caught.value) == (
        "the text is too short: of its 310 tokens the validation part has 31, but --seq-len 64 needs 65 there; "
        "use --seq-len 30 or less, or a text of 650 tokens or more"
    )
    split(np.arange(310), 30)
    with pytest.raises(UserError):
        split(np.arange(310), 31)
    with pytest.raises(UserError, match="the training part has 77"):
        split(np.arange(310), 100, val_fraction=0.75)
    with pytest.raises(UserError, match="needs 2 there; use a text of 20 tokens or more"):
        split(np.arange(5), 1)


def test_the_length_it_asks_for_is_enough() -> None:
    for seq_len in range(1, 3000):
        split(np.arange(10 * (seq_len + 1)), seq_len)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_split_needs_two_parts(fraction: float) -> None:
    with pytest.raises(UsageError, match="val_fraction"):
        split(np.arange(1000), 4, fraction)


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(1, np.uint8), (256, np.uint8), (257, np.uint16), (65_536, np.uint16), (65_537, np.uint32), (2**32, np.uint32)],
)
def test_token_dtype_is_the_smallest_that_holds_every_id(vocab_size: int, dtype: type) -> None:
    assert token_dtype(vocab_size) == dtype
