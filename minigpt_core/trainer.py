"""The training loop: one step after another, with boundaries at which somebody may look in or give a command.

A `Trainer` is synchronous and owns no thread, so it serves a notebook, a test and the engine's worker thread alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch.nn import functional as F

from minigpt_core import checkpoint
from minigpt_core.batches import Batches, eval_starts
from minigpt_core.config import DEFAULT_STEPS, TrainConfig
from minigpt_core.data import TokenWindows, split_text
from minigpt_core.devices import Devices, WeightGate, compiled, decide, survey
from minigpt_core.errors import TrainingError
from minigpt_core.model import GPT
from minigpt_core.optim import learning_rate, make_optimizer
from minigpt_core.runlog import RunLog
from minigpt_core.status import Event, MetricsRow
from minigpt_core.tokenizer import Tokenizer

MEASURED_STEPS = 50
"""How many steps `--minutes` watches before it fixes how many there will be."""
MAX_ROWS = 100_000
EVAL_CHUNK_TOKENS = 4_096
"""Tokens of one evaluation batch: small enough for commands to be obeyed soon."""

Boundary = Callable[["Trainer"], None]


class TrainState(msgspec.Struct, kw_only=True):
    """All of a run's progress that is neither a weight nor a random state; saved with every checkpoint."""

    step: int = 0
    total_steps: int | None = None
    lr_scale: float = 1.0
    elapsed: float = 0.0
    """Seconds of training, pauses not counted."""
    val_loss: float | None = None
    val_step: int | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    final_val_loss: float | None = None


class Meter:
    """Sums of what a metrics row reports, kept on the device so that a step does not wait for the GPU."""

    def __init__(self, device: str) -> None:
        self.sums = torch.zeros(3, device=device)  # loss, gradient norm, clipped
        self.steps, self.seconds = 0, 0.0

    def add(self, loss: torch.Tensor, norm: torch.Tensor, clip: float) -> None:
        clipped = norm > clip if clip else torch.zeros_like(norm)
        self.sums += torch.stack([loss, norm, clipped.to(loss.dtype)])
        self.steps += 1

    def read(self) -> tuple[float, float, float]:
        """Means since the last reading; the one place where training waits for the device."""
        loss, norm, clipped = (self.sums / max(1, self.steps)).tolist()
        self.sums.zero_()
        return loss, norm, clipped


