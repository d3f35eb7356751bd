"""Training without a screen: a progress bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time

from minigpt_core.engine import Engine
from minigpt_core.plan import Plan
from minigpt_core.status import Status, Stop
from minigpt_tui.safetext import on_terminal
from minigpt_tui.terminal import stop_on_signal
from minigpt_tui.widgets.format import duration

POLL_SECONDS = 0.1
LINE_SECONDS = 5.0
"""Between two progress lines where nobody watches a bar."""


def train(plan: Plan) -> tuple[Status, int | None]:
    """Train to the end, or until a signal asks to stop: then save and return.

    Returns:
        The last status, and the signal that ended the run early, if one did.
    """
    engine = Engine(plan)
    received = stop_on_signal(lambda: engine.send(Stop()))
    show = ProgressBar() if sys.stderr is not None and sys.stderr.isatty() else ProgressLines()
    engine.start()
    try:
        announce(engine)
        with show:
            while not engine.join(POLL_SECONDS):
                show.update(engine.status())
        show.finish(engine.status())
    finally:  # also when our output was closed, as `head` does: what was trained is saved
        engine.send(Stop())
        engine.join()
        engine.prober.close()
        engine.prober.join()
    return engine.status(), received[0] if received else None


def announce(engine: Engine) -> None:
    """Name the run's folder as soon as there is something in it: a run that cannot start leaves none."""
    while engine.status().phase == "starting":
        if engine.join(POLL_SECONDS):
            break
    if engine.status().phase != "failed":
        print(f"run {on_terminal(str(engine.plan.run.path))}", flush=True)


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

    def __init__(self) -> None:
        self._last = 0.0
        self._said = ""

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, status: Status) -> None:
        now = time.monotonic()
        line = summary(status)
        if now - self._last >= LINE_SECONDS and line != self._said:
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
