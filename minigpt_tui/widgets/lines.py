"""The base of most panes: a widget that is a list of strips and repaints only the rows that changed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
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


class Lines(Widget):
    """Shows strips, one a row. A terminal behind a slow link gets only the rows that differ from the last time."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Strip] = []

    def show(self, rows: Sequence[Strip]) -> None:
        """Put these rows on the screen; a row equal to the one already there costs nothing."""
        before, self._rows = self._rows, list(rows)
        blank = Strip([])
        for y in range(max(len(before), len(self._rows))):
            old = before[y] if y < len(before) else blank
            new = self._rows[y] if y < len(self._rows) else blank
            if old != new:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        line = self._rows[y] if y < len(self._rows) else Strip([])
        return line.crop(0, self.size.width).adjust_cell_length(self.size.width, self.visual_style.rich_style)
