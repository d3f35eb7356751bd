"""Encoded texts, kept between runs in the user's cache folder and mapped into memory, so that a long one opens at once.

An entry is two files: `<name>.npy`, the tokens, and `<name>.json`, which tells what they must be. Its name is the
SHA-256 of the text and the size of the vocabulary asked for. An index remembers the SHA-256 of files by path, size,
time of change and inode, as git does, so that a text that has not changed is not read again.

The cache may be deleted at any time, and one that cannot be written is no error: then a text is encoded in memory.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.lib import format as npy

from minigpt_core.atomic import atomic_file, write_atomic
from minigpt_core.errors import UserError
from minigpt_core.text_stream import Piece, pieces
from minigpt_core.tokenizer import CharTokenizer, load_tokenizer, token_dtype

FORMAT = 1
"""Part of every name: a change of format leaves old entries unread."""
RACY_NS = 2 * 10**9
"""A file changed so shortly before it was read may change again within the same tick of its clock."""
SAMPLES = 64
SAMPLE_BYTES = 2**16
"""An entry is checked by its size and by so many stretches of it: reading all of it would take as long as encoding."""
CODES = 0x110000
"""Unicode's code points."""

Progress = Callable[[float], None]
"""Is told which part of the work is done, 0 to 1; whoever must stop raises from it."""


class Summary(msgspec.Struct, frozen=True):
    """What one pass through a text tells."""

    sha256: str
    n_bytes: int


class Entry(msgspec.Struct, frozen=True):
    """What `<name>.json` says of the tokens beside it."""

    tokenizer: dict[str, Any]
    n_tokens: int
    crc32: int
    """Of the sampled stretches."""


class Indexed(msgspec.Struct, frozen=True):
    """What is known of files that look like this."""

    files: list[tuple[str, int, int, int]]
    """Path, size, time of change in nanoseconds, inode."""
    text: Summary


class Encoded(msgspec.Struct, frozen=True):
    """A text as tokens.

    Attributes:
        tokens: (n,) mapped from the cache, or in memory where it cannot be written.
        entry: the name of the cache's entry; None where there is none.
    """

    tokenizer: CharTokenizer
    tokens: np.ndarray
    text: Summary
    entry: str | None


def cache_folder() -> Path:
    """Where encoded texts are kept: `MINIGPT_TUI_CACHE`, else the platform's folder for caches."""
    if chosen := os.environ.get("MINIGPT_TUI_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("minigpt-tui")


def encode_files(files: Sequence[Path], vocab_size: int | None = None, progress: Progress | None = None) -> Encoded:
    """The text of all files, joined by newlines, as tokens: from the cache, or encoded in two passes and put there.

    The vocabulary is that of `CharTokenizer.from_text`. At no time is the whole text in memory.

    Raises:
        UserError: a file cannot be read, is binary or not UTF-8, changes meanwhile, or all are empty.
    """
    folder, say = cache_folder(), progress or (lambda done: None)
    begun, before = time.time_ns(), _look(files)
    text = _indexed(folder, before)
    if text is not None and (found := open_entry(entry_name(text.sha256, vocab_size))):
        return Encoded(*found, text, entry_name(text.sha256, vocab_size))
    size = max(1, sum(file[1] for file in before))
    text, counts = _count(files, size, lambda done: say(done / size / 2))
    if not text.n_bytes:
        raise UserError(f"{str(files[0])!r} is empty; give a text to learn from")
    name = entry_name(text.sha256, vocab_size)
    found = open_entry(name)
    if found is None:
        tokenizer = CharTokenizer.from_counts(counts, vocab_size)
        n_tokens = int(counts.sum())
        n_bytes = text.n_bytes

        def chunks() -> Iterator[np.ndarray]:
            return _encode(files, tokenizer, n_tokens, lambda done: say(0.5 + done / n_bytes / 2))

        found = tokenizer, _keep(name, tokenizer, n_tokens, chunks)
    if _look(files) != before:
        (folder / f"{name}.json").unlink(missing_ok=True)
        raise _changed(files)
    if begun - max(file[2] for file in before) >= RACY_NS:
        _remember(folder, before, text)
    say(1.0)
    return Encoded(*found, text, name if isinstance(found[1], np.memmap) else None)


def entry_name(sha256: str, vocab_size: int | None) -> str:
    return f"{sha256}-{vocab_size or 'all'}-{FORMAT}"


def open_entry(name: str) -> tuple[CharTokenizer, np.ndarray] | None:
    """A text's tokenizer and its tokens, (n,) read from the disk as needed; None if the cache lacks or damaged it."""
    folder = cache_folder()
    try:
        entry = msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Entry)
        tokens = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        tokenizer = load_tokenizer(entry.tokenizer)
    except (OSError, ValueError, EOFError, msgspec.DecodeError, UserError):  # what a damaged file may raise
        return None
    expected = (entry.n_tokens,), token_dtype(tokenizer.vocab_size)
    if not isinstance(tokenizer, CharTokenizer) or (tokens.shape, tokens.dtype) != expected:
        return None
    return (tokenizer, tokens) if _crc32(tokens) == entry.crc32 else None


