"""The tokens of a long text, made part by part by several threads. Finished parts outlive a process that is killed."""

from __future__ import annotations

import fcntl
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from minigpt_core.atomic import atomic_file, write_atomic
from minigpt_core.errors import UserError
from minigpt_core.parts import Part, Tell, in_parallel
from minigpt_core.text_facts import changed
from minigpt_core.text_stream import Piece
from minigpt_core.tokenizer import CharTokenizer, Tokenizer, load_tokenizer, token_dtype
from minigpt_core.tokenizer_spec import encode_pieces

CRC_BYTES = 4
"""At the end of a part's file: the CRC-32 of all before."""
SIZE = 2**20
"""Bytes copied at a time."""
WAIT = 0.1
"""Seconds between attempts to work on a text that another process works on."""


class PartFiles:
    """The folder in which the parts of one text's tokens lie until all are there.

    A part's file is named for its place in the text and its content, so one that is there is the one that is wanted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, once nobody else does; it is made at need, and removed if the block ends well."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("wb") as lock:
                _wait_for(lock.fileno())
                if not (self.folder / "lock").exists():  # whoever had it has removed it
                    continue
                yield
                shutil.rmtree(self.folder, ignore_errors=True)
                return

    def tokenizer(self, make: Callable[[], Tokenizer]) -> Tokenizer:
        """The one that was made for this text before the process was killed, else a new one.

        Raises:
            OSError: the disk refuses.
        """
        path = self.folder / "tokenizer.json"
        with suppress(OSError, msgspec.DecodeError, UserError):
            return load_tokenizer(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
        made = make()
        write_atomic(path, msgspec.json.encode(made.to_dict()))
        return made

    def encode(
        self,
        parts: Sequence[Part],
        sizes: Sequence[tuple[int, int]],
        tokenizer: Tokenizer,
        workers: int,
        say: Callable[[int], None],
    ) -> tuple[list[Path], int]:
        """The files with the tokens of all parts, and how many tokens these are.

        Args:
            sizes: each part's length in bytes and CRC-32.

        Raises:
            OSError: the disk refuses.
            UserError: a file cannot be read, or changed.
        """
        names, done = [], 0
        for size, crc32 in sizes:
            names.append(self.folder / f"{done}-{size}-{crc32:08x}.part")
            done += size
        work = [
            partial(_encode_to, path, part, size, tokenizer)
            for path, part, size in zip(names, parts, sizes, strict=True)
        ]
        return names, sum(in_parallel(work, workers, say))


def copy_tokens(paths: Sequence[Path]) -> Iterator[bytes]:
    """The tokens in these files, as bytes."""
    for path in paths:
        with path.open("rb") as file:
            left = path.stat().st_size - CRC_BYTES
            while left > 0 and (data := file.read(min(left, SIZE))):
                left -= len(data)
                yield data


def tokens_of(part: Part, size: tuple[int, int], tokenizer: Tokenizer, tell: Tell) -> Iterator[np.ndarray]:
    """The tokens of a part, (n,) at a time, in the smallest type that holds the vocabulary.

    Raises:
        UserError: the part is not what it was.
    """
    n_bytes = crc32 = 0

    def checked() -> Iterator[Piece]:
        nonlocal n_bytes, crc32
        for piece in part.pieces():
            n_bytes, crc32 = n_bytes + len(piece.utf8), zlib.crc32(piece.utf8, crc32)
            tell(len(piece.utf8))
            yield piece

    yield from _ids(checked(), tokenizer)
    if (n_bytes, crc32) != size:
        raise changed()


def _ids(pieces: Iterable[Piece], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    if not isinstance(tokenizer, CharTokenizer):
        yield from encode_pieces(tokenizer, (piece.utf8.decode() for piece in pieces))
        return
    table = tokenizer.id_table(token_dtype(tokenizer.vocab_size))  # several times faster
    for piece in pieces:
        yield np.take(table, piece.codes, mode="clip")


def _encode_to(path: Path, part: Part, size: tuple[int, int], tokenizer: Tokenizer, tell: Tell) -> int:
    """Write the tokens of a part, unless they are there; how many they are."""
    itemsize = token_dtype(tokenizer.vocab_size).itemsize
    if _is_whole(path):
        tell(size[0])
        return (path.stat().st_size - CRC_BYTES) // itemsize
    n_tokens = crc32 = 0
    with atomic_file(path) as file:
        for ids in tokens_of(part, size, tokenizer, tell):
            file.write(ids.data)
            crc32 = zlib.crc32(ids.data, crc32)
            n_tokens += len(ids)
        file.write(crc32.to_bytes(CRC_BYTES, "little"))
    return n_tokens


def _is_whole(path: Path) -> bool:
    """Whether a part's file is there and undamaged."""
    crc32 = 0
    try:
        for data in copy_tokens([path]):
            crc32 = zlib.crc32(data, crc32)
        with path.open("rb") as file:
            file.seek(-CRC_BYTES, 2)
            return file.read() == crc32.to_bytes(CRC_BYTES, "little")
    except (OSError, ValueError):  # ValueError: shorter than its CRC-32
        return False


def _wait_for(lock: int) -> None:
    """Hold a file's lock; not by one long call, which Ctrl-C could not end in every thread."""
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(WAIT)
