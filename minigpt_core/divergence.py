"""Training that diverges: a loss or a gradient that is no finite number never reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from minigpt_core.config import TrainConfig
from minigpt_core.errors import TrainingError
from minigpt_core.train_state import TrainState

MOST_ROLLBACKS = 3
"""A run that diverges more often than that has another fault than its learning rate."""


class DivergenceError(TrainingError):
    """A step whose loss or gradient is not finite; its update was not made."""


class Guard:
    """Stands between a step's gradients and the optimizers.

    On a CPU the numbers are there, so they are looked at before the update. Elsewhere looking would make the CPU wait
    for the device: there `skip` is set, once and for all, and every optimizer leaves its weights and its state as they
    are where it is 1, by the protocol of torch's gradient scaler (`found_inf`); the meter counts what was skipped.

    Args:
        skip: None on a CPU, else () float zero on the device.
    """

    def __init__(self, skip: Tensor | None, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self.skip = skip
        if skip is not None:
            for optimizer in optimizers:
                optimizer.found_inf = skip  # type: ignore[attr-defined]

    def check(self, loss: Tensor, norm: Tensor, step: int) -> None:
        """Before the update of `step`: its loss and its gradient norm, () each.

        Raises:
            DivergenceError: on a CPU, if one is not finite.
        """
        if self.skip is not None:
            torch.maximum(self.skip, (~torch.isfinite(loss + norm)).to(self.skip.dtype), out=self.skip)
            return
        for name, value in (("loss", loss.item()), ("gradient norm", norm.item())):
            if not math.isfinite(value):
                raise DivergenceError(f"the {name} is {value} at step {step:,}: training diverged")

    def reset(self) -> None:
        """The weights are good again: a checkpoint's."""
        if self.skip is not None:
            self.skip.zero_()


def may_roll_back(state: TrainState, config: TrainConfig) -> bool:
    return config.on_divergence == "rollback" and state.rollbacks < MOST_ROLLBACKS


def advice(state: TrainState, config: TrainConfig, saved_step: int | None) -> str:
    """What is left of a run that diverged for good, and what may help the next one."""
    kept = "" if saved_step is None else f"the checkpoint of step {saved_step:,} is good; "
    rate = f"try a smaller --learning-rate than {config.learning_rate:g}"
    if state.rollbacks:
        return f"{kept}it did so after {state.rollbacks} rollbacks too: {rate}"
    return f"{kept}{rate}, or --on-divergence rollback"
