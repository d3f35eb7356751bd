"""Statistics of alternating measurements: the two sides of a ratio meet the same machine, minute by minute."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

T = TypeVar("T")

Better = Literal["more", "less"]
"""Of a quantity such as tokens a second more is better, of a time less."""


def alternate(sides: Mapping[str, Callable[[int], T]], rounds: int, say: Callable[[str], None]) -> dict[str, list[T]]:
    """Measure every side once a round, each next to the others; returns what each gave, round by round.

    Every second round runs backwards, so that a machine that grows slower or faster favours nobody.

    Args:
        sides: each is called with the number of the round, from 1.
        say: told what begins.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        for name in list(sides) if number % 2 else reversed(list(sides)):
            say(f"round {number} of {rounds}: {name}")
            found[name].append(sides[name](number))
    return found


def ratios(ours: Sequence[float | None], peer: Sequence[float | None], better: Better) -> list[float]:
    """How many times better ours is than the peer of the same round.

    None is a goal that was never reached: ours then counts as 0, and against a peer that did not as infinity.
    """
    return [_ratio(a, b, better) for a, b in zip(ours, peer, strict=True)]


def _ratio(ours: float | None, peer: float | None, better: Better) -> float:
    if ours is None:
        return 0.0
    if peer is None:
        return math.inf
    upper, lower = (ours, peer) if better == "more" else (peer, ours)
    return upper / lower if lower else math.inf


def median(values: Sequence[float | None], better: Better) -> float | None:
    """The median of measurements; None, a goal never reached, is worse than any number. None if that is the median."""
    worst = -math.inf if better == "more" else math.inf
    found = statistics.median(worst if value is None else value for value in values)
    return found if math.isfinite(found) else None
