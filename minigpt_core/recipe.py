"""What a run was made with, every decision included, by the names of `train`'s options: to repeat it, to compare it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from minigpt_core.config import ABLATIONS, DEFAULT_STEPS, PRESETS, RECIPES, TrainConfig, option
from minigpt_core.corpus import NO_TEXT, as_data
from minigpt_core.status import Event

SIZES = ("n_layers", "num_heads", "embed_dim", "ff_mult", "seq_len", "dropout")
"""Model settings that the command names always: their defaults depend on the device."""
NOT_ON_COMMAND_LINE = ("min_lr_fraction", "schedule", "beta1", "beta2", "attention")
"""Training settings that only Python can choose."""
SPELLED_OUT = ("batch_size", "seed", "optimizer", "learning_rate", "warmup_steps")
"""Training settings that the command to repeat a run names even where they are the default."""


@dataclass(frozen=True)
class Recipe:
    """What a run was made with.

    Attributes:
        options: by the names of `train`'s options, underscores and all; those that have a value, also a default one.
        beyond: settings that no option chooses, where they are not what the options bring with them.
        remarks: in sentences, what neither can say.
    """

    options: dict[str, Any]
    beyond: dict[str, Any]
    remarks: list[str]

    @property
    def needed(self) -> dict[str, Any]:
        """The options without those that are the default anyway."""
        default = TrainConfig().to_dict() | RECIPES[self.options["optimizer"]]
        return {
            name: value
            for name, value in self.options.items()
            if name in SPELLED_OUT or name not in default or value != default[name]
        }


def recipe(
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    config: Mapping[str, Any],
    steps: int | None = None,
) -> Recipe:
    """The settings of a run, sorted out.

    Args:
        model, train, tokenizer: as dicts.
        config: the run's `config.json`; empty if it cannot be read.
        steps: how long a run of so many `minutes` became.
    """
    remarks: list[str] = []
    corpus = config.get("corpus", {})
    options: dict[str, Any] = {"data": _data(corpus, remarks)}
    options |= {name: corpus[name] for name in ("encoding", "text_field") if corpus.get(name)}
    spec = config.get("tokenizer", {})
    if (kind := spec.get("kind", tokenizer["type"])) != "char":
        options["tokenizer"] = spec.get("path", kind)
    if kind == "bpe" or tokenizer.get("has_unknown"):
        options["vocab_size"] = spec.get("vocab_size", model["vocab_size"])
    # The preset of which the least was changed.
    preset, switches = min(
        (
            (name, {key: model[key] for key, value in preset.items() if model[key] != value})
            for name, preset in PRESETS.items()
        ),
        key=lambda found: len(found[1]),
    )
    origin = config.get("origin") or {}
    if origin and not origin.get("imported"):  # architecture and vocabulary come with the weights
        options = {name: value for name, value in options.items() if name not in ("tokenizer", "vocab_size")}
        options["from_run"] = origin["source"]
        switches = {}
        remarks.append(f"Its first weights are those of {origin['source']} at step {origin.get('step') or 0:,}.")
    else:
        options["preset"] = preset
        if origin:
            remarks.append(f"Its weights were not made here, but imported: {origin['source']}.")
    options |= {name: model[name] for name in SIZES}
    for name, changes in ABLATIONS.items():
        if changes.items() <= switches.items():
            options["ablate"] = [*options.get("ablate", []), name]
            switches = {key: value for key, value in switches.items() if key not in changes}

    default = TrainConfig().to_dict() | RECIPES[train["optimizer"]]
    train, devices = dict(train), config.get("devices", {})
    if train["minutes"]:
        train |= {"steps": steps or config.get("decided", {}).get("steps"), "minutes": None}
    elif not train["epochs"]:  # what --patience cut short was planned, and its schedule laid out, for this length
        train["steps"] = train["steps"] or DEFAULT_STEPS
    # What was decided for this machine is asked for, so that another machine does not decide otherwise.
    train |= {name: devices[name] for name in ("precision", "threads") if name in devices}
    if train["device"] == "auto":
        train["device"] = devices.get("device", "auto").partition(":")[0]
    compiled = {"on": True, "off": False}.get(train.pop("compile"))
    deterministic = train.pop("deterministic") or None
    beyond = switches | {name: value for name in NOT_ON_COMMAND_LINE if (value := train.pop(name)) != default[name]}
    train |= {"compile": compiled, "deterministic": deterministic}
    options |= {name: value for name, value in train.items() if value is not None}
    if beyond:
        settings = ", ".join(f"{name}={value!r}" for name, value in beyond.items())
        remarks.append(f"Only Python can choose these, the command line has no option for them: {settings}.")
    return Recipe(options, beyond, remarks)


def words(options: Mapping[str, Any]) -> list[str]:
    """Options as a command line has them, each with its value, quoted for a shell."""
    out = []
    for name, value in options.items():
        if isinstance(value, bool):
            out.append(option(name if value else f"no_{name}"))
        else:
            several = value if isinstance(value, list) else [value]
            out += [f"{option(name)} {shlex.quote(str(each))}" for each in several]
    return out


def steered(events: Iterable[Event]) -> str | None:
    """That a run did not go as it was planned, in a sentence: then no settings alone bring it back."""
    for event in events:
        changed = event.kind == "resumed" and (", with " in event.message or ": back at " in event.message)
        if event.kind in ("lr", "cadence") or changed:
            return (
                f"It was changed on its way, which no file can repeat, first at step {event.step:,}: {event.message}."
            )
    return None


def _data(corpus: Mapping[str, Any], remarks: list[str]) -> str:
    """The text as `--data` names it."""
    source = corpus.get("source")
    if source is None:
        remarks.append("Which text it was is not known: put it in the place of TEXT.")
        return "TEXT"
    if source == "standard input":
        remarks.append("The text came from standard input: give it the same way.")
        return "-"
    if source == NO_TEXT:
        remarks.append("It has no text to train on: put one in the place of TEXT.")
        return "TEXT"
    return as_data(dict(corpus))
