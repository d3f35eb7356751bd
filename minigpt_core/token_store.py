"""Encoded texts, kept between runs in the user's cache folder and mapped into memory, so that a long one opens at once.

An entry is two files: `<name>.npy`, the tokens, and `<name>.json`, which tells what they must be. Its name is the
SHA-256 of the text and the tokenizer asked for.

The cache may be deleted at any time, and one that cannot be written is no error: then a text is encoded in memory.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.lib import format as npy

from minigpt_core.atomic import atomic_file, write_atomic
from minigpt_core.bpe import last_safe_cut
from minigpt_core.cache import cache_folder, make_room, mapped, touch
from minigpt_core.documents import Reading
from minigpt_core.errors import UserError
from minigpt_core.parts import LastCut, Part, cut
from minigpt_core.sources import Document
from minigpt_core.text_facts import TextFacts, changed, scan
from minigpt_core.token_index import is_settled, known_text, look, remember
from minigpt_core.token_parts import PartFiles, copy_tokens, tokens_of
from minigpt_core.tokenizer import CharTokenizer, Tokenizer, load_tokenizer, token_dtype
from minigpt_core.tokenizer_spec import CHARACTERS, TokenizerSpec, fit
from minigpt_core.unpacked import as_plain_files

FORMAT = 2
"""Part of every name: a change of format leaves old entries unread."""
SAMPLES = 64
SAMPLE_BYTES = 2**16
"""An entry is checked by its size and by so many stretches of it: reading all of it would take as long as encoding."""
LAST_CUT: dict[str, LastCut] = {"char": len, "byte": len, "bpe": last_safe_cut, "gpt2": last_safe_cut}
"""Where the text for each kind of tokenizer may be cut, which must be known before the tokenizer is made."""
SHARES = {"bpe": (0.1, 0.5)}
"""Where, between 0 and 1, the first pass ends, and where the tokenizer is made; else that takes no time."""
ROUGHLY = {"bpe": 4, "gpt2": 4}
"""Characters of a token, where that is not one; before they are counted."""
MOST_WORKERS = 8
"""Threads that encode; more would wait for each other."""

Progress = Callable[[float], None]
"""Is told which part of the work is done, 0 to 1, once more from 0 where more work follows; whoever must stop raises
from it."""


class Entry(msgspec.Struct, frozen=True):
    """What `<name>.json` says of the tokens beside it."""

    tokenizer: dict[str, Any]
    n_tokens: int
    crc32: int
    """Of the sampled stretches."""
    source: str
    """Where the text was read first."""
    text: TextFacts


class Encoded(msgspec.Struct, frozen=True):
    """A text as tokens.

    Attributes:
        tokens: (n,) mapped from the cache, or in memory where it cannot be written.
        entry: the name of the cache's entry; None where there is none.
    """

    tokenizer: Tokenizer
    tokens: np.ndarray
    text: TextFacts
    entry: str | None


def known(documents: Sequence[Document], how: Reading, spec: TokenizerSpec) -> Encoded | None:
    """The text of documents that have not changed since they were last encoded; None if they must be read.

    Raises:
        UserError: a document is not there.
    """
    text = known_text(look(documents), how)
    return _found(entry_name(text.sha256, spec), text) if text else None


def encode_documents(
    documents: Sequence[Document],
    how: Reading | None = None,
    spec: TokenizerSpec = CHARACTERS,
    progress: Progress | None = None,
    *,
    source: str = "",
    stream: Iterator[bytes] | None = None,
    workers: int | None = None,
) -> Encoded:
    """The text of all documents, joined by newlines, as tokens: from the cache, or encoded in two passes and put there.

    At no time is the whole text in memory: it is read by several threads, each of which holds a few times
    `text_stream.PIECE`. Killed in between, the next call goes on with the parts that are finished.

    Args:
        source: where the text is from, for people; the first document's file by default.
        stream: the text of the documents, where it can be read only once.
        workers: threads; as many as there are cores by default. The result does not depend on it.

    Raises:
        UserError: a document cannot be read, is damaged or no text, changes meanwhile, or all are empty.
    """
    how, say = how or Reading(), progress or (lambda done: None)
    workers = workers or min(MOST_WORKERS, _cores())
    begun, before = time.time_ns(), look(documents) if stream is None else []
    settled = bool(before) and is_settled(before, begun)
    size = max(1, sum(file.size for file in before))
    looks = before if settled else [None] * len(before)
    with as_plain_files(documents, looks, how, stream, _summed(size, say)) as files:
        encoded = _encode_files(files, spec, say, source or documents[0].what, workers)
    if stream is None:
        if look(documents) != before:
            if encoded.entry:
                (cache_folder() / f"{encoded.entry}.json").unlink(missing_ok=True)
            raise changed()
        if settled:
            remember(before, how, encoded.text)
    say(1.0)
    return encoded


def entry_name(sha256: str, spec: TokenizerSpec) -> str:
    return f"{sha256}-{spec.key}-{FORMAT}"


def read_entry(name: str) -> Entry | None:
    """What the cache says of a text's tokens; None if it lacks or damaged them."""
    try:
        return msgspec.json.decode((cache_folder() / f"{name}.json").read_bytes(), type=Entry)
    except (OSError, msgspec.DecodeError):
        return None


