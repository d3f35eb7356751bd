"""How to train a run once more: its command line, with every decision spelled out."""

from __future__ import annotations

import shlex
from typing import Any

from minigpt_core.checkpoint import Run
from minigpt_core.config import ABLATIONS, PRESETS, RECIPES, TrainConfig, option
from minigpt_core.corpus import as_data

SIZES = ("n_layers", "num_heads", "embed_dim", "ff_mult", "seq_len", "dropout")
"""Model settings that the command names always: their defaults depend on the device."""
NOT_ON_COMMAND_LINE = ("min_lr_fraction", "schedule", "beta1", "beta2", "attention")
"""Training settings that only Python can choose."""
SPELLED_OUT = ("batch_size", "seed", "optimizer", "learning_rate", "warmup_steps")
"""Training settings that the command to repeat a run names even where they are the default."""


def again(run: Run, config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The command that trains the same run once more, quoted for a shell, and in sentences what it cannot say.

    Args:
        config: the run's `config.json`; empty if it cannot be read.
    """
    model, train, devices = run.model.config.to_dict(), run.config.to_dict(), config.get("devices", {})
    remarks: list[str] = []
    options = [("data", _data(config.get("corpus", {}), remarks))]
    corpus = config.get("corpus", {})
    options += [(name, corpus[name]) for name in ("encoding", "text_field") if corpus.get(name)]
    spec = config.get("tokenizer") or {}
    if spec.get("kind", "char") != "char":
        options.append(("tokenizer", spec.get("path", spec["kind"])))
    if run.tokenizer.to_dict().get("has_unknown") or spec.get("kind") == "bpe":
        options.append(("vocab_size", spec.get("vocab_size", model["vocab_size"])))
    # The preset of which the least was changed.
    preset, switches = min(
        (
            (name, {key: model[key] for key, value in preset.items() if model[key] != value})
            for name, preset in PRESETS.items()
        ),
        key=lambda found: len(found[1]),
    )
    options += [("preset", preset), *((name, model[name]) for name in SIZES)]
    for name, changes in ABLATIONS.items():
        if changes.items() <= switches.items():
            options.append(("ablate", name))
            switches = {key: value for key, value in switches.items() if key not in changes}

    default = TrainConfig().to_dict() | RECIPES[train["optimizer"]]
    train |= {"steps": run.state["total_steps"] or run.state["step"], "epochs": None, "minutes": None}
    # What was decided for this machine is asked for, so that another machine does not decide otherwise.
    train |= {name: devices[name] for name in ("precision", "threads") if name in devices}
    if train["device"] == "auto":
        train["device"] = devices.get("device", "auto").partition(":")[0]
    flags = [{"on": "--compile", "off": "--no-compile"}.get(train.pop("compile"), "")]
    flags.append("--deterministic" if train.pop("deterministic") else "")
    others = switches | {name: value for name in NOT_ON_COMMAND_LINE if (value := train.pop(name)) != default[name]}
    options += [
        (name, value)
        for name, value in train.items()
        if value is not None and (name in SPELLED_OUT or value != default.get(name))
    ]
    if others:
        settings = ", ".join(f"{name}={value!r}" for name, value in others.items())
        remarks.append(f"Only Python can choose these, the command line has no option for them: {settings}.")
    words = [f"{option(name)} {shlex.quote(str(value))}" for name, value in options]
    return ["minigpt-tui train", *words, *filter(None, flags)], remarks


def _data(corpus: dict[str, Any], remarks: list[str]) -> str:
    """The text as `--data` names it."""
    source = corpus.get("source")
    if source is None:
        remarks.append("Which text it was is not known: put it in the place of TEXT.")
        return "TEXT"
    if source == "standard input":
        remarks.append("The text came from standard input: give it the same way.")
        return "-"
    return as_data(corpus)
