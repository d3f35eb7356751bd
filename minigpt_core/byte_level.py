"""Bytes as tokens: what byte-level vocabularies share, and the plainest of them.

Text becomes UTF-8. A lone surrogate, which is how Python hands over command-line bytes that are not UTF-8, becomes the
three bytes that it would have if UTF-8 allowed it, and comes back from them: so any `str` survives the way there and
back. Bytes that form no character are shown as U+FFFD, one for each maximal part of a character, as browsers do
(The Unicode Standard 16.0, section 3.9, "U+FFFD Substitution of Maximal Subparts").
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from minigpt_core.errors import UsageError
from minigpt_core.tokenizer import UNKNOWN_CHAR, Decoder, TokenIds, checked_ids

LONGEST_CHARACTER = 4
"""Bytes."""


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """The inverse of `to_bytes`; U+FFFD where there is none."""
    return data.decode("utf-8", _ERRORS)


def labels(data: bytes) -> str:
    """As text for axes and tables: a byte that is no part of a whole character as ‹E2›."""
    return data.decode("utf-8", _SHOWN)


_ERRORS, _SHOWN = "minigpt-replace", "minigpt-show"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """The surrogate whose three bytes begin at the error, else U+FFFD for what cannot be decoded."""
    assert isinstance(error, UnicodeDecodeError)
    three = error.object[error.start : error.start + 3]
    if len(three) == 3 and three[0] == 0xED and 0xA0 <= three[1] <= 0xBF and 0x80 <= three[2] <= 0xBF:
        return three.decode("utf-8", "surrogatepass"), error.start + 3
    return UNKNOWN_CHAR, error.end


def _show(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"‹{byte:02X}›" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_ERRORS, _replace)
codecs.register_error(_SHOWN, _show)


class _Bytes(Protocol):
    def bytes_of(self, ids: TokenIds) -> bytes: ...


@dataclass
class ByteDecoder:
    """Holds back the beginning of a character until it is whole, or cannot become so any more."""

    tokenizer: _Bytes
    _held: bytes = field(default=b"", init=False)

    def feed(self, ids: TokenIds) -> str:
        data = self._held + self.tokenizer.bytes_of(ids)
        cut = len(data) - _unfinished(data)
        self._held = data[cut:]
        return to_text(data[:cut])

    def flush(self) -> str:
        held, self._held = self._held, b""
        return to_text(held)


def _unfinished(data: bytes) -> int:
    """How many bytes at the end may begin a character that has not all its bytes yet: 0 to 3.

    A byte that begins a character ends whatever was before it, so a cut there changes no text.
    """
    for n in range(1, min(LONGEST_CHARACTER, len(data) + 1)):
        byte = data[-n]
        if byte & 0xC0 != 0x80:  # not the continuation of a character
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return n if n < length else 0
    return 0


@dataclass(frozen=True)
class ByteTokenizer:
    """One token a byte of UTF-8: 256 ids, nothing to fit, no text it cannot take."""

    @property
    def vocab_size(self) -> int:
        return 256

    @property
    def byte_lengths(self) -> np.ndarray:
        return np.ones(256, np.int64)

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(to_bytes(text), np.uint8).astype(np.int64)

    def decode(self, ids: TokenIds) -> str:
        return to_text(self.bytes_of(ids))

    def bytes_of(self, ids: TokenIds) -> bytes:
        return checked_ids(ids, 256).astype(np.uint8).tobytes()

    def decoder(self) -> Decoder:
        return ByteDecoder(self)

    def token_labels(self, ids: TokenIds) -> tuple[str, ...]:
        return tuple(labels(bytes([byte])) for byte in self.bytes_of(ids))

    def unknown(self, text: str) -> tuple[str, ...]:
        return ()

    def last_safe_cut(self, text: str) -> int:
        return len(text)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "byte"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ByteTokenizer:
        if dict(values) != {"type": "byte"}:
            raise UsageError("not a byte tokenizer: needs nothing but its type")
        return cls()
