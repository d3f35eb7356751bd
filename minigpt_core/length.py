"""How long a run is: steps, epochs or minutes, turned into one number of steps, once."""

from __future__ import annotations

from minigpt_core.batches import Batches
from minigpt_core.config import DEFAULT_STEPS, TrainConfig
from minigpt_core.train_state import TrainState

WARM_STEPS, MEASURED_STEPS = 10, 50
"""`--minutes` lets the first steps pass, watches the pace up to the second, then fixes how many steps there will be."""
MEASURED_SHARE = 0.2
"""Of the minutes, after which that is decided with fewer steps: those of a large model may take many seconds each."""


def planned_steps(config: TrainConfig, batches: Batches) -> int | None:
    """None: `--minutes`, whose pace is not known yet."""
    if config.minutes:
        return None
    return batches.steps(config.epochs) if config.epochs else config.steps or DEFAULT_STEPS


def watch_the_clock(state: TrainState, minutes: float | None) -> bool:
    """`--minutes`: from the pace so far, decide once how many steps there will be; whether that was now."""
    if state.total_steps is not None or not minutes:
        return False
    made, spent = state.step - state.clock_step, state.elapsed - state.clock_elapsed
    if made == WARM_STEPS:
        state.clock_warm = state.elapsed
    if made < MEASURED_STEPS and spent < MEASURED_SHARE * minutes * 60:
        return False
    warm, since = (WARM_STEPS, state.clock_warm) if made > WARM_STEPS else (0, state.clock_elapsed)
    per_step = (state.elapsed - since) / (made - warm)
    left = minutes * 60 - spent
    state.total_steps = state.step + max(0, round(left / per_step))
    return True


def stretch(state: TrainState, before: TrainConfig, now: TrainConfig, batches: Batches) -> bool:
    """A resume that asks for another length spans the schedule anew, up to its new end; whether it does."""
    if (now.steps, now.epochs, now.minutes) == (before.steps, before.epochs, before.minutes):
        return False
    state.total_steps, state.final_val_loss = planned_steps(now, batches), None
    state.clock_step, state.clock_elapsed = state.step, state.elapsed
    return True
