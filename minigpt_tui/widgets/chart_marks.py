"""What is drawn over a finished chart: the n-gram ladder behind the data, the cursor of time travel in front of it."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from minigpt_core.ladder import Ladder
from minigpt_tui.widgets.palette import BACKGROUND, FAINT_STYLE, LINE, WARN

RUNG_STYLE = Style(color=LINE, bgcolor=BACKGROUND)
CURSOR_STYLE = Style(color=WARN, bgcolor=BACKGROUND)
CURSOR_TEXT_STYLE = Style(color=BACKGROUND, bgcolor=WARN)


class Area(NamedTuple):
    """Where the data of a chart is: its first column, its size in cells, and the bounds it shows."""

    margin: int
    columns: int
    rows: int
    steps: tuple[float, float]
    losses: tuple[float, float]
    """On a logarithmic axis log10 of the loss."""

    def column(self, step: float) -> int | None:
        """The column of a step in the picture; None outside."""
        return _cell(step, self.steps, self.columns, self.margin)

    def row(self, loss: float) -> int | None:
        """The row of a loss in the picture, from the top; None outside."""
        up = _cell(loss, self.losses, self.rows, 0)
        return None if up is None else self.rows - 1 - up


def _cell(value: float, bounds: tuple[float, float], cells: int, first: int) -> int | None:
    low, high = bounds
    if not low <= value <= high or not high > low:
        return None
    return first + round((value - low) / (high - low) * (cells - 1))


def put(line: Strip, at: int, text: str, style: Style) -> Strip:
    """The line with a text of single-width characters over the cells from `at` on."""
    end = at + len(text)
    return Strip.join([line.crop(0, at), Strip([Segment(text, style)]), line.crop(end)])


def with_ladder(picture: list[Strip], area: Area, ladder: Ladder, log: bool) -> list[Strip]:
    """The rungs as faint lines behind the data. A label stands where no data is, at the right or the left end.

    A rung outside the bounds, on the row of a lower one or without room for its label is left out.
    """
    out, taken = list(picture), set()
    for rung in sorted(ladder.rungs, key=lambda rung: rung.loss):
        if not math.isfinite(rung.loss) or rung.loss <= 0:
            continue
        y = area.row(math.log10(rung.loss) if log else rung.loss)
        if y is None or y in taken:
            continue
        label = f" {rung.name} {rung.loss:.2f} "
        start, end = area.margin, area.margin + area.columns
        text = out[y].text.ljust(end)
        places = [at for at in (end - len(label), start + 2) if start <= at and not text[at : at + len(label)].strip()]
        if not places:
            continue
        taken.add(y)
        line = out[y].adjust_cell_length(end, RUNG_STYLE)
        for blank in re.finditer(" +", text[start:end]):
            line = put(line, start + blank.start(), "─" * len(blank[0]), RUNG_STYLE)
        out[y] = put(line, places[0], label, FAINT_STYLE)
    return out


def with_cursor(picture: list[Strip], area: Area, step: int, text: str) -> list[Strip]:
    """A vertical line at a step over all but the data, and beside its upper end a text, if it is within the bounds."""
    x = area.column(step)
    if x is None:
        return picture
    out = list(picture)
    for y in range(area.rows):
        line = out[y].adjust_cell_length(max(out[y].cell_length, x + 1), RUNG_STYLE)
        under = line.text[x]
        out[y] = put(line, x, "│" if under in " ─" else under, CURSOR_STYLE)
    label = f" {text} "
    end = area.margin + area.columns
    at = x + 1 if x + 1 + len(label) <= end else x - len(label)
    if at >= area.margin:
        line = out[0].adjust_cell_length(max(out[0].cell_length, at), RUNG_STYLE)
        out[0] = put(line, at, label, CURSOR_TEXT_STYLE)
    return out
