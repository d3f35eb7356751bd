"""The rows below the loss chart, one a metric: its name, its value of now, and its course in columns of the chart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from textual.strip import Strip

from minigpt_core.status import Envelope
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.chart_axes import Axis, Series
from minigpt_tui.widgets.lines import Part, strip
from minigpt_tui.widgets.palette import BAD_STYLE, FAINT_STYLE, MUTED_STYLE, TEXT_STYLE, WARN_STYLE

BARS = " ▁▂▃▄▅▆▇█"
BROKEN = "✗"
SPIKE = 4.0
"""Times the median: what is higher is drawn full and in another colour, so that the rest can still be read."""
NAME, VALUE = 5, 8
"""Cells of the two columns of text."""
MARGIN = NAME + VALUE
"""Cells to the left of the course."""


class Metric(NamedTuple):
    """A row of its own."""

    field: str
    name: str
    value: Callable[[float | None], str]
    extreme: Literal["low", "high"]
    """What of a bucket is drawn: the side on which trouble shows."""
    spiky: bool = False
    """Whether what lies far above the median is cut off."""


METRICS = (
    Metric("lr", "lr", fmt.learning_rate, "high"),
    Metric("grad_norm", "grad", fmt.number, "high", spiky=True),
    Metric("tok_s", "tok/s", fmt.short, "low"),
)


def rows(source: Series, axis: Axis, frame: tuple[float, float], steps: tuple[int, int], columns: int) -> list[Strip]:
    """One row for each of `METRICS`: `MARGIN` cells of text, an edge and `columns` cells for a frame of the x axis.

    Args:
        steps: first and last step in the frame.
    """
    return [_row(metric, source.series(metric.field, *steps, columns), axis, frame, columns) for metric in METRICS]


def _row(metric: Metric, found: Envelope, axis: Axis, frame: tuple[float, float], columns: int) -> Strip:
    finite = np.isfinite(found.mean)
    value = float(found.mean[finite][-1]) if finite.any() else None
    text: list[Part] = [
        (f"{metric.name:<{NAME}}", MUTED_STYLE),
        (f"{metric.value(value):>{VALUE}}", TEXT_STYLE),
        ("│", MUTED_STYLE),
    ]
    left, right = frame
    place = np.clip((axis.at(found.step) - left) / (right - left) * columns, 0, columns - 1).astype(int)
    heights, broken = getattr(found, metric.extreme), np.zeros(columns, bool)
    broken[place[found.broken]] = True
    return strip([*text, *course(place[finite], heights[finite], broken, metric.spiky)])


def course(place: np.ndarray, heights: np.ndarray, broken: np.ndarray, spiky: bool) -> list[Part]:
    """Bars from zero up at (n,) columns; a value stands until the next one, and what is broken is marked.

    Args:
        broken: (columns,) bool.
        spiky: draw what is above `SPIKE` medians full and in another colour.
    """
    columns = len(broken)
    values = np.full(columns, np.nan)
    values[place] = heights
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return [(BROKEN if mark else " ", BAD_STYLE) for mark in broken.tolist()]
    # Where points are rarer than columns, a column shows the last one before it.
    last = np.searchsorted(known, np.arange(columns), "right") - 1
    seen = (last >= 0) & (np.arange(columns) <= known[-1])
    values = np.where(seen, values[known[np.maximum(last, 0)]], np.nan)
    top, median = float(heights.max()), float(np.median(heights))
    if spiky and median > 0:
        top = min(top, SPIKE * median)
    levels = np.where(seen & (values > 0), np.ceil(values / (top or 1.0) * 8 - 1e-9), 0)
    spike = levels > 8
    parts: list[Part] = []
    for mark, hot, level in zip(
        broken.tolist(), spike.tolist(), np.nan_to_num(levels).clip(0, 8).tolist(), strict=True
    ):
        style = BAD_STYLE if mark else WARN_STYLE if hot else FAINT_STYLE
        character = BROKEN if mark else BARS[int(level)]
        if parts and parts[-1][1] is style:
            parts[-1] = (parts[-1][0] + character, style)
        else:
            parts.append((character, style))
    return parts
