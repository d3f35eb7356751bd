"""When to stop because a model only learns its text by heart (early stopping)."""

from __future__ import annotations

from minigpt_core.train_state import TrainState

RISE = 0.02
"""Share by which validation must lie above its best: a plateau, which some models leave late, is no overfitting."""


def overfits(state: TrainState, loss: float, patience: int, eval_every: int) -> bool:
    """Whether validation has been above its best for `patience` evaluations, and clearly is now; 0 is never."""
    best, step = state.best_val_loss, state.best_step
    if not patience or best is None or step is None:
        return False
    return state.step - step >= patience * eval_every and loss > best * (1 + RISE)


def verdict(state: TrainState, dropout: float) -> str:
    """Why a run was ended that overfits and, where that has not been tried, what lets the next one go further."""
    more = "; a new run with --dropout 0.1 may get further" if not dropout else ""
    return f"stopped: validation is above its best of step {state.best_step:,} since: overfitting{more}"
