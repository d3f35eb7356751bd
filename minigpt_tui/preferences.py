"""What the user likes: a TOML file in the platform's config folder, and what the command line says over it.

```toml
theme = "light"          # or dark
color = "256"            # auto, truecolor, 256, 16, none
ascii = false
mouse = false
low_bandwidth = true

[keys]
run.pause = "p"          # `minigpt-tui keys` prints all of them
chart.zoom-in = "z,]"
```
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import platformdirs

from minigpt_core.config import lookup
from minigpt_core.errors import UsageError, UserError
from minigpt_core.reading import brief, read_bytes

APP = "minigpt-tui"
VARIABLE = "MINIGPT_TUI_CONFIG"
"""The environment variable that names another file."""
MAX_BYTES = 2**20
LONGEST = 2_000
"""Characters of an error, which tells all mistakes among the keys at once."""

Color = Literal["truecolor", "256", "16", "none"]
Theme = Literal["dark", "light"]
CHOICES = {"theme": ("dark", "light"), "color": ("auto", "truecolor", "256", "16", "none")}


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each is None where nobody said anything: then the terminal decides, or the default below.

    Attributes:
        theme: "dark" (default) or "light".
        color: the colour depth; "auto" (default) is what the terminal promises.
        ascii: draw with ASCII characters only; by default where the terminal shows no others.
        mouse: whether the app takes the mouse (default); without, the terminal selects text as ever.
        low_bandwidth: repaint less often, for slow links; off by default.
        keys: binding id to its keys, comma-separated, in Textual's names.
    """

    theme: str | None = None
    color: str | None = None
    ascii: bool | None = None
    mouse: bool | None = None
    low_bandwidth: bool | None = None
    keys: dict[str, str] = {}

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value is not None:
                lookup(dict.fromkeys(known), value, "colour depth" if name == "color" else name)

    def over(self, other: Preferences) -> Preferences:
        """These where they say something, else the other's."""
        said = {name: value for name, value in msgspec.structs.asdict(self).items() if value not in (None, {})}
        return msgspec.structs.replace(other, **said)


def path() -> Path:
    """The file, whether it is there or not."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path(platformdirs.user_config_dir(APP, appauthor=False)) / "config.toml"


def load(said: Preferences | None = None) -> Preferences:
    """What the file says, and over it what the command line `said`.

    Raises:
        UsageError: the file cannot be used; one line names it, the entry and the nearest name.
    """
    file = path()
    try:
        says = read(read_bytes(file, MAX_BYTES)) if file.exists() and file != Path(os.devnull) else Preferences()
    except UsageError as error:
        raise UsageError(f"{file}: {brief(error, LONGEST)}") from None
    except UserError as error:
        raise UsageError(str(error)) from None
    if os.environ.get(VARIABLE) and not file.exists():
        raise UsageError(f"{VARIABLE} names {str(file)!r}, which is not there")
    return says if said is None else said.over(says)


def found() -> tuple[Preferences, str]:
    """What the file says and no problem; or nothing, and in a line what is wrong with it."""
    try:
        return load(), ""
    except UsageError as error:
        return Preferences(), str(error)


def read(data: bytes) -> Preferences:
    """The file's content, checked.

    Raises:
        UsageError: it is not TOML, or an entry says something unknown.
    """
    try:
        table: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, a number of 5,000 digits
        raise UsageError(f"not a TOML file: {error}") from None
    for name in table:
        if name not in Preferences.__struct_fields__:
            raise UsageError(f"unknown entry {name!r}{nearest(name, Preferences.__struct_fields__)}")
    try:
        keys = flat(table.get("keys", {}))
    except RecursionError:
        raise UsageError("keys: nested too deeply") from None
    try:
        found = msgspec.convert({**table, "keys": keys}, Preferences)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise UsageError(f"{where.strip('.`') or 'an entry'}: {what[0].lower()}{what[1:]}") from None
    if not keys:
        return found
    from minigpt_tui.keymap import checked  # loads every screen: only for those who rebind keys

    return msgspec.structs.replace(found, keys=checked(found.keys))


def flat(table: object, prefix: str = "") -> Any:
    """`run.pause = "p"` is a table in a table to TOML; here it is one name. What is no table stays as it is."""
    if not isinstance(table, Mapping):
        return table
    out: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value
    return out


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no name is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def first_time() -> bool:
    """Whether the app has never been opened by this user before; from now on it has.

    Where that cannot be noted it counts as no: a greeting at every start would be a nuisance.
    """
    with suppress(OSError):
        folder = Path(platformdirs.user_state_dir(APP, appauthor=False))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "welcomed").touch(exist_ok=False)
        return True
    return False
