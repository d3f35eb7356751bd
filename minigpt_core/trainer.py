"""The training loop: one step after another, with boundaries at which somebody may look in or give a command.

A `Trainer` is synchronous, so it serves a notebook, a test and the engine's worker thread alike; the only thread of its
own is the one that writes a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np
import torch

from minigpt_core import checkpoint, recording
from minigpt_core.best import overfits, verdict
from minigpt_core.config import TrainConfig
from minigpt_core.data import split_text
from minigpt_core.devices import Devices, RandomState, WeightGate, decide, enter_thread, survey
from minigpt_core.distributed import World
from minigpt_core.divergence import MOST_ROLLBACKS, DivergenceError, advice, may_roll_back
from minigpt_core.errors import UserError
from minigpt_core.host_copy import HostCopy
from minigpt_core.length import planned_steps, stretch, watch_the_clock
from minigpt_core.model import GPT
from minigpt_core.optim import learning_rate
from minigpt_core.runlog import RunLog
from minigpt_core.saver import Saver
from minigpt_core.status import Event, EventKind, MetricsRow
from minigpt_core.stored import update_config
from minigpt_core.tokenizer import Tokenizer
from minigpt_core.train_state import Meter, TrainState
from minigpt_core.update import Update
from minigpt_core.validation import Validation
from minigpt_core.verify import check_optimizers

MAX_ROWS = 100_000

Boundary = Callable[["Trainer"], None]


class Trainer:
    """Trains a model on a text; iterating over it yields a `MetricsRow` for each logged step.

    Make it in the thread that will train: that thread's CPU thread count is set here.

    Args:
        model: trained in place.
        data: the text, or its encoded (train, val) splits.
        run: where to write; None writes nothing.
        devices: the decisions for this machine; made here when left out.
        boundary: called between steps and between evaluation batches; it may pause by not returning, and steer.
        world: the processes that train together, of which this one leads; None is this one alone.

    Attributes:
        gate: covers every change of weights; whoever copies them takes it too.
        best: the state at the best evaluation, where somebody asks for it: `best.pt`, or the end of the run.

    >>> short = Trainer(model, tokenizer, text, TrainConfig(steps=2, batch_size=4))
    >>> [row.step for row in short]
    [1, 2]

    Raises:
        UsageError: the tokenizer has more tokens than the model.
        UserError: the text is too short for the model's context.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        data: str | tuple[np.ndarray, np.ndarray],
        config: TrainConfig,
        *,
        run: RunLog | None = None,
        devices: Devices | None = None,
        boundary: Boundary | None = None,
        world: World | None = None,
    ) -> None:
        model.check_vocabulary(tokenizer.vocab_size)
        self.tokenizer, self.config, self.log = tokenizer, config, run
        self.boundary = boundary or (lambda _: None)
        self.devices = devices or decide(survey(), config, model.config.seq_len)
        device, seq_len = self.devices.device, model.config.seq_len
        enter_thread(device, self.devices.threads, deterministic=config.deterministic)
        self.gate = WeightGate(device)
        self.random = RandomState(device)

        train, val = split_text(tokenizer, data, seq_len) if isinstance(data, str) else data
        self.validation = Validation(val, seq_len, self.devices)

        self.world = world or World()
        self.update = Update(model, train, config, self.devices, self.world)
        self.model, self.batches = self.update.model, self.update.batches
        self.meter = Meter(device)
        self.saver = Saver(run, config.save_every, lambda: (self.state_dict(), self.best)) if run else None
        self.best: HostCopy | None = None
        self.state = TrainState(total_steps=planned_steps(config, self.batches))
        self.phase: Literal["training", "evaluating"] = "training"
        self.progress = 0.0
        """Of the evaluation under way, 0 to 1."""
        self.stopping = False
        """Set by `stop`: leave at the next boundary."""
        if self.update.not_compiled:
            self.event("warning", f"not compiled: {self.update.not_compiled}")
        torch.manual_seed(config.seed)  # dropout; the model was initialised by whoever built it

    # --- the loop ---

    def __iter__(self) -> Iterator[MetricsRow]:
        """Train to the end or until stopped.

        Raises:
            DivergenceError: the loss or the gradient is no longer finite; the weights are those of the last good step.
            UserError: the run directory cannot be written at the beginning or at the end.
        """
        self.stopping = False
        try:
            if self.state.step == 0:
                self._record_length()
                self.save()  # from here on, whatever is killed can be resumed
            while True:
                try:
                    row = self._finish_row() if self._row_due else None
                    if row is not None:
                        yield row
                    if self.stopping or self.finished:
                        break
                    if self.saver:
                        self.saver.look(self.state.step)
                    self.boundary(self)
                    if self.stopping:
                        break
                    self.step()
                except DivergenceError as error:
                    self._recover(error)
            if self.finished and not self.stopping and self.state.final_val_loss is None:
                self._restore_best()
                self._evaluate_all()
            self.save()
        finally:  # however it ends: what is being written is whole
            if self.saver:
                self.saver.wait()

    @property
    def finished(self) -> bool:
        return self.state.total_steps is not None and self.state.step >= self.state.total_steps

    @property
    def tokens_per_step(self) -> int:
        return self.config.batch_size * self.model.config.seq_len

    @property
    def log_every(self) -> int:
        """Steps a metrics row covers; grows so that a run stays under about 100,000 rows."""
        default = 1 if self.devices.kind == "cpu" else 10  # reading the loss makes the CPU wait for the GPU
        return max(self.config.log_every or default, -(-(self.state.total_steps or 0) // MAX_ROWS))

    @property
    def eval_every(self) -> int:
        """Steps between evaluations."""
        return self.state.eval_every or self.config.eval_every

    def step(self) -> None:
        """One optimizer step.

        Raises:
            DivergenceError: on a CPU, if the loss or the gradient is not finite; nothing has changed then.
        """
        started = time.perf_counter()
        state, config = self.state, self.config
        state.lr = learning_rate(state.step, state.total_steps, config) * state.lr_scale
        self.world.step(state.step, state.lr)
        loss, norm = self.update.gradients(state.step, state.lr)  # (), ()
        with self.gate.changing():
            self.update.apply()
            state.step += 1
        self.meter.add(loss, norm, config.grad_clip, self.update.guard.skip)

        self._account(started)
        if watch_the_clock(state, config.minutes):
            self.event("info", f"{config.minutes:g} minutes are {state.total_steps:,} steps")
            self._record_length()

    def _account(self, started: float) -> None:
        seconds = time.perf_counter() - started
        self.meter.seconds += seconds
        self.state.elapsed += seconds

    # --- metrics rows ---

    @property
    def _row_due(self) -> bool:
        """Whether the last step's row is still to be written; a stop in its evaluation leaves that to the resume."""
        step = self.state.step
        return self.meter.steps > 0 and (step % self.log_every == 0 or self._evaluation_due or step == 1)

    @property
    def _evaluation_due(self) -> bool:
        return self.state.step % self.eval_every == 0 or self.finished

    def _finish_row(self) -> MetricsRow | None:
        """Evaluate if it is time, write the row and what the row makes worth keeping; None if stopped before."""
        started = time.perf_counter()
        self.world.collect(self.meter.sums[0])
        (loss, norm, clipped), good = self.meter.means()  # the one place where training waits for the device
        self._account(started)
        if good < self.meter.steps:
            self.state.step -= self.meter.steps - good
            raise DivergenceError(
                f"the loss or its gradient is not finite at step {self.state.step + 1:,}: training diverged"
            )
        steps, seconds = self.meter.steps, self.meter.seconds
        val_loss = None
        if self._evaluation_due:
            val_loss = self.evaluate()
            if val_loss is None:
                return None
        self.meter.reset()
        state = self.state
        row = MetricsRow(
            step=state.step,
            epoch=self.batches.epoch(state.step),
            tokens=state.step * self.tokens_per_step,
            time=state.elapsed,
            lr=state.lr,
            train_loss=loss,
            grad_norm=norm,
            clipped=clipped,
            tok_s=steps * self.tokens_per_step / seconds if seconds else 0.0,
            val_loss=val_loss,
        )
        if self.log:
            self.log.metrics(row)
        if val_loss is not None and state.best_step == state.step and (self.log or self.config.patience):
            self.best = HostCopy(self.state_dict() if self.log else {"model": self.model.state_dict()})
        return row

    def _recover(self, error: DivergenceError) -> None:
        """Go back to the last checkpoint at half the learning rate, if that is asked for; else give up."""
        state, saver = self.state, self.saver
        if not self.log or not saver or not may_roll_back(state, self.config):
            if saver:
                saver.save_best(self.best)
            saved_step = saver.saved_step if saver else None
            raise DivergenceError(f"{error}; {advice(state, self.config, saved_step)}") from None
        saver.wait()
        self.resume(checkpoint.load(self.log.run.checkpoint))
        self.state.rollbacks, self.state.lr_scale = state.rollbacks + 1, state.lr_scale / 2
        back = f"back at step {self.state.step:,} with the learning rate × {self.state.lr_scale:g}"
        self.event("resumed", f"{error}: {back}, {self.state.rollbacks} of {MOST_ROLLBACKS} times")

    # --- evaluation ---

    def evaluate(self) -> float | None:
        """Loss on the same tokens of the validation split every time; None when stopped half way."""
        loss = self._mean_loss(self.validation.starts)
        if loss is None:
            return None
        state = self.state
        with self.gate.changing():  # a snapshot's stamp holds a loss together with that loss's own step
            state.val_loss, state.val_step = loss, state.step
        if math.isfinite(loss) and (state.best_val_loss is None or loss < state.best_val_loss):
            state.best_val_loss, state.best_step = loss, state.step
        elif overfits(state, loss, self.config.patience, self.eval_every) and not self.finished:
            state.total_steps = state.step
            self._record_length()
            self.event("info", verdict(state, self.model.config.dropout))
        return loss

    def _restore_best(self) -> None:
        """At the run's own end: the weights that generalised best, if the last ones do not."""
        state = self.state
        if not self.config.patience or state.best_step == state.val_step:
            return
        best = self.best.state() if self.best else self.saver and self.saver.load_best(state.best_step)
        if best:
            with self.gate.changing():
                self.model.load_state_dict(best["model"])
            state.val_loss, state.val_step = state.best_val_loss, state.best_step
            self.event("info", f"restored the weights of step {state.best_step:,}, the best on validation")

    def _evaluate_all(self) -> None:
        """At the run's own end: the loss over the whole validation split or, of a long one, a fair share."""
        state = self.state
        starts = self.validation.final_starts
        same = len(starts) == len(self.validation.starts) and state.val_step == state.step
        state.final_val_loss = state.val_loss if same else self._mean_loss(starts)
        if state.final_val_loss is not None:
            part = self.validation.final_part
            message = f"final validation loss {state.final_val_loss:.4f} over {part}"
            self.event("done", message, val_loss=state.final_val_loss)

    def _mean_loss(self, starts: np.ndarray) -> float | None:
        """Mean over windows, (n,) starts; None when stopped. Uncompiled: its shapes are not those of training."""
        self.phase, self.progress = "evaluating", 0.0
        loss = self.validation.mean(self.model, starts, self._look_in)
        self.phase = "training"
        return loss

    def _look_in(self, progress: float, seconds: float) -> bool:
        """Between evaluation batches: whether to stop."""
        self.progress = progress
        self.state.elapsed += seconds
        self.boundary(self)
        return self.stopping

    def _record_length(self) -> None:
        if self.log and self.state.total_steps is not None:
            try:
                update_config(self.log.run, decided={"steps": self.state.total_steps, "log_every": self.log_every})
            except UserError as error:  # the checkpoint says it too
                self.event("warning", str(error))

    # --- commands ---

    def stop(self) -> None:
        """End at the next boundary; the state is saved and the run can be resumed."""
        self.stopping = True

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the schedule from the next step on; a factor that is no positive number is refused."""
        if not 0 < self.state.lr_scale * factor < math.inf:
            self.event("warning", f"learning rate × {factor}: the rate would not be a positive number, ignored")
            return
        self.state.lr_scale *= factor
        self.event("lr", f"learning rate × {factor:g}: the schedule now runs at × {self.state.lr_scale:g}")

    def set_eval_every(self, steps: int) -> None:
        """Evaluate at multiples of `steps` from now on."""
        if steps < 1:
            self.event("warning", f"evaluating every {steps:,} steps: not possible, ignored")
            return
        self.state.eval_every = steps
        self.event("cadence", f"evaluating every {steps:,} steps")

    def set_sample_every(self, steps: int) -> None:
        """Whoever lets the model write by itself does so every `steps` steps; 0 is after each evaluation."""
        self.state.sample_every = max(0, steps)
        often = f"every {steps:,} steps" if steps > 0 else "after each evaluation"
        self.event("cadence", f"writing by itself {often}")

    def event(self, kind: EventKind, message: str, **data: Any) -> None:
        if self.log:
            self.log.event(Event(kind=kind, step=self.state.step, time=time.time(), message=message, data=data))

    # --- what a resume needs ---

    def save(self) -> None:
        """Write the checkpoint, after the metrics rows it covers; it is durable when this returns.

        Raises:
            TrainingError: the state has diverged; the last good checkpoint stays.
            UserError: the disk refuses.
        """
        if self.saver:
            self.saver.save()

    @property
    def trouble(self) -> str | None:
        """What the disk refuses at present, in one line; it is tried again."""
        return (self.saver and self.saver.failure) or (self.log and self.log.failure) or None

    def state_dict(self) -> dict[str, Any]:
        """Everything a resume needs, as tensors (the live ones, not copies) and plain values."""
        self.world.collect(self.meter.sums[0])
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.update.optimizers],
            "random": self.random.state_dict(),
            "meter": self.meter.state_dict(),
            "state": msgspec.to_builtins(self.state),
            "model_config": self.model.config.to_dict(),
            "train_config": self.config.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
        }

    def resume(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint: as `load_state_dict`, and the run's files forget what came after it."""
        if self.log:
            self.log.truncate(saved["state"]["step"])
            recording.truncate(self.log.run, saved["state"]["step"])
        self.load_state_dict(saved)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        If this trainer's configuration asks for another length, the schedule is stretched to its new end.

        Raises:
            UserError: the state does not fit this model or optimizer.
        """
        try:
            check_optimizers(self.update.optimizers, saved["optimizers"])
            with self.gate.changing():
                self.model.load_state_dict(saved["model"])
                for optimizer, state in zip(self.update.optimizers, saved["optimizers"], strict=True):
                    optimizer.load_state_dict(state)
                self.random.load_state_dict(saved["random"])
                self.meter.load_state_dict(saved["meter"])
                self.update.guard.reset()
                self.state = msgspec.convert(saved["state"], TrainState)
                before = TrainConfig.from_dict(saved["train_config"])
        except (KeyError, TypeError, ValueError, RuntimeError, UserError) as error:
            raise UserError(f"the checkpoint does not fit this model: {str(error).splitlines()[0]}") from None
        self.world.load(saved)
        self.best = None
        if self.saver:
            self.saver.resumed(self.state.step)
        now = self.config
        if now.eval_every != before.eval_every:
            self.state.eval_every = None
        if stretch(self.state, before, now, self.batches):
            self._record_length()
