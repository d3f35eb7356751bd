"""Text files as a stream of checked, normalised pieces: a text of any size in a few megabytes of memory."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from minigpt_core.errors import UserError

PIECE = 2**20
"""Bytes read at a time: what is made of them should fit in a processor's cache."""
BOM = "\ufeff"

T = TypeVar("T")


class Segment(NamedTuple):
    """A stretch of a file, in bytes; without an end, to the end of the file. It begins and ends at whole characters."""

    path: Path
    start: int = 0
    end: int | None = None


class Piece(NamedTuple):
    utf8: bytes
    codes: np.ndarray
    """(n_characters,) uint8 or uint32: their code points; those of ASCII are its bytes."""


NEWLINE = Piece(b"\n", np.frombuffer(b"\n", np.uint8))


def pieces(segments: Iterable[Segment], begun: bool = False) -> Iterator[Piece]:
    """The text of all segments, in pieces of whole characters: files joined by newlines; empty ones add nothing.

    A byte order mark at the start of a file is dropped and \\r\\n becomes \\n.

    Args:
        begun: there is text before these segments.

    Raises:
        UserError: a file cannot be read, or is binary or not UTF-8.
    """
    return _joined(segments, begun, _pieces_of, NEWLINE)


def utf8_unchecked(segments: Iterable[Segment], begun: bool = False) -> Iterator[bytes]:
    """The bytes of `pieces`, cut anywhere: several times faster, since nothing is decoded or checked."""
    return _joined(segments, begun, lambda segment: (utf8 for _, _, utf8 in _folded(segment)), b"\n")


def _joined(
    segments: Iterable[Segment], begun: bool, read: Callable[[Segment], Iterator[T]], newline: T
) -> Iterator[T]:
    for segment in segments:
        begins = segment.start == 0
        for piece in read(segment):
            if begins and begun:
                yield newline
            begins, begun = False, True
            yield piece


def _pieces_of(segment: Segment) -> Iterator[Piece]:
    what, end = repr(str(segment.path)), 0
    rest = b""  # a character that the last read cut in two
    for offset, raw, utf8 in _folded(segment):
        data = rest + utf8
        try:
            text, whole = codecs.utf_8_decode(data, "strict", False)
            if 0 in data:
                raise ValueError
        except ValueError:
            decode(rest + raw, offset - len(rest), what, final=False)  # raises: it counts in bytes of the file
            raise
        rest, end = data[whole:], offset + len(raw)
        if whole:
            yield Piece(data[:whole], code_points(text, data[:whole]))
    decode(rest, end - len(rest), what, final=True)


def _folded(segment: Segment) -> Iterator[tuple[int, bytes, bytes]]:
    """A segment without byte order mark, in pieces: where each begins, its bytes, and these with \\n for \\r\\n."""
    try:
        with segment.path.open("rb") as file:
            left = sys.maxsize if segment.end is None else segment.end - segment.start
            offset, held = segment.start, b""
            if offset == 0 and file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
                offset, left = len(codecs.BOM_UTF8), left - len(codecs.BOM_UTF8)
            file.seek(offset)
            while more := file.read(min(PIECE, left)):
                left -= len(more)
                raw = held + more
                held = b"\r" if raw.endswith(b"\r") else b""  # a \n may follow
                if raw := raw.removesuffix(held):
                    yield offset, raw, raw.replace(b"\r\n", b"\n")
                offset += len(raw)
            if held:
                yield offset, held, held
    except OSError as error:
        raise unreadable(segment.path, error) from None


def code_points(text: str, utf8: bytes) -> np.ndarray:
    """(n_characters,) uint8 or uint32, of a text that is not empty and holds no NUL; `utf8` is the same text."""
    # The array of one string holds its UTF-32; to get it so is three times faster than by `str.encode`.
    return np.frombuffer(utf8, np.uint8) if text.isascii() else np.array([text]).view(np.uint32)


def decode(data: bytes, offset: int, what: str, final: bool) -> tuple[str, int]:
    """The text of UTF-8, and how many bytes it is: `data` may end within a character, unless it is the `final` part.

    Raises:
        UserError: it is binary or not UTF-8; the message calls it `what` and counts its bytes from `offset`.
    """
    if (null := data.find(0)) >= 0:
        raise binary(what, offset + null)
    try:
        return codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        raise undecodable(what, "utf-8", data[error.start], offset + error.start) from None


# --- what to say of a file ---


def binary(what: str, offset: int) -> UserError:
    return UserError(f"{what} is binary (NUL byte at offset {offset:,}); give plain text, or name its --encoding")


def undecodable(what: str, encoding: str, byte: int, offset: int) -> UserError:
    """`byte` is the first that is no text in `encoding`."""
    name = encoding.upper()
    return UserError(
        f"{what} is not {name} (byte 0x{byte:02x} at offset {offset:,}); name its encoding, as --encoding latin-1"
    )


def unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {str(path)!r}: {error.strerror or error}")
