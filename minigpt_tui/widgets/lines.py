"""The base of most panes: a widget that is a list of strips and repaints only the rows that changed."""

from __future__ import annotations

from collections.abc import Sequence
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
