"""The optimizer and the learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from minigpt_core.config import TrainConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Every parameter in exactly one group: matrices decay, biases and LayerNorm gains do not.

    A decayed bias or gain is only pulled from where the data wants it; a decayed matrix generalises better.
    """
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), all parameters in one fused kernel."""
    groups = parameter_groups(model, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(step: int, total_steps: int | None, config: TrainConfig) -> float:
    """The rate for the step after `step` completed ones: linear warm-up, then a cosine down to `min_lr_fraction`.

    Args:
        total_steps: None while `--minutes` still measures, which lies within the warm-up or at the peak.
    """
    peak, floor = config.learning_rate, config.learning_rate * config.min_lr_fraction
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if total_steps is None or total_steps <= config.warmup_steps:
        return peak
    progress = min(1.0, (step - config.warmup_steps) / (total_steps - config.warmup_steps))
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale all gradients down to a global norm of `limit` (0: leave them); returns the norm before, a () tensor."""
    if limit:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    return torch.nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
