"""The training loop: one step after another, with boundaries at which somebody may look in or give a command.

A `Trainer` is synchronous and owns no thread, so it serves a notebook, a test and the engine's worker thread alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt_core import checkpoint
from minigpt_core.batches import Batches, eval_starts
from minigpt_core.best import BestWeights, overfits
from minigpt_core.config import DEFAULT_STEPS, TrainConfig
from minigpt_core.data import TokenWindows, split_text
from minigpt_core.devices import Devices, RandomState, WeightGate, compiled, decide, enter_thread, survey
from minigpt_core.errors import TrainingError, UserError
from minigpt_core.model import GPT
from minigpt_core.optim import clip_gradients, learning_rate, make_optimizers
from minigpt_core.runlog import RunLog
from minigpt_core.status import Event, EventKind, MetricsRow
from minigpt_core.stored import update_config
from minigpt_core.tokenizer import Tokenizer
from minigpt_core.train_state import Meter, TrainState

WARM_STEPS, MEASURED_STEPS = 10, 50
"""`--minutes` lets the first steps pass, watches the pace up to the second, then fixes how many steps there will be."""
MAX_ROWS = 100_000
EVAL_CHUNK_TOKENS = 4_096
"""Tokens of one evaluation batch: small enough for commands to be obeyed soon."""

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

    Attributes:
        gate: covers every change of weights; whoever copies them takes it too.

    Raises:
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
    ) -> None:
        self.tokenizer, self.config, self.log = tokenizer, config, run
        self.boundary = boundary or (lambda _: None)
        self.devices = devices or decide(survey(), config, model.config.seq_len)
        device, seq_len = self.devices.device, model.config.seq_len
        enter_thread(device, self.devices.threads, deterministic=config.deterministic)
        self.gate = WeightGate(device)
        self.random = RandomState(device)

        train, val = split_text(tokenizer, data, seq_len) if isinstance(data, str) else data
        self.batches = Batches(len(train), seq_len, config.batch_size, config.seed)
        self.train_windows = TokenWindows(train, seq_len, device)
        self.val_windows = TokenWindows(val, seq_len, device)
        self.eval_starts = eval_starts(len(val), seq_len)
        self.all_eval_starts = eval_starts(len(val), seq_len, None)

        self.model: GPT = model.to(device).train().requires_grad_(True).use_attention(self.devices.attention)
        self.forward: Callable[[Tensor], Tensor] = self.model
        self.optimizers = make_optimizers(self.model, config)
        self.meter = Meter(device)
        self.best = BestWeights()
        self.state = TrainState(total_steps=self._planned_steps())
        self.phase: Literal["training", "evaluating"] = "training"
        self.progress = 0.0
        """Of the evaluation under way, 0 to 1."""
        self.stopping = False
        """Set by `stop`: leave at the next boundary."""
        self.saved_step: int | None = None
        self.saved_at: float | None = None
        if self.devices.compile:
            self._compile()
        torch.manual_seed(config.seed)  # dropout; the model was initialised by whoever built it

    # --- the loop ---

    def __iter__(self) -> Iterator[MetricsRow]:
        """Train to the end or until stopped.

        Raises:
            TrainingError: the loss is no longer a finite number.
            UserError: the run directory cannot be written.
        """
        self.stopping = False
        if self.state.step == 0:
            self._record_length()
            self.save()  # from here on, whatever is killed can be resumed
        while True:
            if self._row_due:
                row = self._finish_row()
                if row is not None:
                    yield row
            if self.stopping or self.finished:
                break
            self.boundary(self)
            if self.stopping:
                break
            self.step()
        if self.finished and not self.stopping and self.state.final_val_loss is None:
            self._restore_best()
            self._evaluate_all()
        self.save()

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
        """One optimizer step, and the checkpoint that may fall due after it."""
        started = time.perf_counter()
        state, config = self.state, self.config
        state.lr = learning_rate(state.step, state.total_steps, config) * state.lr_scale
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = state.lr

        inputs, targets = self.train_windows(self.batches.starts(state.step))  # (B, T) each
        loss = self._loss(self.forward, inputs, targets)  # ()
        loss.backward()
        norm = clip_gradients(self.model, config.grad_clip)  # ()
        with self.gate.changing():
            for optimizer in self.optimizers:
                optimizer.step()
            state.step += 1
        self.model.zero_grad(set_to_none=True)
        self.meter.add(loss.detach(), norm, config.grad_clip)

        self._account(started)
        self._watch_the_clock()
        if state.step % config.save_every == 0 and not self._row_due and not self.finished:
            self.save()

    def _loss(self, forward: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over all positions, in nats a token."""
        with self.devices.autocast:
            logits = forward(inputs)  # (B, T) -> (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())  # (B·T, V), (B·T,) -> ()

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
        loss, norm, clipped = self.meter.means()  # the one place where training waits for the device
        self._account(started)
        self._check_finite(loss)
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
            if val_loss is not None and state.best_step == state.step:
                self._write(self.log.run.best)
        if state.step % self.config.save_every == 0 and not self.finished:
            self.save()
        return row

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.state.step:,}: training diverged; "
                f"try a smaller --learning-rate than {self.config.learning_rate:g}"
            )

    # --- evaluation ---

    def evaluate(self) -> float | None:
        """Loss on the same tokens of the validation split every time; None when stopped half way."""
        loss = self._mean_loss(self.eval_starts)
        if loss is None:
            return None
        state = self.state
        with self.gate.changing():  # a snapshot's stamp holds a loss together with that loss's own step
            state.val_loss, state.val_step = loss, state.step
        if math.isfinite(loss) and (state.best_val_loss is None or loss < state.best_val_loss):
            state.best_val_loss, state.best_step = loss, state.step
            if self.config.patience:  # nobody else asks for them
                self.best.keep(self.model.state_dict())
        elif overfits(state, loss, self.config.patience, self.eval_every) and not self.finished:
            state.total_steps = state.step
            self._record_length()
            self.event("info", f"stopped: validation is above its best of step {state.best_step:,} since: overfitting")
        return loss

    def _restore_best(self) -> None:
        """At the run's own end: the weights that generalised best, if the last ones do not."""
        state = self.state
        if self.config.patience and state.best_step != state.val_step:
            with self.gate.changing():
                restored = self.best.restore(self.model)
            if restored:
                state.val_loss, state.val_step = state.best_val_loss, state.best_step
                self.event("info", f"restored the weights of step {state.best_step:,}, the best on validation")

    def _evaluate_all(self) -> None:
        """At the run's own end: the loss over the whole validation split."""
        state = self.state
        same = len(self.all_eval_starts) == len(self.eval_starts) and state.val_step == state.step
        state.final_val_loss = state.val_loss if same else self._mean_loss(self.all_eval_starts)
        if state.final_val_loss is not None:
            self.event("done", f"final validation loss {state.final_val_loss:.4f} over the whole split")

    def _mean_loss(self, starts: np.ndarray) -> float | None:
        """Mean over windows, (n,) starts; None when stopped. Uncompiled: its shapes are not those of training."""
        self.phase, self.progress = "evaluating", 0.0
        self.model.eval()
        total, done = 0.0, 0
        started = time.perf_counter()
        for windows, loss in self.val_losses(self.model, starts):
            self.state.elapsed += time.perf_counter() - started
            total += loss * windows
            done += windows
            self.progress = done / len(starts)
            self.boundary(self)
            if self.stopping:
                break
            started = time.perf_counter()
        self.model.train()
        self.phase = "training"
        return None if self.progress < 1 else total / len(starts)

    @torch.no_grad()
    def val_losses(self, model: GPT, starts: np.ndarray) -> Iterator[tuple[int, float]]:
        """(windows, their mean loss) of a model in evaluation mode, batch by batch over validation windows, (n,)."""
        chunk = max(1, EVAL_CHUNK_TOKENS // model.config.seq_len)
        for first in range(0, len(starts), chunk):
            part = starts[first : first + chunk]
            yield len(part), self._loss(model, *self.val_windows(part)).item()

    # --- how long ---

    def _planned_steps(self) -> int | None:
        if self.config.minutes:
            return None
        if self.config.epochs:
            return self.batches.steps(self.config.epochs)
        return self.config.steps or DEFAULT_STEPS

    def _watch_the_clock(self) -> None:
        """`--minutes`: from the pace so far, decide once how many steps there will be."""
        state = self.state
        if state.total_steps is not None or not self.config.minutes:
            return
        made = state.step - state.clock_step
        if made == WARM_STEPS:
            state.clock_warm = state.elapsed
        if made == MEASURED_STEPS:
            per_step = (state.elapsed - state.clock_warm) / (MEASURED_STEPS - WARM_STEPS)
            left = self.config.minutes * 60 - (state.elapsed - state.clock_elapsed)
            state.total_steps = state.step + max(0, round(left / per_step))
            self.event("info", f"{self.config.minutes:g} minutes are {state.total_steps:,} steps")
            self._record_length()

    def _record_length(self) -> None:
        if self.log and self.state.total_steps is not None:
            update_config(self.log.run, decided={"steps": self.state.total_steps, "log_every": self.log_every})

    def _compile(self) -> None:
        """`--compile`: try it on one batch, so that a failure is known, and said, before the first step."""
        inputs, _ = self.train_windows(self.batches.starts(0))  # (B, T)
        with self.devices.autocast:
            self.forward, failure = compiled(self.model, inputs)
        if failure:
            self.event("warning", f"not compiled: {failure}")

    # --- commands ---

    def stop(self) -> None:
        """End at the next boundary; the state is saved and the run can be resumed."""
        self.stopping = True

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the schedule from the next step on; a factor that is no positive number is refused."""
        if not 0 < factor < math.inf:
            self.event("warning", f"learning rate × {factor}: not a positive number, ignored")
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
        """Write the checkpoint, after the metrics rows it covers.

        Raises:
            TrainingError: the weights have diverged; the last good checkpoint stays.
            UserError: the disk refuses.
        """
        if self.log:
            self._write(self.log.run.checkpoint)
            self.saved_step, self.saved_at = self.state.step, time.time()
            self.event("save", f"saved {self.log.run.checkpoint.name}")

    def _write(self, path: Path) -> None:
        self._check_finite(self.meter.means()[0])
        if self.log:
            self.log.flush(durable=True)
        checkpoint.save(path, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Everything a resume needs, as tensors (the live ones, not copies) and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": self.random.state_dict(),
            "meter": {"sums": self.meter.sums, "steps": self.meter.steps, "seconds": self.meter.seconds},
            "state": msgspec.to_builtins(self.state),
            "model_config": self.model.config.to_dict(),
            "train_config": self.config.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        If this trainer's configuration asks for another length, the schedule is stretched to its new end.

        Raises:
            UserError: the state does not fit this model or optimizer.
        """
        try:
            with self.gate.changing():
                self.model.load_state_dict(saved["model"])
                for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                    optimizer.load_state_dict(state)
                self.random.load_state_dict(saved["random"])
                self.meter.sums.copy_(saved["meter"]["sums"])
                self.meter.steps, self.meter.seconds = saved["meter"]["steps"], saved["meter"]["seconds"]
                self.state = msgspec.convert(saved["state"], TrainState)
                before = TrainConfig.from_dict(saved["train_config"])
        except (KeyError, TypeError, ValueError, RuntimeError, msgspec.ValidationError) as error:
            raise UserError(f"the checkpoint does not fit this model: {str(error).splitlines()[0]}") from None
        self.saved_step = self.state.step
        if self.log and self.config.patience and self.state.best_step is not None:
            with suppress(UserError):  # without it the last weights stay at the run's end
                self.best.keep(checkpoint.load(self.log.run.best)["model"])
        now = self.config
        if now.eval_every != before.eval_every:
            self.state.eval_every = None
        if (now.steps, now.epochs, now.minutes) != (before.steps, before.epochs, before.minutes):
            state = self.state
            state.total_steps, state.final_val_loss = self._planned_steps(), None
            state.clock_step, state.clock_elapsed = state.step, state.elapsed
            self._record_length()