def open_entry(name: str) -> tuple[Tokenizer, np.ndarray] | None:
    """A text's tokenizer and its tokens, (n,) read from the disk as needed; None if the cache lacks or damaged it."""
    folder, entry = cache_folder(), read_entry(name)
    if entry is None:
        return None
    try:
        tokens = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        tokenizer = load_tokenizer(entry.tokenizer)
    except (OSError, ValueError, EOFError, UserError):  # what a damaged file may raise
        return None
    expected = (entry.n_tokens,), token_dtype(tokenizer.vocab_size)
    if (tokens.shape, tokens.dtype) != expected:
        return None
    if _crc32(tokens) != entry.crc32:
        return None
    touch(folder / f"{name}.json")
    mapped(name, tokens)
    return tokenizer, tokens


def _found(name: str, text: TextFacts) -> Encoded | None:
    found = open_entry(name)
    return Encoded(*found, text, name) if found else None


# --- encoding ---


def _encode_files(files: Sequence[Path], spec: TokenizerSpec, say: Progress, source: str, workers: int) -> Encoded:
    """The text of plain files, as tokens."""
    sizes = [(path, path.stat().st_size) for path in files]
    size = max(1, sum(n_bytes for _, n_bytes in sizes))
    parts = cut(sizes, LAST_CUT[spec.kind])
    scan_ends, fit_ends = SHARES.get(spec.kind, (0.5, 0.5))
    text, counts, scanned = scan(parts, workers, _summed(2 * size, lambda done: say(done * scan_ends)))
    if not text.n_bytes:
        raise UserError(f"{source} is empty; give a text to learn from")
    name = entry_name(text.sha256, spec)
    if found := _found(name, text):
        return found
    work = PartFiles(cache_folder() / f"{name}.work")
    tell = _summed(size, lambda done: say(fit_ends + done * (1 - fit_ends)))

    def tokenizer_of_text() -> Tokenizer:
        if spec.kind == "char":
            return CharTokenizer.from_counts(counts, spec.vocab_size)
        share = (fit_ends - scan_ends) / text.n_characters
        return fit(spec, lambda: _texts(parts), lambda read: say(min(fit_ends, scan_ends + read * share)))

    try:
        with work.locked():
            if found := _found(name, text):  # another process made it meanwhile
                return found
            tokenizer = work.tokenizer(tokenizer_of_text)
            itemsize = token_dtype(tokenizer.vocab_size).itemsize
            make_room(text.n_characters * itemsize // ROUGHLY.get(spec.kind, 1), source, work.folder.name)
            paths, n_tokens = work.encode(parts, scanned, tokenizer, workers, tell)
            make_room(n_tokens * itemsize, source, work.folder.name)
            _write(name, Entry(tokenizer.to_dict(), n_tokens, 0, source, text), tokenizer, paths)
    except OSError:  # unwritable, or full
        tokenizer = tokenizer_of_text()
        return Encoded(tokenizer, _in_memory(parts, scanned, tokenizer), text, None)
    found = _found(name, text)
    if found is None:
        raise UserError(f"the cache {str(cache_folder())!r} does not keep what is written to it; name another folder")
    return found


def _texts(parts: Sequence[Part]) -> Iterator[str]:
    return (piece.utf8.decode() for part in parts for piece in part.pieces())


def _write(name: str, entry: Entry, tokenizer: Tokenizer, paths: Sequence[Path]) -> None:
    folder, path = cache_folder(), cache_folder() / f"{name}.npy"
    (folder / f"{name}.json").unlink(missing_ok=True)
    with atomic_file(path) as file:
        dtype = npy.dtype_to_descr(token_dtype(tokenizer.vocab_size))
        npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": (entry.n_tokens,)})
        for data in copy_tokens(paths):
            file.write(data)
    crc32 = _crc32(np.load(path, mmap_mode="r", allow_pickle=False))
    write_atomic(folder / f"{name}.json", msgspec.json.encode(msgspec.structs.replace(entry, crc32=crc32)))


def _in_memory(parts: Sequence[Part], sizes: Sequence[tuple[int, int]], tokenizer: Tokenizer) -> np.ndarray:
    chunks = (tokens_of(part, size, tokenizer, lambda _: None) for part, size in zip(parts, sizes, strict=True))
    return np.concatenate([ids for part in chunks for ids in part])


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _summed(size: int, say: Progress) -> Callable[[int], None]:
    """Tells which share of `size` is done, from how many bytes more are."""
    done = 0

    def tell(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        say(min(1.0, done / size))

    return tell


def _crc32(tokens: np.ndarray) -> int:
    """Of `SAMPLES` stretches spread evenly from the first token to the last."""
    data = tokens.view(np.uint8)
    crc = 0
    for start in np.linspace(0, max(0, len(data) - SAMPLE_BYTES), SAMPLES).astype(int):
        crc = zlib.crc32(data[start : start + SAMPLE_BYTES].data, crc)
    return crc
