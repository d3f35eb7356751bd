"""A session that plays a plausible run from formulas: no torch, no threads, no clock unless asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from minigpt_core.config import SampleConfig
from minigpt_core.frame import LENS_TOP, Frame, HeadHistory, Health, Lens, RecordedSample
from minigpt_core.generation import Generation
from minigpt_core.ladder import RUNGS, Ladder, Rung
from minigpt_core.status import (
    Choice,
    Command,
    Envelope,
    Event,
    Note,
    Pause,
    Reading,
    Resume,
    Save,
    ScaleLearningRate,
    SetEvalEvery,
    SetSampleEvery,
    Stamp,
    Status,
    StepOnce,
)

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAl"
EXCERPTS = (
    "Speak, speak.\n\nFirst Citizen:\nYou are all resolved",
    "You know Caius Marcius is chief enemy to the people.",
)
SPEAKERS = ("ROMEO", "JULIET", "First Citizen", "MENENIUS")
OWN = "the model wrote this by itself"
ANSWER = "the people are resolved rather to die than to famish,\nand the world shall know it in the morning of the day."
EVAL_EVERY = 250
FRAME_EVERY = 100
SAMPLE_EVERY = 800
LAYERS, HEADS = 4, 4
LADDER = Ladder(
    rungs=tuple(map(Rung, RUNGS, (4.174, 3.347, 2.485, 2.050, 1.777, 1.757))),
    train_tokens=1_003_854,
    val_tokens=111_540,
)
TOKENS_A_STEP = 768


@dataclass(frozen=True)
class Terminal:
    """What the app asks of a terminal."""

    color: Literal["truecolor", "256", "16", "none"] = "256"
    ascii: bool = False
    theme: Literal["dark", "light"] = "dark"
    low_bandwidth: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)


class ScriptedLibrary:
    """No other runs."""

    def __init__(self) -> None:
        self.parent, self.ready, self.problem = Path("runs"), True, ""
        self.closed = False

    def summaries(self) -> tuple[object, ...]:
        return ()

    def refresh(self) -> None:
        pass

    def overlay(self, name: str) -> None:
        return None

    def close(self) -> None:
        self.closed = True


class ScriptedSession:
    """At `step` of `total`. `advance` plays on; with `live` it also plays on by the clock, `live` steps a second."""

    def __init__(
        self, step: int = 1234, total: int = 5000, trains: bool = True, live: float = 0, **status: object
    ) -> None:
        self.own: list[Generation] = []
        self.trains, self.owned, self.near = trains, True, True
        self.step, self.total, self.live = step, total, live
        self.overrides = status
        self.commands: list[Command] = []
        self.generations: list[Generation] = []
        self.started = self.closed = False
        self.joined = True
        self.paused = False
        self.lr_scale = 1.0
        self.eval_every, self.sample_every = EVAL_EVERY, 0
        self.beta = 0.98
        self.library = ScriptedLibrary()
        self.gpu = False
        self.tokens = TEXT
        self.pieces_a_poll = 0
        self._clock = time.monotonic()
        self._events: list[Event] = []
        self._noise = np.random.default_rng(0).normal(0, 1, total + 1)
        self.past: int | None = None
        self.reads = 0
        """How often `frame` must be asked for before a recorded one has been read."""
        self._unread = 0
        self._frames: dict[tuple[int, str], Frame] = {}

    # --- the run ---

    def loss(self, step: np.ndarray) -> np.ndarray:
        base = 1.55 + 2.6 * np.exp(-step / 350) + 0.35 * np.exp(-step / 2500)
        return base + 0.06 * self._noise[np.minimum(step.astype(int), self.total)]

    def val(self, step: int) -> float:
        return float(1.62 + 2.5 * np.exp(-step / 350) + 0.35 * np.exp(-step / 2500))

    def start(self) -> None:
        self.started = True
        self._log("info", "training 809,856 parameters on cpu (fp32), 5,000 steps")

    def _log(self, kind: str, message: str, step: int | None = None) -> None:
        at = self.step if step is None else step
        self._events.append(Event(kind=kind, step=at, time=1_700_000_000.0 + at / 20, message=message))  # type: ignore[arg-type]

    def advance(self, steps: int) -> None:
        before = self.step
        self.step = min(self.total, self.step + steps)
        for step in range(before + 1, self.step + 1):
            if step % EVAL_EVERY == 0:
                self._log("info", f"validation loss {self.val(step):.4f}", step)
            if step % 1000 == 0:
                self._log("save", "saved model_checkpoint.pt", step)

    def status(self) -> Status:
        if self.live and self.started and not self.paused:
            now = time.monotonic()
            steps = int((now - self._clock) * self.live)
            if steps:
                self._clock = now
                self.advance(steps)
        for generation in self.generations:
            self.stream(generation, self.pieces_a_poll)
        val_step = self.step // EVAL_EVERY * EVAL_EVERY or None
        done = self.step >= self.total
        fields: dict[str, object] = {
            "phase": "done" if done else "paused" if self.paused else "training",
            "name": "shakespeare-small",
            "run_dir": "runs/shakespeare-small",
            "device": "cpu",
            "precision": "fp32",
            "n_params": 809_856,
            "step": self.step,
            "total_steps": self.total,
            "epoch": self.step * TOKENS_A_STEP / 1_003_854,
            "tokens": self.step * TOKENS_A_STEP,
            "lr": 2.61e-3 * self.lr_scale,
            "lr_scale": self.lr_scale,
            "eval_every": self.eval_every,
            "sample_every": self.sample_every,
            "elapsed": self.step / 20,
            "tokens_per_byte": 0.99,
            "clipped": 0.12,
        }
        if self.step:
            recent = self.loss(np.arange(max(1, self.step - 100), self.step + 1, dtype=float))
            fields |= {
                "train_loss": float(recent[-1]),
                "smoothed_loss": float(recent.mean()),
                "grad_norm": 0.812,
                "tok_s": 15_400.0,
            }
        if val_step:
            fields |= {
                "val_loss": self.val(val_step),
                "val_step": val_step,
                "best_val_loss": self.val(val_step),
                "best_step": val_step,
            }
        if self.step >= 1000:
            fields |= {"saved_step": self.step // 1000 * 1000, "saved_at": time.time() - 130}
        if done:
            fields["final_val_loss"] = self.val(self.step)
        return Status(**(fields | self.overrides))  # type: ignore[arg-type]

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        lo, hi = max(1, lo or 1), min(self.step, self.step if hi is None else hi)
        every = EVAL_EVERY if metric == "val_loss" else 1
        steps = np.arange(-(-lo // every) * every, hi + 1, every, dtype=float)
        if not len(steps):
            return Envelope(*(np.empty(0) for _ in range(4)))
        values = self.values(metric, steps)
        starts = np.linspace(0, len(steps), min(buckets, len(steps)), endpoint=False).astype(int)
        counts = np.diff(starts, append=len(steps))
        return Envelope(
            np.add.reduceat(steps, starts) / counts,
            np.minimum.reduceat(values, starts),
            np.maximum.reduceat(values, starts),
            np.add.reduceat(values, starts) / counts,
        )

    def values(self, metric: str, steps: np.ndarray) -> np.ndarray:
        """A metric at some steps, (n,) float64 each."""
        if metric == "val_loss":
            return np.array([self.val(int(step)) for step in steps])
        noise = self._noise[np.minimum(steps.astype(int), self.total)]
        plain = {
            "lr": 3e-3 * np.minimum(1, steps / 100) * (0.55 + 0.45 * np.cos(np.pi * steps / self.total)),
            "grad_norm": 0.6 + 1.5 * np.exp(-steps / 200) + 0.1 * np.abs(noise),
            "clipped": (noise > 1.2).astype(float),
            "tok_s": 15_400 + 300 * noise,
            "time": steps / 20,
            "tokens": steps * TOKENS_A_STEP,
            "epoch": steps * TOKENS_A_STEP / 1_003_854,
        }
        if metric in plain:
            return plain[metric]
        values = self.loss(steps)
        if metric == "smoothed":
            values = np.cumsum(values)
            values[20:] -= values[:-20].copy()
            values /= np.minimum(np.arange(1, len(values) + 1), 20)
        return values

    def smooth(self, beta: float) -> None:
        self.beta = beta

    def events(self, after: int = 0) -> list[Event]:
        return self._events[after:]

    def send(self, command: Command) -> None:
        self.commands.append(command)
        match command:
            case Pause():
                self.paused = True
                self._log("pause", "paused")
            case Resume():
                self.paused, self._clock = False, time.monotonic()
                self._log("resume", "resumed")
            case StepOnce():
                self.advance(1)
            case Save():
                self._log("save", "saved model_checkpoint.pt")
            case ScaleLearningRate(factor=factor):
                self.lr_scale *= factor
                self._log("lr", f"learning rate ×{factor:g}")
            case SetEvalEvery(steps=steps):
                self.eval_every = steps
                self._log("cadence", f"evaluating every {steps:,} steps")
            case SetSampleEvery(steps=steps):
                self.sample_every = steps
                self._log("cadence", f"writing by itself every {steps:,} steps")
            case Note(text=text):
                self._log("note", text)

    # --- answers ---

    def generate(self, prompt: str, config: SampleConfig) -> Generation:
        generation = Generation(prompt, config)
        if prompt:
            self.generations.append(generation)
        else:  # what the app asks for by itself is answered at once
            self.own.append(generation)
            self.stream(generation, len(OWN), OWN)
            generation.finish("length")
        return generation

    def stream(self, generation: Generation, characters: int, answer: str = ANSWER) -> None:
        """Let a few characters of the answer arrive, as a sampler thread would."""
        if generation.done or not characters or self.status_phase == "starting":
            return
        if generation.cancelled:
            generation.finish("cancelled")
            return
        if generation.stamp is None:
            val_step = self.step // EVAL_EVERY * EVAL_EVERY or None
            seed = 7 if generation.config.seed is None else generation.config.seed
            generation.stamp = Stamp(
                step=self.step, val_loss=self.val(val_step) if val_step else None, val_step=val_step, seed=seed
            )
        sent = generation.n_tokens
        for number, character in enumerate(answer[sent : sent + characters], sent):
            generation.put(0, character, choice(character, number))
        if generation.n_tokens >= len(answer):
            generation.finish("length")

    @property
    def status_phase(self) -> str:
        return str(self.overrides.get("phase", "training"))

    # --- looking ---

    def watch(self, text: str | None) -> None:
        self.tokens = TEXT if text is None else text

    def excerpt(self, number: int) -> str | None:
        return EXCERPTS[number - 1] if 0 < number <= len(EXCERPTS) else None

    def speakers(self) -> tuple[str, ...]:
        return SPEAKERS

    def frame(self) -> Frame | None:
        """The newest frame, or the recorded one; until that is read, the one before it."""
        if self.step < 1 or self.status_phase == "starting":
            return None
        if self._unread:
            self._unread -= 1
        elif self.past is None or len(self.recorded()):
            step = self.step // FRAME_EVERY * FRAME_EVERY if self.past is None else self._nearest(self.past)
            self._shown = step, TEXT if self.past is not None else self.tokens
        if self._shown not in self._frames:
            self._frames[self._shown] = frame_of(*self._shown)
        return self._frames[self._shown]

    _shown = (0, TEXT)

    def probe_failure(self) -> str | None:
        return None

    # --- the past ---

    def recorded(self) -> np.ndarray:
        return np.arange(FRAME_EVERY, self.step + 1, FRAME_EVERY)

    def _nearest(self, step: int) -> int:
        steps = self.recorded()
        return int(steps[np.abs(steps - step).argmin()])

    def look_back(self, step: int | None) -> None:
        self.past, self._unread = step, 0 if step is None else self.reads

    def recorded_sample(self) -> RecordedSample | None:
        if self.past is None or self.past < SAMPLE_EVERY:
            return None
        step = self.past // SAMPLE_EVERY * SAMPLE_EVERY
        return RecordedSample(step, TEXT[:14], scrambled(ANSWER, step))

    def head_history(self) -> HeadHistory | None:
        steps = self.recorded()
        return HeadHistory(steps, np.stack([head_scores(int(step)) for step in steps])) if len(steps) else None

    def ladder(self) -> Ladder | None:
        return LADDER

    def reading(self) -> Reading:
        gpu = {
            "gpu_name": "NVIDIA L4",
            "gpu_percent": 87.0,
            "gpu_memory_bytes": 3_400_000_000,
            "gpu_memory_total": 24_000_000_000,
        }
        extra: dict[str, object] = {**gpu, "gpu_celsius": 61.0} if self.gpu else {}
        return Reading(cpu_percent=187.0, memory_bytes=812 * 2**20, **extra)  # type: ignore[arg-type]

    def close(self) -> None:
        self.closed = True

    def join(self, timeout: float | None = None) -> bool:
        return self.joined


def choice(character: str, number: int) -> Choice:
    """Sure of some characters and unsure of others."""
    p = (0.93, 0.55, 0.2, 0.04)[number % 4]
    others = [other for other in "etao" if other != character]
    return Choice(character, p, ((character, p), *((other, (1 - p) / 4) for other in others)))


def learned(step: int) -> float:
    """How much of what it will know the model knows, 0 to 1."""
    return float(1 - np.exp(-step / 600))


def scrambled(text: str, step: int) -> str:
    """The text as a model writes it that has not learned everything yet."""
    rng = np.random.default_rng(step)
    wrong = rng.random(len(text)) > learned(step)
    return "".join(chr(rng.integers(97, 123)) if w and c.isalpha() else c for w, c in zip(wrong, text, strict=True))


def weights(tokens: int, step: int, layers: int = LAYERS, heads: int = HEADS) -> np.ndarray:
    """Causal maps whose rows sum to 1: previous-token, sink, local and diffuse heads over a little noise."""
    rng = np.random.default_rng(step)
    q, k = np.arange(tokens)[:, None], np.arange(tokens)[None, :]
    out = np.empty((layers, heads, tokens, tokens), np.float32)
    for layer in range(layers):
        for head in range(heads):
            scores = rng.normal(0, 1.0, (tokens, tokens))
            kind = (layer + head) % 4
            pattern = [5.0 * (k == q - 1), 4.0 * (k == 0), -0.25 * (q - k), 2.0 * np.sin(k / (3 + layer))][kind]
            scores = np.where(k > q, -np.inf, scores + learned(step) * pattern)
            exp = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[layer, head] = exp / exp.sum(axis=1, keepdims=True)
    return out


def head_scores(step: int) -> np.ndarray:
    """(4, L, H): the heads on the diagonals become previous-token, sink and, in later layers, induction heads."""
    kind = np.add.outer(np.arange(LAYERS), np.arange(HEADS)) % 4  # (L, H)
    later = np.arange(LAYERS)[:, None] >= LAYERS // 2
    born = 1 / (1 + np.exp(-(step - 700 - 120 * np.arange(LAYERS)[:, None]) / 150))  # (L, 1)
    return np.stack(
        [
            0.08 + 0.7 * born * (kind == 0),
            0.02 + 0.8 * born * (later & (kind == 2)),
            0.1 + 0.6 * born * (kind == 1),
            0.93 - 0.5 * born * (kind != 3),
        ]
    ).astype(np.float32)


def lens_of(text: str, step: int) -> Lens:
    """Surer with every layer and every step; often right. Token ids are code points."""
    stages, n = LAYERS + 1, len(text)
    rng = np.random.default_rng(step + 1)
    depth = np.linspace(0.2, 1, stages)[:, None]  # (stages, 1)
    first = 0.08 + 0.8 * learned(step) * depth * rng.random((stages, n))  # (stages, n): probability of the likeliest
    probabilities = first[..., None] * 0.5 ** np.arange(LENS_TOP)
    probabilities[..., 1:] *= np.minimum(1, (1 - first) / first)[..., None]
    tokens = np.stack([rng.permutation(26)[:LENS_TOP] + 97 for _ in range(stages * n)]).reshape(stages, n, LENS_TOP)
    losses = np.full((stages, n), np.nan)
    for stage in range(stages):
        for i, follows in enumerate(text[1:]):
            place = int(rng.integers(0, LENS_TOP + 2)) if rng.random() > depth[stage, 0] * learned(step) else 0
            if place < LENS_TOP:
                tokens[stage, i] = np.where(tokens[stage, i] == ord(follows), 122, tokens[stage, i])
                tokens[stage, i, place] = ord(follows)
                losses[stage, i] = -np.log(probabilities[stage, i, place])
            else:
                losses[stage, i] = 4 + rng.random()
    return Lens(tokens, probabilities.astype(np.float32), losses.astype(np.float32))


def frame_of(step: int, text: str) -> Frame:
    lens = lens_of(text, step)
    return Frame(
        stamp=Stamp(step=step, seed=0),
        tokens=tuple(text),
        weights=weights(len(text), step),
        scores=head_scores(step),
        lens=lens,
        lens_labels={int(token): chr(token) for token in np.unique(lens.tokens)},
        health=Health(
            residual_norms=(0.9 + learned(step) * np.arange(LAYERS + 1) * 2.1).astype(np.float32),
            dead_units=np.array([0.0, 0.01, 0.02, 0.05], np.float32) * learned(step),
            update_ratio=-2.6 - 0.5 * learned(step),
        ),
    )


if __name__ == "__main__":
    import sys

    from minigpt_tui.app import MiniGPTApp

    session = ScriptedSession(step=1, live=40)
    session.pieces_a_poll = 20
    MiniGPTApp(session, Terminal(*sys.argv[1:2])).run()  # type: ignore[arg-type]