# --- two passes ---


def _count(files: Sequence[Path], size: int, say: Progress) -> tuple[Summary, np.ndarray]:
    """The first pass: (0x110000,) how often each code point occurs."""
    digest, n_bytes, counts = hashlib.sha256(), 0, np.zeros(CODES, np.int64)
    for piece in pieces(files):
        digest.update(piece.utf8)
        n_bytes += len(piece.utf8)
        if n_bytes > size + len(files):  # with newlines between them; one that grows all the time must not hold us
            raise _changed(files)
        _add(counts, piece)
        say(n_bytes)
    return Summary(digest.hexdigest(), n_bytes), counts


def _add(counts: np.ndarray, piece: Piece) -> None:
    """Count ASCII two bytes at a time, which is four times faster, and then all other characters."""
    even = len(piece.utf8) & ~1
    pairs = np.bincount(np.frombuffer(piece.utf8, np.uint16, even // 2), minlength=2**16).reshape(256, 256)
    in_bytes = pairs.sum(0) + pairs.sum(1)
    in_bytes[list(piece.utf8[even:])] += 1
    counts[:128] += in_bytes[:128]  # in UTF-8 no other character holds such a byte
    if piece.codes.itemsize > 1:
        chunk = np.bincount(piece.codes[piece.codes >= 128])
        counts[: len(chunk)] += chunk


def _encode(files: Sequence[Path], tokenizer: CharTokenizer, n_tokens: int, say: Progress) -> Iterator[np.ndarray]:
    """The second pass: the tokens of each piece, (n,) in the smallest type that holds the vocabulary."""
    table = tokenizer.id_table(token_dtype(tokenizer.vocab_size))
    n_bytes = done = 0
    for piece in pieces(files):
        ids = np.take(table, piece.codes, mode="clip")
        n_bytes, done = n_bytes + len(piece.utf8), done + len(ids)
        if done > n_tokens:
            break
        yield ids
        say(n_bytes)
    if done != n_tokens:
        raise _changed(files)


def _keep(name: str, tokenizer: CharTokenizer, n_tokens: int, chunks: Callable[[], Iterator[np.ndarray]]) -> np.ndarray:
    """Write an entry and map it; where the cache cannot be written, the tokens in memory."""
    folder, dtype = cache_folder(), token_dtype(tokenizer.vocab_size)
    path, written = folder / f"{name}.npy", 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").unlink(missing_ok=True)
        with atomic_file(path) as file:
            header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_tokens,)}
            npy.write_array_header_1_0(file, header)
            for chunk in chunks():
                file.write(chunk.data)
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        entry = Entry(tokenizer.to_dict(), n_tokens, _crc32(tokens))
        write_atomic(folder / f"{name}.json", msgspec.json.encode(entry))
        return tokens
    except OSError:  # unwritable, or full
        tokens = np.empty(n_tokens, dtype)
        for chunk in chunks():
            tokens[written : written + len(chunk)] = chunk
            written += len(chunk)
        return tokens


def _crc32(tokens: np.ndarray) -> int:
    """Of `SAMPLES` stretches spread evenly from the first token to the last."""
    data = tokens.view(np.uint8)
    crc = 0
    for start in np.linspace(0, max(0, len(data) - SAMPLE_BYTES), SAMPLES).astype(int):
        crc = zlib.crc32(data[start : start + SAMPLE_BYTES].data, crc)
    return crc


def _changed(files: Sequence[Path]) -> UserError:
    what = repr(str(files[0])) if len(files) == 1 else f"a file in {str(files[0].parent)!r}"
    return UserError(f"{what} changed while it was read; start again")


# --- the index ---


def _look(files: Sequence[Path]) -> list[tuple[str, int, int, int]]:
    try:
        seen = [(os.fsencode(file.resolve()).hex(), file.stat()) for file in files]
    except OSError as error:
        raise UserError(f"cannot read {error.filename!r}: {error.strerror or error}") from None
    return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in seen]


def _index_path(folder: Path, files: list[tuple[str, int, int, int]]) -> Path:
    """One for each list of paths, however often the files change."""
    return folder / f"index-{hashlib.sha256(' '.join(file[0] for file in files).encode()).hexdigest()}.json"


def _indexed(folder: Path, files: list[tuple[str, int, int, int]]) -> Summary | None:
    try:
        known = msgspec.json.decode(_index_path(folder, files).read_bytes(), type=Indexed)
    except (OSError, msgspec.DecodeError):
        return None
    return known.text if known.files == files else None


def _remember(folder: Path, files: list[tuple[str, int, int, int]], text: Summary) -> None:
    with suppress(OSError):
        write_atomic(_index_path(folder, files), msgspec.json.encode(Indexed(files, text)))
