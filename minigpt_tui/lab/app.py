"""The app around the experiment screen: theme, signals, and leaving with everything saved."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor

from minigpt_tui.app import COLOR_SYSTEMS, JOIN_SECONDS, SIGNALS, Look, _console
from minigpt_tui.filters import Ansi16Filter, AsciiFilter
from minigpt_tui.lab.session import Lab
from minigpt_tui.screens.experiment import ExperimentScreen
from minigpt_tui.widgets.heatmap import ramp
from minigpt_tui.widgets.palette import THEME


class LabApp(App[None]):
    """Runs and shows an experiment through a lab.

    Attributes:
        signal_received: the signal that ended the app, if one did.
        insisted: the user would not wait for the runs to be saved.
    """

    CSS = "Screen { background: $background; color: $foreground; }"
    TITLE = "minigpt ablation lab"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "quit", "leave", priority=True, show=False),
    ]

    def __init__(self, lab: Lab, terminal: Look) -> None:
        super().__init__()
        self.register_theme(THEME)
        self.theme = THEME.name
        self.animation_level = "none"
        self.signal_received: signal.Signals | None = None
        self.insisted = False
        self._lab = lab
        self._leaving = False
        self._more_filters: list[LineFilter] = []
        if terminal.color == "none":
            self.no_color = True
            self._more_filters.append(NoColor())
        if terminal.color == "16":
            self._more_filters.append(Ansi16Filter())
        if terminal.ascii:
            self._more_filters.append(AsciiFilter())
        self.console = _console(self.console, COLOR_SYSTEMS[terminal.color])
        self.experiment = ExperimentScreen(lab, coloured=bool(ramp(terminal.color, terminal.ascii).colours))

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), *self._more_filters]

    def on_mount(self) -> None:
        self.push_screen(self.experiment)
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {n: partial(self._on_signal, n) for n in SIGNALS}
        for number, handler in handlers.items():
            # Not from a thread that may not set handlers, and not on a loop without signals.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, handler)

    def on_unmount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)

    async def action_quit(self) -> None:
        """Save and go; the second time does not wait."""
        if self._leaving:
            self.insisted = True
            self.exit()
        else:
            self._leave()

    def _leave(self) -> None:
        self._leaving = True
        self._lab.stop()
        self.experiment.poll()
        self._check_left()
        self.set_interval(JOIN_SECONDS, self._check_left)

    def _check_left(self) -> None:
        if self._lab.join(0):
            self.exit()

    def _on_signal(self, number: signal.Signals) -> None:
        self.signal_received = self.signal_received or number
        if not self._leaving:  # a terminal that closes sends several: they insist on nothing
            self._leave()
