"""Bits a byte: a loss that can be compared between tokenizers, whose tokens are of different lengths.

A loss in nats a token times the tokens a byte of UTF-8 is nats a byte; over ln 2, bits a byte (Gao et al. 2020, "The
Pile", section 3.1, "Benchmarking Guide").
"""

from __future__ import annotations

import math

import numpy as np

from minigpt_core.corpus import split
from minigpt_core.tokenizer import Tokenizer

CHUNK = 2**20
"""Tokens counted at a time."""
CHUNKS = 64
"""Of a longer validation split so many, spread evenly, are counted: the ratio is a mean over all of it."""


def tokens_per_byte(tokenizer: Tokenizer, tokens: np.ndarray) -> float:
    """Of the validation split of a text.

    Args:
        tokens: (n,) the whole encoded text, in memory or mapped.

    Raises:
        UserError: the text is too short to be split.
    """
    _, val = split(tokens, 1)
    starts = range(0, len(val), CHUNK)
    if len(starts) > CHUNKS:
        starts = range(0, len(val), len(val) // CHUNKS)
    counts = sum(np.bincount(val[start : start + CHUNK], minlength=tokenizer.vocab_size) for start in starts)
    return float(np.sum(counts) / np.sum(counts * tokenizer.byte_lengths))


def bits_per_byte(loss: float | None, tokens_per_byte: float | None) -> float | None:
    """Of a loss in nats a token; None where one of the two is not known."""
    return None if loss is None or tokens_per_byte is None else loss * tokens_per_byte / math.log(2)


def with_bits(loss: float, tokens_per_byte: float | None, digits: int = 4) -> str:
    """`1.4912 (1.97 bits/byte)`"""
    bits = bits_per_byte(loss, tokens_per_byte)
    return f"{loss:.{digits}f}" + ("" if bits is None else f" ({bits:.3f} bits/byte)")
