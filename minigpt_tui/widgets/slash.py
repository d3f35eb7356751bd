"""Slash commands of the prompt: `/temp 0.5` changes how the next answers are sampled."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError


class Setting(NamedTuple):
    field: str
    parse: type
    example: str
    help: str


SETTINGS = {
    "temp": Setting("temperature", float, "0.8", "0 always takes the likeliest token"),
    "tokens": Setting("max_new_tokens", int, "400", "length of an answer"),
    "topk": Setting("top_k", int, "40", "sample from the k likeliest tokens, 0 is all"),
    "topp": Setting("top_p", float, "0.9", "sample from the likeliest tokens that reach p"),
    "minp": Setting("min_p", float, "0.05", "drop tokens less likely than this share of the best"),
    "penalty": Setting("repetition_penalty", float, "1.1", "discourage repetition, 1 is none"),
    "seed": Setting("seed", int, "7", "same seed, same answer; /seed random: a fresh one"),
}

HELP = "\n".join(
    ["Settings for the next answers, typed at the prompt:"]
    + [f"  {'/' + name + ' ' + s.example:<14}{s.help}" for name, s in SETTINGS.items()]
    + ["  //text        sends a prompt that begins with a slash"]
)


def is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")


def apply(text: str, config: SampleConfig) -> SampleConfig:
    """The settings after a slash command.

    Raises:
        UsageError: an unknown command or a value that does not do; the message says what would.
    """
    name, _, value = text.strip().removeprefix("/").partition(" ")
    value = value.strip()
    setting = SETTINGS.get(name.lower())
    if setting is None:
        near = difflib.get_close_matches(name.lower(), SETTINGS, n=1, cutoff=0.4)
        raise UsageError(f"/{name}: no such command; {f'did you mean /{near[0]}?' if near else '/help lists them'}")
    if name == "seed" and value in ("random", "none"):
        return _changed(config, "seed", None)
    try:
        parsed = setting.parse(value)
    except ValueError:
        got = f"{value!r} is not a{' whole' if setting.parse is int else ''} number" if value else "needs a number"
        raise UsageError(f"/{name}: {got}; for example /{name} {setting.example}") from None
    try:
        return _changed(config, setting.field, parsed)
    except UsageError as error:
        raise UsageError(f"/{name}: {error}") from None


def _changed(config: SampleConfig, field: str, value: Any) -> SampleConfig:
    changed: SampleConfig = config.replace(**{field: value})
    return changed


def summary(config: SampleConfig) -> str:
    """The settings in one line, only the ones that do something."""
    parts = [f"T {config.temperature:g}", f"{config.max_new_tokens} tokens"]
    parts.append(f"top-k {config.top_k}" if config.top_k else "top-k all")
    parts.append(f"top-p {config.top_p:g}")
    if config.min_p:
        parts.append(f"min-p {config.min_p:g}")
    if config.repetition_penalty != 1:
        parts.append(f"penalty {config.repetition_penalty:g}")
    if config.seed is not None:
        parts.append(f"seed {config.seed}")
    return " · ".join(parts)
