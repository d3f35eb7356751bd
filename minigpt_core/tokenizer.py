"""Tokenizers: text to token ids and back. `Tokenizer` is what the rest of the program may ask of one.

The protocol is wide enough for byte-level and merged vocabularies: a token need not be whole characters, so
text that arrives token by token goes through a `Decoder`, which holds back what is not yet a character.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np

from minigpt_core.config import lookup
from minigpt_core.errors import UsageError

UNKNOWN_CHAR = "\N{REPLACEMENT CHARACTER}"
"""How an unknown token is shown, and what stands for bytes that form no character."""

CHUNK = 1 << 20
"""Characters converted or encoded at a time: what is made of a long text on the way stays small."""

TokenIds = Sequence[int] | np.ndarray


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned integer type that holds every id of a vocabulary: uint8, uint16 or uint32."""
    return np.min_scalar_type(vocab_size - 1)


class Decoder(Protocol):
    """Turns a stream of tokens into text; never shows half a character."""

    def feed(self, ids: TokenIds) -> str:
        """The text that `ids` complete, which may be none."""

    def flush(self) -> str:
        """What is still held back, at the end of the stream; the decoder can then be used afresh."""


class Tokenizer(Protocol):
    """Immutable, so any thread may use it. Ids are 0 ... vocab_size - 1."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def byte_lengths(self) -> np.ndarray:
        """(vocab_size,) int64: bytes of UTF-8 that each token stands for; an unknown token's are those of U+FFFD."""

    def encode(self, text: str) -> np.ndarray:
        """(n_tokens,) int64. Takes any text; each tokenizer says what it does with the characters in `unknown`."""

    def decode(self, ids: TokenIds) -> str:
        """The text of any sequence of ids; bytes that form no character become U+FFFD.

        Raises:
            UsageError: an id outside the vocabulary.
        """

    def decoder(self) -> Decoder:
        """For streaming: the pieces of `feed` and `flush`, joined, equal `decode` of all the ids."""

    def token_labels(self, ids: TokenIds) -> tuple[str, ...]:
        """One text a token, as it is (white space included), for axes and tables.

        Raises:
            UsageError: an id outside the vocabulary.
        """

    def unknown(self, text: str) -> tuple[str, ...]:
        """The characters of `text` outside the vocabulary, each once, in order of appearance."""

    def last_safe_cut(self, text: str) -> int:
        """The last place, 1 ... len(text), at which `text` may be cut so that the tokens of both parts, joined, are
        those of the whole, whatever comes before and after `text`; 0 where none is known. For `cut_safely`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `type` names the kind of tokenizer."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            UsageError: the values are no tokenizer of this kind.
        """


@dataclass(frozen=True)
class CharTokenizer:
    """One token a character: ids follow the order of `characters`.

    With `has_unknown` the last character is U+FFFD and is the unknown token. A character outside the vocabulary is
    encoded as the unknown token where there is one, else it is left out; `unknown` tells which ones, to warn of them.

    Raises:
        UsageError: no characters, or one of them twice.
    """

    characters: str
    has_unknown: bool = False

    def __post_init__(self) -> None:
        if not self.characters:
            raise UsageError("a character vocabulary needs at least one character")
        if len(self._ids) != len(self.characters):
            ((twice, _),) = Counter(self.characters).most_common(1)
            raise UsageError(f"the character vocabulary holds {twice!r} more than once")
        if self.has_unknown and self.characters[-1] != UNKNOWN_CHAR:
            raise UsageError(f"the unknown token must be the last character, U+FFFD, not {self.characters[-1]!r}")

    @classmethod
    def from_text(cls, text: str, vocab_size: int | None = None) -> CharTokenizer:
        """The sorted characters of `text`.

        With `vocab_size`, at most that many tokens: the `vocab_size` - 1 most frequent characters (of equally
        frequent ones, those first in Unicode) and always an unknown token, so no prompt loses a character.

        Raises:
            UsageError: an empty text, or a `vocab_size` below 2.
        """
        if not text:
            raise UsageError("the text is empty; a character vocabulary needs at least one character")
        return cls.from_counts(count_codes([text]), vocab_size)

    @classmethod
    def from_counts(cls, counts: np.ndarray, vocab_size: int | None = None) -> CharTokenizer:
        """As `from_text`, of a text that holds the code point c `counts[c]` times; `counts` is (0x110000,)."""
        codes = np.flatnonzero(counts)
        if vocab_size is None:
            return cls(_to_text(codes))
        if vocab_size < 2:
            raise UsageError(f"vocab_size={vocab_size}: need at least 2, one character and the unknown token")
        codes = codes[codes != ord(UNKNOWN_CHAR)]
        by_frequency = np.argsort(-counts[codes], kind="stable")
        return cls(_to_text(np.sort(codes[by_frequency[: vocab_size - 1]])) + UNKNOWN_CHAR, has_unknown=True)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    @property
    def byte_lengths(self) -> np.ndarray:
        return np.searchsorted([0x80, 0x800, 0x10000], self._codes, side="right") + 1

    def encode(self, text: str) -> np.ndarray:
        ids = np.empty(len(text), np.int64)
        done = 0
        for codes in _code_chunks(text):
            # Codes past the table's end read its last entry, which stands for every character outside the vocabulary.
            np.take(self._id_of_code, codes, mode="clip", out=ids[done : done + len(codes)])
            done += len(codes)
        if not self.has_unknown and len(ids) and ids.min() < 0:
            ids = ids[ids >= 0]
        return ids

    def decode(self, ids: TokenIds) -> str:
        return _to_text(self._codes[checked_ids(ids, self.vocab_size)])

    def decoder(self) -> Decoder:
        return _WholeCharacters(self)

    def token_labels(self, ids: TokenIds) -> tuple[str, ...]:
        return tuple(self.decode(ids))

    def unknown(self, text: str) -> tuple[str, ...]:
        return tuple(c for c in dict.fromkeys(text) if c not in self._ids)

    def last_safe_cut(self, text: str) -> int:
        return len(text)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "char", "characters": self.characters, "has_unknown": self.has_unknown}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CharTokenizer:
        match dict(values):
            case {"type": "char", "characters": str(characters), "has_unknown": bool(has_unknown), **rest} if not rest:
                return cls(characters, has_unknown)
        found = ", ".join(f"{str(name)[:20]}: {type(value).__name__}" for name, value in [*values.items()][:9])
        raise UsageError(
            f"not a character tokenizer: needs type, characters and has_unknown, found {found or 'nothing'}"
        )

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {char: i for i, char in enumerate(self.characters)}

    @cached_property
    def _codes(self) -> np.ndarray:
        """(vocab_size,) the Unicode code point of each id."""
        return np.concatenate(list(_code_chunks(self.characters)))

    @cached_property
    def _id_of_code(self) -> np.ndarray:
        """(largest code point + 2,) int64: the id of each code point, with -1 or the unknown id for the others."""
        table = np.full(int(self._codes.max()) + 2, self.vocab_size - 1 if self.has_unknown else -1, np.int64)
        table[self._codes] = np.arange(self.vocab_size)
        return table

    def id_table(self, dtype: np.dtype) -> np.ndarray:
        """(n,) the id of each code point, for a text of known characters; the last entry stands for all beyond."""
        return self._id_of_code.astype(dtype)


