"""The base of most panes: a widget that is a list of strips and repaints only the rows that changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile, zip_longest
from textwrap import wrap

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

Part = tuple[str, Style]
"""A piece of a line: safe text and how to show it."""


def strip(parts: Sequence[Part]) -> Strip:
    return Strip([Segment(text, style) for text, style in parts if text])


def width(parts: Sequence[Part]) -> int:
    """The cells that some parts take."""
    return sum(cell_len(text) for text, _ in parts)


def cut(text: str, columns: int) -> str:
    """The text in at most so many cells, with an ellipsis where it was cut."""
    return text if cell_len(text) <= columns else set_cell_size(text, max(0, columns - 1)) + "…" * (columns > 0)


def message(text: str, style: Style, columns: int) -> list[Strip]:
    """A sentence in place of a picture, wrapped."""
    return [strip([(line, style)]) for line in wrap(text, max(1, columns))]


def _difference(old: Strip, new: Strip, y: int, columns: int) -> Region:
    """The part of row `y` from the first piece that differs to the last."""
    if old.cell_length != new.cell_length:
        return Region(0, y, columns, 1)
    pairs = list(zip(old, new, strict=False))
    first = sum(a.cell_length for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    tail = zip(reversed(list(old)), reversed(list(new)), strict=False)
    last = new.cell_length - sum(a.cell_length for a, _ in takewhile(lambda pair: pair[0] == pair[1], tail))
    return Region(first, y, max(1, last - first), 1)


class Lines(Widget):
    """Shows strips, one a row. A terminal behind a slow link gets only what differs from the last time."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Strip] = []

    def show(self, rows: Sequence[Strip]) -> None:
        """Put these rows on the screen; a row equal to the one already there costs nothing."""
        before, self._rows = self._rows, list(rows)
        pairs = enumerate(zip_longest(before, self._rows, fillvalue=Strip([])))
        columns = self.size.width
        if changed := [_difference(old, new, y, columns) for y, (old, new) in pairs if old != new]:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        line, width = self._rows[y] if y < len(self._rows) else Strip([]), self.size.width
        if line.cell_length == width:  # the usual row: Textual works a size and a style out anew at each asking
            return line
        return line.crop(0, width).adjust_cell_length(width, self.visual_style.rich_style)
