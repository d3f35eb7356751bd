"""How far training is: its progress, and the sums since the last metrics row."""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor


class TrainState(msgspec.Struct, kw_only=True):
    """All of a run's progress that is neither a weight nor a random state; saved with every checkpoint."""

    step: int = 0
    total_steps: int | None = None
    lr: float = 0.0
    """Rate of the last step."""
    lr_scale: float = 1.0
    eval_every: int | None = None
    """Steps between evaluations where that was changed while it trained; None is what the configuration says."""
    sample_every: int = 0
    """Steps between the texts that the model writes unasked; 0 is after each evaluation."""
    elapsed: float = 0.0
    """Seconds of training, pauses not counted."""
    val_loss: float | None = None
    val_step: int | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    final_val_loss: float | None = None
    rollbacks: int = 0
    """How often training diverged and went back to a checkpoint."""
    clock_step: int = 0
    clock_elapsed: float = 0.0
    clock_warm: float = 0.0
    """`--minutes`: the step and time it counts from, and the time after the first steps that followed."""


class Meter:
    """Sums of what a metrics row reports, kept on the device so that a step does not wait for the GPU."""

    def __init__(self, device: str) -> None:
        self.sums = torch.zeros(3, device=device)  # loss, gradient norm, clipped
        self.good = torch.zeros((), device=device)
        """Of the steps, those whose update was made."""
        self.steps, self.seconds = 0, 0.0

    def add(self, loss: Tensor, norm: Tensor, clip: float, skip: Tensor | None = None) -> None:
        """One more step; `skip` is 1 where its update was not made, and then its numbers do not count either."""
        clipped = norm > clip if clip else torch.zeros_like(norm)
        numbers = torch.stack([loss, norm, clipped.to(loss.dtype)])  # (3,)
        self.sums += numbers if skip is None else torch.where(skip > 0, 0.0, numbers)
        self.good += 1 if skip is None else 1 - skip
        self.steps += 1

    def means(self) -> tuple[list[float], int]:
        """Loss, gradient norm and clipped share since the last reset, and the good steps; waits for the device."""
        *means, good = torch.cat([self.sums / max(1, self.steps), self.good[None]]).tolist()
        return means, round(good)

    def reset(self) -> None:
        self.sums.zero_()
        self.good.zero_()
        self.steps, self.seconds = 0, 0.0

    def state_dict(self) -> dict[str, Tensor | float]:
        return {"sums": self.sums, "good": self.good, "steps": self.steps, "seconds": self.seconds}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.sums.copy_(saved["sums"])
        self.steps, self.seconds = saved["steps"], saved["seconds"]
        self.good.fill_(self.steps)  # no other state is ever saved
