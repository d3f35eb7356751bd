"""The lesson panel: one chapter of a guided tour, above the panes that it speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt_tui.widgets.palette import ACCENT, MUTED, TEXT, WARN

LINE = 110
"""Cells of a line of text; a longer one is hard to follow back."""


def chapter_text(template: str, values: Mapping[str, Any]) -> Content:
    """A chapter's text with its facts filled in. Keys stand in `backticks`; those in the facts are only characters."""
    parts = [
        (piece.format_map(values), ACCENT if n % 2 else TEXT) for n, piece in enumerate(template.split("`"))
    ]  # fmt: skip
    return Content.assemble(*parts)


class LessonPanel(VerticalScroll, can_focus=True):
    """Shows what it is given; turning pages is the screen's business. What does not fit scrolls."""

    DEFAULT_CSS = f"""
    LessonPanel {{ scrollbar-size-vertical: 1; }}
    LessonPanel Static {{ width: 100%; max-width: {LINE}; height: auto; }}
    """

    def __init__(self) -> None:
        super().__init__(id="lesson")
        self._text = Static()
        self._shown: tuple[Content, ...] = ()

    def compose(self) -> ComposeResult:
        yield self._text

    @property
    def columns(self) -> int:
        """Cells that a line of text has."""
        return max(1, min(LINE, self.size.width))

    def show(self, title: str, text: Content, missed: str, state: str, ready: bool, keys: str) -> None:
        """Draw a chapter; what has not changed costs nothing.

        Args:
            missed: why what the text tells of did not happen, or nothing.
            state: what comes next, or what for it waits.
            ready: whether the next chapter may be opened.
            keys: the keys of the panel, where they have room.
        """
        body = Content.assemble((f"{missed} ", WARN), text) if missed else text
        below = Content.assemble((state, ACCENT if ready else WARN), (keys, MUTED))
        shown = (Content(title), body, below)
        before, self._shown = self._shown, shown
        if shown == before:
            return
        self.border_title, self.border_subtitle = Content(title), below
        if not before or before[1] != body:
            self._text.update(body)
        if not before or before[0] != shown[0]:
            self.scroll_home(animate=False)
