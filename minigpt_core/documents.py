"""Documents as text: unpacked, decoded and normalised, in pieces, whatever kind of file they come from."""

from __future__ import annotations

import codecs
import gzip
import sys
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from minigpt_core import text_stream
from minigpt_core.errors import UsageError, UserError
from minigpt_core.reading import brief
from minigpt_core.sources import Document
from minigpt_core.text_stream import BOM, Segment, binary, pieces, undecodable, unreadable

LONGEST_LINE = 2**26
"""Bytes of a line of JSON: a packed file of a kilobyte may hold one of a gigabyte."""
JSON_LINE = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Reading(NamedTuple):
    """How documents are to be read; make it by `reading`."""

    encoding: str = "utf-8"
    """Of text files; lines of JSON are always UTF-8 (RFC 8259, section 8.1)."""
    text_field: str = "text"
    """Of each line of JSON."""


def reading(encoding: str | None = None, text_field: str | None = None) -> Reading:
    """With what was not said as it usually is.

    Raises:
        UsageError: there is no such encoding.
    """
    try:
        codec = codecs.lookup(encoding or "utf-8")
        codec.incrementaldecoder("strict").decode(b"", True)
    except (LookupError, TypeError, ValueError):  # TypeError: one that cannot decode piece by piece
        codec = None
    if codec is None or not codec._is_text_encoding:  # rot13, zlib and others turn text, or bytes, into their like
        raise UsageError(f"no such encoding: {encoding!r}; common ones are utf-8, latin-1, cp1252, utf-16, gb18030")
    name = "utf-8" if codec.name == "utf-8-sig" else codec.name  # the byte order mark is dropped in any case
    return Reading(name, text_field or "text")


def joined(documents: Iterable[Document], how: Reading, say: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """The text of all documents in normalised UTF-8, piece by piece, joined by newlines; empty ones add nothing.

    Args:
        say: is told how many bytes of the documents' files have been read since it was told last.

    Raises:
        UserError: one cannot be read, is damaged, or holds no text.
    """
    begun = False
    for document in documents:
        first = True
        with closing(utf8(document, how, say)) as stream:
            for piece in stream:
                if first and begun:
                    yield b"\n"
                first, begun = False, True
                yield piece


def utf8(document: Document, how: Reading, say: Callable[[int], None] | None = None) -> Generator[bytes, None, None]:
    """The text of one document, as `joined`."""
    if how.encoding == "utf-8" and document.plain:
        yield from (piece.utf8 for piece in pieces([Segment(document.path)]))
        return
    with _opened(document, say) as stream:
        yield from _records(stream, document.what, how) if document.lines else _text(stream, document.what, how)


@contextmanager
def _opened(document: Document, say: Callable[[int], None] | None) -> Iterator[BinaryIO]:
    """What is in the document's file, unpacked."""
    what = document.what
    try:
        with open(document.path, "rb") if document.stream is None else _left_open(document.stream) as raw:
            told = _Told(raw, say) if say else raw
            if document.packed == "gz":
                with gzip.GzipFile(fileobj=told) as stream:  # type: ignore[arg-type]
                    yield stream  # type: ignore[misc]
            elif document.packed == "zip":
                with zipfile.ZipFile(told) as archive, archive.open(archive.namelist()[0]) as stream:  # type: ignore[arg-type]
                    yield stream  # type: ignore[misc]
            else:
                yield told  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"cannot unpack {what}: {brief(error).rstrip('.')}; get the file again") from None
    except OSError as error:
        raise (unreadable(document.path, error) if document.stream is None else _no_stdin(error)) from None


@contextmanager
def _left_open(stream: BinaryIO) -> Iterator[BinaryIO]:
    yield stream


class _Told:
    """A file that tells how much of it is read."""

    def __init__(self, raw: BinaryIO, say: Callable[[int], None]) -> None:
        self.raw, self.say = raw, say

    def read(self, size: int = -1) -> bytes:
        data = self.raw.read(size)
        self.say(len(data))
        return data

    def readline(self, size: int = -1) -> bytes:
        data = self.raw.readline(size)
        self.say(len(data))
        return data

    def __getattr__(self, name: str) -> object:
        return getattr(self.raw, name)


def _text(stream: BinaryIO, what: str, how: Reading) -> Iterator[bytes]:
    """Decoded piece by piece; a line end that two reads divide waits for its second half."""
    decoder = codecs.getincrementaldecoder(how.encoding)("strict")
    null_is_a_byte = "\0".encode(how.encoding) == b"\0"
    offset, held, begins, more = 0, "", True, b"-"
    while more:
        more = stream.read(text_stream.PIECE)
        if null_is_a_byte and (null := more.find(0)) >= 0:
            raise binary(what, offset + null)
        pending = decoder.getstate()[0]
        try:
            text = held + decoder.decode(more, final=not more)
        except UnicodeDecodeError as error:
            byte = (pending + more)[error.start : error.start + 1] or b"\0"
            raise undecodable(what, how.encoding, byte[0], offset - len(pending) + error.start) from None
        except UnicodeError as error:  # UTF-16 without a byte order mark, where one must be
            raise UserError(f"{what} is not {how.encoding.upper()}: {brief(error)}") from None
        offset += len(more)
        held = "\r" if more and text.endswith("\r") else ""
        text = text.removesuffix(held)
        if begins and text:
            text, begins = text.removeprefix(BOM), False
        if text:
            yield _encoded(text.replace("\r\n", "\n"), what)


def _records(stream: BinaryIO, what: str, how: Reading) -> Iterator[bytes]:
    """The texts of lines of JSON, joined by newlines; empty lines and texts add nothing."""
    number, gathered, size, begun = 0, [], 0, False
    while line := stream.readline(LONGEST_LINE):
        number += 1
        where = f"line {number:,} of {what}"
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise UserError(f"{where} has more than {LONGEST_LINE:,} bytes; break it into several")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.isspace() or not line or not (text := _field(line, where, how.text_field)):
            continue
        gathered += [b"\n", text] if begun else [text]
        begun, size = True, size + len(text)
        if size >= text_stream.PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _field(line: bytes, where: str, name: str) -> bytes:
    """The text that a line of JSON holds under `name`."""
    try:
        fields = JSON_LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{where} is no JSON object: {brief(error)}") from None
    if name not in fields:
        found = ", ".join(map(repr, list(fields)[:9])) or "nothing"
        raise UserError(f"{where} has no field {name!r} but {found[:100]}; name the one with the text: --text-field")
    try:
        text = msgspec.json.decode(fields[name], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: field {name!r} is no text: {brief(error)}; see --text-field") from None
    if "\0" in text:
        raise UserError(f"{where}: field {name!r} holds a NUL character; give plain text")
    return _encoded(text.replace("\r\n", "\n"), where)


def _encoded(text: str, what: str) -> bytes:
    """Some codecs, and JSON, let lone surrogates through; they are no text, and cannot be written."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} holds half a character (a lone surrogate); name its encoding: --encoding") from None


# --- standard input ---


def standard_input(stdin: BinaryIO | None = None) -> Document:
    """As a document; the process's own by default.

    Raises:
        UserError: it is closed.
    """
    if stdin is None and sys.stdin is None:  # started with its standard input closed
        raise UserError("standard input is closed; give the text with: cat FILE | minigpt-tui train --data -")
    return Document(Path("standard input"), stream=stdin or sys.stdin.buffer)


def _no_stdin(error: OSError) -> UserError:
    return UserError(f"cannot read standard input: {error.strerror or error}")
