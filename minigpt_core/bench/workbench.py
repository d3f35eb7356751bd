"""What all sections share: the text, the program under test, and somebody to tell how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from minigpt_core.corpus import Corpus, encode, load_corpus, split
from minigpt_core.tokenizer import CharTokenizer

TINY_SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
"""SHA-256 of the text that others publish figures for."""


@dataclass(frozen=True)
class Program:
    """The program under test, as a user starts it."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    """Over this process's own."""
    first_frame: bytes = b""
    """What is among the bytes of the first full screen."""
    quit_key: bytes = b"\x11"


@dataclass(frozen=True)
class Workbench:
    """Made once for all sections.

    Args:
        data: as in `train --data`.
        say: told, in a line, what is measured now.
    """

    data: str | None = None
    say: Callable[[str], None] = lambda line: None
    program: Program | None = None
    """Only the sections that start it need one."""

    @cached_property
    def corpus(self) -> Corpus:
        """Raises UserError if the text cannot be had."""
        return load_corpus(self.data)

    @cached_property
    def tokenizer(self) -> CharTokenizer:
        return CharTokenizer.from_text(self.corpus.text)

    @cached_property
    def tokens(self) -> np.ndarray:
        """(n,) the whole text, encoded."""
        return encode(self.tokenizer, self.corpus.text)

    def splits(self, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
        """The text as tokens: (train, val).

        Raises:
            UserError: the text is too short for this context.
        """
        return split(self.tokens, seq_len)
