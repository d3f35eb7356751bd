"""Plain types that cross threads, sockets and files: what a run is doing, what it logged, what may be asked of it.

No torch here: a viewer on a login node, or a screen before torch is loaded, needs these and nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    import numpy as np


Phase = Literal["starting", "training", "evaluating", "paused", "saving", "done", "stopped", "failed"]
EventKind = Literal[
    "info",
    "warning",
    "error",
    "save",
    "pause",
    "resume",
    "lr",
    "cadence",
    "note",
    "sample",
    "rung",
    "birth",
    "resumed",
    "done",
]
FINISHED: frozenset[str] = frozenset({"done", "stopped", "failed"})


Count = Annotated[int, Meta(ge=0, le=10**15)]
Number = Annotated[float, Meta(ge=0, le=1e18)]
LOG_FORMAT = 1
"""Of the lines of `metrics.jsonl` and `events.jsonl`: each says so, since a run may be continued by another version."""


class LogLine(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="format", tag=LOG_FORMAT
):
    """What every line of the two logs has: its format, and nothing that this version does not know."""


class MetricsRow(LogLine, frozen=True, kw_only=True):
    """One logged step, one line of `metrics.jsonl`. Losses are in nats a token."""

    step: Count
    """Optimizer steps completed."""
    epoch: Number
    tokens: Count
    """Tokens trained on so far."""
    time: Number
    """Seconds of training so far, earlier sittings of a resumed run included, pauses not."""
    lr: float
    train_loss: float
    """Mean over the steps since the row before."""
    grad_norm: float
    """Global gradient norm before clipping; mean over the steps since the row before."""
    clipped: float
    """Share of those steps whose gradient was clipped, 0 to 1."""
    tok_s: float
    """Tokens a second."""
    val_loss: float | None = None


class Event(LogLine, frozen=True, kw_only=True):
    """Something that happened, one line of `events.jsonl`: a save, a pause, a sample, a warning.

    Raises:
        ValueError: the kind promises data that are not there.
    """

    kind: EventKind
    step: Count
    time: float
    """Seconds since 1970."""
    message: str
    """One line for people."""
    data: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for name, type_ in PROMISED.get(self.kind, {}).items():
            if type(self.data.get(name)) is not type_:
                raise ValueError(f"an event {self.kind!r} without {name}")


PROMISED: dict[str, dict[str, type]] = {"rung": {"rung": str}, "birth": {"layer": int, "head": int, "role": str}}
"""What the data of an event hold, by its kind, for whoever tells of it."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The run at one moment. The engine replaces it atomically; everyone else reads it whenever they like."""

    phase: Phase = "starting"
    message: str = ""
    """What the phase is busy with ("loading torch", "evaluating 40 %"), or why it failed: one line."""
    warning: str = ""
    """What is not as it should be though training goes on, such as a GPU that torch cannot use: one line."""
    name: str = ""
    run_dir: str = ""
    device: str = ""
    precision: str = ""
    n_params: int = 0
    flop_per_token: int = 0
    """Floating-point operations that training takes for a token."""
    peak_flops: float | None = None
    """Those that the device can do in a second; None where that is not known."""
    step: int = 0
    total_steps: int | None = None
    """None until `--minutes` has measured how many fit."""
    epoch: float = 0.0
    tokens: int = 0
    train_loss: float | None = None
    smoothed_loss: float | None = None
    val_loss: float | None = None
    val_step: int | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    final_val_loss: float | None = None
    """Over the whole validation split, once the run has ended."""
    tokens_per_byte: float | None = None
    """Of the validation split: `bits.bits_per_byte` makes a loss comparable with that of another tokenizer."""
    lr: float = 0.0
    lr_scale: float = 1.0
    eval_every: int = 0
    """Steps between evaluations; 0 until they are known."""
    sample_every: int = 0
    """Steps between the texts that the model writes unasked; 0 is after each evaluation."""
    grad_norm: float | None = None
    clipped: float = 0.0
    tok_s: float = 0.0
    elapsed: float = 0.0
    """Seconds of training, pauses not counted."""
    saved_step: int | None = None
    saved_at: float | None = None
    """Seconds since 1970."""

    @property
    def finished(self) -> bool:
        return self.phase in FINISHED

    @property
    def progress(self) -> float | None:
        """0 to 1, or None while the number of steps is unknown."""
        return None if not self.total_steps else min(1.0, self.step / self.total_steps)

    @property
    def mfu(self) -> float | None:
        """Model FLOP/s utilisation: the share of what the device can do that training uses, 0 to 1."""
        return self.tok_s * self.flop_per_token / self.peak_flops if self.peak_flops else None

    @property
    def eta(self) -> float | None:
        """Seconds of training still to go at the present pace."""
        if not self.total_steps or not self.step or self.finished:
            return None
        remaining = (self.total_steps - self.step) * self.tokens / self.step
        return remaining / self.tok_s if self.tok_s else None


