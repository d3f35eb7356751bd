"""Which part of a run a chart shows: pure arithmetic of zooming, panning and following, in the units of the x axis."""

from __future__ import annotations

import math
from typing import NamedTuple

from minigpt_tui.widgets.ticks import nice_size

STRETCHES = 16
"""The right end of a chart that follows a run moves on in leaps of about this share of the width: between two of them
nothing that is drawn moves, and the terminal gets only the newest columns."""


class View(NamedTuple):
    """The whole run at first, following it."""

    span: float | None = None
    """How much is in sight; None is the whole run."""
    end: float | None = None
    """The last of it; None follows the run."""

    @property
    def following(self) -> bool:
        return self.end is None

    def window(self, last: float) -> tuple[float, float]:
        """What is in sight of a run from 0 to `last`."""
        hi = last if self.end is None else min(self.end, last)
        return (0, hi) if self.span is None else (max(0, hi - self.span), hi)

    def frame(self, last: float) -> tuple[float, float]:
        """The ends of the x axis: the window, with room for what comes next where it follows."""
        lo, hi = self.window(last)
        if not hi > lo:
            return lo, lo + 1
        if not self.following:
            return lo, hi
        leap = nice_size((hi - lo) / STRETCHES)
        right = math.ceil(hi / leap - 1e-9) * leap
        return (lo if self.span is None or lo == 0 else right - (hi - lo)), right

    def zoomed(self, factor: float, last: float, least: float, at: float = 1.0) -> View:
        """With `factor` times as much in sight, at least `least`.

        Args:
            at: what share of the window lies left of the point that stays in its place.
        """
        lo, hi = self.window(last)
        span = max((hi - lo) * factor, least)
        if span >= last:
            return View()
        start = min(max(0.0, lo + at * (hi - lo) - at * span), last - span)
        following = start + span >= last * (1 - 1e-9)
        return View(span, None if following else start + span)

    def panned(self, by: float, last: float) -> View:
        """Moved by a share of its width; at the newest point it follows again."""
        if self.span is None:
            return self
        lo, hi = self.window(last)
        end = max(min(self.span, last), hi + by * (hi - lo))
        return View(self.span, None if end >= last else end)

    def with_point(self, x: float, last: float) -> View:
        """Moved just so far that a point is in sight."""
        lo, hi = self.window(last)
        if lo <= x <= hi or self.span is None:
            return self
        return self.panned((x - lo if x < lo else x - hi) / (hi - lo), last)
