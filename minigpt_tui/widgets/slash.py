"""Slash commands of the prompt: `/temp 0.5` changes how the next answers are sampled."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_tui.safetext import safe

MAX_TOKENS = 10_000
"""Of one answer: more belongs in a file, not on a screen."""
MAX_SAMPLES = 8


class Setting(NamedTuple):
    field: str
    parse: type
    example: str
    help: str
    most: int | None = None


SETTINGS = {
    "temp": Setting("temperature", float, "0.8", "0 always takes the likeliest token"),
    "tokens": Setting("max_new_tokens", int, "400", "length of an answer", MAX_TOKENS),
    "topk": Setting("top_k", int, "40", "sample from the k likeliest tokens, 0 is all"),
    "topp": Setting("top_p", float, "0.9", "sample from the likeliest tokens that reach p"),
    "minp": Setting("min_p", float, "0.05", "drop tokens less likely than this share of the best"),
    "penalty": Setting("repetition_penalty", float, "1.1", "discourage repetition, 1 is none"),
    "seed": Setting("seed", int, "7", "same seed, same answer; /seed random: a fresh one"),
    "samples": Setting("num_samples", int, "3", f"answers to one prompt, 1 to {MAX_SAMPLES}", MAX_SAMPLES),
    "stop": Setting("stop", str, "Al", "end an answer before this text; /stop: never"),
}
WATCH = "watch"
COMMANDS = (*SETTINGS, WATCH, "help")

HELP = "\n".join(
    ["Settings for the next answers, typed at the prompt:"]
    + [f"  {'/' + name + ' ' + s.example:<14}{s.help}" for name, s in SETTINGS.items()]
    + [f"  /{WATCH + ' TEXT':<13}attention on this text; /{WATCH}: on the validation text"]
    + ["  //text        sends a prompt that begins with a slash"]
)


def is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")


def split(text: str) -> tuple[str, str]:
    """The name of a command, in lower case and without its slash, and what follows it."""
    name, *rest = text.strip().removeprefix("/").split(maxsplit=1) or [""]
    return name.lower(), "".join(rest)


def apply(text: str, config: SampleConfig) -> SampleConfig:
    """The settings after a slash command.

    Raises:
        UsageError: an unknown command or a value that does not do; the message says what would.
    """
    name, value = split(text)
    setting = SETTINGS.get(name)
    if setting is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.4)
        raise UsageError(f"/{name}: no such command; {f'did you mean /{near[0]}?' if near else '/help lists them'}")
    if name == "seed" and value.lower() in ("random", "none"):
        return _changed(config, "seed", None)
    if name == "stop":
        return _changed(config, "stop", (value,) if value else ())
    try:
        parsed = setting.parse(value)
    except ValueError:
        got = f"{value!r} is not a{' whole' if setting.parse is int else ''} number" if value else "needs a number"
        raise UsageError(f"/{name}: {got}; for example /{name} {setting.example}") from None
    if setting.most is not None and parsed > setting.most:
        raise UsageError(f"/{name}: at most {setting.most:,} in the app, not {parsed:,}")
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
    if config.num_samples > 1:
        parts.append(f"{config.num_samples} samples")
    parts += [f"stop {safe(text, newlines=False)!r}" for text in config.stop]
    return " · ".join(parts)
