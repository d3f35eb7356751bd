"""Section `time-to-loss`: seconds of training until the validation loss first falls to a target.

Both sides are evaluated every `eval_every` steps by the same function: fp32, consecutive windows of `EVAL_CONTEXT`
tokens that do not overlap, over the whole validation split. The time that takes counts for neither. The target is the
peer's final loss; on tiny Shakespeare not below 1.8857, what nanoGPT's own settings for this size reach there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt_core.batches import eval_starts
from minigpt_core.bench import peer
from minigpt_core.bench.result import Comparison, Result
from minigpt_core.bench.step import wait_for
from minigpt_core.bench.timing import alternate
from minigpt_core.bench.workbench import TINY_SHAKESPEARE, Workbench
from minigpt_core.config import PRESETS, RECIPES, ModelConfig, TrainConfig, lookup
from minigpt_core.data import TokenWindows
from minigpt_core.devices import decide, enter_thread, survey
from minigpt_core.model import GPT
from minigpt_core.trainer import Trainer

MAX_PARAMETERS = 820_000
"""Ours may not be larger, on a vocabulary such as tiny Shakespeare's of 65 characters."""
SMALL = {"n_layers": 2, "num_heads": 4, "embed_dim": 64, "seq_len": 64}
MUON = {**RECIPES["muon"], "optimizer": "muon", "learning_rate": 0.03, "batch_size": 12}
OURS: dict[str, dict[str, Any]] = {
    "modern": {"model": SMALL, "train": {**MUON, "steps": 320}},
    "classic": {"model": SMALL, "train": {**MUON, "steps": 650}},
}
"""Our recipe for each preset, tuned on tiny Shakespeare; so small a model is enough for that loss."""

EVAL_CONTEXT = 64
EVAL_BATCH = 64
"""Windows evaluated at a time."""
PUBLISHED_LOSS = 1.8857

Curve = tuple[tuple[int, float, float], ...]
"""(steps made, seconds of training, validation loss) at each evaluation."""


@dataclass(frozen=True)
class Settings:
    preset: str = "modern"
    """Ours."""
    pairs: int = 3
    """With the seeds 1, 2, ..."""
    eval_every: int = 50
    peer_steps: int = 2000
    n_layers: int = 4
    num_heads: int = 4
    embed_dim: int = 128
    batch_size: int = 12
    """Of the peer."""
    share: float = 1.0
    """Of our recipe's steps; below 1 where the peer trains for less, too."""


QUICK = Settings(pairs=1, eval_every=25, peer_steps=150, n_layers=2, embed_dim=64, share=0.15)


