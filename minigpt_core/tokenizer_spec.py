"""Which tokenizer a user asked for, and making it for a text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minigpt_core.bpe import MOST_TOKENS, BPETokenizer
from minigpt_core.byte_level import ByteTokenizer
from minigpt_core.config import unknown
from minigpt_core.errors import UsageError
from minigpt_core.gpt2_files import MAX_BYTES, load_gpt2, vocabulary_files
from minigpt_core.reading import read_bytes
from minigpt_core.tokenizer import CharTokenizer, Tokenizer, count_codes, cut_safely, token_dtype

KINDS = ("char", "byte", "bpe", "gpt2")
SMALLEST = {"char": 2, "bpe": 257}
"""Vocabulary sizes that may be asked for: a character and the unknown token; the bytes and a merge."""
LARGEST = MOST_TOKENS
BPE_VOCABULARY = 1024
"""Unless another size is asked for."""


@dataclass(frozen=True)
class TokenizerSpec:
    """What is to be made of a text.

    Args:
        kind: one of `KINDS`.
        vocab_size: char: keep the `vocab_size` - 1 most frequent characters, None: all; bpe: tokens to train.
        path: gpt2: the folder with the vocabulary, None: the local Hugging Face cache.

    Raises:
        UsageError: an unknown kind, or settings that do not fit it.
    """

    kind: str = "char"
    vocab_size: int | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("tokenizer", self.kind, KINDS)
        if self.path is not None and self.kind != "gpt2":
            raise UsageError(f"the {self.kind} tokenizer is made from the text, not from a folder")
        if self.vocab_size is None:
            return
        if self.kind not in SMALLEST:
            raise UsageError(f"--vocab-size does not go with --tokenizer {self.kind}: its vocabulary is fixed")
        if not SMALLEST[self.kind] <= self.vocab_size <= LARGEST:
            allowed = f"{SMALLEST[self.kind]:,} to {LARGEST:,}"
            raise UsageError(f"--vocab-size {self.vocab_size}: with --tokenizer {self.kind} it may be {allowed}")

    @classmethod
    def parse(cls, tokenizer: str, vocab_size: int | None = None) -> TokenizerSpec:
        """As the command line has it: one of `KINDS`, or a folder with GPT-2's vocabulary.

        Raises:
            UsageError: it is neither, or the size does not fit.
        """
        if tokenizer in KINDS:
            return cls(tokenizer, vocab_size)
        if not Path(tokenizer).expanduser().exists():
            raise unknown("tokenizer", tokenizer, [*KINDS, "or the path of a folder with a GPT-2 vocabulary"])
        return cls("gpt2", vocab_size, str(Path(tokenizer).expanduser().resolve()))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for `TokenizerSpec(**...)`; only what was asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @cached_property
    def key(self) -> str:
        """Names it in a file name: specs with the same key make the same tokenizer of the same text.

        Raises:
            UserError: the files of a gpt2 vocabulary are not there or cannot be read.
        """
        if self.kind == "gpt2":
            digest = hashlib.sha256()
            for file in vocabulary_files(self.path):
                digest.update(hashlib.sha256(read_bytes(file, MAX_BYTES)).digest())
            return f"gpt2-{digest.hexdigest()[:32]}"
        return {"char": f"char-{self.vocab_size or 'all'}", "byte": "byte", "bpe": f"bpe-{self._bpe_size}"}[self.kind]

    @property
    def _bpe_size(self) -> int:
        return self.vocab_size or BPE_VOCABULARY


CHARACTERS = TokenizerSpec()
"""What is made unless something else is asked for."""


def fit(
    spec: TokenizerSpec, pieces: Callable[[], Iterable[str]], progress: Callable[[int], None] | None = None
) -> Tokenizer:
    """The tokenizer for a text.

    Args:
        pieces: the text from its start, in pieces cut anywhere; called at most once, and not at all by byte and gpt2.
        progress: is told how many characters have been read, after every piece; whoever must stop raises from it.

    Raises:
        UsageError: a char tokenizer for an empty text.
        UserError: the files of a gpt2 vocabulary are not there, or are none.
    """
    match spec.kind:
        case "byte":
            return ByteTokenizer()
        case "gpt2":
            return load_gpt2(spec.path)
        case "bpe":
            return BPETokenizer.train(_told(pieces(), progress), spec._bpe_size)
    counts = count_codes(_told(pieces(), progress))
    if not counts.any():
        raise UsageError("the text is empty; a character vocabulary needs at least one character")
    return CharTokenizer.from_counts(counts, spec.vocab_size)


def encode_pieces(tokenizer: Tokenizer, pieces: Iterable[str]) -> Iterator[np.ndarray]:
    """The tokens of a text that comes in pieces cut anywhere: (n,) in the smallest type that holds the vocabulary.

    Joined they are the same for every way of cutting, as long as the first piece begins at the text's start, or where
    `Tokenizer.last_safe_cut` cut it.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    for piece in cut_safely(tokenizer.last_safe_cut, pieces):
        yield tokenizer.encode(piece).astype(dtype)


def _told(pieces: Iterable[str], progress: Callable[[int], None] | None) -> Iterator[str]:
    read = 0
    for piece in pieces:
        yield piece
        read += len(piece)
        if progress:
            progress(read)
