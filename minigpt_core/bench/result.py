"""What a benchmark found: comparisons, the first of them the headline, and all that is needed to judge them."""

from __future__ import annotations

import math
import statistics
from typing import Any

import msgspec

from minigpt_core.bench.timing import Better, median, ratios

DIGITS = 5
"""Significant digits of a figure in JSON: more would be noise."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity on both sides, round by round."""

    what: str
    unit: str
    better: Better
    ours: tuple[float | None, ...]
    """None: a goal that was not reached."""
    peer: tuple[float | None, ...] = ()
    """Empty: there is nobody to compare with."""

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, round by round."""
        return ratios(self.ours, self.peer, self.better) if self.peer else []

    @property
    def ratio(self) -> float | None:
        """Their median: above 1 ours is better. None without a peer."""
        return statistics.median(self.ratios) if self.peer else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """The smallest and the largest of the ratios."""
        return (min(self.ratios), max(self.ratios)) if self.peer else None

    @property
    def medians(self) -> tuple[float | None, float | None]:
        """Of ours and of the peer's."""
        return median(self.ours, self.better), median(self.peer, self.better) if self.peer else None

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "what": self.what,
                "ratio": self.ratio,
                "unit": self.unit,
                "ours": self.ours,
                "peer": self.peer,
                "spread": self.spread,
            }
        )


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A section's outcome."""

    section: str
    peer: str
    """Who ours is compared with, in words."""
    comparisons: tuple[Comparison, ...]
    """The first is the headline."""
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = {}
    """For those who want to draw: curves and the like."""

    def to_dict(self, machine: dict[str, Any]) -> dict[str, Any]:
        """Plain JSON types."""
        headline, *others = self.comparisons
        return {
            "section": self.section,
            **headline.to_dict(),
            "against": self.peer,
            "others": [other.to_dict() for other in others],
            "notes": list(self.notes),
            "settings": plain(self.settings),
            "machine": machine,
            **plain(self.details),
        }


def plain(value: Any) -> Any:
    """For JSON: tuples as lists, floats as far as they mean something, and infinity, which JSON has not, as null."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value
