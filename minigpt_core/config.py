"""What a run is made of: model, training and sampling settings, presets and ablations.

Every settings class is frozen, checks itself on construction and makes the round trip through JSON, so a
configuration read from a run directory is exactly as trustworthy as one built in code.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from minigpt_core.errors import UsageError

T = TypeVar("T")

# The upper bounds keep infinity and numbers that no file can hold out; nobody will miss what lies beyond them.
PositiveInt = Annotated[int, Meta(ge=1, le=10**12)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=10**12)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
PositiveFloat = Annotated[float, Meta(gt=0, le=1e9)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=1e9)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, lt=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: frozen, and checked on construction, not only when decoded.

    Raises:
        UsageError: a field is out of range; the message names it, as the command line writes it, and its value.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            choices = get_args(hint) if get_origin(hint) is Literal else None
            if choices and value not in choices:
                raise unknown(name, str(value), choices)
            try:
                msgspec.convert(value, hint)
            except msgspec.ValidationError as error:
                raise UsageError(f"{option(name)} {shown(value)}: {in_plain_words(str(error))}") from None

    def replace(self, **changes: Any) -> Any:
        """A copy with some fields changed, checked again."""
        return msgspec.structs.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """The inverse of `to_dict`.

        Raises:
            UsageError: an unknown key or a value of the wrong type.
        """
        try:
            return msgspec.convert(dict(values), cls)
        except msgspec.ValidationError as error:
            raise UsageError(f"{cls.__name__}: {error}") from None


class ModelConfig(Settings, frozen=True):
    """The architecture. Defaults are GPT-2's (preset `classic`); the switches below the sizes are what presets and
    ablations set."""

    vocab_size: PositiveInt
    seq_len: PositiveInt = 64
    """Context length in tokens."""
    n_layers: PositiveInt = 4
    num_heads: PositiveInt = 4
    embed_dim: PositiveInt = 128
    ff_mult: PositiveInt = 4
    """Width of the feed-forward layer as a multiple of `embed_dim`."""
    dropout: Rate = 0.0
    norm: Literal["layernorm", "none"] = "layernorm"
    residual: bool = True
    positions: Literal["learned", "rotary", "none"] = "learned"
    swap_qk: bool = False
    """Use the key projection as query and the query projection as key."""
    tied_head: bool = True
    """The output head shares its weight matrix with the token embedding."""
    biases: bool = True
    """Linear layers have biases, LayerNorms gains and biases."""
    activation: Literal["gelu", "gelu_erf", "relu2"] = "gelu"
    """Of the feed-forward layer. gelu: GPT-2's, by tanh; gelu_erf: GELU itself (arXiv 1606.08415), as nanoGPT has it;
    relu2: the square of ReLU (Primer, arXiv 2109.08668)."""
    qk_norm: bool = False
    """Queries and keys are normalised before they meet (arXiv 2302.05442)."""
    token_mix: Annotated[int, Meta(ge=1, le=64)] = 1
    """A short convolution: each embedding is mixed with those of the tokens before it, so many in all; 1 is none."""
    init: Literal["gpt2", "zero"] = "gpt2"
    """How weights begin; see `GPT`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dim % self.num_heads:
            heads = next(n for n in range(min(self.num_heads, self.embed_dim), 0, -1) if self.embed_dim % n == 0)
            raise UsageError(
                f"--embed-dim {self.embed_dim} is not divisible by --num-heads {self.num_heads}; "
                f"try --num-heads {heads} or --embed-dim {round_up(self.embed_dim, self.num_heads)}"
            )

        if self.positions == "rotary" and self.head_dim % 2:
            raise UsageError(
                f"rotary positions need an even number of dimensions a head, and there are {self.head_dim}; "
                f"change --num-heads {self.num_heads} or --embed-dim {self.embed_dim}, or use --preset classic"
            )

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads


