"""One optimizer step: what every process of a run does alike, each with its share of the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from minigpt_core.batches import Batches
from minigpt_core.config import TrainConfig
from minigpt_core.data import TokenWindows
from minigpt_core.devices import Devices, compiled
from minigpt_core.distributed import World
from minigpt_core.divergence import DivergenceError, Guard
from minigpt_core.model import GPT
from minigpt_core.optim import clip_gradients, make_optimizers
from minigpt_core.validation import mean_loss


class Update:
    """Gradients, then the step itself.

    Args:
        model: moved to the device and trained in place.
        tokens: (n,) the training split.

    Attributes:
        forward: the model as training calls it: compiled, and across processes.
        not_compiled: why it is not compiled, in one line, although it was asked for.
    """

    def __init__(self, model: GPT, tokens: np.ndarray, config: TrainConfig, devices: Devices, world: World) -> None:
        device, seq_len = devices.device, model.config.seq_len
        self.config, self.devices, self.world = config, devices, world
        self.batches = Batches(len(tokens), seq_len, config.batch_size, config.seed)
        self.windows = TokenWindows(tokens, seq_len, device)
        self.model: GPT = model.to(device).train().requires_grad_(True).use_attention(devices.attention)
        self.optimizers = make_optimizers(self.model, config)
        self.guard = Guard(None if device == "cpu" else torch.zeros((), device=device), self.optimizers)
        self.forward: Callable[[Tensor], Tensor] = self.model
        self.not_compiled: str | None = None
        if devices.compile:  # tried on one piece of a batch: a failure is known, and said, before the first step
            piece = self.batches.starts(0)[: config.micro_batch]
            inputs, _ = self.windows(world.share(piece))  # (b, T)
            with devices.autocast:
                self.forward, self.not_compiled = compiled(self.model, inputs)
        self.forward = world.wrap(self.forward)

    def gradients(self, step: int, lr: float) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the step after `step` completed ones in the parameters, clipped, and set the rate.

        Returns:
            This process's share of the batch's mean loss, which is the sum of all shares, and the norm of the whole
            gradient before clipping, () each.

        Raises:
            DivergenceError: on a CPU, if one is not finite; then there is no gradient.
        """
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        try:
            loss = self.backward(self.batches.starts(step))  # ()
            norm = clip_gradients(self.model, self.config.grad_clip)  # ()
            self.guard.check(loss, norm, step + 1)
        except DivergenceError:
            self.model.zero_grad(set_to_none=True)
            raise
        return loss, norm

    def backward(self, starts: np.ndarray) -> Tensor:
        """Add the mean gradient over the windows at `starts`, (B,), to the parameters'; this process's share of their
        mean loss, ()."""
        n, total = self.config.accumulate, torch.zeros((), device=self.devices.device)
        for number, piece in enumerate(np.split(starts, n), 1):
            with self.world.summing(last=number == n):
                inputs, targets = self.windows(self.world.share(piece))  # (b, T) each
                loss = mean_loss(self.forward, inputs, targets, self.devices) / n  # ()
                loss.backward(self.world.loss_gradient(loss))
            total += loss.detach()
        return total / self.world.place.size

    def apply(self) -> None:
        """Make the step, and forget the gradient."""
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
