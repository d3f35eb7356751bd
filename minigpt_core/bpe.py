"""Byte-level BPE: GPT-2's kind of tokenizer, trained on a text or taken from a published vocabulary.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2: byte pair encoding (Sennrich,
Haddow & Birch 2016) over bytes, not characters, within the stretches into which a regular expression cuts the text.
All 256 bytes are tokens, so there is no unknown one. Training and encoding are done by the `tokenizers` library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from minigpt_core.byte_level import ByteDecoder, labels, to_bytes, to_text
from minigpt_core.errors import UsageError
from minigpt_core.tokenizer import Decoder, TokenIds, checked_ids, cut_safely

if TYPE_CHECKING:
    import tokenizers

MIN_FREQUENCY = 2
"""A pair that occurs once is no pattern: a short text gives fewer tokens than were asked for."""
SAFE_CUT = re.compile(r"(?<=\S)[ \n]")
"""White space after something else: there every one of GPT-2's stretches ends, and none looks further."""
SURROGATES = re.compile("([\ud800-\udfff]+)")
LONGEST = 64
"""Bytes of a trained token: each is to be a pattern, not a passage, and fit where tokens are shown."""
MOST_TOKENS = 2**18
"""Of a vocabulary; published ones of this kind have at most 100,000."""
NEARBY = 4096
"""Characters from the end among which a safe cut is looked for first."""


def byte_alphabet() -> list[str]:
    """(256,) the printable character that stands for each byte in GPT-2's vocabulary files (`bytes_to_unicode`).

    The printable ones of Latin-1 stand for themselves, the others for what follows U+00FF, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def last_safe_cut(text: str) -> int:
    """As `Tokenizer.last_safe_cut`: it is the regular expression that allows to cut, whatever the vocabulary."""
    for start in (max(0, len(text) - NEARBY), 0):
        cut = 0
        for found in SAFE_CUT.finditer(text, start):
            cut = found.start()
        if cut:
            return cut
    return 0


@dataclass(frozen=True)
class BPETokenizer:
    """Byte-level BPE with GPT-2's regular expression, without normalisation and without special tokens.

    A text that spells a special token of a published vocabulary is encoded as any other text.

    Args:
        tokens: by id, each written in the `byte_alphabet`; one that is not is a special token, and stands for itself.
        merges: pairs of tokens, "a b", first those to be merged first.

    Raises:
        UsageError: a byte is missing, a token is there twice, or a merge is of or gives something that is no token.
    """

    tokens: tuple[str, ...] = field(repr=False)
    merges: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if max(len(self.tokens), len(self.merges)) > MOST_TOKENS:
            raise UsageError(f"a BPE vocabulary may have {MOST_TOKENS:,} tokens, not {len(self.tokens):,}")
        known = self._ids
        if len(known) != len(self.tokens) or "" in known:
            raise UsageError("the BPE vocabulary holds a token more than once, or an empty one")
        if missing := sum(byte not in known for byte in byte_alphabet()):
            raise UsageError(f"the BPE vocabulary lacks {missing} of the 256 bytes: it cannot take every text")
        for merge in self.merges:
            left, space, right = merge.partition(" ")
            if not (space and left in known and right in known and left + right in known):
                raise UsageError(f"the BPE vocabulary has a merge of unknown tokens: {merge[:40]!r}")

    @classmethod
    def train(cls, pieces: Iterable[str], vocab_size: int) -> BPETokenizer:
        """Learn merges until there are `vocab_size` tokens, or no pair of tokens occurs twice.

        The same text gives the same vocabulary, however it is cut into pieces.
        """
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        learner = Tokenizer(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=MIN_FREQUENCY,
            initial_alphabet=byte_alphabet(),
            max_token_length=LONGEST,
            show_progress=False,
        )
        # UTF-8 has no lone surrogates; here they need no more than a place.
        texts = (piece.encode(errors="replace").decode() for piece in cut_safely(last_safe_cut, pieces))
        learner.train_from_iterator(texts, trainer)
        model = msgspec.json.decode(learner.to_str())["model"]
        merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
        return cls(tuple(sorted(model["vocab"], key=model["vocab"].__getitem__)), tuple(merges))

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def byte_lengths(self) -> np.ndarray:
        return np.array([len(data) for data in self._bytes], np.int64)

    def encode(self, text: str) -> np.ndarray:
        ids = [np.fromiter(self._encode(piece), np.int64) for piece in cut_safely(last_safe_cut, [text])]
        return np.concatenate(ids) if ids else np.empty(0, np.int64)

    def decode(self, ids: TokenIds) -> str:
        return to_text(self.bytes_of(ids))

    def bytes_of(self, ids: TokenIds) -> bytes:
        return b"".join([self._bytes[i] for i in checked_ids(ids, self.vocab_size).tolist()])

    def decoder(self) -> Decoder:
        return ByteDecoder(self)

    def token_labels(self, ids: TokenIds) -> tuple[str, ...]:
        return tuple(labels(self._bytes[i]) for i in checked_ids(ids, self.vocab_size).tolist())

    def unknown(self, text: str) -> tuple[str, ...]:
        return ()

    def last_safe_cut(self, text: str) -> int:
        return last_safe_cut(text)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "bpe", "tokens": list(self.tokens), "merges": list(self.merges)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BPETokenizer:
        match dict(values):
            case {"type": "bpe", "tokens": list(tokens), "merges": list(merges), **rest} if not rest:
                if all(isinstance(text, str) for text in (*tokens, *merges)):
                    return cls(tuple(tokens), tuple(merges))
        found = ", ".join(f"{str(name)[:20]}: {type(value).__name__}" for name, value in [*values.items()][:9])
        raise UsageError(f"not a BPE tokenizer: needs type, tokens and merges, found {found or 'nothing'}")

    def _encode(self, text: str) -> Iterator[int]:
        # The library takes no lone surrogates: their bytes are tokens of their own.
        for i, part in enumerate(SURROGATES.split(text)):
            if i % 2:
                alphabet = byte_alphabet()
                yield from (self._ids[alphabet[byte]] for byte in to_bytes(part))
            elif part:
                yield from self._encoder.encode(part, add_special_tokens=False).ids

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @cached_property
    def _bytes(self) -> list[bytes]:
        """The bytes of each token."""
        byte_of = {char: byte for byte, char in enumerate(byte_alphabet())}
        return [
            bytes(map(byte_of.__getitem__, token)) if byte_of.keys() >= set(token) else to_bytes(token)
            for token in self.tokens
        ]

    @cached_property
    def _encoder(self) -> tokenizers.Tokenizer:
        from tokenizers import Tokenizer, models, pre_tokenizers  # native code: loaded by who encodes

        merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in self.merges)]
        encoder = Tokenizer(models.BPE(vocab=self._ids, merges=merges))
        encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return encoder
