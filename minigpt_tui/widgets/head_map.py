"""The map of one head, small: what the gallery shows beside its table."""

from __future__ import annotations

from minigpt_core.frame import Frame
from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.lines import Lines, cut, strip
from minigpt_tui.widgets.palette import MUTED_STYLE
from minigpt_tui.widgets.roles import Head, head_name


class HeadMap(Lines):
    """The map of one head on the text that is looked at, as large as there is room."""

    def __init__(self, look: Ramp) -> None:
        super().__init__(id="head-map")
        self._look = look
        self._frame: Frame | None = None
        self._head: Head | None = None

    def update(self, frame: Frame | None, head: Head | None) -> None:
        """What is already shown costs nothing."""
        if frame is not self._frame or head != self._head:
            self._frame, self._head = frame, head
            self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns, rows = self.size
        if self._frame is None or self._head is None or columns < 1 or rows < 2:
            self.show([])
            return
        layer, head = self._head
        side = min(columns, (rows - 1) * self._look.rows_per_cell)
        small = heatmap.overview(self._frame.weights[layer, head], side)
        caption = f"{head_name(self._head)}, rows=query cols=key, step {self._frame.stamp.step:,}"
        picture = heatmap.strips(heatmap.levels(small, self._look.n), self._look)
        self.show([strip([(cut(caption, columns), MUTED_STYLE)]), *picture])
