"""What is drawn over a finished chart: the n-gram ladder behind the data, marks of events on the x axis, where the loss
was no number, the names of other runs, and the cursor in front of it all."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from minigpt_core.ladder import Ladder
from minigpt_core.status import Event
from minigpt_tui.safetext import safe
from minigpt_tui.widgets.lines import cut
from minigpt_tui.widgets.palette import BACKGROUND, BAD_STYLE, LINE, MUTED_STYLE, TEXT, WARN

RUNG_STYLE = Style(color=LINE, bgcolor=BACKGROUND)
EVENT_STYLE = Style(color=WARN, bgcolor=BACKGROUND)
NOTE_STYLE = Style(color=TEXT, bgcolor=BACKGROUND)
EVENT_MARKS = {"cadence": "○", "lr": "×", "resumed": "→", "note": "↑"}
EXPLAINED = "On the step axis: ↑ a note, × the learning rate changed, ○ sampling or evaluation changed, → resumed. "
EXPLAINED += "At the top: ✗ the loss was not a number. The cursor on a mark says more."
GAP = "✗"
NOTE, SHORT_NOTE = 24, 8
"""Cells of a note on the axis: at most, and at least unless it is shorter."""
CURSOR_STYLE = Style(color=WARN, bgcolor=BACKGROUND)
CURSOR_TEXT_STYLE = Style(color=BACKGROUND, bgcolor=WARN)


class Area(NamedTuple):
    """Where the data of a chart is: its first column, its size in cells, and the bounds it shows."""

    margin: int
    columns: int
    rows: int
    frame: tuple[float, float]
    """The ends of the x axis."""
    losses: tuple[float, float]
    """On a logarithmic axis log10 of the loss."""

    @property
    def end(self) -> int:
        """The column after the last one."""
        return self.margin + self.columns

    def column(self, x: float) -> int | None:
        """The column of a place on the x axis in the picture; None outside."""
        return _cell(x, self.frame, self.columns, self.margin)

    def row(self, loss: float) -> int | None:
        """The row of a loss in the picture, from the top; None outside."""
        up = _cell(loss, self.losses, self.rows, 0)
        return None if up is None else self.rows - 1 - up

    def x(self, column: int) -> float:
        """The place on the x axis in the middle of a column of the picture, which may lie outside."""
        left, right = self.frame
        return left + (column - self.margin + 0.5) / self.columns * (right - left)


def _cell(value: float, bounds: tuple[float, float], cells: int, first: int) -> int | None:
    low, high = bounds
    if not low <= value <= high or not high > low:
        return None
    return first + min(cells - 1, int((value - low) / (high - low) * cells))


def put(line: Strip, at: int, text: str, style: Style) -> Strip:
    """The line with a text over the cells from `at` on."""
    end = at + cell_len(text)
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
        out[y] = put(line, places[0], label, MUTED_STYLE)
    return out


def with_events(picture: list[Strip], area: Area, events: Sequence[tuple[float, Event]]) -> list[Strip]:
    """Events, by their places, on the x axis, which is the row below the data; notes with their beginning if it fits.

    Of several in one column a note is drawn, or else the newest.
    """
    known = [(place, event) for place, event in events if event.kind in EVENT_MARKS]
    known.sort(key=lambda pair: pair[1].kind == "note")
    at = {x: event for place, event in known if (x := area.column(place)) is not None}
    if not at or len(picture) <= area.rows:
        return picture
    line = picture[area.rows].adjust_cell_length(area.end, RUNG_STYLE)
    columns = sorted(at)
    for x, following in zip(columns, [*columns[1:], area.end + 1], strict=True):
        event = at[x]
        line = put(line, x, EVENT_MARKS[event.kind], EVENT_STYLE)
        room = min(NOTE, following - x - 2)
        if event.kind == "note" and room >= min(SHORT_NOTE, len(event.message)):
            line = put(line, x + 1, cut(safe(event.message, newlines=False), room), NOTE_STYLE)
    out = list(picture)
    out[area.rows] = line
    return out


def with_gaps(picture: list[Strip], area: Area, broken: Sequence[float]) -> list[Strip]:
    """A mark at the upper edge wherever the loss was no number."""
    columns = {x for place in broken if (x := area.column(place)) is not None}
    if not columns:
        return picture
    line = picture[0].adjust_cell_length(area.end, RUNG_STYLE)
    for x in columns:
        line = put(line, x, GAP, BAD_STYLE)
    return [line, *picture[1:]]


def with_names(picture: list[Strip], area: Area, names: Sequence[tuple[str, str]]) -> list[Strip]:
    """The names of curves, each with its colour, in the upper right corner, where a falling loss leaves room."""
    out = list(picture)
    for y, (name, colour) in enumerate(names[: area.rows - 2], 1):
        text = out[y].text.ljust(area.end)[: area.end]
        empty = area.end - max(len(text.rstrip()), area.margin) - 4  # beside the line and a blank on each side
        label = f" {cut(safe(name, newlines=False), max(empty, area.columns // 2))} "
        at = area.end - cell_len(label) - 2
        line = put(out[y].adjust_cell_length(area.end, RUNG_STYLE), at, label, MUTED_STYLE)
        out[y] = put(line, area.end - 2, "━━", Style(color=colour, bgcolor=BACKGROUND))
    return out


def with_cursor(picture: list[Strip], area: Area, x: int, words: Sequence[str], notes: Sequence[str]) -> list[Strip]:
    """A vertical line at a column over all but the data; beside its upper end words, wrapped, and notes, one a row."""
    out = list(picture)
    for y in range(area.rows):
        line = out[y].adjust_cell_length(max(out[y].cell_length, x + 1), RUNG_STYLE)
        under = line.crop(x, x + 1).text
        out[y] = put(line, x, "│" if under in " ─" else under, CURSOR_STYLE)
    right, left = area.end - x - 1, x - area.margin
    room = max(right, left) - 2
    lines = [(text, CURSOR_TEXT_STYLE) for text in _wrapped(words, room)]
    lines += [(cut(safe(note, newlines=False), room), NOTE_STYLE) for note in notes if room >= SHORT_NOTE]
    lines = lines[: area.rows - 1]
    size = max((cell_len(text) for text, _ in lines), default=0) + 2
    for y, (text, style) in enumerate(lines):
        label = set_cell_size(f" {text} ", size)
        line = out[y].adjust_cell_length(area.end, RUNG_STYLE)
        out[y] = put(line, x + 1 if size <= right else x - size, label, style)
    return out


def _wrapped(words: Sequence[str], room: int) -> list[str]:
    """Words, two spaces apart, in lines of at most `room` cells; one that is longer is left out."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 2 + len(word) <= room:
            lines[-1] += f"  {word}"
        elif len(word) <= room:
            lines.append(word)
    return lines