def measure(bench: Workbench, settings: Settings) -> Result:
    recipe = lookup(OURS, settings.preset, "preset")
    vocab_size = bench.tokenizer.vocab_size
    model = ModelConfig(vocab_size=vocab_size, **PRESETS[settings.preset] | recipe["model"])
    steps = max(1, round(recipe["train"]["steps"] * settings.share))
    train = TrainConfig(**recipe["train"] | {"steps": steps})
    shape = ModelConfig(
        vocab_size=vocab_size,
        seq_len=EVAL_CONTEXT,
        n_layers=settings.n_layers,
        num_heads=settings.num_heads,
        embed_dim=settings.embed_dim,
    )
    val = bench.splits(EVAL_CONTEXT)[1]
    devices = decide(survey(), train, model.seq_len)
    device, threads = devices.device, devices.threads
    windows = TokenWindows(val, EVAL_CONTEXT, device)
    starts = eval_starts(len(val), EVAL_CONTEXT, None)
    parameters: dict[str, int] = {}

    def evaluate(module: torch.nn.Module, logits: Callable[[Tensor], Tensor]) -> float:
        module.eval()
        loss = validation_loss(logits, windows, starts)
        module.train()
        return loss

    def ours(seed: int) -> Curve:
        torch.manual_seed(seed)
        trainer = Trainer(GPT(model), bench.tokenizer, bench.splits(model.seq_len), train.replace(seed=seed))
        parameters["ours"] = trainer.model.num_parameters()
        return curve(
            trainer.step,
            lambda: evaluate(trainer.model, trainer.model),
            steps,
            settings.eval_every,
            device,
            lambda line: bench.say(f"  ours: {line}"),
        )

    def theirs(seed: int) -> Curve:
        enter_thread(device, threads)
        trainer = peer.PlainTrainer(
            shape,
            bench.splits(EVAL_CONTEXT)[0],
            batch_size=settings.batch_size,
            steps=settings.peer_steps,
            seed=seed,
            device=device,
        )
        parameters["peer"] = sum(p.numel() for p in trainer.model.parameters())
        return curve(
            trainer.step,
            lambda: evaluate(trainer.model, trainer.logits),
            settings.peer_steps,
            settings.eval_every,
            device,
            lambda line: bench.say(f"  peer: {line}"),
        )

    found = alternate({"ours": ours, "peer": theirs}, settings.pairs, bench.say)
    published = bench.corpus.sha256 == TINY_SHAKESPEARE
    targets = [target(curve, published) for curve in found["peer"]]
    at = {side: [first_at(curve, goal) for curve, goal in zip(found[side], targets, strict=True)] for side in found}
    reached = sum(hit is not None for hit in at["ours"])

    def comparison(what: str, unit: str, field: int) -> Comparison:
        values = {side: tuple(None if hit is None else float(hit[field]) for hit in hits) for side, hits in at.items()}
        return Comparison(what=what, unit=unit, better="less", ours=values["ours"], peer=values["peer"])

    return Result(
        section="time-to-loss",
        peer=f"{peer.NAME}, AdamW fp32 1e-3 cosine, {settings.peer_steps:,} steps of batch {settings.batch_size}",
        comparisons=(
            comparison(f"seconds of training to the target, {settings.preset}", "s", 1),
            comparison("steps to the target", "steps", 0),
        ),
        settings=asdict(settings)
        | {"recipe": recipe, "parameters": parameters, "corpus": bench.corpus.name}
        | {"device": device, "precision": devices.precision, "threads": threads},
        notes=(
            f"parameters: ours {parameters['ours']:,}, peer {parameters['peer']:,}; each side has a size of its own",
            f"target {', '.join(f'{goal:.4f}' for goal in targets)}; ours reached it with {reached} of "
            f"{settings.pairs} seeds",
        ),
        details={"targets": targets, "curves": found},
    )


def curve(
    step: Callable[[], None],
    evaluate: Callable[[], float],
    steps: int,
    every: int,
    device: str,
    say: Callable[[str], None],
) -> Curve:
    """Train for so many steps; the clock stands still in evaluations, of which the last is at the end."""
    points, seconds, made = [], 0.0, 0
    while made < steps:
        block = min(every, steps - made)
        wait_for(device)
        started = time.perf_counter()
        for _ in range(block):
            step()
        wait_for(device)
        seconds += time.perf_counter() - started
        made += block
        points.append((made, seconds, evaluate()))
        if made % (4 * every) == 0 or made == steps:
            say(f"step {made:,}/{steps:,}  {seconds:.1f} s  val {points[-1][2]:.4f}")
    return tuple(points)


def target(peer_curve: Curve, published: bool) -> float:
    """The loss to reach: what the peer ends with, on tiny Shakespeare not below what is published."""
    final = peer_curve[-1][2]
    return max(PUBLISHED_LOSS, final) if published else final


def first_at(points: Curve, goal: float) -> tuple[int, float] | None:
    """Steps and seconds at the first evaluation at or below the goal; None if there is none (as of a NaN)."""
    return next(((steps, seconds) for steps, seconds, loss in points if loss <= goal), None)


@torch.no_grad()
def validation_loss(logits: Callable[[Tensor], Tensor], windows: TokenWindows, starts: np.ndarray) -> float:
    """Mean cross-entropy in nats a token over the windows that begin at `starts`, (n,); infinite rather than NaN."""
    total = 0.0
    for first in range(0, len(starts), EVAL_BATCH):
        inputs, targets = windows(starts[first : first + EVAL_BATCH])  # (B, T) each
        out = logits(inputs)  # (B, T, V)
        total += F.cross_entropy(out.flatten(0, 1).float(), targets.flatten()).item() * len(inputs)
    loss = total / len(starts)
    return loss if math.isfinite(loss) else math.inf
