"""Section `sample`: tokens a second of our sampler and of the peer's `generate`, with the same weights.

Temperature 0.8, the whole distribution, a key/value cache on both sides. Ours runs as the app runs it, on a replica
with one thread; the peer with the thread count, of one and all, that is faster for it.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from minigpt_core import hardware
from minigpt_core.bench import peer
from minigpt_core.bench.result import Comparison, Result
from minigpt_core.bench.step import wait_for
from minigpt_core.bench.timing import alternate
from minigpt_core.bench.workbench import Workbench
from minigpt_core.config import PRESETS, ModelConfig, SampleConfig, TrainConfig
from minigpt_core.devices import decide, survey
from minigpt_core.engine import Engine
from minigpt_core.errors import UserError
from minigpt_core.model import GPT
from minigpt_core.observers import Sampler, make_replica
from minigpt_core.plan import Request, prepare
from minigpt_core.sampler import decode
from minigpt_core.status import Stamp, Stop
from minigpt_core.tokenizer import Tokenizer

TEMPERATURE = 0.8
SHAPES: dict[str, dict[str, int]] = {
    "0.8 M": {"n_layers": 4, "num_heads": 4, "embed_dim": 128, "seq_len": 64},
    "10.7 M": {"n_layers": 6, "num_heads": 6, "embed_dim": 384, "seq_len": 256},
}
"""What `train` takes on a CPU and on a GPU when it is told no sizes."""
MANY = 16
"""Samples at once."""
POLL_SECONDS = 0.0005
"""Between two looks for an answer's first piece."""


@dataclass(frozen=True)
class Settings:
    pairs: int = 5
    tokens: int = 512
    """At least so many are drawn in a measurement; one text fills the context."""
    shapes: tuple[str, ...] = tuple(SHAPES)
    prompts: int = 20
    """To an engine that trains; 0 leaves that out."""
    pause: float = 0.5
    """Seconds between two of them."""
    training: tuple[tuple[str, int], ...] = ()
    """Sizes of the model that trains meanwhile; the default model's if none."""
    seed: int = 1


QUICK = Settings(pairs=3, tokens=60, prompts=5, pause=0.2)


def measure(bench: Workbench, settings: Settings) -> Result:
    comparisons: list[Comparison] = []
    alone: list[Comparison] = []
    chosen: dict[str, Any] = {}
    for name in settings.shapes:
        config = ModelConfig(vocab_size=bench.tokenizer.vocab_size, **PRESETS["classic"] | SHAPES[name])
        compared, further = decoding(bench, settings, name, config, chosen)
        comparisons.append(compared)
        alone += further
    if settings.prompts:
        alone.append(first_tokens(bench, settings))
    return Result(
        section="sample",
        peer=f"{peer.NAME}.generate, the same weights",
        comparisons=(*comparisons, *alone),
        settings=asdict(settings) | {"temperature": TEMPERATURE, "preset": "classic", "samples_at_once": MANY} | chosen,
        notes=("past the context the peer fails; ours reads the last half of it again and goes on",),
    )


