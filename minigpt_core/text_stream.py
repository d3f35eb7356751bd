"""Text files as a stream of checked, normalised pieces: a text of any size in a few megabytes of memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt_core.errors import UserError

PIECE = 2**20
"""Bytes read at a time: what is made of them should fit in a processor's cache."""
BOM = "\ufeff"


class Piece(NamedTuple):
    utf8: bytes
    codes: np.ndarray
    """(n_characters,) uint8 or uint32: their code points; those of ASCII are its bytes."""


NEWLINE = Piece(b"\n", np.frombuffer(b"\n", np.uint8))


def pieces(files: Sequence[Path]) -> Iterator[Piece]:
    """The text of all files, joined by newlines, in pieces of whole characters; empty files add nothing.

    A byte order mark at the start of a file is dropped and \\r\\n becomes \\n.

    Raises:
        UserError: a file cannot be read, or is binary or not UTF-8.
    """
    begun = False
    for path in files:
        first = True
        for piece in _pieces_of(path):
            if first and begun:
                yield NEWLINE
            first, begun = False, True
            yield piece


def _pieces_of(path: Path) -> Iterator[Piece]:
    what = repr(str(path))
    try:
        with path.open("rb") as file:
            offset, rest = 0, b""  # `rest` begins at `offset`: a character, or a \r\n, that the last read cut in two
            while True:
                more = file.read(PIECE)
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
                    codes = utf8 if text.isascii() else text.encode("utf-32-le")
                    yield Piece(utf8, np.frombuffer(codes, np.uint8 if text.isascii() else np.dtype("<u4")))
                if not more:
                    return
    except OSError as error:
        raise UserError(f"cannot read {what}: {error.strerror or error}") from None


def decode(data: bytes, offset: int, what: str, final: bool) -> tuple[str, int]:
    """The text of UTF-8, and how many bytes it is: `data` may end within a character, unless it is the `final` part.

    Raises:
        UserError: it is binary or not UTF-8; the message calls it `what` and counts its bytes from `offset`.
    """
    if (null := data.find(0)) >= 0:
        raise UserError(f"{what} is binary (NUL byte at offset {offset + null:,}); give plain text in UTF-8")
    try:
        return codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not UTF-8 (byte 0x{data[error.start]:02x} at offset {offset + error.start:,}); "
            "convert it: iconv -f LATIN1 -t UTF-8 (or whatever its encoding is)"
        ) from None