@dataclass(frozen=True)
class _WholeCharacters:
    """The decoder of a tokenizer whose every token is whole characters: there is nothing to hold back."""

    tokenizer: Tokenizer

    def feed(self, ids: TokenIds) -> str:
        return self.tokenizer.decode(ids)

    def flush(self) -> str:
        return ""


def excerpt(tokenizer: Tokenizer, ids: TokenIds) -> str:
    """The text of tokens from the middle of a longer text, without the halves of characters at its ends."""
    return tokenizer.decode(ids).strip(UNKNOWN_CHAR)


def well_formed(text: str) -> str:
    """With U+FFFD for each lone surrogate: a model may write one by chance, and no file or terminal takes it."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def checked_ids(ids: TokenIds, vocab_size: int) -> np.ndarray:
    """`ids` as (n,) int64.

    Raises:
        UsageError: one of them is outside the vocabulary.
    """
    array = np.asarray(ids, np.int64)
    outside = array[(array < 0) | (array >= vocab_size)]
    if len(outside):
        raise UsageError(f"token id {outside[0]} is outside the vocabulary of {vocab_size} tokens")
    return array


def cut_safely(last_safe_cut: Callable[[str], int], pieces: Iterable[str]) -> Iterator[str]:
    """The same text in other pieces, each to be encoded for itself: the tokens depend on the text alone.

    `CHUNK` characters in a row without a safe place to cut are cut after so many, and so is every next such run: this
    too depends on the text alone, as long as the first piece begins at the start of the text or at a safe cut.

    Args:
        last_safe_cut: that of a `Tokenizer`.
    """
    held: list[str] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length <= CHUNK:
            continue
        text, start = "".join(held), 0
        while length - start > CHUNK:
            # One character more than may be taken: whether a place is safe depends on what follows it.
            window = text[start : start + CHUNK + 1]
            size = min(last_safe_cut(window), CHUNK) or CHUNK
            yield window[:size]
            start += size
        held, length = [text[start:]], length - start
    if length:
        yield "".join(held)


def load_tokenizer(values: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `to_dict` described, whatever its kind.

    Raises:
        UsageError: an unknown kind, or values that do not fit it.
    """
    from minigpt_core.bpe import BPETokenizer  # both are made of what stands above
    from minigpt_core.byte_level import ByteTokenizer

    kinds: dict[str, type[Tokenizer]] = {"char": CharTokenizer, "byte": ByteTokenizer, "bpe": BPETokenizer}
    return lookup(kinds, str(values.get("type")), "tokenizer type").from_dict(values)


def _code_chunks(text: str) -> Iterator[np.ndarray]:
    """The code points of `text`, uint32, `CHUNK` at a time.

    Lone surrogates pass: that is how Python hands over command-line bytes that are not UTF-8.
    """
    for start in range(0, len(text), CHUNK):
        yield np.frombuffer(text[start : start + CHUNK].encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def count_codes(pieces: Iterable[str]) -> np.ndarray:
    """(0x110000,) int64: how often each code point occurs in a text."""
    counts = np.zeros(0x110000, np.int64)
    for codes in (codes for piece in pieces for codes in _code_chunks(piece)):
        chunk = np.bincount(codes)
        counts[: len(chunk)] += chunk
    return counts


def _to_text(codes: np.ndarray) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
