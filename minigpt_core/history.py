"""A run's past as its directory tells it: metrics, events, n-gram ladder, followed while they grow."""

from __future__ import annotations

import contextlib
import threading
import time

from minigpt_core import kept_metrics
from minigpt_core.errors import UserError
from minigpt_core.ladder import Ladder, load_ladder
from minigpt_core.rundir import RunDir
from minigpt_core.series import Series
from minigpt_core.status import Event, MetricsRow
from minigpt_core.tail import Tail

FOLLOW_SECONDS = 0.25
MANY_ROWS = 20_000
"""Read at once, they are kept for the next time."""


class RunHistory:
    """Reads what is new at each `refresh`; the same for a run that trains here, trains elsewhere, or has ended.

    With `follow` a thread does that, so that nobody who asks waits for a disk.
    """

    def __init__(self, run: RunDir) -> None:
        self.series = Series()
        self.events: list[Event] = []
        self.last: MetricsRow | None = None
        """The newest metrics row."""
        self.ladder: Ladder | None = None
        """None while it is not fitted."""
        self._run = run
        self._metrics = Tail(run.metrics, MetricsRow)
        self._events = Tail(run.events, Event)
        self._told: set[str | None] = set()
        """Why not all of a log could be read: said once, as one event more."""
        self._generation = 0
        self._fresh = True
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def refresh(self) -> None:
        if self._fresh:
            self._recall()
        rows = self._metrics.read()
        if self._metrics.generation != self._generation:  # a resume cut the file: it is read again from the start
            self._generation = self._metrics.generation
            self.series.clear()
            self.last = None
        self.series.extend(rows)
        if rows:
            self.last = rows[-1]
        if len(rows) >= MANY_ROWS:
            self._keep()
        self.events += self._events.read()
        if self.ladder is None:
            self.ladder = load_ladder(self._run)
        for problem in {self._metrics.problem, self._events.problem} - {None, *self._told}:
            self._told.add(problem)
            step = self.last.step if self.last is not None else 0
            self.events.append(Event(kind="error", step=step, time=time.time(), message=str(problem)))

    def _recall(self) -> None:
        """Begin with the rows that somebody read before, if it was a long run even then."""
        self._fresh = False
        if (kept := kept_metrics.read(self._run)) is not None:
            self._metrics.start_at(kept.end, kept.log)
            self.series.take(kept.table)
            self.last = kept.last

    def _keep(self) -> None:
        """Keep all rows for whoever opens the run next."""
        with contextlib.suppress(UserError, OSError, ValueError):  # not ours to write, or cut meanwhile
            kept_metrics.keep(self._run, self.series.table(), self._metrics.end)

    def follow(self) -> None:
        """Refresh in a thread of its own, a few times a second, until `close`."""
        self._thread = threading.Thread(target=self._follow, name="history", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of the files, or have the thread do so; returns at once."""
        self._closed.set()
        if self._thread is None:
            self._let_go()

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: whether the thread has ended within so many seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _let_go(self) -> None:
        self._metrics.close()
        self._events.close()

    def _follow(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # a file server that stumbles; the next try may succeed
                self.refresh()
            if self._closed.wait(FOLLOW_SECONDS):
                return self._let_go()
