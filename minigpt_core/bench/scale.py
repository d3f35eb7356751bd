"""Section `scale`: achieved FLOP/s of a training step as models and contexts grow.

A token costs 6N + 12·L·H·D·T floating-point operations, forwards and backwards (Chowdhery et al. 2022, arXiv
2204.02311, appendix B), with T the context and N the parameters that are multiplied with: all but the position
embedding, and but the token embedding where the head has a matrix of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from minigpt_core.bench.result import Comparison, Result
from minigpt_core.bench.step import NEVER, seconds
from minigpt_core.bench.timing import alternate
from minigpt_core.bench.workbench import Workbench
from minigpt_core.config import PRESETS, ModelConfig, TrainConfig, lookup
from minigpt_core.flops import flop_per_token, multiplied_parameters
from minigpt_core.model import GPT
from minigpt_core.trainer import Trainer

SIZES: dict[str, dict[str, int]] = {
    "0.1 M": {"n_layers": 2, "num_heads": 2, "embed_dim": 64},
    "1 M": {"n_layers": 5, "num_heads": 4, "embed_dim": 128},
    "5 M": {"n_layers": 6, "num_heads": 4, "embed_dim": 256},
    "20 M": {"n_layers": 6, "num_heads": 8, "embed_dim": 512},
}
BASE = "1 M"
"""What the larger models are compared with."""


@dataclass(frozen=True)
class Settings:
    preset: str = "modern"
    sizes: tuple[str, ...] = tuple(SIZES)
    contexts: tuple[int, ...] = (64, 256, 512)
    tokens: int = 2048
    """Of a batch."""
    rounds: int = 3
    seconds: float = 2.0
    """Roughly what a measurement of one model takes."""
    seed: int = 1


QUICK = Settings(tokens=1024, contexts=(64, 512), rounds=2, seconds=0.2)


def measure(bench: Workbench, settings: Settings) -> Result:
    """The headline compares the largest model with `BASE` at the longest context; then every size at every context."""
    found: dict[tuple[str, int], list[float]] = {}
    counts: dict[str, int] = {}
    for context in settings.contexts:
        sides: dict[str, Callable[[int], float]] = {}
        for name in settings.sizes:
            bench.say(f"{name}, context {context}: warming up")
            sides[name], counts[name] = stepping(bench, settings, SIZES[name], context)
        taken = alternate(sides, settings.rounds, bench.say)
        found |= {(name, context): values for name, values in taken.items()}

    def against(name: str, base: str | None, context: int) -> Comparison:
        return Comparison(
            what=f"{name}, context {context}" + (f", against {base}" if base else ""),
            unit="GFLOP/s",
            better="more",
            ours=tuple(found[name, context]),
            peer=tuple(found[base, context]) if base else (),
        )

    base = BASE if BASE in settings.sizes else settings.sizes[0]
    largest, longest = settings.sizes[-1], settings.contexts[-1]
    rows = [
        against(name, base if name != base else None, context)
        for context in settings.contexts
        for name in settings.sizes
        if (name, context) != (largest, longest)
    ]
    return Result(
        section="scale",
        peer=f"ours at {base}",
        comparisons=(against(largest, base, longest), *rows),
        settings=asdict(settings) | {"multiplied_parameters": counts, "corpus": bench.corpus.name},
        notes=("a token costs 6N + 12·L·H·D·T FLOP; N leaves out embeddings that are only looked up",),
    )


def stepping(
    bench: Workbench, settings: Settings, size: dict[str, int], context: int
) -> tuple[Callable[[int], float], int]:
    """A measurement of one model in GFLOP/s, warmed up, and how many of its parameters are multiplied with."""
    config = ModelConfig(
        vocab_size=bench.tokenizer.vocab_size,
        seq_len=context,
        **lookup(PRESETS, settings.preset, "preset") | size,
    )
    torch.manual_seed(settings.seed)
    batch_size = max(1, settings.tokens // context)
    train = TrainConfig(steps=NEVER, batch_size=batch_size, seed=settings.seed, learning_rate=1e-3)
    trainer = Trainer(GPT(config), bench.tokenizer, bench.splits(context), train)
    device = trainer.devices.device
    flop = flop_per_token(trainer.model) * trainer.tokens_per_step
    seconds(trainer.step, 2, device)
    steps = max(1, round(settings.seconds / seconds(trainer.step, 1, device)))
    return lambda _: steps * flop / seconds(trainer.step, steps, device) / 1e9, multiplied_parameters(trainer.model)
