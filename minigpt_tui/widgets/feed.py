"""A scrolling column of text blocks that follows its end: the base of the transcript and the log."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from rich.text import Text
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

MAX_LINES = 4000
"""With more lines or blocks the oldest blocks are let go, a quarter at once; the run directory has them all."""
KEPT_LINES = MAX_LINES * 3 // 4


class Feed(ScrollView, can_focus=True):
    """Blocks wrap to the width. A change repaints only the lines that differ, unless the view must scroll."""

    def __init__(self, *, id: str, classes: str = "pane") -> None:
        super().__init__(id=id, classes=classes)
        self._blocks: list[Text] = []
        self._lines: list[Strip] = []
        self._starts: list[int] = []
        self._dropped = 0
        self._wrapped_at = 0

    FOLLOWS = True
    """Whether the end is what one wants to see, as of something that grows."""

    def on_mount(self) -> None:
        if self.FOLLOWS:
            self.anchor()

    @property
    def following(self) -> bool:
        """Whether the end stays in view: always, until the reader scrolls away from it."""
        return self.FOLLOWS and not self._anchor_released

    def add(self, block: Text) -> int:
        """Append a block; the number returned names it for `replace`."""
        self.extend([block])
        return self._dropped + len(self._blocks) - 1

    def extend(self, blocks: Sequence[Text]) -> None:
        """Append blocks, laid out together."""
        following, start = self.following, len(self._lines)
        for block in blocks:
            self._blocks.append(block)
            self._starts.append(len(self._lines))
            if self._wrapped_at:
                self._lines += self._wrap(block)
        self._trim(following)
        if self._wrapped_at and blocks:
            self._grown(following)
            self._refresh_rows(start, len(self._lines))

    def replace(self, number: int, block: Text) -> None:
        """Change a block; one that was let go is ignored."""
        index = number - self._dropped
        if 0 <= index < len(self._blocks):
            self._blocks[index] = block
            if self._wrapped_at:
                self._change(index)

    def clear(self) -> None:
        self._dropped += len(self._blocks)
        self._blocks, self._lines, self._starts = [], [], []
        self.virtual_size = Size(self._wrapped_at, 0)
        self.refresh()

    def _wrap(self, block: Text) -> list[Strip]:
        width = max(1, self._wrapped_at)
        console = self.app.console
        return [Strip(list(line.render(console))) for line in block.wrap(console, width, tab_size=4)]

    def _change(self, index: int) -> None:
        """Wrap one block again and put its lines in the place of the old ones."""
        following = self.following
        start = self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else len(self._lines)
        old, new = self._lines[start:end], self._wrap(self._blocks[index])
        self._lines[start:end] = new
        grown = len(new) - (end - start)
        for later in range(index + 1, len(self._starts)):
            self._starts[later] += grown
        if grown:
            self._trim(following)
            self._grown(following)
            self._refresh_rows(start, len(self._lines))
        else:
            for y, (before, after) in enumerate(zip(old, new, strict=True), start):
                if before != after:
                    self._refresh_rows(y, y + 1)

    def _grown(self, following: bool) -> None:
        """There are more or fewer lines: the end stays in view, or else what the reader sees."""
        self.virtual_size = Size(self._wrapped_at, len(self._lines))
        if following:
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    def _refresh_rows(self, first: int, end: int) -> None:
        """Repaint the lines from `first` up to `end` as far as they are in view."""
        top, height = self.scroll_offset.y, self.size.height
        above, below = max(first - top, 0), min(end - top, height)
        if above < below:
            self.refresh(Region(0, above, self.size.width, below - above))

    def _trim(self, following: bool) -> None:
        """Let the oldest blocks go if there are too many, but never the newest."""
        if max(len(self._lines), len(self._blocks)) <= MAX_LINES:
            return
        enough = bisect_left(self._starts, len(self._lines) - KEPT_LINES)
        n = min(max(enough, len(self._blocks) - KEPT_LINES), len(self._blocks) - 1)
        cut = self._starts[n]
        y = self.scroll_offset.y
        del self._blocks[:n], self._starts[:n], self._lines[:cut]
        self._starts = [start - cut for start in self._starts]
        self._dropped += n
        if cut:
            if not following:
                self.scroll_to(y=max(0, y - cut), animate=False, immediate=True)
            self.refresh()

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width
        if width == self._wrapped_at:
            return
        following = self.following
        self._wrapped_at = width
        self._lines, self._starts = [], []
        for block in self._blocks:
            self._starts.append(len(self._lines))
            self._lines += self._wrap(block)
        self._trim(following)
        self.virtual_size = Size(width, len(self._lines))
        if following:  # later: a pane that has just come into sight cannot scroll yet
            self.call_after_refresh(self.scroll_end, animate=False, immediate=True, x_axis=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        style = self.visual_style.rich_style
        row = y + self.scroll_offset.y
        line = self._lines[row] if row < len(self._lines) else Strip([])
        return line.crop(0, self.size.width).adjust_cell_length(self.size.width, style).apply_style(style)
