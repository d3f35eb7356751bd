"""The Textual app: theme, quitting, signals, the command palette. What is on the screen is in `screens/`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar, Literal, Protocol

from rich.console import Console
from textual import on
from textual.app import App, SuspendNotSupported, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor
from textual.screen import Screen

from minigpt_tui.filters import Ansi16Filter, AsciiFilter
from minigpt_tui.screens.main import PANES, MainScreen
from minigpt_tui.session import Session
from minigpt_tui.widgets.heatmap import Ramp, ramp
from minigpt_tui.widgets.palette import THEME

COLOR_SYSTEMS: dict[str, Literal["standard", "256", "truecolor"]] = {
    "truecolor": "truecolor",
    "256": "256",
    "16": "standard",
    "none": "standard",  # a filter then takes the colours away and leaves bold and reverse
}
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
JOIN_SECONDS = 0.05


class Look(Protocol):
    """What the app must know of the terminal."""

    @property
    def ascii(self) -> bool: ...

    @property
    def color(self) -> Literal["truecolor", "256", "16", "none"]: ...


class MiniGPTApp(App[None]):
    """Train, watch and prompt through a session.

    Args:
        main: makes the main screen.

    Attributes:
        failure: the one-line reason if the run failed.
        signal_received: the signal that ended the app, if one did.
        insisted: the user would not wait for the run to be saved.
    """

    CSS_PATH = "app.tcss"
    TITLE = "minigpt"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "quit", priority=True, show=False),
        Binding("ctrl+c", "interrupt", "stop the answer", priority=True, show=False),
        Binding("ctrl+z", "suspend_process", "suspend", priority=True, show=False),
    ]

    def __init__(
        self, session: Session, terminal: Look, main: Callable[[Session, Ramp], MainScreen] = MainScreen
    ) -> None:
        super().__init__()
        self.register_theme(THEME)
        self.theme = THEME.name
        self.animation_level = "none"  # every frame of an animation is a repaint, perhaps over a slow link
        self.session = session
        self.signal_received: signal.Signals | None = None
        self.insisted = False
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
        self.main = main(session, ramp(terminal.color, terminal.ascii))

    @property
    def failure(self) -> str | None:
        status = self.session.status()
        return status.message or "training failed" if status.phase == "failed" else None

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), *self._more_filters]

    def on_mount(self) -> None:
        self.push_screen(self.main)
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {n: partial(self._on_signal, n) for n in SIGNALS}
        # Textual's own handlers would enter its application mode a second time on a SIGCONT that follows no ctrl+z.
        handlers |= {signal.SIGTSTP: self.action_suspend_process, signal.SIGCONT: self._repaint}
        for number, handler in handlers.items():
            # Not from a thread that may not set handlers, and not on a loop without signals.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, handler)

    def on_unmount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (*SIGNALS, signal.SIGTSTP, signal.SIGCONT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)

    # --- ctrl+z ---

    def action_suspend_process(self) -> None:
        """Give the terminal back and stop, as the shell's job control expects; training stops with the process.

        The system ignores the signal where no shell could continue us, and then the screen just comes back.
        """
        with contextlib.suppress(SuspendNotSupported), self.suspend():
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(0, signal.SIGTSTP)  # the whole job, as the terminal itself would
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, self.action_suspend_process)

    def _repaint(self) -> None:
        """Continued: whatever a shell wrote over the screen goes."""
        self.refresh(layout=True)

    # --- leaving ---

    async def action_quit(self) -> None:
        self.leave()

    @on(MainScreen.NeverTrained)
    def _leave_at_once(self) -> None:
        """There is nothing to look at: the reason is better read in the shell, next to the command to mend."""
        self.leave()

    def leave(self) -> None:
        """Save and go. The first call waits for the run to be saved, the second does not."""
        if self._leaving:
            self.insisted = True
            self._go()
            return
        self._leaving = True
        self.session.close()
        saving = self.session.trains and not self.session.status().finished
        self.main.say(f"{'saving' if saving else 'leaving'}… (again: leave at once)", sticky=True)
        self._check_left()
        self.set_interval(JOIN_SECONDS, self._check_left)

    def _check_left(self) -> None:
        if self.session.join(0):
            self._go()

    def _go(self) -> None:
        self.exit(return_code=1 if self.failure else 0)

    def _on_signal(self, number: signal.Signals) -> None:
        self.signal_received = self.signal_received or number
        if not self._leaving:  # a terminal that closes sends several: they insist on nothing
            self.leave()

    def action_interrupt(self) -> None:
        if not self.main.stop_answers():
            self.main.say("q or ctrl+q quits (it saves first)")

    # --- the command palette ---

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        main = self.main
        if self.session.trains:
            yield SystemCommand("Pause or resume", "training, at the next step (space)", main.action_pause)
            yield SystemCommand("One step", "train one step while paused (n)", main.action_step)
            yield SystemCommand("Save", "a checkpoint at the next step (s)", main.action_save)
            yield SystemCommand("Learning rate ×2", "scale the whole schedule", lambda: main.action_scale(2.0))
            yield SystemCommand("Learning rate ×0.5", "scale the whole schedule", lambda: main.action_scale(0.5))
        yield SystemCommand("Prompt", "talk to the weights of this moment (i)", main.action_prompt)
        yield SystemCommand("Stop the answer", "keep what has come (esc)", lambda: main.stop_answers() and None)
        yield SystemCommand(
            "Again, same seed", "the last prompt on the weights of now (r)", lambda: main.action_again(True)
        )
        yield SystemCommand(
            "Again, new seed", "the last prompt on the weights of now (R)", lambda: main.action_again(False)
        )
        yield SystemCommand("Copy the answer", "to the terminal's clipboard (c)", main.action_copy)
        for number, name in enumerate(PANES, 1):
            yield SystemCommand(name.capitalize(), f"go to the pane ({number})", partial(main.action_pick, name))
        yield SystemCommand("Maximise", "the focused pane, and back (f)", main.action_maximise)
        yield SystemCommand("Chart: logarithmic loss", "and back (y in the chart)", main.chart.action_log)
        yield SystemCommand("Chart: whole run", "(home in the chart)", main.chart.action_whole)
        yield SystemCommand("Chart: follow", "the newest step (end in the chart)", main.chart.action_follow)
        yield SystemCommand("Attention: all heads", "and back (a in the map)", main.attention.action_all)
        yield SystemCommand("Attention: next layer", "(> in the map)", lambda: main.attention.action_layer(1))
        yield SystemCommand("Attention: next head", "(. in the map)", lambda: main.attention.action_head(1))
        yield SystemCommand("Look back", "recorded frames, and live again (t)", main.action_travel)
        yield SystemCommand("Head gallery", "every head, its role and history (g)", main.action_gallery)
        yield SystemCommand("Chart: n-gram lines", "on and off (l in the chart)", main.chart.action_ladder)
        yield SystemCommand("Help", "all keys (?)", main.action_help)
        yield SystemCommand("Quit", "saves first (q)", self.leave)


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
