"""Curves as lines of text, for a command's output: in colour on a terminal, letters where there is none."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minigpt_tui import terminal
from minigpt_tui.safetext import safe

ROWS, TICKS = 20, 6
NARROWEST, WIDEST = 40, 110
"""Columns."""
COLOURS = (7, 33, 202, 35, 176, 214, 81)
"""Of 256, as near as they come to the pictures'; the first is the terminal's own foreground grey."""


class Line(NamedTuple):
    """A curve: (n,) steps and (n,) values; those that are not finite are left out."""

    label: str
    steps: np.ndarray
    values: np.ndarray


def columns() -> int:
    """As wide as the terminal, within what is good to read."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns - 2))


def coloured() -> bool:
    """Whether curves are told apart by colours; where they are not, each has a letter of its own."""
    return sys.stdout.isatty() and terminal.inspect().color != "none"


def draw(title: str, lines: Sequence[Line], rows: int = ROWS) -> str:
    """The curves over steps; empty ones keep their colour and letter from the others, and are left out."""
    import plotext

    colours = coloured()
    plotext.clear_figure()
    plotext.plotsize(columns(), rows)
    plotext.title(title)
    for part in (plotext.canvas_color, plotext.axes_color, plotext.ticks_color):
        part("default")
    for i, line in enumerate(lines):
        finite = np.isfinite(line.values)
        if not finite.any():
            continue
        letter, label = chr(ord("a") + i % 26), safe(line.label, newlines=False)
        plotext.plot(
            line.steps[finite].tolist(),
            line.values[finite].tolist(),
            label=label if colours else f"{letter} {label}",
            color=COLOURS[i % len(COLOURS)],
            marker="braille" if colours and not terminal.inspect().ascii else letter,
        )
    steps = sorted({float(step) for line in lines for step in line.steps if math.isfinite(step)})
    ticks = steps[:: max(1, -(-len(steps) // TICKS))]
    plotext.xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    built = str(plotext.build()) if colours else str(plotext.uncolorize(plotext.build()))
    return "\n".join(line.rstrip() for line in built.splitlines())
