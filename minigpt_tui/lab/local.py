"""An experiment in this process: one thread trains it, another reads its folder for the screen."""

from __future__ import annotations

import dataclasses
import threading
import traceback
from contextlib import suppress
from multiprocessing import resource_tracker

from minigpt_core.engine import explain
from minigpt_core.errors import UserError
from minigpt_core.lab.expectations import expected
from minigpt_core.lab.experiment import Experiment
from minigpt_core.lab.overlay import Curves, mean_curve, paired_curves
from minigpt_core.lab.paired import BASELINE, TRANSPOSED, spread
from minigpt_core.lab.schedule import Progress
from minigpt_core.lab.trial import Trial
from minigpt_core.status import MetricsRow
from minigpt_core.tail import Tail
from minigpt_tui.lab.session import LabPhase, Standing, View
from minigpt_tui.widgets.format import count, number

READ_SECONDS = 1.0


class LocalLab:
    """The `Lab` over an `Experiment`; one that is finished is only shown. To be made before the app runs.

    Attributes:
        error: why the training thread ended, if it failed.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.error: UserError | None = None
        self._experiment = experiment
        self._phase: LabPhase = "starting"
        self._progress: Progress | None = None
        self._read = View(experiment.path.name)
        self._tails: dict[str, Tail[MetricsRow]] = {}
        self._losses: dict[str, tuple[int, dict[int, float]]] = {}
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._trainer = threading.Thread(target=self._train, name="experiment", daemon=True)
        self._reader = threading.Thread(target=self._follow, name="experiment reader", daemon=True)
        if experiment.jobs > 1:
            # Processes need it, and it needs a standard error with a descriptor, which there is none in an app.
            resource_tracker.ensure_running()

    def start(self) -> None:
        self._trainer.start()
        self._reader.start()

    def look(self) -> View:
        progress, read, phase = self._progress, self._read, self._phase
        if self._stopping.is_set() and self._trainer.is_alive():
            phase = "stopping"
        message = str(self.error) if self.error is not None else ""
        view = dataclasses.replace(read, phase=phase, message=message)
        if progress is None or phase in ("done", "stopped", "failed"):
            return view
        running = tuple(
            f"{run.name} step {count(run.step)}/{count(run.steps)}"
            + (f" loss {number(run.train_loss)}" if run.train_loss is not None else "")
            for run in progress.running
        )
        return dataclasses.replace(
            view, ended=progress.finished, runs=progress.total, share=progress.share, running=running, eta=progress.eta
        )

    def stop(self) -> None:
        self._stopping.set()
        self._experiment.stop()
        self._closed.set()

    def join(self, timeout: float | None = None) -> bool:
        if self._trainer.ident is not None:  # it was started
            self._trainer.join(timeout)
        return not self._trainer.is_alive()

    # --- the threads ---

    def _train(self) -> None:
        try:
            if not self._experiment.finished:
                for progress in self._experiment.run():
                    self._progress = progress
                    self._phase = "training" if progress.finished < progress.total else "drawing"
                    if self._stopping.is_set():  # it may have been asked before `run` began, which forgets that
                        self._experiment.stop()
            self._phase = "done" if self._experiment.finished else "stopped"
        except Exception as error:
            self.error = error if isinstance(error, UserError) else UserError(explain(error))
            if error is not self.error:
                traceback.print_exc()  # not foreseen: while the screen is in use this goes to a log
            self._phase = "failed"

    def _follow(self) -> None:
        while True:
            with suppress(OSError, UserError):  # the folder is being made, or was taken away: what was read stays
                self._read = self._look_again()
            if self._closed.wait(READ_SECONDS):
                return

    # --- reading ---

    def _look_again(self) -> View:
        """The experiment as its folder has it."""
        experiment = self._experiment
        trials, table = experiment.trials, experiment.table()
        rows = {row.variant: row for row in table.rows}
        names = dict.fromkeys(trial.variant for trial in trials)
        if TRANSPOSED in rows:
            names[TRANSPOSED] = None
        mine = {name: [trial for trial in trials if trial.variant == name] for name in names}
        curves: Curves = {}
        for name in names:
            row = rows.get(name)
            rate = row.learning_rate if row is not None else mine[name][0].train["learning_rate"]
            curves[name] = [self._curve(trial) for trial in mine[name] if trial.train["learning_rate"] == rate]
        differences = paired_curves(curves) | {BASELINE: [dict.fromkeys(run, 0.0) for run in curves.get(BASELINE, [])]}
        standings = [
            Standing(
                name,
                rows.get(name),
                sum(trial.outcome() is not None for trial in mine[name]),
                len(mine[name]),
                mean_curve(curves[name]),
                mean_curve(differences[name]),
                _paragraphs(name),
            )
            for name in names
        ]
        ended = sum(standing.ended for standing in standings)
        return View(
            experiment.path.name,
            spread=spread(table) if BASELINE in rows else "",
            standings=tuple(standings),
            ended=ended,
            runs=len(trials),
            share=ended / max(1, len(trials)),
        )

    def _curve(self, trial: Trial) -> dict[int, float]:
        """{step: validation loss} of a run so far."""
        name = trial.run.name
        tail = self._tails.setdefault(name, Tail(trial.run.metrics, MetricsRow))
        rows = tail.read()
        generation, losses = self._losses.get(name, (tail.generation, {}))
        if generation != tail.generation:
            losses = {}
        losses |= {row.step: row.val_loss for row in rows if row.val_loss is not None}
        self._losses[name] = (tail.generation, losses)
        return losses


def _paragraphs(variant: str) -> tuple[str, ...]:
    return tuple(
        paragraph
        for name, expectation in expected(variant)
        for paragraph in (f"{name}: {expectation.text}", *expectation.sources)
    )
