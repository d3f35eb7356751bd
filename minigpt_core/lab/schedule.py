"""Runs of an experiment one after another or several at once, and how far they are."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event

import msgspec

from minigpt_core.errors import UserError
from minigpt_core.hardware import cpu_count
from minigpt_core.lab.trial import Source, Trial, run_trial, work
from minigpt_core.status import MetricsRow
from minigpt_core.tail import Tail

POLL_SECONDS = 0.5
"""Between two looks at the runs, and between two reports of progress."""


class Running(msgspec.Struct, frozen=True):
    """A run under way: its name, steps made and to make, and its last training loss."""

    name: str
    step: int
    steps: int
    train_loss: float | None


class Progress(msgspec.Struct, frozen=True):
    """How far an experiment is."""

    finished: int
    """Runs that have ended, diverged ones included."""
    total: int
    running: tuple[Running, ...]
    share: float
    """Of all steps, 0 to 1."""
    eta: float | None
    """Seconds still to go at this sitting's pace; None before its first step."""


class Pace:
    """Counts runs and steps, in this sitting and in all."""

    def __init__(self, trials: list[Trial]) -> None:
        self._steps = {trial.run.name: trial.steps for trial in trials}
        self._made = {trial.run.name: trial.steps for trial in trials if trial.outcome() is not None}
        self._finished = set(self._made)
        self._running: dict[str, MetricsRow | None] = {}
        self._here = 0
        """Steps made in this sitting."""
        self._since = time.monotonic()

    def started(self, trial: Trial) -> None:
        self._running[trial.run.name] = None

    def made(self, trial: Trial, row: MetricsRow) -> None:
        name = trial.run.name
        before = self._running[name]
        self._here += max(0, row.step - before.step) if before else 1  # a resumed run starts somewhere
        self._running[name], self._made[name] = row, row.step

    def ended(self, trial: Trial) -> None:
        name = trial.run.name
        del self._running[name]
        if trial.outcome() is not None:
            self._finished.add(name)
            self._made[name] = self._steps[name]

    def progress(self) -> Progress:
        made, steps = sum(self._made.values()), sum(self._steps.values())
        running = tuple(
            Running(name, row.step if row else 0, self._steps[name], row.train_loss if row else None)
            for name, row in self._running.items()
        )
        eta = (time.monotonic() - self._since) / self._here * (steps - made) if self._here else None
        return Progress(len(self._finished), len(self._steps), running, made / max(1, steps), eta)


def in_turn(waiting: list[Trial], source: Source, pace: Pace, stopping: Callable[[], bool]) -> Iterator[Progress]:
    """One run after another, in this process."""
    for trial in waiting:
        if stopping():
            return
        pace.started(trial)
        yield pace.progress()
        reported = time.monotonic()
        for row in run_trial(trial, source, stopping):
            pace.made(trial, row)
            if time.monotonic() - reported >= POLL_SECONDS:
                reported = time.monotonic()
                yield pace.progress()
        pace.ended(trial)
        yield pace.progress()


def at_once(
    waiting: list[Trial], source: Source, pace: Pace, stopping: Callable[[], bool], jobs: int
) -> Iterator[Progress]:
    """`jobs` runs at a time, each in a process of its own with its share of the cores.

    However this ends, the runs under way are saved and their processes have ended.
    """
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    stop = context.Event()
    threads = max(1, cpu_count() // jobs)
    queue, workers = list(waiting), list[_Worker]()
    try:
        while workers or (queue and not stop.is_set()):
            if stopping():
                stop.set()
            while queue and len(workers) < jobs and not stop.is_set():
                trial = queue.pop(0)
                shared = dataclasses.replace(trial, train=trial.train | {"threads": trial.train["threads"] or threads})
                workers.append(_Worker(context, shared, source, stop))
                pace.started(trial)
            yield pace.progress()
            time.sleep(POLL_SECONDS)
            for worker in list(workers):
                alive = worker.alive  # before the last look at its rows
                for row in worker.rows():
                    pace.made(worker.trial, row)
                if not alive:
                    workers.remove(worker)
                    pace.ended(worker.trial)
                    worker.close()
        yield pace.progress()
    finally:
        stop.set()
        for worker in workers:
            worker.close()


class _Worker:
    """A run in a process of its own; its progress is read from its run directory."""

    def __init__(self, context: SpawnContext, trial: Trial, source: Source, stop: Event) -> None:
        self.trial = trial
        self._failure, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(trial, source, stop, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._tail = Tail(trial.run.metrics, MetricsRow)

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def rows(self) -> list[MetricsRow]:
        return self._tail.read()

    def close(self) -> None:
        """Wait for its end.

        Raises:
            UserError: it failed.
        """
        self._process.join()
        self._tail.close()
        try:
            raise UserError(self._failure.recv())
        except EOFError:  # it had nothing to say
            if self._process.exitcode:
                name, code = self.trial.run.name, self._process.exitcode
                raise UserError(f"the process of run {name!r} ended with exit code {code}; resume it") from None
