"""Text files as a stream of checked, normalised pieces: a text of any size in a few megabytes of memory."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt_core.errors import UserError

PIECE = 2**20
"""Bytes read at a time: what is made of them should fit in a processor's cache."""
BOM = "\ufeff"


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

    A byte order mark at the start of a file is dropped and \r\n becomes \n.

    Args:
        begun: there is text before these segments.

    Raises:
        UserError: a file cannot be read, or is binary or not UTF-8.
    """
    for segment in segments:
        begins = segment.start == 0
        for piece in _pieces_of(segment):
            if begins and begun:
                yield NEWLINE
            begins, begun = False, True
            yield piece


def _pieces_of(segment: Segment) -> Iterator[Piece]:
    what = repr(str(segment.path))
    try:
        with segment.path.open("rb") as file:
            file.seek(segment.start)
            left = sys.maxsize if segment.end is None else segment.end - segment.start
            # `rest` begins at `offset`: a character, or a \r\n, that the last read cut in two.
            offset, rest = segment.start, b""
            while True:
                more = file.read(min(PIECE, left))
                left -= len(more)
                data = rest + more
                text, whole = decode(data, offset, what, final=not more)
                if more and text.endswith("\r"):
                    text, whole = text[:-1], whole - 1
                utf8, rest = data[:whole], data[whole:]
                if offset == 0:
                    text, utf8 = text.removeprefix(BOM), utf8.removeprefix(codecs.BOM_UTF8)
                if "\r\n" in text:
                    text, utf8 = text.replace("\r\n", "\n"), utf8.replace(b"\r\n", b"\n")
                offset += whole
                if utf8:
                    yield Piece(utf8, code_points(text, utf8))
                if not more:
                    return
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
