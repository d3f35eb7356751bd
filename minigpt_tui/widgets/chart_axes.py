"""What a chart's x axis may count: steps, epochs, tokens or seconds of training, and how a run's steps map to them."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np

from minigpt_core.status import Envelope
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.ticks import nice_ticks, time_name, time_ticks

AxisName = Literal["step", "epoch", "tokens", "time"]
AXES: tuple[AxisName, ...] = get_args(AxisName)
POINTS = 128
"""Of the map between steps and another quantity: training runs at a nearly steady pace."""
TICK_COLUMNS = 14
"""Cells of an axis for each of its marks, about."""

Labels = tuple[list[float], list[str]]
"""Where an axis has its marks, on the scale that is drawn, and what they say."""


class Series(Protocol):
    """The one method of a session that a chart needs."""

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope: ...


class Axis:
    """One run's map from steps to the quantity, piecewise linear from nothing at step 0, and back."""

    def __init__(self, name: AxisName, steps: np.ndarray, values: np.ndarray) -> None:
        """(n,) steps, ascending, and (n,) values at them."""
        keep = np.isfinite(values)
        self.name = name
        self._steps = np.append(0.0, steps[keep])
        self._values = np.maximum.accumulate(np.append(0.0, values[keep]))
        self._same = name == "step" or not self._values[-1] > 0

    @classmethod
    def of(cls, source: Series, name: AxisName) -> Axis:
        found = source.series("tokens" if name == "step" else name, buckets=POINTS)
        return cls(name, found.step, found.mean)

    @classmethod
    def counting_steps(cls) -> Axis:
        """The axis that needs no map."""
        return cls("step", np.empty(0), np.empty(0))

    @property
    def end(self) -> float:
        """Where the run ends."""
        return float(self._steps[-1] if self._same else self._values[-1])

    def at(self, steps: np.ndarray) -> np.ndarray:
        """The quantity at (n,) steps; after the last known one, at the mean pace."""
        return steps if self._same else _mapped(steps, self._steps, self._values)

    def steps(self, values: np.ndarray) -> np.ndarray:
        """The steps, with fractions, at which the quantity had (n,) values."""
        return values if self._same else _mapped(values, self._values, self._steps)


def _mapped(x: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    beyond = np.maximum(0.0, x - xs[-1])
    return np.interp(x, xs, ys) + beyond * (ys[-1] / xs[-1] if xs[-1] > 0 else 0.0)


def labels(name: AxisName, left: float, right: float, columns: int) -> Labels:
    """Marks between the two ends of an axis, in units that people read; the last one names the unit."""
    n = max(2, columns // TICK_COLUMNS)
    if name == "time":
        ticks = time_ticks(left, right, n)
        return ticks, [time_name(tick) for tick in ticks]
    ticks = nice_ticks(left, right, n)
    names = [fmt.short(tick) if name == "tokens" else _plain(tick) for tick in ticks]
    return ticks, [*names[:-1], *(f"{last} {name}" for last in names[-1:])]


def _plain(value: float) -> str:
    return f"{value / 1000:.6g}k" if value >= 1000 else f"{value:.6g}"