class Weights:
    """Weights that stand still, for a replica to copy."""

    def __init__(self, model: GPT, device: str, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer, self._device = model, tokenizer, device
        self.step, self.seq_len = 0, model.config.seq_len

    def device(self) -> str:
        return self._device

    def replica(self) -> GPT:
        return GPT.empty(self.model.config, self._device)

    def snapshot(self, into: GPT) -> Stamp:
        into.copy_weights(self.model)
        return Stamp(step=0)

    def validation(self, n: int, first: int = 0) -> Any:
        raise NotImplementedError("nobody looks at these weights")


def decoding(
    bench: Workbench, settings: Settings, name: str, config: ModelConfig, chosen: dict[str, Any]
) -> tuple[Comparison, list[Comparison]]:
    """At batch 1 within the context against the peer; past it, and many at once against one, ours only."""
    device = decide(survey(), TrainConfig(), config.seq_len).replica_device
    torch.manual_seed(settings.seed)
    model = GPT(config).to(device)
    twin = peer.build(config).to(device).eval()
    peer.copy_weights(model, twin)
    weights = Weights(model, device, bench.tokenizer)
    replica = make_replica(weights)
    weights.snapshot(replica)
    our_threads = torch.get_num_threads()

    prompt = torch.zeros(1, 1, dtype=torch.long, device=device)  # (1, 1)
    within = config.seq_len - 1
    texts = max(1, -(-settings.tokens // within))

    def ours(number: int, new_tokens: int, samples: int = 1, times: int = texts) -> float:
        torch.set_num_threads(our_threads)
        drawing = SampleConfig(temperature=TEMPERATURE, max_new_tokens=new_tokens, num_samples=samples)
        generator = torch.Generator(device).manual_seed(number)
        started = time.perf_counter()
        for _ in range(times):
            write(replica, prompt.repeat(samples, 1), drawing, generator)
        return times * new_tokens * samples / (time.perf_counter() - started)

    def theirs(threads: int, new_tokens: int, times: int) -> float:
        torch.set_num_threads(threads)
        wait_for(device)
        started = time.perf_counter()
        for _ in range(times):
            peer.generate(twin, prompt, new_tokens).tolist()
        return times * new_tokens / (time.perf_counter() - started)

    bench.say(f"{name}: warming up")
    ours(0, within, times=1)
    counts = sorted({1, hardware.cpu_count()})
    theirs(counts[0], within, 1)
    threads = max(counts, key=lambda count: theirs(count, within, 1))
    chosen[name] = {
        "parameters": model.num_parameters(),
        "device": device,
        "dtype": str(replica.token_embedding.weight.dtype).removeprefix("torch."),
        "threads": {"ours": our_threads, "peer": threads},
    }
    sides = {
        "ours": lambda number: ours(number, within),
        "peer": lambda _: theirs(threads, within, texts),
        "ours, past the context": lambda number: ours(number, max(settings.tokens, 2 * config.seq_len), times=1),
        f"ours, {MANY} at once": lambda number: ours(number, within, MANY, -(-texts // 4)),
    }
    found = alternate(sides, settings.pairs, lambda line: bench.say(f"{name}: {line}"))

    def speed(what: str, side: str, against: str | None) -> Comparison:
        return Comparison(
            what=f"{name}: {what}",
            unit="tokens/s",
            better="more",
            ours=tuple(found[side]),
            peer=tuple(found[against]) if against else (),
        )

    return speed(f"one text within {config.seq_len} tokens", "ours", "peer"), [
        speed("one text, past the context", "ours, past the context", None),
        speed(f"{MANY} texts at once, against ours one by one", f"ours, {MANY} at once", "ours"),
    ]


@torch.no_grad()
def write(model: GPT, prompt: Tensor, config: SampleConfig, generator: torch.Generator) -> list[list[int]]:
    """Whole texts, (B, max_new_tokens), brought to the CPU as the peer's are."""
    written: list[list[int]] = torch.stack(list(decode(model, prompt, config, generator)), 1).tolist()
    return written


def first_tokens(bench: Workbench, settings: Settings) -> Comparison:
    """Milliseconds from a prompt to the first piece of its answer, while an engine trains."""
    with tempfile.TemporaryDirectory(prefix="minigpt-tui-bench-") as folder:
        request = Request(
            data=bench.data, model=dict(settings.training), train={"steps": 10**6}, name="run", out=folder
        )
        engine = Engine(prepare(request), watched=True)  # as in the app
        sampler = Sampler(engine)
        try:
            bench.say("prompting a model that trains: waiting for its first steps")
            engine.start()
            while engine.step < 5:
                if engine.join(0.05):
                    raise UserError(f"training failed: {engine.status().message}")
            first_token(sampler, 0)  # makes the replica
            taken = []
            for number in range(1, settings.prompts + 1):
                time.sleep(settings.pause)
                taken.append(1000 * first_token(sampler, number))
            bench.say(f"{settings.prompts} prompts while it made {engine.step:,} steps")
        finally:
            engine.send(Stop())
            sampler.close()
            engine.prober.close()
            engine.join()
            sampler.join()
            engine.prober.join()
    return Comparison(what="first token while it trains", unit="ms", better="less", ours=tuple(taken))


def first_token(sampler: Sampler, number: int) -> float:
    """Seconds from the request to the first piece; the answer is then cancelled."""
    started = time.perf_counter()
    generation = sampler.generate(f"The {number}", SampleConfig(seed=number))
    while not generation.n_tokens:
        if generation.done:
            raise UserError(f"no answer: {generation.error or generation.finish_reason}")
        time.sleep(POLL_SECONDS)
    taken = time.perf_counter() - started
    generation.cancel()
    generation.wait(10)
    return taken
