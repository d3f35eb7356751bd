"""Training without a screen: a progress bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import errno
import shlex
import sys
import threading
import time
from collections.abc import Callable

from minigpt_core.plan import Plan
from minigpt_core.status import Pause, Status, Stop
from minigpt_tui.detach import tell_begun
from minigpt_tui.link.server import LinkServer
from minigpt_tui.local import LocalSession
from minigpt_tui.safetext import on_terminal
from minigpt_tui.terminal import let_go_of_terminal, stop_on_signal
from minigpt_tui.widgets.format import duration

POLL_SECONDS = 0.1
LINE_SECONDS = 5.0
"""Between two progress lines where nobody watches a bar."""
QUIET_SECONDS = 600.0
"""And where they go to the run's log only."""


def train(plan: Plan, paused: bool = False) -> tuple[Status, int | None]:
    """Train to the end, or until a signal asks to stop: then save and return. Viewers may attach meanwhile.

    Returns:
        The last status, and the signal that ended the run early, if one did.
    """
    session = LocalSession.training(plan, watched=False)
    if paused:
        session.send(Pause())
    alone = threading.Event()

    def hang_up() -> None:
        let_go_of_terminal(plan.run.train_log)
        alone.set()

    received = stop_on_signal(lambda: session.send(Stop()), hang_up)
    with LinkServer(session, plan.announce):
        session.begin()
        try:
            if began(session):
                if tell_begun(plan.run):
                    alone.set()
                else:
                    print(f"run {on_terminal(str(plan.run.path))}", flush=True)
            follow(session, alone, hang_up)
        finally:  # also when our output was closed, as `head` does: what was trained is saved
            session.close()
            session.join()
    return session.status(), received[0] if received else None


def go_on(session: LocalSession) -> int | None:
    """An app's terminal went away: train on in its process, as if it had been started without one.

    Returns:
        The signal that ended the run early, if one did.
    """
    let_go_of_terminal(session.run.train_log)  # after the signal it may stand a moment longer, and then refuse a line
    received = stop_on_signal(lambda: session.send(Stop()))
    alone = threading.Event()
    alone.set()
    name = on_terminal(shlex.quote(session.run.name))
    print(f"the terminal hung up; training goes on. Come back: minigpt-tui attach {name}", file=sys.stderr, flush=True)
    try:
        follow(session, alone, lambda: None)
    finally:
        session.close()
        session.join()
    return received[0] if received else None


def follow(session: LocalSession, alone: threading.Event, hang_up: Callable[[], None]) -> None:
    """Show progress until the run has ended; rarely once nobody reads it."""
    show: ProgressBar | ProgressLines = ProgressLines()
    for quiet in (False, True):
        if quiet:
            show = ProgressLines(QUIET_SECONDS)
        elif sys.stderr is not None and sys.stderr.isatty():
            show = ProgressBar()
        with show:
            while alone.is_set() == quiet and not session.ended(POLL_SECONDS):
                try:
                    show.update(session.status())
                except OSError as error:  # the terminal went away and sent no signal, or not yet
                    if error.errno != errno.EIO:
                        raise
                    hang_up()
    show.finish(session.status())


def began(session: LocalSession) -> bool:
    """Wait until there is something in the run's folder: one that cannot start leaves none, and then this is False."""
    while session.status().phase == "starting":
        if session.ended(POLL_SECONDS):
            break
    return session.status().phase != "failed"


def summary(status: Status) -> str:
    """`step 1,200/5,000  loss 1.873  val 1.984  52.1k tok/s  ETA 1m40s`"""
    total = f"/{status.total_steps:,}" if status.total_steps else ""
    parts = [f"step {status.step:,}{total}"]
    if status.train_loss is not None:
        parts.append(f"loss {status.train_loss:.4f}")
    if status.val_loss is not None:
        parts.append(f"val {status.val_loss:.4f}")
    if status.tok_s:
        parts.append(f"{status.tok_s:,.0f} tok/s")
    if status.eta is not None:
        parts.append(f"ETA {duration(status.eta)}")
    if status.phase not in ("training", "done"):
        doing = "" if status.phase == "saving" and status.message else status.phase  # "writing samples" says it all
        parts.append(f"{doing} {status.message}".strip())
    return "  ".join(parts)


class ProgressLines:
    """A line now and then on standard output."""

    def __init__(self, every: float = LINE_SECONDS) -> None:
        self._every, self._last = every, 0.0
        self._said = ""

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, status: Status) -> None:
        now = time.monotonic()
        line = summary(status)
        if now - self._last >= self._every and line != self._said:
            self._last, self._said = now, line
            print(line, flush=True)

    def finish(self, status: Status) -> None:
        if status.phase != "failed":
            print(summary(status), flush=True)


class ProgressBar:
    """Rich's progress bar on standard error, so that standard output stays clean."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, status: Status) -> None:
        self._bar.update(self._task, completed=status.step, total=status.total_steps, description=summary(status))

    def finish(self, status: Status) -> None:
        if status.phase != "failed":
            print(summary(status), flush=True)
