"""The validation split, and a model's loss on it: always the same windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt_core.batches import FINAL_TOKENS, eval_starts
from minigpt_core.data import TokenWindows
from minigpt_core.devices import Devices
from minigpt_core.model import GPT

CHUNK_TOKENS = 4_096
"""Tokens of one evaluation batch: small enough for commands to be obeyed soon."""


class Validation:
    """Windows of the split, spread evenly over it.

    Args:
        tokens: (n,) the encoded split.

    Attributes:
        starts: (n,) where the windows of a periodic evaluation begin.
        final_starts: (n,) those of the evaluation at a run's end: the whole split if it is not too long.
    """

    def __init__(self, tokens: np.ndarray, seq_len: int, devices: Devices) -> None:
        self.devices = devices
        self.windows = TokenWindows(tokens, seq_len, devices.device)
        self.chunk = max(1, CHUNK_TOKENS // seq_len)
        self.starts = eval_starts(len(tokens), seq_len)
        self.final_starts = eval_starts(len(tokens), seq_len, FINAL_TOKENS)
        self.n_windows = (len(tokens) - 1) // seq_len

    @property
    def final_part(self) -> str:
        """What `final_starts` are of the split, in words."""
        made = len(self.final_starts)
        return "the whole split" if made == self.n_windows else f"{made:,} of {self.n_windows:,} windows, evenly spread"

    @torch.no_grad()
    def losses(self, model: GPT, starts: np.ndarray) -> Iterator[tuple[int, float]]:
        """(windows, their mean loss) of a model in evaluation mode, batch by batch over windows at `starts`, (n,)."""
        for first in range(0, len(starts), self.chunk):
            part = starts[first : first + self.chunk]
            yield len(part), mean_loss(model, *self.windows(part), self.devices).item()

    def mean(self, model: GPT, starts: np.ndarray, look_in: Callable[[float, float], bool]) -> float | None:
        """Mean loss over the windows at `starts`, (n,); None if stopped half way.

        Args:
            model: in training mode, before and after.
            look_in: called after each batch with the share done, 0 to 1, and the seconds of this batch; True stops.
        """
        total, done = 0.0, 0
        model.eval()
        started = time.perf_counter()
        for windows, loss in self.losses(model, starts):
            total += loss * windows
            done += windows
            if look_in(done / len(starts), time.perf_counter() - started) and done < len(starts):
                break
            started = time.perf_counter()
        model.train()
        return total / len(starts) if done == len(starts) else None


def mean_loss(forward: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, devices: Devices) -> Tensor:
    """Cross-entropy over all positions of (B, T) windows, in nats a token, ()."""
    with devices.autocast:
        logits = forward(inputs)  # (B, T) -> (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())  # (B·T, V), (B·T,) -> ()
