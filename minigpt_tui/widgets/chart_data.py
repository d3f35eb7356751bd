"""Everything a chart draws, read from its sources in one go: a few hundred points, however long the runs are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from minigpt_core.status import Envelope
from minigpt_tui.widgets.chart_axes import Axis, Series
from minigpt_tui.widgets.chart_raster import ACROSS

OVERLAYS = 5
"""Other runs that are drawn, at most."""


class Trace(NamedTuple):
    """(n,) each: places on the x axis, and extremes and mean on the y axis as it is drawn."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """All that has to fit on the y axis."""
        return np.concatenate([self.low, self.high])

    @property
    def line(self) -> Trace:
        """The means alone."""
        return self._replace(low=self.mean, high=self.mean)


class Scene(NamedTuple):
    """What is between the two ends of the x axis."""

    raw: Trace
    smoothed: Trace
    validation: Trace
    best: tuple[float, float] | None
    """The best validation point, if it is in sight."""
    gaps: np.ndarray
    """(n,) places across which the loss was nothing but NaN or infinite."""
    broken: np.ndarray
    """(n,) places where it was at times."""
    overlays: dict[str, Trace]

    @property
    def heights(self) -> np.ndarray:
        lines = (self.smoothed, self.validation, *self.overlays.values())
        return np.concatenate([self.raw.heights, *(line.mean for line in lines)])


def gather(
    source: Series,
    axis: Axis,
    frame: tuple[float, float],
    columns: int,
    log: bool,
    best: tuple[int | None, float | None] = (None, None),
    overlays: Mapping[str, tuple[Series, Axis]] | None = None,
) -> Scene:
    """Read what is in a frame, a part of the x axis, at one bucket for each column of dots.

    Args:
        best: step and value of the best validation loss, if they are known.
        overlays: other runs, with their own maps to the same kind of axis.
    """
    lo, hi = whole_steps(axis, frame)
    train = source.series("train_loss", lo, hi, buckets=ACROSS * columns)
    smoothed = source.series("smoothed", lo, hi, buckets=ACROSS * columns)
    validation = source.series("val_loss", lo, hi, buckets=columns)
    others = {}
    for name, (other, its_axis) in (overlays or {}).items():
        found = other.series("smoothed", *whole_steps(its_axis, frame), buckets=ACROSS * columns)
        others[name] = trace(found, its_axis, log).line
    return Scene(
        raw=trace(train, axis, log),
        smoothed=trace(smoothed, axis, log).line,
        validation=trace(validation, axis, log).line,
        best=_point(axis, frame, log, *best),
        gaps=axis.at(train.step[~np.isfinite(train.mean)]),
        broken=axis.at(train.step[train.broken]),
        overlays=others,
    )


def _point(
    axis: Axis, frame: tuple[float, float], log: bool, step: int | None, value: float | None
) -> tuple[float, float] | None:
    """Where one value is drawn, if it can be and is in the frame."""
    if step is None or value is None or not math.isfinite(value) or (log and value <= 0):
        return None
    x = float(axis.at(np.array([float(step)]))[0])
    return (x, math.log10(value) if log else value) if frame[0] <= x <= frame[1] else None


def whole_steps(axis: Axis, frame: tuple[float, float]) -> tuple[int, int]:
    """The steps in a part of the x axis."""
    lo, hi = axis.steps(np.array(frame))
    return math.ceil(lo - 1e-6), math.floor(hi + 1e-6)


def trace(found: Envelope, axis: Axis, log: bool) -> Trace:
    """What can be drawn of an envelope: finite points, and on a logarithmic axis positive ones, as their log10."""
    keep = np.isfinite(found.low) & np.isfinite(found.high) & np.isfinite(found.mean)
    if log:
        keep &= found.low > 0
    low, high, mean = found.low[keep], found.high[keep], found.mean[keep]
    x = axis.at(found.step[keep])
    return Trace(x, np.log10(low), np.log10(high), np.log10(mean)) if log else Trace(x, low, high, mean)
