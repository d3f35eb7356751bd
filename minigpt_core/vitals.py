"""Is this run healthy? Each reading that leaves its healthy range, with what that usually means, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minigpt_core.frame import Health
from minigpt_core.status import Reading, Status

SETTLED_STEPS = 200
"""Before so many steps a run is warming up, and unusual numbers are usual."""
RECENT_STEPS = 100
"""A norm or a clipped share is judged by its mean over so many steps."""
HIGH_NORM, LOW_NORM = 10.0, 1e-3
CLIPPED_SHARE, CUT_NORM = 0.9, 4.0
"""Healthy small models have norms of 0.4 to 2 and are often clipped at 1. Nearly always *and* by much is another
matter: then the size of a step says nothing any more about the slope."""
HIGH_RATIO, LOW_RATIO = -1.1, -4.5
"""log10 of the step's size against the weights'. About −3 is healthy in large models (Karpathy, "makemore" part 3);
small ones learn well at −2, and at −1.7 with Muon."""
EARLY = 0.3
"""The low end is judged in this first share of a run: the end of the schedule is meant to be slow."""
GAP = 0.35
"""Nats that validation may lie above training; more is learning by heart."""
RISE = 0.03
"""Share by which the validation loss may lie above its best."""
DEAD_SHARE = 0.4
BUSY = 0.4
"""Share of the GPU, or of the cores, below which training waits for something."""
FULL = 0.95
HOT = 85.0
"""Degrees Celsius at which data-centre and consumer GPUs alike begin to slow down."""


class Recent(NamedTuple):
    """Means over the last steps; None while there are none."""

    grad_norm: float | None = None
    clipped: float | None = None


class Hint(NamedTuple):
    """What is not as it should be."""

    vital: str
    """The reading's name, as the stats show it."""
    text: str


def hints(status: Status, reading: Reading, health: Health | None, recent: Recent = Recent()) -> list[Hint]:  # noqa: B008
    """Everything out of its healthy range, what threatens the run first."""
    if status.finished or status.phase == "starting":
        return []
    return [
        *(Hint("grad norm", text) for text in _gradient(status, recent)),
        *(Hint("update ratio", text) for text in _update(status, health)),
        *(Hint("clipped", text) for text in _clipped(status, recent)),
        *(Hint("gap", text) for text in _overfitting(status)),
        *(Hint("dead units", text) for text in _dead(status, health)),
        *_machine(status, reading),
    ]


def gap(status: Status) -> float | None:
    """Validation loss less smoothed training loss, in nats."""
    if status.val_loss is None or status.smoothed_loss is None:
        return None
    return status.val_loss - status.smoothed_loss


def _gradient(status: Status, recent: Recent) -> Iterator[str]:
    norm = recent.grad_norm if recent.grad_norm is not None else status.grad_norm
    if norm is None or status.step < SETTLED_STEPS:
        return
    if norm > HIGH_NORM:
        yield f"gradient norm {norm:.3g}: far above 1, the learning rate is likely too high"
    elif norm < LOW_NORM:
        yield f"gradient norm {norm:.1g}: next to nothing comes back to the weights"


def _update(status: Status, health: Health | None) -> Iterator[str]:
    ratio = None if health is None else health.update_ratio
    if ratio is None or not math.isfinite(ratio) or status.step < SETTLED_STEPS:
        return
    size = f"update ratio 1e{ratio:.1f}".replace(".0", "")
    if ratio > HIGH_RATIO:
        yield f"{size}: learning rate likely too high"
    elif ratio < LOW_RATIO and status.progress is not None and status.progress < EARLY:
        yield f"{size}: learning rate likely too low"


def _clipped(status: Status, recent: Recent) -> Iterator[str]:
    if recent.clipped is None or recent.grad_norm is None or status.step < SETTLED_STEPS:
        return
    if recent.clipped > CLIPPED_SHARE and recent.grad_norm > CUT_NORM:
        yield f"clipped {recent.clipped:.0%}: nearly every gradient is cut; a smaller learning rate may do better"


def _overfitting(status: Status) -> Iterator[str]:
    val, best = status.val_loss, status.best_val_loss
    if val is not None and best is not None and status.best_step is not None and val > best * (1 + RISE):
        yield f"validation rises since step {status.best_step:,}: overfitting; best.pt has that step"
        return
    above = gap(status)
    if above is not None and above > GAP and status.step >= SETTLED_STEPS:
        yield f"validation is {above:.2f} above training: overfitting; more text, dropout or a smaller model"


def _dead(status: Status, health: Health | None) -> Iterator[str]:
    if health is None or not np.isfinite(health.dead_units).any() or status.step < SETTLED_STEPS:
        return
    worst = int(np.nanargmax(health.dead_units))
    if health.dead_units[worst] > DEAD_SHARE:
        yield f"{health.dead_units[worst]:.0%} of layer {worst}'s units never fire: the rate was too high at some time"


def _machine(status: Status, reading: Reading) -> Iterator[Hint]:
    training = status.phase == "training" and status.step >= SETTLED_STEPS
    if reading.gpu_celsius is not None and reading.gpu_celsius >= HOT:
        yield Hint("gpu temp", f"GPU at {reading.gpu_celsius:.0f} °C: it slows itself down; check its cooling")
    total = reading.gpu_memory_total
    if total and reading.gpu_memory_bytes is not None and reading.gpu_memory_bytes > FULL * total:
        yield Hint("gpu mem", "GPU memory is nearly full: a longer context or a larger batch will not fit")
    if reading.machine_memory is not None and reading.machine_memory > FULL:
        yield Hint("memory", f"memory {reading.machine_memory:.0%} in use: the machine may swap or stop the run")
    if training and reading.gpu_percent is not None and reading.gpu_percent < 100 * BUSY:
        yield Hint("gpu", f"GPU {reading.gpu_percent:.0f}% busy: it waits; a larger batch size costs little")
    cores = reading.cores
    if training and status.device == "cpu" and cores and 0 < reading.cpu_percent < 100 * BUSY * cores:
        share = reading.cpu_percent / (100 * cores)
        yield Hint("cpu", f"only {share:.0%} of {cores} cores: something else keeps them busy")