class TrainConfig(Settings, frozen=True):
    """How a model is trained. `None` and "auto" are decided once, before step 0, and written to the run."""

    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    minutes: PositiveFloat | None = None
    """At most one of `steps`, `epochs` and `minutes`; with none of them, `DEFAULT_STEPS`."""
    batch_size: PositiveInt = 12
    accumulate: PositiveInt = 1
    """Pieces in which a step's batch goes through the model, their gradients added up: the same step in less memory."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices of the blocks, AdamW for all else."""
    learning_rate: PositiveFloat = 3e-3
    """Peak learning rate, reached after the warm-up."""
    min_lr_fraction: Fraction = 0.1
    """Where the schedule ends, as a fraction of `learning_rate`."""
    warmup_steps: NonNegativeInt = 100
    schedule: Literal["cosine", "linear"] = "cosine"
    """cosine: down from the warm-up on. linear: constant, then straight down over the last `DECAY` of the run."""
    weight_decay: NonNegativeFloat = 0.1
    """Applied to matrices only: not to biases, gains or embeddings' rows of one dimension."""
    beta1: Rate = 0.9
    beta2: Rate = 0.99
    """AdamW's; Muon's momentum is `beta1`."""
    grad_clip: NonNegativeFloat = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    seed: Seed = 1337
    eval_every: PositiveInt = 250
    log_every: PositiveInt | None = None
    save_every: int | str = 1000
    """Steps between periodic evaluations, metric rows and checkpoints; for those "10m", ten minutes, does as well."""
    patience: NonNegativeInt = 5
    """Evaluations above the best validation loss, clearly so at the last, that end the run; at any end its best weights
    are restored. 0 does neither."""
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    attention: Literal["auto", "explicit", "fused"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False
    threads: PositiveInt | None = None
    on_divergence: Literal["stop", "rollback"] = "stop"
    """What follows on a loss that is no finite number; rollback: the last checkpoint again, at half the rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        interval(self.save_every)
        if self.batch_size % self.accumulate:
            raise UsageError(
                f"--batch-size {self.batch_size} cannot be cut into --accumulate {self.accumulate} equal pieces; "
                f"try --batch-size {round_up(self.batch_size, self.accumulate)}"
            )
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise unknown("device", self.device, ("auto", "cpu", "cuda", "cuda:0", "mps"))
        given = [
            f"--{name} {shown(value)}" for name in ("steps", "epochs", "minutes") if (value := getattr(self, name))
        ]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} contradict each other; give one of them")

    @property
    def micro_batch(self) -> int:
        """Windows that are on the device at a time."""
        return self.batch_size // self.accumulate


DEFAULT_STEPS = 5000


def interval(every: int | str) -> tuple[int | None, float | None]:
    """`save_every` as (steps, None) or (None, seconds).

    Raises:
        UsageError: it is neither a number of steps nor a number of minutes.
    """
    if isinstance(every, int) and 0 < every <= 10**12:
        return every, None
    minutes = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)m", str(every))
    if minutes and float(minutes[1]) > 0:
        return None, 60 * float(minutes[1])
    raise UsageError(f"--save-every {every}: give a number of steps, or minutes such as 10m")


class SampleConfig(Settings, frozen=True):
    """How text is drawn from the next-token distribution."""

    temperature: NonNegativeFloat = 0.8
    """0 is greedy: always the most likely token."""
    top_k: NonNegativeInt = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: Fraction = 1.0
    """Keep the smallest set of tokens whose probability reaches p (nucleus sampling, arXiv 1904.09751)."""
    min_p: Fraction = 0.0
    """Drop tokens less likely than min_p times the most likely one (arXiv 2407.01082)."""
    repetition_penalty: PositiveFloat = 1.0
    """Divide positive and multiply negative logits of tokens already seen (CTRL, arXiv 1909.05858)."""
    max_new_tokens: PositiveInt = 200
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are not part of it."""
    seed: Seed | None = None
    """None draws a fresh seed, which the answer's stamp names."""
    num_samples: Annotated[int, Meta(ge=1, le=65_536)] = 1
    temperatures: tuple[NonNegativeFloat, ...] = ()
    """One sample for each, of the same weights and the same random numbers; `temperature` and `num_samples` then
    say nothing."""

    @property
    def rows(self) -> tuple[float, ...]:
        """The temperature of each sample."""
        return self.temperatures or (self.temperature,) * self.num_samples


COMMON = {"norm": "layernorm", "residual": True, "swap_qk": False}
PRESETS: dict[str, dict[str, Any]] = {
    "modern": COMMON
    | {"positions": "rotary", "tied_head": False, "biases": False, "activation": "relu2", "qk_norm": True}
    | {"token_mix": 4, "init": "zero"},
    "classic": COMMON
    | {"positions": "learned", "tied_head": True, "biases": True, "activation": "gelu", "qk_norm": False}
    | {"token_mix": 1, "init": "gpt2"},
}
"""Named architectures: model settings that a user's own options override. The first is the default."""

RECIPES: dict[str, dict[str, Any]] = {
    "muon": {"learning_rate": 0.02, "warmup_steps": 20, "schedule": "linear", "min_lr_fraction": 0.0},
    "adamw": {"learning_rate": 3e-3, "warmup_steps": 100, "schedule": "cosine", "min_lr_fraction": 0.1},
}
"""What goes with an optimizer where the user says nothing else. The first is the default."""
FINE_TUNING = {"optimizer": "adamw", "learning_rate": 1e-4}
"""Where a run begins with trained weights and the user says nothing else: the full rate would undo what they know."""
DEFAULT_PRESET, DEFAULT_OPTIMIZER = next(iter(PRESETS)), next(iter(RECIPES))

ABLATIONS: dict[str, dict[str, Any]] = {
    "no-layernorm": {"norm": "none"},
    "no-residual": {"residual": False},
    "single-head": {"num_heads": 1},
    "swap-qk": {"swap_qk": True},
    "no-positions": {"positions": "none"},
}
"""What each ablation takes away. Sizes are the sixth: every size is an option of its own."""

DEFAULT_SIZES: dict[str, dict[str, Any]] = {
    "cpu": {"n_layers": 4, "num_heads": 4, "embed_dim": 128, "seq_len": 64, "batch_size": 12},
    "gpu": {"n_layers": 6, "num_heads": 6, "embed_dim": 384, "seq_len": 256, "batch_size": 64, "dropout": 0.2},
}
"""With no size options: about 0.8 M parameters on a CPU, nanoGPT's 10.7 M on a GPU."""


def ablated(names: Iterable[str]) -> dict[str, Any]:
    """The model settings that a list of ablations changes.

    Raises:
        UsageError: an unknown ablation, with the nearest known name.
    """
    changes: dict[str, Any] = {}
    for name in names:
        changes |= lookup(ABLATIONS, name, "ablation")
    return changes


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """`table[name]`, or a UsageError that offers the nearest name."""
    if name in table:
        return table[name]
    raise unknown(kind, name, table)


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is none of the known ones; it offers the nearest."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")


def option(name: str) -> str:
    """A setting's name as the command line writes it: errors speak to both users of it, there and in Python."""
    return "--" + name.replace("_", "-")


def shown(value: object) -> str:
    """A setting's value as a user may have typed it."""
    return f"{value:g}" if isinstance(value, float) else repr(value)


def in_plain_words(error: str) -> str:
    """msgspec's "Expected `int | null` >= 1" as "expected a whole number >= 1"."""
    error = error.replace(" | null", "").replace("`int`", "a whole number").replace("`float`", "a number")
    return error[0].lower() + re.sub(r"\.0\b", "", error[1:])


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
