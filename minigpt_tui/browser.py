"""The app around the run browser."""

from __future__ import annotations

from minigpt_core.library import Library
from minigpt_tui.base import Look, SmallApp
from minigpt_tui.screens.browse import BrowseScreen, Choice
from minigpt_tui.widgets.heatmap import ramp


class BrowserApp(SmallApp):
    """Lists runs until one is chosen or the user leaves.

    Attributes:
        choice: what to do next; None is nothing.
    """

    TITLE = "minigpt runs"

    def __init__(self, library: Library, terminal: Look) -> None:
        super().__init__(terminal)
        self._library = library
        self.choice: Choice | None = None
        self.list = BrowseScreen(library, coloured=bool(ramp(terminal.color, terminal.ascii).colours))

    def on_mount(self) -> None:
        self.push_screen(self.list, self._chosen)

    def _chosen(self, choice: Choice | None) -> None:
        self.choice = choice
        self.leave()

    def begin_leaving(self) -> None:
        self._library.close()

    def has_ended(self) -> bool:
        return True