# --- commands: what a viewer may do to a run. The trainer obeys them at its next boundary. ---


class Command(msgspec.Struct, frozen=True, tag=True):
    """Base of all commands; the class name is the tag on the wire, where bounds are checked."""


class Pause(Command, frozen=True):
    pass


class Resume(Command, frozen=True):
    pass


class StepOnce(Command, frozen=True):
    """While paused: train one step and pause again."""


class Save(Command, frozen=True):
    pass


class ScaleLearningRate(Command, frozen=True):
    """Multiply the whole schedule from the next step on; part of the run, so it is logged."""

    factor: Annotated[float, Meta(ge=1e-9, le=1e9)]


class SetEvalEvery(Command, frozen=True):
    """Evaluate at multiples of so many steps from now on."""

    steps: Count


class SetSampleEvery(Command, frozen=True):
    """Let the model write by itself at every so many steps from now on; 0 is after each evaluation."""

    steps: Count


class Note(Command, frozen=True):
    """A remark for the log and the chart, at the present step."""

    text: Annotated[str, Meta(max_length=10_000)]


class Stop(Command, frozen=True):
    """Save and end the run early; it can be resumed."""


# --- what a request brings back ---


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights an answer came from: one answer, one step's weights."""

    step: int
    val_loss: float | None = None
    val_step: int | None = None
    """The step at which `val_loss` was measured: it may be older than the weights."""
    seed: int = 0


class Choice(msgspec.Struct, frozen=True):
    """One token that was drawn, and what the model thought of it: at temperature 1, before any filter or penalty."""

    text: str
    """What the token added to the text, raw; a token that is no whole character yet adds nothing."""
    p: float
    """Its probability, 0 to 1."""
    alternatives: tuple[tuple[str, float], ...]
    """The likeliest tokens, labels and probabilities, in descending order; the drawn one is often among them."""
    label: str = ""
    """The token's own label where that is not `text`: it begins or ends within a character."""


class Piece(msgspec.Struct, frozen=True):
    """Newly generated text of one sample."""

    sample: int
    text: str
    choice: Choice | None = None
    """The token it comes from, if whoever asked wants to know."""


class Envelope:
    """A metric over a range of steps, reduced to at most `buckets` points for drawing.

    Attributes:
        step: (n,) float64, the middle step of each bucket.
        low, high, mean: (n,) float64; non-finite values are left out, a bucket of nothing else is NaN.
        broken: (n,) bool, the bucket holds values that are not finite; left out: those that hold nothing else.
    """

    __slots__ = ("broken", "high", "low", "mean", "step")

    def __init__(
        self,
        step: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        mean: np.ndarray,
        broken: np.ndarray | None = None,
    ) -> None:
        self.step = step
        self.low = low
        self.high = high
        self.mean = mean
        if broken is None:
            import numpy as np

            broken = ~np.isfinite(mean)
        self.broken = broken

    def __len__(self) -> int:
        return len(self.step)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Live readings of the machine; the only thing on screen that is not in the run directory."""

    cpu_percent: float = 0.0
    """Of this process; 100 is one core."""
    memory_bytes: int = 0
    """Resident memory of this process."""
    cores: int = 0
    """Cores this process may keep busy."""
    machine_memory: float | None = None
    """Share of the memory that is taken, 0 to 1: of the machine's, or of the container's limit."""
    gpu_name: str | None = None
    gpu_percent: float | None = None
    gpu_memory_bytes: int | None = None
    gpu_memory_total: int | None = None
    gpu_celsius: float | None = None
