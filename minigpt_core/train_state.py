"""How far training is: its progress, and the sums since the last metrics row."""

from __future__ import annotations

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
    clock_step: int = 0
    clock_elapsed: float = 0.0
    clock_warm: float = 0.0
    """`--minutes`: the step and time it counts from, and the time after the first steps that followed."""


class Meter:
    """Sums of what a metrics row reports, kept on the device so that a step does not wait for the GPU."""

    def __init__(self, device: str) -> None:
        self.sums = torch.zeros(3, device=device)  # loss, gradient norm, clipped
        self.steps, self.seconds = 0, 0.0

    def add(self, loss: Tensor, norm: Tensor, clip: float) -> None:
        clipped = norm > clip if clip else torch.zeros_like(norm)
        self.sums += torch.stack([loss, norm, clipped.to(loss.dtype)])
        self.steps += 1

    def means(self) -> list[float]:
        """Loss, gradient norm and clipped share since the last reset; waits for the device."""
        return (self.sums / max(1, self.steps)).tolist()

    def reset(self) -> None:
        self.sums.zero_()
        self.steps, self.seconds = 0, 0.0
