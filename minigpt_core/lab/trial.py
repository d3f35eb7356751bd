"""One run of an experiment: an ordinary run directory, with a file beside the run's own that says what it came to."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event as Signal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from minigpt_core.atomic import write_atomic
from minigpt_core.engine import explain
from minigpt_core.errors import TrainingError, UserError
from minigpt_core.lab.paired import BASELINE, Outcome
from minigpt_core.lock import is_locked
from minigpt_core.plan import Plan, prepare_resume
from minigpt_core.rundir import RunDir, new_run_dir
from minigpt_core.runlog import log_traceback
from minigpt_core.series import Smoother
from minigpt_core.status import MetricsRow
from minigpt_core.tail import read_metrics
from minigpt_core.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minigpt_core.model import GPT
    from minigpt_core.trainer import Trainer


@dataclass(frozen=True)
class Source:
    """The text that all runs of an experiment learn from: encoded once, (n,) tokens."""

    tokenizer: Tokenizer
    tokens: np.ndarray
    corpus: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One variant with one seed; `model` and `train` are complete settings."""

    variant: str
    seed: int
    model: dict[str, Any]
    train: dict[str, Any]
    run: RunDir

    @property
    def steps(self) -> int:
        return self.train["steps"]

    def outcome(self) -> Outcome | None:
        """What it came to; None while it has not ended."""
        try:
            return msgspec.json.decode((self.run.path / "outcome.json").read_bytes(), type=Outcome)
        except (OSError, msgspec.MsgspecError):
            return None

    def write_outcome(self, outcome: Outcome) -> None:
        write_atomic(self.run.path / "outcome.json", msgspec.json.format(msgspec.json.encode(outcome)))

    def plan(self, source: Source) -> Plan:
        """The plan of its run: resumed if there is a checkpoint, else new.

        Raises:
            UserError: somebody trains it already.
        """
        run = self.run
        if run.checkpoint.is_file():
            return prepare_resume(run.name, {}, str(run.path.parent))
        if is_locked(run):
            raise UserError(f"run {run.name!r} is being trained already; stop that first")
        shutil.rmtree(run.path, ignore_errors=True)  # killed before its first checkpoint: nothing to go on from
        new_run_dir(run.path.parent, run.name, source.corpus["name"])
        return Plan(run, source.tokenizer, source.tokens, source.corpus, self.model, self.train)


def run_trial(trial: Trial, source: Source, stopping: Callable[[], bool]) -> Iterator[MetricsRow]:
    """Train, from where an earlier sitting saved if there was one; the outcome is written once the run has ended.

    Args:
        stopping: asked at every boundary; once true, the run is saved there and left.

    Raises:
        UserError: the run cannot go on; a loss that is not finite is no such error but an outcome.
    """
    plan = trial.plan(source)
    trainer = None
    try:
        trainer = plan.build(lambda trainer: trainer.stop() if stopping() else None)
        if plan.resumed is None and trainer.model.config.swap_qk:
            swap_initialisation(trainer.model)
        diverged = None
        try:
            yield from trainer
        except TrainingError as error:
            diverged = str(error)
            trainer.event("error", diverged)
        if diverged or trainer.state.final_val_loss is not None:
            trial.write_outcome(_outcome(trial, trainer, diverged))
    except UserError:
        plan.discard()
        raise
    except Exception as error:
        log_traceback(plan.run)
        raise UserError(f"run {trial.run.name}: {explain(error)}") from None
    finally:
        if trainer is not None and trainer.log is not None:
            trainer.log.close()
        plan.release()


def work(trial: Trial, source: Source, stop: Signal, failure: Connection) -> None:
    """`run_trial` as the life of a process of its own; a failure is sent as one line.

    The parent decides what a signal to the whole group means, and a parent that has died means stop.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    try:
        for _ in run_trial(trial, source, lambda: stop.is_set() or os.getppid() != parent):
            pass
    except UserError as error:
        failure.send(str(error))


def _outcome(trial: Trial, trainer: Trainer, diverged: str | None) -> Outcome:
    smoother = Smoother()
    for row in read_metrics(trial.run):
        smoother.update(row.train_loss)
    final = trainer.state.final_val_loss
    if not diverged and (final is None or not math.isfinite(final)):
        diverged = f"the final validation loss is {final}: training diverged"
    return Outcome(
        variant=trial.variant,
        seed=trial.seed,
        learning_rate=trainer.config.learning_rate,
        n_params=trainer.model.num_parameters(),
        steps=trainer.state.step,
        val_loss=None if diverged else final,
        train_loss=smoother.value,
        transposed_val_loss=None if diverged or trial.variant != BASELINE else transposed_loss(trainer),
        diverged=diverged,
    )


def swap_initialisation(model: GPT) -> None:
    """Exchange the query and the key rows of every layer's joint projection, weights and biases.

    A model with `swap_qk` reads its queries where others have their keys, so this makes it the same function as the
    baseline of the same seed. Training keeps that up to rounding: exchanged rows are the same numbers summed in
    another order, and what rounding does grows from step to step.
    """
    import torch

    with torch.no_grad():
        for block in model.layers:
            for parameter in (block.attention.qkv.weight, block.attention.qkv.bias):  # (3C, C) and (3C,)
                q, k, v = parameter.chunk(3)
                parameter.copy_(torch.cat([k, q, v]))


def transposed_loss(trainer: Trainer) -> float:
    """Loss of a trained model, where `final_val_loss` is measured, with its attention scores transposed.

    `swap_qk` on trained weights: every score q·k becomes the score of the two positions the other way round.
    """
    from minigpt_core.model import GPT

    config, starts = trainer.model.config, trainer.validation.final_starts
    model = GPT.empty(config.replace(swap_qk=not config.swap_qk), trainer.devices.device)
    model.use_attention(trainer.devices.attention).copy_weights(trainer.model)
    return sum(windows * loss for windows, loss in trainer.validation.losses(model, starts)) / len(starts)
