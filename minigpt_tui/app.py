"""The Textual app: quitting, suspending, the command palette. What is on the screen is in `screens/`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import SuspendNotSupported, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from minigpt_tui.base import Look, TerminalApp
from minigpt_tui.screens.main import PANES, MainScreen
from minigpt_tui.session import Session
from minigpt_tui.widgets.heatmap import Ramp, ramp


class MiniGPTApp(TerminalApp):
    """Train, watch and prompt through a session.

    Args:
        main: makes the main screen.

    Attributes:
        failure: the one-line reason if the run failed.
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
        super().__init__(terminal)
        self.session = session
        self.main = main(session, ramp(terminal.color, terminal.ascii))

    @property
    def failure(self) -> str | None:
        status = self.session.status()
        return status.message or "training failed" if status.phase == "failed" else None

    def on_mount(self) -> None:
        self.push_screen(self.main)

    def handlers(self) -> dict[signal.Signals, Callable[[], None]]:
        # Textual's own handlers would enter its application mode a second time on a SIGCONT that follows no ctrl+z.
        more = {signal.SIGTSTP: self.action_suspend_process, signal.SIGCONT: self._repaint}
        return super().handlers() | more

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

    @on(MainScreen.NeverTrained)
    def _leave_at_once(self) -> None:
        """There is nothing to look at: the reason is better read in the shell, next to the command to mend."""
        self.leave()

    def begin_leaving(self) -> None:
        self.session.close()
        saving = self.session.trains and not self.session.status().finished
        self.main.say(f"{'saving' if saving else 'leaving'}… (again: leave at once)", sticky=True)

    def has_ended(self) -> bool:
        return self.session.join(0)

    def go(self) -> None:
        self.exit(return_code=1 if self.failure else 0)

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
