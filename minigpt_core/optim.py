"""The optimizers and the learning-rate schedule."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from minigpt_core.config import TrainConfig
from minigpt_core.model import GPT

DECAY = 0.7
"""The last share of a run in which the linear schedule comes down."""
NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5
"""Coefficients of each iteration; source: Jordan et al. 2024, "Muon"."""


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Every parameter in exactly one group: matrices decay, biases and LayerNorm gains do not.

    A decayed bias or gain is only pulled from where the data wants it; a decayed matrix generalises better.
    """
    parameters = list(parameters)
    decayed = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimizers(model: GPT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices of the blocks and AdamW for all else."""
    leave_compiler_alone()
    matrices = block_matrices(model) if config.optimizer == "muon" else {}
    rest = [p for p in model.parameters() if p not in matrices]
    found: list[torch.optim.Optimizer] = [adamw(rest, config)]
    if matrices:
        found.append(Muon(matrices, config.learning_rate, config.beta1, config.weight_decay))
    return found


class AdamW(torch.optim.AdamW):
    """Torch's AdamW (Loshchilov and Hutter, arXiv 1711.05101), which makes its steps without torch's compiler.

    Torch's own `step` loads `torch._dynamo`, which takes as long as loading torch, for those who compile it.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def adamw(parameters: Iterable[nn.Parameter], config: TrainConfig) -> AdamW:
    """All parameters in one fused kernel."""
    groups = parameter_groups(parameters, config.weight_decay)
    return AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


def leave_compiler_alone() -> None:
    """Keep torch's optimizers from loading its compiler when they are made, saved and loaded.

    On their first call these methods import `torch._dynamo` only to tell it never to compile them. Nobody compiles
    them here; each is marked as told already. A torch that does this otherwise is left as it is.
    """
    for method in vars(torch.optim.Optimizer).values():
        if (plain := getattr(method, "__wrapped__", None)) is not None:
            plain.__dict__.setdefault("__dynamo_disable", plain)


def block_matrices(model: GPT) -> dict[nn.Parameter, int]:
    """The weight matrices inside the blocks, and how many matrices of equal shape each of them really is."""
    found: dict[nn.Parameter, int] = {}
    for block in model.layers:
        attention, mlp = block.attention, block.mlp
        for linear, n in ((attention.qkv, 3), (attention.proj, 1), (mlp.up, 1), (mlp.proj, 1)):
            found[cast(nn.Parameter, linear.weight)] = n
    return found


class Muon(torch.optim.Optimizer):
    """Momentum, then every direction of a matrix made equally strong: its update is orthogonal.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". Unlike `torch.optim.Muon` it
    takes all matrices of a shape in one batched product, splits a stacked query-key-value matrix into its three, and
    needs no bf16: small models on a CPU spend most of the update there.

    Args:
        matrices: each parameter, (n·r, c), and the number n of matrices stacked in it.
        lr: of a matrix whose update has spectral norm 1; tall ones take √(r/c) times as much, which keeps the rate the
            same over all widths.
        momentum: Nesterov's.
    """

    def __init__(self, matrices: dict[nn.Parameter, int], lr: float, momentum: float, weight_decay: float) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([{"params": list(matrices)}], defaults)
        alike: dict[tuple[int, int], list[Stack]] = defaultdict(list)
        for parameter, n in matrices.items():
            rows, columns = parameter.size(0) // n, parameter.size(1)
            size = math.sqrt(max(1.0, rows / columns))
            alike[min(rows, columns), max(rows, columns)].append(Stack(parameter, n, rows > columns, size))
            self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        self._alike = list(alike.values())

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        skip: Tensor | None = getattr(self, "found_inf", None)  # torch's protocol: where it is 1, nothing changes
        for stacks in self._alike:
            weights: list[Tensor] = [stack.weight for stack in stacks]
            gradients = [stack.weight.grad for stack in stacks if stack.weight.grad is not None]
            buffers = [self.state[stack.weight]["momentum"] for stack in stacks]
            if skip is not None:  # in their place what changes nothing: momentum drawn towards itself
                gradients = [torch.where(skip > 0, b, g) for b, g in zip(buffers, gradients, strict=True)]
            torch._foreach_lerp_(buffers, gradients, 1 - momentum)
            ahead = torch._foreach_lerp(gradients, buffers, momentum)  # (n·r, c) each
            update = orthogonal(
                torch.cat([stack.spread(x) for stack, x in zip(stacks, ahead, strict=True)])
            )  # (N, ., .)
            updates = [s.gather(x) for s, x in zip(stacks, update.split([s.n for s in stacks]), strict=True)]
            if decay:
                torch._foreach_mul_(weights, 1 - lr * decay if skip is None else 1 - lr * decay * (1 - skip))
            torch._foreach_mul_(updates, [stack.size for stack in stacks])
            if skip is not None:
                torch._foreach_mul_(updates, 1 - skip)
            torch._foreach_add_(weights, updates, alpha=-lr)


class Stack(NamedTuple):
    """A parameter of n matrices over one another, and how much their updates are scaled."""

    weight: nn.Parameter
    n: int
    tall: bool
    size: float

    def spread(self, x: Tensor) -> Tensor:
        """Its matrices side by side, lying: (n·r, c) -> (n, r, c) or, tall ones, (n, c, r)."""
        x = x.view(self.n, -1, x.size(1))  # (n, r, c)
        return x.mT if self.tall else x

    def gather(self, x: Tensor) -> Tensor:
        """The inverse of `spread`."""
        return (x.mT if self.tall else x).reshape(self.weight.shape)


def orthogonal(x: Tensor) -> Tensor:
    """Roughly U Vᵀ of each matrix U S Vᵀ, by Newton-Schulz iterations: products only; (N, r, c) with r <= c.

    In bf16 on a GPU, where the products are several times faster and the result need not be exact.
    """
    y = x.bfloat16() if x.is_cuda else x
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)  # singular values in 0 to 1
    for a, b, c in NEWTON_SCHULZ:
        square = y @ y.mT  # (N, r, r)
        y = torch.baddbmm(y, torch.baddbmm(square, square, square, beta=b, alpha=c), y, beta=a)  # (N, r, c)
    return y.to(x.dtype)


def learning_rate(step: int, total_steps: int | None, config: TrainConfig) -> float:
    """The rate for the step after `step` completed ones: linear warm-up, then down to `min_lr_fraction`.

    A cosine comes down from the warm-up on; the linear schedule stays at the peak and comes down over the last `DECAY`.

    Args:
        total_steps: None while `--minutes` still measures, which lies within the warm-up or at the peak.
    """
    peak, floor = config.learning_rate, config.learning_rate * config.min_lr_fraction
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if total_steps is None or total_steps <= config.warmup_steps:
        return peak
    if config.schedule == "linear":
        left = max(0.0, (total_steps - step) / total_steps)
        return floor + (peak - floor) * min(1.0, left / DECAY)
    progress = min(1.0, (step - config.warmup_steps) / (total_steps - config.warmup_steps))
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale all gradients down to a global norm of `limit` (0: leave them); returns the norm before, a () tensor."""
    if limit:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    return torch.nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
