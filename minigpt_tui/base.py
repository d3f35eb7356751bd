"""What every app of this program does with a terminal: its colours, its signals, and leaving with everything saved."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, Protocol

from rich.console import Console, RenderableType
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor

from minigpt_tui.filters import ANSI, XTERM, AnsiFilter, AsciiFilter
from minigpt_tui.terminal import hung_up
from minigpt_tui.widgets import palette

COLOR_SYSTEMS: dict[str, Literal["standard", "256", "truecolor"]] = {
    "truecolor": "truecolor",
    "256": "256",
    "16": "standard",
    "none": "standard",  # a filter then takes the colours away and leaves bold and reverse
}
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
JOIN_SECONDS = 0.05
TERMINAL_SECONDS = 0.5
"""Between two looks at whether the terminal is still there: one that goes away need not send a signal."""


class Look(Protocol):
    """What an app must know of the terminal, and of what its user prefers."""

    @property
    def ascii(self) -> bool: ...

    @property
    def color(self) -> Literal["truecolor", "256", "16", "none"]: ...

    @property
    def theme(self) -> Literal["dark", "light"]: ...

    @property
    def low_bandwidth(self) -> bool: ...

    @property
    def keys(self) -> Mapping[str, str]: ...


class TerminalApp(App[None]):
    """The theme on this terminal's colours. Leaving, by a key or by a signal, waits until what runs is saved.

    Attributes:
        trains: whether there is something to steer, whose keys the help then explains.
        terminal: what it knows of it.
        signal_received: the signal that ended the app, if one did.
        insisted: the user would not wait for that.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "help", "help", id="app.help")]
    trains = False

    def __init__(self, terminal: Look) -> None:
        super().__init__()
        self.terminal = terminal
        theme, ansi = palette.THEME, ANSI
        self._more_filters: list[LineFilter] = []
        if terminal.theme == "light":
            from minigpt_tui import light  # knows every widget's colours: not for those who need none of it

            theme, ansi = light.THEME, light.ANSI
            self._more_filters.append(light.LightFilter())
        self.register_theme(theme)
        self.theme = theme.name
        self.set_keymap(dict(terminal.keys))
        self.animation_level = "none"  # every frame of an animation is a repaint, perhaps over a slow link
        self.signal_received: signal.Signals | None = None
        self.insisted = False
        self._leaving = self._hung_up = False
        if terminal.color == "none":
            self.no_color = True
            self._more_filters.append(NoColor())
        if terminal.color in ("16", "256"):
            self._more_filters.append(AnsiFilter(ansi if terminal.color == "16" else XTERM))
        if terminal.ascii:
            self._more_filters.append(AsciiFilter())
        self.console = _console(self.console, COLOR_SYSTEMS[terminal.color])

    # --- what a subclass does ---

    def save(self) -> None:
        """Ask what runs to save itself and go on; returns at once."""

    def begin_leaving(self) -> None:
        """Ask what runs to save itself and end, and say so; returns at once."""
        raise NotImplementedError

    def has_ended(self) -> bool:
        """Whether all is saved; does not wait."""
        raise NotImplementedError

    def handlers(self) -> dict[signal.Signals, Callable[[], None]]:
        """What to do at each signal."""
        return {number: partial(self._on_signal, number) for number in SIGNALS}

    def outlives_terminal(self) -> bool:
        """Whether a terminal that goes away once the app has ended ends nothing."""
        return self._hung_up  # it may be said twice, by the kernel and by the shell

    def go(self) -> None:
        """End the app now."""
        self.exit()

    # --- the terminal ---

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), *self._more_filters]

    def on_mount(self) -> None:
        self.set_interval(TERMINAL_SECONDS, self._check_terminal)
        loop = asyncio.get_running_loop()
        for number, handler in self.handlers().items():
            # Not from a thread that may not set handlers, and not on a loop without signals.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, handler)

    def on_unmount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self.handlers():
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
        if self.outlives_terminal():
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def panic(self, *renderables: RenderableType) -> None:
        if not self.is_headless and hung_up(0):  # what Textual's input thread met then is no failure
            self._hang_up()
        else:
            super().panic(*renderables)

    def _check_terminal(self) -> None:
        if not self.is_headless and hung_up(0):
            self._hang_up()

    def _hang_up(self) -> None:
        if not self._hung_up:
            self._hung_up = True
            self.signal_received = self.signal_received or signal.SIGHUP
            self.save()
            self.on_hangup()

    def on_hangup(self) -> None:
        """The terminal is gone, and what runs was asked to save itself. What follows: it ends."""
        if not self._leaving:
            self.leave()

    # --- help ---

    def action_help(self) -> None:
        """All keys of the screen on top."""
        from minigpt_tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen, self.trains))

    # --- leaving ---

    async def action_quit(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Save and go. The first call waits until all is saved, the second does not."""
        if self._leaving:
            self.insisted = True
            self.go()
            return
        self._leaving = True
        self.begin_leaving()
        self._check_left()
        self.set_interval(JOIN_SECONDS, self._check_left)

    def _check_left(self) -> None:
        if self.has_ended():
            self.go()

    def _on_signal(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._hang_up()
            return
        self.signal_received = self.signal_received or number
        if not self._leaving or number == signal.SIGINT:  # only a second Ctrl-C insists
            self.leave()


class SmallApp(TerminalApp):
    """One of a single screen: no command palette, and ctrl+c leaves as ctrl+q does."""

    CSS = "Screen { background: $background; color: $foreground; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "leave, from anywhere", priority=True, show=False, id="app.quit"),
        Binding("ctrl+c", "quit", "leave, from anywhere", priority=True, show=False, id="app.interrupt"),
    ]


def _console(like: Console, color_system: Literal["standard", "256", "truecolor"]) -> Console:
    """Textual's own console, with the colours that this terminal has."""
    return Console(
        color_system=color_system,
        file=like.file,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        force_terminal=True,
        safe_box=False,
        _environ={},
    )
