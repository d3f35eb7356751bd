"""What a paired experiment is asked to compare: a baseline, variants of it, seeds and learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import msgspec

from minigpt_core.config import (
    ABLATIONS,
    DEFAULT_SIZES,
    PRESETS,
    ModelConfig,
    PositiveFloat,
    Settings,
    TrainConfig,
    in_plain_words,
    lookup,
    option,
    unknown,
)
from minigpt_core.errors import UsageError, UserError
from minigpt_core.lab.paired import BASELINE
from minigpt_core.sizes import complete_sizes

SEEDS, STEPS = 3, 1000
"""Of an experiment that asks for nothing else."""
EVALUATIONS = 12
"""Points of a validation curve."""
SAVE_EVERY = 200
"""Steps between checkpoints: what a kill may cost."""

MODEL_SETTINGS = tuple(name for name in ModelConfig.__struct_fields__ if name != "vocab_size")
TRAIN_SETTINGS = (
    *(
        "batch_size",
        "optimizer",
        "schedule",
        "learning_rate",
        "min_lr_fraction",
        "warmup_steps",
        "weight_decay",
        "beta1",
        "beta2",
    ),
    *("grad_clip", "steps", "precision", "attention"),
)
"""What a variant may change: everything but the text, the seeds, and what is only about logging and the machine."""
OTHER_BATCHES = ("seq_len", "batch_size", "steps")
"""Settings with which a variant no longer sees the baseline's batches: its pairs share the seed and the text only."""


class Design(Settings, frozen=True):
    """What is asked of an experiment. What is left out has a default in a new one, and stays in an existing one."""

    variants: tuple[str, ...] = ()
    """Each as `parse_variant` reads it; none for all ablations."""
    seeds: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    """Seeds 1, 2, ... this."""
    learning_rates: tuple[PositiveFloat, ...] = ()
    """A sweep: every variant is trained with each, and compared at its best."""
    data: str | None = None
    preset: str | None = None
    model: dict[str, Any] = msgspec.field(default_factory=dict)
    train: dict[str, Any] = msgspec.field(default_factory=dict)
    """Of the baseline; as in `plan.Request`, only what was given."""

    @property
    def architecture(self) -> dict[str, Any]:
        return lookup(PRESETS, self.preset or "classic", "preset") | self.model

    def completed(self) -> Design:
        """With every default filled in, and every variant checked, spelled in one way and there once.

        Raises:
            UsageError: a setting of the baseline or a variant is not as it must be.
        """
        for name in ("epochs", "minutes", "seed"):
            if name in self.train:
                raise UsageError(f"{option(name)}: an experiment's runs have --steps and --seeds")
        steps = self.train.get("steps", STEPS)
        # The plain recipe, and as long for all: what is compared is the architecture.
        pace = {"steps": steps, "save_every": SAVE_EVERY, "optimizer": "adamw", "patience": 0}
        if isinstance(steps, int) and steps > 0:  # else it is refused below
            pace["eval_every"] = -(-steps // EVALUATIONS)
        design: Design = self.replace(
            variants=tuple(dict.fromkeys(parse_variant(text).name for text in self.variants or ABLATIONS)),
            learning_rates=tuple(dict.fromkeys(self.learning_rates)),
            seeds=self.seeds or SEEDS,
            train=pace | self.train,
        )
        for variant in design.compared:
            for kind in DEFAULT_SIZES:  # whichever device it will be, a bad setting is found now
                model, train = complete_sizes(kind, design.architecture, design.train, vocab_size=2)
                model.replace(**variant.model)
                train.replace(**variant.train)
        return design

    def extended(self, asked: Design) -> Design:
        """This design with the variants and seeds that `asked` adds.

        Raises:
            UsageError: anything else differs from what was asked before; it would be another experiment.
        """
        given = asked.to_dict() | asked.model | asked.train
        stored = self.to_dict() | self.architecture | self.train
        for name in ("learning_rates", "data", "preset", *asked.model, *asked.train):
            if given[name] not in (None, []) and given[name] != stored.get(name):
                raise UsageError(
                    f"{option(name)} cannot change in an experiment that exists (it is {stored.get(name)}); "
                    "only variants and --seeds can be added: choose another --name"
                )
        both = (*self.variants, *asked.variants)
        return self.replace(variants=both, seeds=max(self.seeds or 0, asked.seeds or 0)).completed()

    @property
    def compared(self) -> list[Variant]:
        """The baseline and the variants."""
        return [Variant(BASELINE, {}, {}), *map(parse_variant, self.variants)]

    def rates(self, variant: Variant) -> tuple[float | None, ...]:
        """The sweep's learning rates for a variant; one that sets its own has no other."""
        return (None,) if "learning_rate" in variant.train else self.learning_rates or (None,)


class Variant(msgspec.Struct, frozen=True):
    """A variant, checked: what it changes of the baseline's settings. Run folders are named after it."""

    name: str
    model: dict[str, Any]
    train: dict[str, Any]

    @property
    def same_batches(self) -> bool:
        return not any(name in self.model or name in self.train for name in OTHER_BATCHES)


def parse_variant(text: str) -> Variant:
    """The name of an ablation, or `key=value` of a setting, or several of both with commas between.

    Raises:
        UsageError: an unknown ablation or setting, with the nearest name, or a value that is none.
    """
    names: list[str] = []
    changes: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if equals:
            setting = lookup(
                {option(name)[2:]: name for name in MODEL_SETTINGS + TRAIN_SETTINGS},
                key.lstrip("-").replace("_", "-"),
                "setting of a variant",
            )
            changes[setting] = _value(setting, value)
            names.append(f"{option(setting)[2:]}={value}")
        elif key in ABLATIONS:
            changes |= ABLATIONS[key]
            names.append(key)
        else:
            raise unknown("variant", key, (*ABLATIONS, "key=value"))
    return Variant(
        ",".join(names),
        {name: value for name, value in changes.items() if name in MODEL_SETTINGS},
        {name: value for name, value in changes.items() if name in TRAIN_SETTINGS},
    )


def _value(setting: str, text: str) -> Any:
    """A setting's value from its text; whether it is one of those allowed is for the settings to say."""
    hint = get_type_hints(ModelConfig if setting in MODEL_SETTINGS else TrainConfig, include_extras=True)[setting]
    if get_origin(hint) is Literal:
        return text
    try:
        return msgspec.convert(text, hint, strict=False)
    except msgspec.ValidationError as error:
        reason = in_plain_words(str(error)).partition(", got")[0]
        raise UsageError(f"{option(setting)} {text!r}: {reason}") from None


# --- the experiment's folder ---


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """`experiment.json`: the design, the text's identity, and the baseline's settings.

    Those are complete, decided once for this machine, so that what a variant does not change is the baseline's.
    """

    format: int = 1
    design: Design
    corpus: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]


def read_experiment(path: Path) -> Stored | None:
    """`experiment.json` of a folder; None if there is none.

    Raises:
        UserError: it is damaged.
    """
    file = path / "experiment.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Stored)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {str(file)!r}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise UserError(f"{str(file)!r} is damaged: {error}") from None


def find_experiment(ref: str, parent: Path) -> Path:
    """The folder of an experiment, given by name or path.

    Raises:
        UsageError: there is none; the message offers the nearest name.
    """
    for path in (parent / ref, Path(ref)):
        if ref and (path / "experiment.json").is_file():
            return path
    names = sorted(path.parent.name for path in parent.glob("*/experiment.json"))
    if not names:
        raise UsageError(f"no experiments in {parent} yet; start one with: minigpt-tui ablate")
    raise unknown("experiment", ref, names)
