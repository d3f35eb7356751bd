"""The corpus `repeats`: random segments that come back, so that only looking back predicts what follows.

What follows a symbol in a segment is new in every passage: no statistics of the text tell it, but what followed the
same symbol before does, which is what an induction circuit looks up (Olsson et al. 2022, "In-context Learning and
Induction Heads", arXiv 2209.11895). Segments come in random order with gaps of random length between them, so the place
to look at is at no fixed distance, and positions alone cannot find it. Most passages have segments of two symbols
only: there the first symbol is all there is to go by, and no other circuit will do. Longer ones sharpen it.

The circuit has parts that gain nothing before the others are there, and on segments alone a small model stays for
thousands of steps where it began. So the gaps are not noise. Each teaches one part by itself:

    defgh      a run: the next symbol follows the current one       reading the current token
    emfn       two pairs: the next follows the one before           a previous-token head
    emfngoh    two counters in turn: the same, for longer           the same, with more ways to begin
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from itertools import islice

SYMBOLS = string.ascii_lowercase
"""Every character of the text; where a counter climbs, the first follows the last."""
SIZE = 600_000
"""Characters; the last passage is whole, so there are a few more."""
SEED = 0
PASSAGE = (60, 160)
"""Shortest and longest, in characters, but for its last piece."""
LONG = 0.35
"""The share of passages with long segments."""
PAIR_SEGMENTS, LONG_SEGMENTS = (2, 4), (1, 2)
"""Fewest and most of a passage, of two symbols each or long. No symbol comes twice in the segments of a passage."""
LONG_SEGMENT = (4, 16)
GAPS = 0.5
"""The share of segments that a gap follows: a run, pairs or counters, each as often."""
RUN, COUNTERS, PAIRS = (3, 6), (6, 16), (1, 3)
"""Shortest and longest: of a run and of counters in characters, of pairs in fours."""


class Dice:
    """Random choices from `random.random` alone: the one stream that Python promises never to change."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def between(self, low: int, high: int) -> int:
        """Any of low … high."""
        return low + int(self.random() * (high - low + 1))

    def symbol(self) -> str:
        return SYMBOLS[self.between(0, len(SYMBOLS) - 1)]

    def shuffled(self, symbols: str) -> str:
        return "".join(sorted(symbols, key=lambda _: self.random()))


def repeats() -> str:
    """The text, always the same."""
    dice, passages, size = Dice(SEED), [], 0
    while size < SIZE:
        passages.append("".join(passage(dice)))
        size += len(passages[-1])
    return "".join(passages)


def passage(dice: Dice) -> Iterator[str]:
    """A few segments, again and again in random order, with gaps: its pieces."""
    fresh = iter(dice.shuffled(SYMBOLS))
    if dice.random() < LONG:
        lengths = [dice.between(*LONG_SEGMENT) for _ in range(dice.between(*LONG_SEGMENTS))]
    else:
        lengths = [2] * dice.between(*PAIR_SEGMENTS)
    segments = ["".join(islice(fresh, length)) for length in lengths]
    left = dice.between(*PASSAGE)
    while left > 0:
        piece = segments[dice.between(1, len(segments)) - 1]
        if dice.random() < GAPS:
            piece += (run, pairs, counters)[dice.between(0, 2)](dice)
        left -= len(piece)
        yield piece


def run(dice: Dice) -> str:
    """Neighbours in the alphabet from a random symbol on."""
    start = dice.symbol()
    return "".join(after(start, i) for i in range(dice.between(*RUN)))


def pairs(dice: Dice) -> str:
    """Two random symbols and the successors of both, a few times."""
    fours = []
    for _ in range(dice.between(*PAIRS)):
        first, second = dice.symbol(), dice.symbol()
        fours.append(first + second + after(first, 1) + after(second, 1))
    return "".join(fours)


def counters(dice: Dice) -> str:
    """Two counters from random symbols on, in turn."""
    starts = dice.symbol(), dice.symbol()
    return "".join(after(starts[i % 2], i // 2) for i in range(dice.between(*COUNTERS)))


def after(symbol: str, n: int) -> str:
    """The symbol n places further in the alphabet, which goes round."""
    return SYMBOLS[(SYMBOLS.index(symbol) + n) % len(SYMBOLS)]
