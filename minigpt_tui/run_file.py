"""The options of `train` in a TOML file, by the same names; what the command line says goes before it.

```toml
data = "book.txt"        # from the working directory, as on the command line
steps = 2000
n_layers = 6
learning_rate = 0.01
ablate = ["no-positions"]
compile = false
```
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import tomli_w
import typer

from minigpt_core.config import ModelConfig, TrainConfig, in_plain_words
from minigpt_core.errors import UsageError
from minigpt_core.reading import brief, read_bytes
from minigpt_core.recipe import recipe, steered
from minigpt_core.rundir import RunDir
from minigpt_core.stored import read_config, read_tokenizer
from minigpt_core.tail import read_events
from minigpt_tui.preferences import nearest
from minigpt_tui.safetext import safe

MAX_BYTES = 2**20
NOT_IN_FILE = ("config", "detach", "resume")
"""Options of one call: a run that goes on has its settings already, and one that is detached is told so."""
LENGTHS = ("steps", "epochs", "minutes")
TOML_KINDS = {
    "`int | str`": "a whole number or text",
    "`str`": "text",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
}


def kinds(command: Callable[..., Any]) -> dict[str, Any]:
    """The names that may be in the file, each with its type, as far as it is known with its bounds."""
    settings = {
        name: hint
        for part in (ModelConfig, TrainConfig)
        for name, hint in get_type_hints(part, None, None, True).items()
    }
    found = {}
    for name, hint in get_type_hints(command).items():
        if name not in (*NOT_IN_FILE, "context", "return"):
            switch = bool in (hint, *get_args(hint))  # "on" and "off" to Python, a flag to the command line
            found[name] = hint if switch else settings.get(name, hint)
    return found


def read(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """The file's entries, each of its type.

    Args:
        known: as from `kinds`.

    Raises:
        UsageError: an unknown name or a value of the wrong type; one line names file, entry and value.
        UserError: the file cannot be read.
    """
    try:
        table = tomllib.loads(read_bytes(path, MAX_BYTES).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, a number of 5,000 digits
        raise UsageError(f"{str(path)!r} is not a TOML file: {brief(error)}") from None
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            raise UsageError(
                f"{str(path)!r}: [{brief_key(key)}] is a table; write its entries alone, as in n_layers = 2"
            )
        if name in NOT_IN_FILE:
            raise UsageError(f"{str(path)!r}: {name} cannot be in a file; give --{name} on the command line")
        if name not in known:
            raise UsageError(f"{str(path)!r}: unknown entry {brief_key(key)!r}{nearest(name, known)}")
        if name in found:
            raise UsageError(f"{str(path)!r}: {name} is there twice, once written with a dash")
        try:
            found[name] = checked(value, known[name])
        except UsageError as error:
            raise UsageError(f"{str(path)!r}: {name} = {brief(ValueError(in_toml(value)), 60)}: {error}") from None
    return found


def checked(value: Any, kind: Any) -> Any:
    """The value, if it is of that kind.

    Raises:
        UsageError: it is not; what was expected.
    """
    choices = get_args(kind) if get_origin(kind) is Literal else None
    if choices and value not in choices:
        raise UsageError(f"expected one of {', '.join(choices)}{nearest(str(value), choices)}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text = in_plain_words(str(error))
        for name, word in TOML_KINDS.items():
            text = text.replace(name, word)
        raise UsageError(text.partition(" - at ")[0]) from None


def use(context: typer.Context, path: str, command: Callable[..., Any]) -> None:
    """Let the file's values stand behind the options of a command that is being called.

    Raises:
        UsageError, UserError: as `read`.
    """
    context.default_map = read(Path(path), kinds(command))


def settled(context: typer.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, less the file's length where the command line gives one of another kind.

    Raises:
        UsageError: a run is to be resumed.
    """
    if "resume" in options:
        raise UsageError("--config and --resume contradict each other: a run that goes on has its settings already")
    sources = {name: context.get_parameter_source(name) for name in LENGTHS}
    said = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return {name: value for name, value in options.items() if not said or name not in LENGTHS or name in said}


def of_run(run: RunDir) -> str:
    """A file from which `train --config` makes a run once more, to the bit on the same machine.

    Raises:
        UserError: the run cannot be read.
    """
    config = read_config(run)
    found = recipe(config["model"], config["train"], read_tokenizer(run).to_dict(), config)
    remarks = [f"Trains run {run.name!r} once more: minigpt-tui train --config FILE", *found.remarks]
    remarks += filter(None, [steered(read_events(run))])
    comments = "".join(f"# {safe(remark, newlines=False)}\n" for remark in remarks)
    return f"{comments}\n{tomli_w.dumps(found.needed)}"


def in_toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def brief_key(key: str) -> str:
    return safe(brief(ValueError(key), 60), newlines=False)
