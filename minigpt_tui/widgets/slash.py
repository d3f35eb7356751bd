"""Slash commands of the prompt: which there are, what they may say, how tab completes them.

`/temp 0.5` changes how the next answers are sampled, `/pause` steers the run, `/chat ROMEO` begins a conversation.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_core.status import Command, Note, Pause, Resume, Save, ScaleLearningRate, SetEvalEvery, SetSampleEvery

MAX_TOKENS = 10_000
"""Of one answer: more belongs in a file, not on a screen."""
MAX_SAMPLES = 8
MAX_STEPS = 10**9
"""Between two evaluations."""
MAX_FACTOR = 1000.0


class Setting(NamedTuple):
    """A field of `SampleConfig`."""

    field: str
    parse: type
    example: str
    help: str
    most: int | None = None
    more: tuple[tuple[str, str], ...] = ()
    """What else it takes, and what that does."""


class Steering(NamedTuple):
    """A command to the run, made of what is typed after its name."""

    make: Callable[[str], Command]
    example: str
    help: str


SETTINGS = {
    "temp": Setting(
        "temperature", float, "0.8", "0: always the likeliest token", None, (("0.5 1.2", "several, side by side"),)
    ),
    "tokens": Setting("max_new_tokens", int, "400", "length of an answer", MAX_TOKENS),
    "topk": Setting("top_k", int, "40", "from the k likeliest, 0 is all"),
    "topp": Setting("top_p", float, "0.9", "from the likeliest up to p"),
    "minp": Setting("min_p", float, "0.05", "none far below the likeliest"),
    "penalty": Setting("repetition_penalty", float, "1.1", "against repetition, 1 is none"),
    "seed": Setting("seed", int, "7", "same seed, same answer", None, (("random", "a fresh one each time"),)),
    "samples": Setting("num_samples", int, "3", f"answers to one prompt, 1 to {MAX_SAMPLES}", MAX_SAMPLES),
    "stop": Setting("stop", str, "Al", "end an answer before this", None, (("", "never"),)),
}
TALKING = {
    "chat": (
        ("", "who speaks in this text"),
        ("ROMEO", "what you type, ROMEO answers"),
        ("ROMEO as ANN", "and you speak as ANN"),
        ("off", "prompts go on as text again"),
    ),
    "template": (("T", "with {name} {text} {reply}"), ("", "as in a play again")),
    "watch": (("TEXT", "attention on this text"), ("", "on the validation text")),
    "help": (("", "all of this"),),
}


def number(name: str, value: str, parse: type, example: str) -> Any:
    """What was typed after a command, as a number.

    Raises:
        UsageError: it is none.
    """
    try:
        return parse(value.replace(",", "") if parse is int else value)
    except ValueError:
        got = f"{value!r} is not a{' whole' if parse is int else ''} number" if value else "needs a number"
        raise UsageError(f"/{name}: {got}; for example /{name} {example}") from None


def _scale(value: str) -> Command:
    factor = number("lr", value.lstrip("×x"), float, "0.5")
    if not 1 / MAX_FACTOR <= factor <= MAX_FACTOR:
        raise UsageError(f"/lr: a factor from {1 / MAX_FACTOR:g} to {MAX_FACTOR:g}, not {value}; for example /lr 0.5")
    return ScaleLearningRate(factor)


def _steps(name: str, value: str, least: int, example: str) -> int:
    steps: int = number(name, value, int, example)
    if not least <= steps <= MAX_STEPS:
        raise UsageError(f"/{name}: {least} to {MAX_STEPS:,} steps, not {steps:,}; for example /{name} {example}")
    return steps


def _note(value: str) -> Command:
    if not value:
        raise UsageError("/note: what shall be noted? for example /note lr halved here")
    return Note(value)


STEERING = {
    "pause": Steering(lambda _: Pause(), "", "pause at the next step"),
    "resume": Steering(lambda _: Resume(), "", "go on"),
    "save": Steering(lambda _: Save(), "", "save a checkpoint"),
    "lr": Steering(_scale, "0.5", "multiply the learning rate"),
    "eval": Steering(lambda value: SetEvalEvery(_steps("eval", value, 1, "100")), "100", "steps between evaluations"),
    "samples-every": Steering(
        lambda value: SetSampleEvery(_steps("samples-every", value, 0, "500")), "500", "steps between its own texts"
    ),
    "note": Steering(_note, "lr halved", "for the log and the chart"),
}
COMMANDS = (*SETTINGS, *TALKING, *STEERING)


def is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")


def split(text: str) -> tuple[str, str]:
    """The name of a command, in lower case and without its slash, and what follows it."""
    name, *rest = text.strip().removeprefix("/").split(maxsplit=1) or [""]
    return name.lower(), "".join(rest)


def unknown(name: str) -> UsageError:
    """The error for a command that is none; it offers the nearest."""
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.4)
    return UsageError(f"/{name}: no such command; {f'did you mean /{near[0]}?' if near else '/help lists them'}")


# --- settings ---


def temperatures(values: Sequence[float]) -> dict[str, Any]:
    """The fields that one temperature changes, or several side by side."""
    several = tuple(dict.fromkeys(values))
    return {"temperature": several[0], "temperatures": several if len(several) > 1 else ()}


def apply(text: str, config: SampleConfig) -> SampleConfig:
    """The settings after a slash command.

    Raises:
        UsageError: an unknown command or a value that does not do; the message says what would.
    """
    name, value = split(text)
    if name not in SETTINGS:
        raise unknown(name)
    try:
        changed: SampleConfig = config.replace(**_changes(name, value))
    except UsageError as error:
        said = str(error)
        if said.startswith("--"):  # in the words of the command line
            said = said.partition(" ")[2]
        raise error if said.startswith("/") else UsageError(f"/{name}: {said}") from None
    return changed


def _changes(name: str, value: str) -> dict[str, Any]:
    setting = SETTINGS[name]
    if name == "seed" and value.lower() in ("random", "none"):
        return {"seed": None}
    if name == "stop":
        return {"stop": (value,) if value else ()}
    if name == "temp":
        values = [number(name, each, float, setting.example) for each in value.replace(",", " ").split() or [""]]
        if len(values) > MAX_SAMPLES:
            raise UsageError(f"/temp: at most {MAX_SAMPLES} side by side, not {len(values)}")
        return temperatures(values)
    parsed = number(name, value, setting.parse, setting.example)
    if setting.most is not None and parsed > setting.most:
        raise UsageError(f"/{name}: at most {setting.most:,} in the app, not {parsed:,}")
    return {setting.field: parsed} | ({"temperatures": ()} if name == "samples" else {})


# --- completion and help ---


def complete(text: str, names: Iterable[str]) -> list[str]:
    """What a command that is being typed may become; `names` are those one may talk to."""
    if not is_command(text):
        return []
    command, space, rest = text.partition(" ")
    if not space:
        typed = command.removeprefix("/").lower()
        return [f"/{name}{' ' if _takes_value(name) else ''}" for name in COMMANDS if name.startswith(typed)]
    if command.lower() == "/chat":
        reply, as_, typed = rest.rpartition(" as ")
        begun, options = f"{command} {reply}{as_}", [name for name in names if name != reply]
        if options and not as_:
            options += [*(f"{name} as " for name in options if len(typed) > len(name)), "off"]
        return [begun + option for option in options if option.lower().startswith(typed.lower())]
    return []


def _takes_value(name: str) -> bool:
    if name in STEERING:
        return bool(STEERING[name].example)
    return name in SETTINGS or any(example for example, _ in TALKING[name])


def common(candidates: Sequence[str]) -> str:
    """How all of them begin, however they are capitalised."""
    columns = zip(*(candidate.lower() for candidate in candidates), strict=False)
    length = sum(1 for _ in takewhile(lambda characters: len(set(characters)) == 1, columns))
    return candidates[0][:length]


def _line(name: str, example: str, about: str) -> str:
    return f"  {f'/{name} {example}':<18} {about}"


HELP = "\n".join(
    [
        "pgup and pgdn scroll this and the answers.",
        "Settings of the next answers (or: ctrl+t)",
        *[
            _line(name, example, about)
            for name, setting in SETTINGS.items()
            for example, about in ((setting.example, setting.help), *setting.more)
        ],
        "Talking and looking",
        *[_line(name, example, about) for name, rows in TALKING.items() for example, about in rows],
        f"  {'//text':<18} a prompt that begins with /",
        "Steering the run",
        *[_line(name, steering.example, steering.help) for name, steering in STEERING.items()],
    ]
)
