"""What the charts share: a plotext figure in the app's colours, its axes, and the figure as strips."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text
from textual.color import Color
from textual.strip import Strip

from minigpt_tui.widgets.palette import BACKGROUND, MUTED
from minigpt_tui.widgets.ticks import log_ticks, nice_ticks

if TYPE_CHECKING:
    from textual_plotext.plot import Plot

TOO_SMALL = "no room for a chart"

Labels = tuple[list[float], list[str]]
"""Where an axis has its marks, on the scale that is drawn, and what they say."""


def new_plot(columns: int, rows: int) -> Plot:
    """An empty figure of exactly this size. plotext is loaded here, so that it does not delay the first frame."""
    from textual_plotext.plot import Plot

    plot = Plot()
    plot.plotsize(columns, rows)
    plot._set_size(columns, rows)  # past the size of the terminal that plotext believes it writes to
    plot.canvas_color(rgb(BACKGROUND))
    plot.axes_color(rgb(BACKGROUND))
    plot.ticks_color(rgb(MUTED))
    plot.xaxes(rows >= 6, False)
    plot.yaxes(True, False)
    return plot


def limits(values: np.ndarray) -> tuple[float, float]:
    """The extremes of what is drawn up the y axis; around a flat curve there is a little room."""
    bottom, top = float(values.min()), float(values.max())
    return (bottom - 0.05, top + 0.05) if top - bottom < 1e-6 else (bottom, top)


def step_labels(left: float, right: float, columns: int, rows: int) -> Labels:
    """For an axis of steps; none where there are few rows."""
    steps = nice_ticks(left, right, max(2, columns // 14)) if rows >= 6 else []
    names = [f"{step / 1000:g}k" if step >= 1000 else f"{step:g}" for step in steps]
    return steps, [*names[:-1], *(f"{name} step" for name in names[-1:])]


def loss_labels(bottom: float, top: float, rows: int, log: bool, signed: bool = False) -> Labels:
    """For an axis of losses; with `log` the bounds are the logarithms of them."""
    if log:
        ticks = log_ticks(10**bottom, 10**top, max(2, rows // 2))
        return [math.log10(tick) for tick in ticks], [f"{tick:.4g}" for tick in ticks]
    ticks = nice_ticks(bottom, top, max(2, rows // 3))
    digits = 1 if len(ticks) < 2 else max(1, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return ticks, [f"{tick:{'+' if signed and tick else ''}.{digits}f}" for tick in ticks]


def built(plot: Plot, console: Console) -> tuple[list[Text], list[Strip]]:
    """The figure line by line, as text and as strips."""
    lines = list(Text.from_ansi(plot.build()).split())
    return lines, [Strip(list(line.render(console))) for line in lines]


def rgb(colour: str) -> tuple[int, int, int]:
    return Color.parse(colour).rgb
