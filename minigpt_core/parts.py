"""A long text as parts that can be read, and turned into tokens, each by itself and in any order.

Parts depend on the files and the tokenizer only, never on how many work on them: what is made of them is the same.
"""

from __future__ import annotations

import codecs
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from minigpt_core.text_stream import Piece, Segment, pieces, unreadable, utf8_unchecked

PART = 2**24
"""Bytes of files in a part; one ends a little later, where the text may be cut."""
WINDOW = 2**16
"""Bytes in which such a place is looked for; twice as many each time there is none."""

T = TypeVar("T")
Tell = Callable[[int], None]
"""Is told how many more bytes are done."""
LastCut = Callable[[str], int]
"""The last place in a text, from 0 (none) to its length, where it may be cut: what is before it and what is after it,
whatever follows, have the same tokens apart as together."""


class Part(NamedTuple):
    segments: tuple[Segment, ...]
    begun: bool
    """There is text before it."""

    def pieces(self) -> Iterator[Piece]:
        return pieces(self.segments, self.begun)

    def utf8(self) -> Iterator[bytes]:
        """The bytes of all pieces."""
        return utf8_unchecked(self.segments, self.begun)


def cut(files: Sequence[tuple[Path, int]], last_cut: LastCut) -> list[Part]:
    """The parts of the text of all files, joined by newlines.

    Args:
        files: each with its size in bytes.

    Raises:
        UserError: a file cannot be read.
    """
    parts: list[Part] = []
    segments: list[Segment] = []
    room = PART
    for path, size in files:
        start = 0
        while size - start > room and (end := _place(path, start + max(room, 0), size, last_cut)) is not None:
            parts.append(Part((*segments, Segment(path, start, end)), bool(parts)))
            segments, start, room = [], end, PART
        if start < size:
            segments.append(Segment(path, start, size))
            room -= size - start
    return [*parts, Part(tuple(segments), bool(parts))] if segments else parts


def _place(path: Path, offset: int, size: int, last_cut: LastCut) -> int | None:
    """Where, from `offset` on, the text of a file may be cut; None where it may not, or is no text."""
    window = WINDOW
    try:
        with path.open("rb") as file:
            while True:
                file.seek(offset)
                data = file.read(window)
                begin = next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0) if offset else 0
                begin += len(codecs.BOM_UTF8) if not offset and data.startswith(codecs.BOM_UTF8) else 0
                try:
                    text, _ = codecs.utf_8_decode(data[begin:], "strict", False)
                except UnicodeDecodeError:  # whoever reads it all says so
                    return None
                text = text.removesuffix("\r")  # a \n may follow
                if place := _unfolded(text, last_cut(text.replace("\r\n", "\n"))):
                    return offset + begin + len(text[:place].encode())
                if offset + window >= size:
                    return None
                window *= 2
    except OSError as error:
        raise unreadable(path, error) from None


def _unfolded(text: str, place: int) -> int:
    """`place` in a text whose line ends are \\n, as that in the same text as it is, where some are \\r\\n."""
    before = 0
    for line in text.split("\r\n"):
        if place <= len(line):
            return before + place
        place -= len(line) + 1
        before += len(line) + 2
    return len(text)


def in_parallel(work: Sequence[Callable[[Tell], T]], workers: int, say: Callable[[int], None]) -> list[T]:
    """What each piece of work returns, done by so many threads.

    Threads and not processes: decoding ASCII, NumPy and tokenizers let other threads run, and starting processes costs
    more than they gain on anything below some hundred megabytes. Besides, they end with the process that is killed.

    Args:
        say: is told, in this thread, how many bytes the work did; whoever must stop raises from it.

    Raises:
        Exception: what a piece of work raises: of several the first, in the order of `work`.
    """
    told: queue.SimpleQueue[int | Future[T]] = queue.SimpleQueue()
    stopped = False

    def tell(n_bytes: int) -> None:
        if stopped:
            raise _StoppedError
        told.put(n_bytes)

    with ThreadPoolExecutor(workers, "encode") as pool:
        futures = [pool.submit(one, tell) for one in work]
        for future in futures:
            future.add_done_callback(told.put)
        try:
            left = len(futures)
            while left:
                news = told.get()
                if isinstance(news, int):
                    say(news)
                elif news.exception() is None:
                    left -= 1
                else:  # what has begun goes on: it stands before, so its errors do as well
                    pool.shutdown(cancel_futures=True)
                    break
        except BaseException:
            stopped = True
            pool.shutdown(cancel_futures=True)
            raise
    for future in futures:
        if not future.cancelled():
            future.result()
    return [future.result() for future in futures]


class _StoppedError(Exception):
    """Nobody waits for this work any more."""
