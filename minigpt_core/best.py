"""The best weights so far, and when to stop because a model only learns its text by heart (early stopping)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minigpt_core.train_state import TrainState

RISE = 0.02
"""Share by which validation must lie above its best: a plateau, which some models leave late, is no overfitting."""


def overfits(state: TrainState, loss: float, patience: int, eval_every: int) -> bool:
    """Whether validation has been above its best for `patience` evaluations, and clearly is now; 0 is never."""
    best, step = state.best_val_loss, state.best_step
    if not patience or best is None or step is None:
        return False
    return state.step - step >= patience * eval_every and loss > best * (1 + RISE)


class BestWeights:
    """A copy on the host, made at each new best: a few times in a run, so its cost is that of an evaluation's end."""

    def __init__(self) -> None:
        self._weights: dict[str, Tensor] = {}

    def keep(self, weights: dict[str, Tensor]) -> None:
        self._weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}

    @torch.no_grad()
    def restore(self, model: nn.Module) -> bool:
        """Put them back; False if none were kept."""
        if self._weights:
            model.load_state_dict(self._weights)
        return bool(self._weights)
