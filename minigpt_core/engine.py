"""The engine: one worker thread around a trainer. Commands go in, a status comes out, copies of weights are given away.

Everyone else polls. The trainer never waits for a viewer, and `snapshot` is the only place where another thread may
read its parameters. Nothing here imports torch until the thread runs, so the app can draw its first frame before.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from minigpt_core.corpus import split
from minigpt_core.errors import UserError
from minigpt_core.hardware import give_way
from minigpt_core.landmarks import Landmarks
from minigpt_core.plan import Plan
from minigpt_core.prober import Prober, born
from minigpt_core.runlog import log_traceback
from minigpt_core.status import (
    Command,
    Event,
    MetricsRow,
    Note,
    Pause,
    Phase,
    Resume,
    Save,
    ScaleLearningRate,
    SetEvalEvery,
    SetSampleEvery,
    Stamp,
    Status,
    StepOnce,
    Stop,
)
from minigpt_core.tail import read_events, read_metrics, standing
from minigpt_core.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minigpt_core.model import GPT
    from minigpt_core.trainer import Trainer

LAST_LOOK_SECONDS = 10.0
"""How long a run's end waits for its last frame."""
MAX_NOTE = 200
"""Characters: a note is one line of the log."""
LOOK_SECONDS = 1.0
"""How often a paused run looks whether the processes it trains with are all there."""
PACE_MEMORY = 0.9
"""How much of the pace shown is what it was a row ago: a steady number is easier to read."""


