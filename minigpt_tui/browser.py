"""The app around the run browser."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from minigpt_core.library import Library
from minigpt_tui.base import Look, TerminalApp
from minigpt_tui.screens.browse import BrowseScreen, Choice
from minigpt_tui.widgets.heatmap import ramp


class BrowserApp(TerminalApp):
    """Lists runs until one is chosen or the user leaves.

    Attributes:
        choice: what to do next; None is nothing.
    """

    CSS = "Screen { background: $background; color: $foreground; }"
    TITLE = "minigpt runs"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "leave, from anywhere", priority=True, show=False, id="app.quit"),
        Binding("ctrl+c", "quit", "leave, from anywhere", priority=True, show=False, id="app.interrupt"),
    ]

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
