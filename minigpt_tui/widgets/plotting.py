"""What the charts share: a plotext figure in the app's colours, its axes, and the figure as strips."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from minigpt_tui.widgets.chart_axes import Labels
from minigpt_tui.widgets.chart_axes import labels as axis_labels
from minigpt_tui.widgets.palette import BACKGROUND, MUTED
from minigpt_tui.widgets.ticks import log_ticks, nice_size, nice_ticks

if TYPE_CHECKING:
    from textual_plotext.plot import Plot

TOO_SMALL = "no room for a chart"
AXIS_ROWS = 6
"""A chart with fewer rows has no x axis."""


def new_plot(columns: int, rows: int) -> Plot:
    """An empty figure of exactly this size. plotext is loaded here, so that it does not delay the first frame."""
    from textual_plotext.plot import Plot

    plot = Plot()
    plot.plotsize(columns, rows)
    plot._set_size(columns, rows)  # past the size of the terminal that plotext believes it writes to
    plot.canvas_color(rgb(BACKGROUND))
    plot.axes_color(rgb(BACKGROUND))
    plot.ticks_color(rgb(MUTED))
    plot.xaxes(rows >= AXIS_ROWS, False)
    plot.yaxes(True, False)
    return plot


def limits(values: np.ndarray) -> tuple[float, float]:
    """The extremes of what is drawn up the y axis; around a flat curve there is a little room."""
    bottom, top = float(values.min()), float(values.max())
    return (bottom - 0.05, top + 0.05) if top - bottom < 1e-6 else (bottom, top)


def round_limits(bottom: float, top: float, n: int) -> tuple[float, float]:
    """The nearest round bounds outside these, at about `n` to the axis: they seldom move while a run goes on."""
    size = nice_size((top - bottom) / n)
    return math.floor(bottom / size + 1e-9) * size, math.ceil(top / size - 1e-9) * size


def step_labels(left: float, right: float, columns: int, rows: int) -> Labels:
    """For an axis of steps; none where there are few rows."""
    return axis_labels("step", left, right, columns) if rows >= AXIS_ROWS else ([], [])


def loss_labels(bottom: float, top: float, rows: int, log: bool, signed: bool = False) -> Labels:
    """For an axis of losses; with `log` the bounds are the logarithms of them."""
    if log:
        ticks = log_ticks(10**bottom, 10**top, max(2, rows // 2))
        return [math.log10(tick) for tick in ticks], [f"{tick:.4g}" for tick in ticks]
    ticks = nice_ticks(bottom, top, max(2, rows // 3))
    if max(abs(bottom), abs(top)) >= 1e4:
        return ticks, [f"{tick:.6g}" for tick in ticks]
    digits = 1 if len(ticks) < 2 else _digits(ticks[1] - ticks[0])
    return ticks, [f"{tick:{'+' if signed and tick else ''}.{digits}f}" for tick in ticks]


def _digits(size: float) -> int:
    """Decimals that tell multiples of a round number exactly: 2 for 0.25, and at least one."""
    digits = max(1, -math.floor(math.log10(size) + 1e-9))
    return digits if math.isclose(round(size, digits), size, rel_tol=1e-6) else digits + 1


def built(plot: Plot) -> list[Strip]:
    """The figure line by line, taken from the cells that plotext has filled: its text would have to be parsed again."""
    figure: Any = plot  # textual-plotext types what users of plotext need, and no cells
    figure._set_sizes()
    figure._build_matrix()
    matrix = figure.monitor.matrix
    return [_strip(*row) for row in zip(reversed(matrix.marker), reversed(matrix.fullground), strict=True)]


def _strip(characters: list[str], colours: list[object]) -> Strip:
    segments, start = [], 0
    for colour, run in groupby(colours):
        end = start + len(list(run))
        segments.append(Segment("".join(characters[start:end]), _style(colour)))
        start = end
    return Strip(segments, len(characters))


@lru_cache(64)
def _style(colour: object) -> Style:
    """A colour of plotext's, which is a name where nothing was drawn, on the app's background."""
    return Style(color=RichColor.from_rgb(*colour) if isinstance(colour, tuple) else None, bgcolor=BACKGROUND)


@lru_cache(64)
def rgb(colour: str) -> tuple[int, int, int]:
    return Color.parse(colour).rgb