class Engine:
    """Trains a planned run in a thread of its own.

    The thread is a daemon: a process that must leave at once can. `join` waits for a proper end.

    Args:
        watched: somebody looks at this run from this process, and goes before it where cores are scarce.
    """

    def __init__(self, plan: Plan, watched: bool = False) -> None:
        self.plan, self._watched = plan, watched
        self._status = Status(
            message="loading torch",
            name=plan.run.name,
            run_dir=str(plan.run.path.resolve()),
            tokens_per_byte=plan.tokens_per_byte,
        )
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._trainer: Trainer | None = None
        self._ready = threading.Event()
        """Set once there are weights, or never will be."""
        self._paused = self._stepping = False
        self.landmarks = Landmarks(plan.run, plan.tokens, plan.tokenizer.vocab_size)
        self.prober = Prober(self, plan.run, self._log)
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)

    # --- the viewers' side: any thread ---

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end; True once it has ended (or was never started)."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def status(self) -> Status:
        return self._status

    @property
    def paused(self) -> bool:
        """Whether it was told to pause and not yet to go on, whatever else it does at the moment."""
        return self._paused

    def send(self, command: Command) -> None:
        """Obeyed at the next boundary: between two steps, or between two batches of an evaluation."""
        self._commands.put(command)

    @property
    def step(self) -> int:
        return self._trainer.state.step if self._trainer else 0

    @property
    def tokenizer(self) -> Tokenizer:
        return self.plan.tokenizer

    def device(self) -> str:
        return self._weights().devices.replica_device

    @property
    def gpu_uuid(self) -> str | None:
        """The GPU that trains, as the driver names it; None while unknown or on a CPU."""
        return self._trainer.devices.gpu_uuid if self._trainer else None

    def replica(self) -> GPT:
        from minigpt_core.model import GPT

        trainer = self._weights()
        return GPT.empty(trainer.model.config, trainer.devices.replica_device)

    def snapshot(self, into: GPT) -> Stamp:
        trainer = self._weights()
        with trainer.gate.copying():
            into.copy_weights(trainer.model)
            state = trainer.state
            return Stamp(step=state.step, val_loss=state.val_loss, val_step=state.val_step)

    @property
    def seq_len(self) -> int | None:
        return self._trainer.model.config.seq_len if self._trainer else None

    def validation(self, n: int, first: int = 0) -> np.ndarray:
        return split(self.plan.tokens, 1)[1][first : first + n]

    def _weights(self) -> Trainer:
        self._ready.wait()
        if self._trainer is None:
            raise UserError(self._status.message)
        return self._trainer

    # --- the trainer's side: the worker thread ---

    def _run(self) -> None:
        if self._watched:
            give_way()
        try:
            trainer = self._trainer = self.plan.build(self._boundary)
            self._ready.set()
            self._watch(trainer)
            rollbacks = trainer.state.rollbacks
            for row in trainer:
                if trainer.state.rollbacks != rollbacks:  # what it passed on the branch that it left is passed again
                    rollbacks = trainer.state.rollbacks
                    self.landmarks.resume(self._told(), read_metrics(self.plan.run)[:-1])
                self._publish(row=row)
                self.landmarks.start()  # not before: the first step comes sooner alone
                for crossing in self.landmarks.passed(row):
                    self._log(crossing.event())
            self.landmarks.start()  # a run that had ended already makes no row
            self.prober.finish(LAST_LOOK_SECONDS)
            if not trainer.stopping:
                self._write_assets()
            self._publish("stopped" if trainer.stopping else "done", message="")
        except UserError as error:
            self._fail(str(error))
            if self._trainer is None:
                self.plan.discard()
        except Exception as error:
            self._fail(explain(error))
            log_traceback(self.plan.run)
        finally:
            self._ready.set()
            self.plan.release()

    def _watch(self, trainer: Trainer) -> None:
        """Know what the run has passed, and begin to record what is in it; a resume does not tell a thing twice."""
        told = self._told()
        if trainer.state.step:
            self.landmarks.resume(told, read_metrics(self.plan.run))
        self.prober.record({born(event) for event in told if event.kind == "birth"})

    def _told(self) -> list[Event]:
        return standing(read_events(self.plan.run))

    def _log(self, event: Event) -> None:
        """Add to the run's events; a log that cannot be written costs these lines only."""
        with contextlib.suppress(UserError):
            if self._trainer is not None and self._trainer.log is not None:
                self._trainer.log.event(event)

    def _boundary(self, trainer: Trainer) -> None:
        """Between steps and between evaluation batches: obey, and stay here while paused."""
        if trainer.phase == "training":
            self._stepping = False  # a single step asked for has been made
        while True:
            waiting = self._paused and not self._stepping and not trainer.stopping
            self._publish("paused" if waiting else trainer.phase)
            trainer.world.check()
            try:
                command = self._commands.get(block=waiting, timeout=LOOK_SECONDS)
            except queue.Empty:
                if waiting:
                    continue
                break
            self._obey(command, trainer)
            if self._stepping:
                break  # one command, one step: the next waits until it is made

    def _obey(self, command: Command, trainer: Trainer) -> None:
        match command:
            case Pause() if not self._paused:
                self._paused = True
                trainer.event("pause", "paused")
            case Resume() if self._paused:
                self._paused = False
                trainer.event("resume", "training goes on")
            case StepOnce() if self._paused:
                self._stepping = True
            case Save():
                self._publish("saving")
                if trainer.saver:
                    trainer.saver.save_soon(trainer.state.step, wait=self._paused)
            case ScaleLearningRate(factor):
                trainer.scale_learning_rate(factor)
            case SetEvalEvery(steps):
                trainer.set_eval_every(steps)
            case SetSampleEvery(steps):
                trainer.set_sample_every(steps)
            case Note(text):
                trainer.event("note", " ".join(text.split())[:MAX_NOTE])
            case Stop():
                trainer.stop()

    def _publish(self, phase: Phase | None = None, row: MetricsRow | None = None, message: str | None = None) -> None:
        """Replace the status; viewers see the old one or the new one, never a mixture."""
        trainer = self._trainer
        if trainer is None:  # still being built
            return
        state, old = trainer.state, self._status
        changes: dict = {}
        if row is not None:
            pace = PACE_MEMORY * old.tok_s + (1 - PACE_MEMORY) * row.tok_s if old.tok_s else row.tok_s
            changes = {
                "epoch": row.epoch,
                "train_loss": row.train_loss,
                "lr": row.lr,
                "grad_norm": row.grad_norm,
                "clipped": row.clipped,
                "tok_s": pace,
            }
        elif old.phase == "starting":
            from minigpt_core.flops import flop_per_token, peak_flops

            changes = {
                "device": trainer.devices.device,
                "precision": trainer.devices.precision,
                "n_params": trainer.model.num_parameters(),
                "flop_per_token": flop_per_token(trainer.model),
                "peak_flops": peak_flops(trainer.devices.gpu, trainer.devices.precision),
                "epoch": trainer.batches.epoch(state.step),
            }
        if phase == "evaluating":
            message = f"{trainer.progress:.0%}"
        self._status = msgspec.structs.replace(
            old,
            phase=phase or old.phase,
            message=old.message if message is None and phase in (None, old.phase) else message or "",
            step=state.step,
            total_steps=state.total_steps,
            tokens=state.step * trainer.tokens_per_step,
            val_loss=state.val_loss,
            val_step=state.val_step,
            best_val_loss=state.best_val_loss,
            best_step=state.best_step,
            final_val_loss=state.final_val_loss,
            lr_scale=state.lr_scale,
            eval_every=trainer.eval_every,
            sample_every=state.sample_every,
            elapsed=state.elapsed,
            saved_step=trainer.saver and trainer.saver.saved_step,
            saved_at=trainer.saver and trainer.saver.saved_at,
            warning=f"{trouble}; trying again" if (trouble := trainer.trouble) else trainer.devices.warning or "",
            **changes,
        )

    def _write_assets(self) -> None:
        """At a run's natural end; a failure here costs pictures, not the run."""
        from minigpt_core.report import write_assets

        assert self._trainer is not None
        try:
            write_assets(self.plan.run, lambda what: self._publish("saving", message=f"writing {what}"))
            self._trainer.event("info", f"wrote pictures and samples to {self.plan.run.assets.name}/")
        except UserError as error:
            self._trainer.event("warning", str(error))
        except Exception as error:
            self._trainer.event("warning", f"no pictures: {explain(error)}")
            log_traceback(self.plan.run)

    def _fail(self, message: str) -> None:
        self._status = msgspec.structs.replace(self._status, phase="failed", message=message)
        with contextlib.suppress(UserError):  # the log may be what failed
            if self._trainer is not None:
                self._trainer.event("error", message)


def explain(error: Exception) -> str:
    """One line for an error nobody foresaw."""
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "the GPU is out of memory; use --accumulate 2, or a smaller --batch-size, --seq-len or --embed-dim; "
            "the run can be resumed where it was saved"
        )
    first = (str(error) or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (the traceback is in train.log)"
