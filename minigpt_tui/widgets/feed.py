"""A scrolling column of blocks that follows its end: the base of the transcript and the log."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.style import Style
from rich.text import Text
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from minigpt_tui.widgets.flow import Flow
from minigpt_tui.widgets.lines import strip

MAX_LINES = 4000
"""With more lines or blocks the oldest blocks are let go, a quarter at once; the run directory has them all."""
KEPT_LINES = MAX_LINES * 3 // 4
EMPTY = Strip([])


class Block(Protocol):
    """A part of a feed. Its lines are made when they are looked at."""

    @property
    def height(self) -> int:
        """Lines, as of the last `lay_out`."""

    def lay_out(self, columns: int) -> None:
        """Wrap to this width whatever is not: called when the width or the block has changed."""

    def line(self, number: int) -> Strip:
        """A line, from 0, no wider than the columns."""


class Prose:
    """A block of styled text, which may be exchanged."""

    def __init__(self, text: Text, console: Console) -> None:
        self.text = text
        self._console = console
        self._flow: Flow[Style] | None = None

    @property
    def height(self) -> int:
        return len(self._flow.lines) if self._flow is not None else 0

    def lay_out(self, columns: int) -> None:
        self._flow = Flow(columns)
        for text, style, _ in self.text.render(self._console):
            self._flow.append(text, style or Style.null())
        self._flow.end()

    def line(self, number: int) -> Strip:
        return strip([run for run in self._flow.lines[number] if run[0] != "\n"]) if self._flow is not None else EMPTY


class Feed(ScrollView, can_focus=True):
    """Blocks wrap to the width. A change repaints only the rows that differ, unless the view must scroll."""

    def __init__(self, *, id: str, classes: str = "pane") -> None:
        super().__init__(id=id, classes=classes)
        self._blocks: list[Block] = []
        self._starts: list[int] = []
        self._height = 0
        """Lines of all blocks."""
        self._wrapped_at = 0
        self._painted: dict[int, Strip] = {}
        """Rows of the view, as they were painted last."""

    FOLLOWS = True
    """Whether the end is what one wants to see, as of something that grows."""

    def on_mount(self) -> None:
        if self.FOLLOWS:
            self.anchor()

    @property
    def following(self) -> bool:
        """Whether the end stays in view: always, until the reader scrolls away from it."""
        return self.FOLLOWS and not self._anchor_released

    def extend(self, texts: Sequence[Text]) -> None:
        """Append texts, laid out together."""
        self._append([Prose(text, self.app.console) for text in texts])

    def add(self, block: Block) -> None:
        self._append([block])

    def _append(self, blocks: Sequence[Block]) -> None:
        following, start = self.following, self._height
        for block in blocks:
            self._blocks.append(block)
            self._starts.append(self._height)
            if self._wrapped_at:
                block.lay_out(self._wrapped_at)
                self._height += block.height
        self._trim(following)
        if self._wrapped_at and blocks:
            self._grown(following)
            self._repaint(start)

    def clear(self) -> None:
        self._blocks, self._starts, self._height = [], [], 0
        self.virtual_size = Size(self._wrapped_at, 0)
        self.refresh()

    def changed(self, block: Block) -> None:
        """A block is not what it was; one that was let go is ignored."""
        index = self._index(block)
        if index is None or not self._wrapped_at:
            return
        following, start = self.following, self._starts[index]
        before = block.height
        block.lay_out(self._wrapped_at)
        grown = block.height - before
        if grown:
            self._height += grown
            for later in range(index + 1, len(self._starts)):
                self._starts[later] += grown
            self._trim(following)
            self._grown(following)
        self._repaint(start)

    def _index(self, block: Block) -> int | None:
        """Where a block stands; what changes is mostly near the end."""
        return next((n for n in range(len(self._blocks) - 1, -1, -1) if self._blocks[n] is block), None)

    def _grown(self, following: bool) -> None:
        """There are more or fewer lines: the end stays in view, or else what the reader sees."""
        self.virtual_size = Size(self._wrapped_at, self._height)
        if following:
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    def _repaint(self, line: int = 0) -> None:
        """Repaint the rows that are not what they were, from a line on."""
        top, width, height = self.scroll_offset.y, self.size.width, self.size.height
        for y in range(max(line - top, 0), height):
            if self._painted.get(y) != self._line(y + top):
                self.refresh(Region(0, y, width, 1))

    def _trim(self, following: bool) -> None:
        """Let the oldest blocks go if there are too many, but never the newest."""
        if max(self._height, len(self._blocks)) > MAX_LINES:
            enough = bisect_left(self._starts, self._height - KEPT_LINES)
            self._let_go(min(max(enough, len(self._blocks) - KEPT_LINES), len(self._blocks) - 1), following)

    def _let_go(self, n: int, following: bool) -> None:
        """Drop the oldest `n` blocks, fewer than there are."""
        cut, y = self._starts[n], self.scroll_offset.y
        del self._blocks[:n], self._starts[:n]
        self._starts = [start - cut for start in self._starts]
        self._height -= cut
        if cut:
            if not following:
                self.scroll_to(y=max(0, y - cut), animate=False, immediate=True)
            self.refresh()

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width
        if width == self._wrapped_at:
            return
        following = self.following
        self._wrapped_at, self._starts, self._height = width, [], 0
        for block in self._blocks:
            self._starts.append(self._height)
            block.lay_out(width)
            self._height += block.height
        self._trim(following)
        self.virtual_size = Size(width, self._height)
        if following:  # later: a pane that has just come into sight cannot scroll yet
            self.call_after_refresh(self.scroll_end, animate=False, immediate=True, x_axis=False)
        self.refresh()

    def _at(self, line: int) -> tuple[Block, int] | None:
        """The block that holds a line, and which of its lines it is."""
        if not 0 <= line < self._height:
            return None
        index = bisect_right(self._starts, line) - 1
        return self._blocks[index], line - self._starts[index]

    def _line(self, line: int) -> Strip:
        found = self._at(line)
        return EMPTY if found is None else found[0].line(found[1])

    def render_line(self, y: int) -> Strip:
        line, style, width = self._line(y + self.scroll_offset.y), self.visual_style.rich_style, self.size.width
        self._painted[y] = line
        return line.crop(0, width).adjust_cell_length(width, style).apply_style(style)
