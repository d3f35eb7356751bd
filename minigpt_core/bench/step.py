"""Section `step`: tokens a second of a training step, the same architecture and the same batches on both sides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from minigpt_core import hardware
from minigpt_core.bench import peer
from minigpt_core.bench.result import Comparison, Result
from minigpt_core.bench.timing import alternate
from minigpt_core.bench.workbench import Workbench
from minigpt_core.config import PRESETS, ModelConfig, TrainConfig
from minigpt_core.devices import enter_thread
from minigpt_core.model import GPT
from minigpt_core.trainer import Trainer

NEVER = 10**9
"""Steps of a schedule whose end does not matter."""


@dataclass(frozen=True)
class Settings:
    pairs: int = 3
    steps: int = 30
    """Of a block that is timed."""
    warm_up: int = 10
    """Steps of each side before the first block."""
    peer_best: bool = False
    """Also against what the peer can do at its best: bf16 where the CPU has it, and compiled."""
    n_layers: int = 4
    num_heads: int = 4
    embed_dim: int = 128
    seq_len: int = 64
    batch_size: int = 12
    seed: int = 1


QUICK = Settings(steps=10, warm_up=3)


def measure(bench: Workbench, settings: Settings) -> Result:
    """Ours through `Trainer.step`, with AdamW as the peer's, and with Muon."""
    config = ModelConfig(
        vocab_size=bench.tokenizer.vocab_size,
        n_layers=settings.n_layers,
        num_heads=settings.num_heads,
        embed_dim=settings.embed_dim,
        seq_len=settings.seq_len,
        **PRESETS["classic"],
    )
    ours = {name: our_trainer(bench, config, settings, name) for name in ("adamw", "muon")}
    device, threads = ours["adamw"].devices.device, ours["adamw"].devices.threads
    steps: dict[str, Callable[[], None]] = {f"ours, {name}": trainer.step for name, trainer in ours.items()}
    steps["peer"] = peer_trainer(bench, config, settings, device).step
    notes = []
    if settings.peer_best:
        native = hardware.cpu_has_bf16() if device == "cpu" else ours["adamw"].devices.precision == "bf16"
        for name, options in peer_variants(device, native).items():
            bench.say(f"peer, {name}: warming up")
            trainer = peer_trainer(bench, config, settings, device, **options)
            try:
                trainer.step()
            except Exception as error:  # no compiler, or one that does not know this machine
                notes.append(f"peer, {name}: {(str(error) or type(error).__name__).splitlines()[0]}")
                continue
            steps[f"peer, {name}"] = trainer.step

    tokens = settings.steps * settings.batch_size * settings.seq_len
    enter_thread(device, threads)  # both sides with the same threads
    for name, step in steps.items():
        bench.say(f"{name}: warming up")
        seconds(step, settings.warm_up, device)
    sides = {name: lambda _, step=step: tokens / seconds(step, settings.steps, device) for name, step in steps.items()}
    found = alternate(sides, settings.pairs, bench.say)

    def against(what: str, ours: str, theirs: str) -> Comparison:
        return Comparison(what=what, unit="tokens/s", better="more", ours=tuple(found[ours]), peer=tuple(found[theirs]))

    comparisons = [
        against("AdamW on both sides, peer fp32 eager", "ours, adamw", "peer"),
        against("ours with Muon, peer fp32 eager", "ours, muon", "peer"),
        *(against(f"AdamW on both sides, {name}", "ours, adamw", name) for name in found if name.startswith("peer, ")),
    ]
    devices = ours["adamw"].devices
    return Result(
        section="step",
        peer=f"{peer.NAME}, AdamW",
        comparisons=tuple(comparisons),
        settings=asdict(settings)
        | {"preset": "classic", "parameters": ours["adamw"].model.num_parameters(), "corpus": bench.corpus.name}
        | {"device": device, "precision": devices.precision, "attention": devices.attention, "threads": threads},
        notes=tuple(notes),
    )


def our_trainer(bench: Workbench, config: ModelConfig, settings: Settings, optimizer: str) -> Trainer:
    torch.manual_seed(settings.seed)
    train = TrainConfig(
        steps=NEVER,
        batch_size=settings.batch_size,
        seed=settings.seed,
        learning_rate=1e-3,
        optimizer=optimizer,  # type: ignore[arg-type]
    )
    return Trainer(GPT(config), bench.tokenizer, bench.splits(config.seq_len), train)


def peer_trainer(
    bench: Workbench, config: ModelConfig, settings: Settings, device: str, **options: Any
) -> peer.PlainTrainer:
    tokens = bench.splits(config.seq_len)[0]
    return peer.PlainTrainer(
        config, tokens, batch_size=settings.batch_size, steps=NEVER, seed=settings.seed, device=device, **options
    )


def peer_variants(device: str, native_bf16: bool) -> dict[str, dict[str, Any]]:
    """What may make the peer faster on this machine."""
    kind = torch.device(device).type
    bf16 = {"autocast": lambda: torch.autocast(kind, dtype=torch.bfloat16)}
    return {"compiled": {"compile": True}} | ({"bf16 autocast": bf16} if native_bf16 else {})


def seconds(step: Callable[[], None], steps: int, device: str) -> float:
    """How long so many steps take, to the end of their last kernel."""
    wait_for(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait_for(device)
    return time.perf_counter() - started


def wait_for(device: str) -> None:
    """Let a GPU finish what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()
