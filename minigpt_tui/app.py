"""The Textual app: quitting, suspending, the command palette. What is on the screen is in `screens/`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import SuspendNotSupported, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from minigpt_core.ranks import launched
from minigpt_core.status import Save
from minigpt_tui.base import Look, TerminalApp
from minigpt_tui.keymap import bindings_of, keys_of, label
from minigpt_tui.screens.help import TOPICS
from minigpt_tui.screens.main import MainScreen
from minigpt_tui.screens.steer import STEERING
from minigpt_tui.session import Session
from minigpt_tui.widgets.heatmap import Ramp, ramp


class MiniGPTApp(TerminalApp):
    """Train, watch and prompt through a session.

    Args:
        main: makes the main screen.

    Attributes:
        failure: the one-line reason if the run failed.
        outlived: the terminal went away, and the run goes on without it.
        detaching: the run is saved so that a process of its own can go on with it.
    """

    CSS_PATH = "app.tcss"
    TITLE = "minigpt"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "save and quit, from anywhere", priority=True, show=False, id="app.quit"),
        Binding("ctrl+c", "interrupt", "stop the answer", priority=True, show=False, id="app.interrupt"),
        Binding("ctrl+z", "suspend_process", "suspend: training too, until fg", False, priority=True, id="app.suspend"),
        Binding("ctrl+p", "command_palette", "all commands, by name", priority=True, show=False, id="app.commands"),
    ]

    def __init__(
        self, session: Session, terminal: Look, main: Callable[[Session, Ramp], MainScreen] = MainScreen
    ) -> None:
        super().__init__(terminal)
        self.session = session
        self.trains = session.trains
        self.outlived = self.detaching = False
        self.main = main(session, ramp(terminal.color, terminal.ascii))

    @property
    def failure(self) -> str | None:
        status = self.session.status()
        return status.message or "training failed" if status.phase == "failed" else None

    def on_mount(self) -> None:
        self.push_screen(self.main)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not event.is_forwarded:
            self.main.key_hints.greeted()
            if self.screen is self.main and self.main.opens(event.key):
                return
        await super().on_event(event)

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

    def action_detach(self) -> None:
        """Leave the run to a process of its own; one that has a process of its own is just left."""
        status = self.session.status()
        if self._leaving:
            return
        if self.session.owned:
            if not self.session.trains or status.finished:
                self.main.say("this run has ended: there is nothing to detach from")
                return
            if status.phase == "starting":
                self.main.say("not yet: the run has to begin first")
                return
            if launched() is not None:
                self.main.say("torchrun started this run and would end with it: leave its terminal open (tmux, screen)")
                return
            self.detaching = True
        self.leave()

    def on_hangup(self) -> None:
        if self._leaving or not (self.session.owned and self.session.trains) or self.session.status().finished:
            super().on_hangup()
        else:
            self.outlived = True
            self.go()

    def outlives_terminal(self) -> bool:
        return self.detaching or super().outlives_terminal()  # the run has yet to be handed over

    def save(self) -> None:
        self.session.send(Save())

    def begin_leaving(self) -> None:
        self.session.close()
        saving = self.session.owned and self.session.trains and not self.session.status().finished
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
        """Every key of the main screen and of its panes, and leaving; a command works wherever the focus is."""
        main = self.main
        for node in (main, main.chart, main.attention, main.transcript):
            for binding in bindings_of(type(node)):
                name = binding.id or ""
                if name in STEERING and not self.session.trains:
                    continue
                keys = " ".join(map(label, keys_of(binding, self.terminal.keys)))
                title = f"{TOPICS[name.partition('.')[0]].title}: {binding.description}"
                yield SystemCommand(title, keys, partial(self._run_binding, binding.action, node))
        yield SystemCommand("save and quit", "again: at once", self.leave)

    async def _run_binding(self, action: str, node: DOMNode) -> None:
        await self.run_action(action, default_namespace=node)