class Trainer:
    """Trains a model on a text; iterating over it yields a `MetricsRow` for each logged step.

    Args:
        model: trained in place.
        data: the text, or its encoded (train, val) splits.
        run: where to write; None writes nothing.
        devices: the decisions for this machine; made here when left out.
        boundary: called between steps and between evaluation batches; it may pause by not returning, and steer.

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
        self.devices = devices or decide(survey(), config, model.config.seq_len)
        self.boundary = boundary or (lambda _: None)
        self.gate = WeightGate(self.devices.device)
        """Covers every change of weights; whoever copies them takes it too."""
        self.phase: Literal["training", "evaluating"] = "training"
        self.stopping = False
        """Set by `stop`: leave at the next boundary."""

        self.model: GPT = model.to(self.devices.device).use_attention(self.devices.attention)
        self.forward, self.compile_failure = compiled(model) if self.devices.compile else (self.model, None)
        self.optimizer = make_optimizer(self.model, config)
        train, val = split_text(tokenizer, data, model.config.seq_len) if isinstance(data, str) else data
        seq_len = model.config.seq_len
        self.batches = Batches(len(train), seq_len, config.batch_size, config.seed)
        self.train_windows = TokenWindows(train, seq_len, self.devices.device)
        self.val_windows = TokenWindows(val, seq_len, self.devices.device)
        self.eval_starts = eval_starts(len(val), seq_len)
        self.all_eval_starts = eval_starts(len(val), seq_len, None)

        self.state = TrainState(total_steps=self._planned_steps())
        self.meter = Meter(self.devices.device)
        self.saved_step: int | None = None
        self.saved_at: float | None = None
        self.progress = 0.0
        """Of the evaluation under way, 0 to 1."""
        if config.deterministic:
            torch.use_deterministic_algorithms(True)
        torch.manual_seed(config.seed)  # dropout; the model was initialised by whoever built it

    # --- the loop ---

    def __iter__(self) -> Iterator[MetricsRow]:
        """Train to the end or until stopped.

        Raises:
            TrainingError: the loss is no longer a finite number.
        """
        while not self.finished:
            self.boundary(self)
            if self.stopping:
                break
            row = self.step()
            if row is not None:
                yield row
        if self.finished and self.state.final_val_loss is None:
            self._finish()
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
        return max(self.config.log_every or default, (self.state.total_steps or 0) // MAX_ROWS)

    def step(self) -> MetricsRow | None:
        """One optimizer step, and the evaluation and saving that fall due after it; a row if it is a logged step."""
        started = time.perf_counter()
        rate = learning_rate(self.state.step, self.state.total_steps, self.config) * self.state.lr_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        inputs, targets = self.train_windows(self.batches.starts(self.state.step))  # (B, T) each
        loss = self._loss(inputs, targets)
        loss.backward()
        clip = self.config.grad_clip
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip or math.inf)
        with self.gate.changing():
            self.optimizer.step()
            self.state.step += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.meter.add(loss.detach(), norm, clip)

        self._account(started)
        if self.state.total_steps is None and self.state.step >= MEASURED_STEPS:
            self._fix_steps()
        return self._after_step(rate)

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over all positions, in nats a token."""
        with self.devices.autocast:
            logits = self.forward(inputs)  # (B, T) -> (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())  # (B·T, V), (B·T,) -> ()

    def _after_step(self, rate: float) -> MetricsRow | None:
        step, last = self.state.step, self.finished
        evaluate = step % self.config.eval_every == 0 or last
        row = None
        if step % self.log_every == 0 or evaluate or step == 1:
            row = self._row(rate, self.evaluate() if evaluate else None)
            if self.log:
                self.log.metrics(row)
        if step % self.config.save_every == 0 and not last:
            self.save()
        return row

    def _row(self, rate: float, val_loss: float | None) -> MetricsRow:
        steps, seconds = self.meter.steps, self.meter.seconds
        loss, norm, clipped = self.meter.read()
        self.meter.steps, self.meter.seconds = 0, 0.0
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.state.step:,}: training diverged; "
                f"try a smaller --learning-rate than {self.config.learning_rate:g}"
            )
        return MetricsRow(
            step=self.state.step,
            epoch=self.batches.epoch(self.state.step),
            tokens=self.state.step * self.tokens_per_step,
            time=self.state.elapsed,
            lr=rate,
            train_loss=loss,
            grad_norm=norm,
            clipped=clipped,
            tok_s=steps * self.tokens_per_step / seconds if seconds else 0.0,
            val_loss=val_loss,
        )

    def _account(self, started: float) -> None:
        seconds = time.perf_counter() - started
        self.meter.seconds += seconds
        self.state.elapsed += seconds

    # --- evaluation ---

    def evaluate(self) -> float | None:
        """Loss on the same tokens of the validation split every time; None when stopped half way."""
        loss = self._mean_loss(self.eval_starts)
        if loss is None:
            return None
        self.state.val_loss, self.state.val_step = loss, self.state.step
        if self.state.best_val_loss is None or loss < self.state.best_val_loss:
            self.state.best_val_loss, self.state.best_step = loss, self.state.step
            if self.log:
                checkpoint.save(self.log.run.best, self.snapshot())
        return loss

    @torch.no_grad()
    def _mean_loss(self, starts: np.ndarray) -> float | None:
        self.phase, self.progress = "evaluating", 0.0
        self.model.eval()
        chunk = max(1, EVAL_CHUNK_TOKENS // self.model.config.seq_len)
        total = torch.zeros((), device=self.devices.device)
        for first in range(0, len(starts), chunk):
            started = time.perf_counter()
            part = starts[first : first + chunk]
            total += self._loss(*self.val_windows(part)) * len(part)
            self.state.elapsed += time.perf_counter() - started
            self.progress = (first + len(part)) / len(starts)
            self.boundary(self)
            if self.stopping:
                break
        self.model.train()
        self.phase = "training"
        return None if self.progress < 1 else total.item() / len(starts)

    def _finish(self) -> None:
        """The run's own end: the loss over the whole validation split."""
        self.state.final_val_loss = self._mean_loss(self.all_eval_starts)
        if self.state.final_val_loss is not None:
            self.event("done", f"final validation loss {self.state.final_val_loss:.4f} over the whole split")

    # --- how long ---

    def _planned_steps(self) -> int | None:
        if self.config.minutes:
            return None
        if self.config.epochs:
            return self.batches.steps(self.config.epochs)
        return self.config.steps or DEFAULT_STEPS

    def _fix_steps(self) -> None:
        """`--minutes`: from the pace so far, decide once how many steps there will be."""
        per_step = self.state.elapsed / self.state.step
        total = max(self.state.step, round((self.config.minutes or 0) * 60 / per_step))
        self.state.total_steps = total
        self.event("info", f"{self.config.minutes:g} minutes are {total:,} steps of {per_step * 1000:.1f} ms")

    # --- commands ---

    def stop(self) -> None:
        """End at the next boundary; the state is saved and the run can be resumed."""
        self.stopping = True

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the schedule from the next step on."""
        self.state.lr_scale *= factor
        self.event("lr", f"learning rate × {factor:g}: the schedule now runs at × {self.state.lr_scale:g}")

    def event(self, kind: Any, message: str, **data: Any) -> None:
        if self.log:
            self.log.event(Event(kind=kind, step=self.state.step, time=time.time(), message=message, data=data))

    # --- what a resume needs ---

    def save(self) -> None:
        """Write the checkpoint, after the metrics rows it covers."""
        if self.log:
            self.log.flush(durable=True)
            checkpoint.save(self.log.run.checkpoint, self.snapshot())
            self.saved_step, self.saved_at = self.state.step, time.time()
            self.event("save", f"saved {self.log.run.checkpoint.name}")

    def snapshot(self) -> dict[str, Any]:
        """Everything a resume needs, as tensors and plain values."""
        cuda = torch.device(self.devices.device).type == "cuda"
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": {
                "cpu": torch.get_rng_state(),
                "device": torch.cuda.get_rng_state(self.devices.device) if cuda else None,
            },
            "meter": {"sums": self.meter.sums.clone(), "steps": self.meter.steps, "seconds": self.meter.seconds},
            "state": msgspec.to_builtins(self.state),
            "model_config": self.model.config.to_dict(),
            "train_config": self.config.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where `snapshot` was taken. A longer or shorter run stretches the schedule to its new end."""
        with self.gate.changing():
            self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"]["cpu"])
        if saved["rng"]["device"] is not None and torch.device(self.devices.device).type == "cuda":
            torch.cuda.set_rng_state(saved["rng"]["device"], self.devices.device)
        self.meter.sums.copy_(saved["meter"]["sums"])
        self.meter.steps, self.meter.seconds = saved["meter"]["steps"], saved["meter"]["seconds"]
        planned = self.state.total_steps
        self.state = msgspec.convert(saved["state"], TrainState)
        if planned is not None and planned != self.state.total_steps:
            self.state.total_steps, self.state.final_val_loss = planned, None
