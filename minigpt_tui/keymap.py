"""Every key binding there is, by its id; what a user's own keys may be, and how keys are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import combinations
from pkgutil import iter_modules
from typing import NamedTuple

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, KEY_TO_UNICODE_NAME, Keys, _character_to_key, format_key
from textual.screen import Screen

from minigpt_core.errors import UsageError
from minigpt_tui.preferences import nearest

MODIFIERS = ("ctrl", "shift", "alt", "super", "hyper", "meta")
NAMED = {key.value for key in Keys if "<" not in key.value and "+" not in key.value}
NAMED |= {*KEY_TO_UNICODE_NAME, *KEY_NAME_REPLACEMENTS.values()}
WORDS = {"⏎": "enter", "←": "left", "→": "right", "↑": "up", "↓": "down"}
GROUPS = {"loss": "chart"}
"""What users may call a group of bindings: the panes by the names that they see."""
LABELS = {"pageup": "pgup", "pagedown": "pgdn", "enter": "⏎", "escape": "esc", "backspace": "bksp"}


class Entry(NamedTuple):
    """A binding, and where it works: everywhere, on a screen, or in a pane of the main screen."""

    id: str
    keys: tuple[str, ...]
    description: str
    everywhere: bool
    screen: str
    """The name of the screen, the main one's for its subclasses and panes."""
    pane: bool

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]


def bindings_of(node: type[DOMNode]) -> Iterator[Binding]:
    """The bindings with an id of a class and of its bases, each once."""
    seen: set[str] = set()
    for base in node.__mro__:
        for binding in base.__dict__.get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id and binding.id not in seen:
                seen.add(binding.id)
                yield binding


def keys_of(binding: Binding, keymap: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of a binding, which the user's own stand in for, in Textual's names."""
    return tuple(key.strip() for key in keymap.get(binding.id or "", binding.key).split(","))


@cache
def catalogue() -> dict[str, Entry]:
    """Every binding by its id: the app's, the main screen's, its panes', then those of other screens."""
    import minigpt_tui.screens
    import minigpt_tui.widgets
    from minigpt_tui.screens.main import MainScreen
    from minigpt_tui.screens.tour import TourScreen

    classes: list[type[DOMNode]] = [import_module("minigpt_tui.app").MiniGPTApp, MainScreen, TourScreen]
    for package in (minigpt_tui.widgets, minigpt_tui.screens):
        for module in iter_modules(package.__path__):
            found = import_module(f"{package.__name__}.{module.name}")
            classes += [c for c in vars(found).values() if isinstance(c, type) and issubclass(c, DOMNode)]
    own_screens = {
        binding.id.partition(".")[0]: each.__name__
        for each in classes
        if issubclass(each, Screen) and not issubclass(MainScreen, each) and not issubclass(each, MainScreen)
        for binding in bindings_of(each)
        if binding.id
    }
    out: dict[str, Entry] = {}
    for each in dict.fromkeys(classes):
        for binding in bindings_of(each):
            name = binding.id or ""
            screen = own_screens.get(name.partition(".")[0], MainScreen.__name__)
            everywhere = not issubclass(each, Screen) and not hasattr(each, "can_focus")
            pane = screen == MainScreen.__name__ and not everywhere and not issubclass(each, Screen)
            out.setdefault(name, Entry(name, keys_of(binding, {}), binding.description, everywhere, screen, pane))
    return out


def together(a: Entry, b: Entry) -> bool:
    """Whether one key could mean both at once."""
    if a.everywhere or b.everywhere or a.group == b.group:
        return True
    return a.screen == b.screen and not (a.pane and b.pane)


def checked(keys: Mapping[str, str]) -> dict[str, str]:
    """The user's own keys in Textual's names.

    Raises:
        UsageError: unknown ids or keys, keys said twice, or that mean two things at once; all of them in one line.
    """
    out: dict[str, str] = {}
    problems: list[str] = []
    for name, text in keys.items():
        try:
            out[name] = named(name, text)
        except UsageError as error:
            problems.append(str(error))
    problems += clashes(out)
    if problems:
        raise UsageError("[keys] " + "; also ".join(problems))
    return out


def named(name: str, text: str) -> str:
    """One entry's keys in Textual's names, comma-separated.

    Raises:
        UsageError: an unknown id or key, or a key said twice.
    """
    known = catalogue()
    if name not in known:
        pane, _, verb = name.partition(".")
        near = nearest(f"{GROUPS.get(pane, pane)}.{verb}", known)
        raise UsageError(f"unknown binding {name!r}{near} (minigpt-tui keys lists them)")
    keys = [normal(key.strip(), f"{name} = {text!r}") for key in text.split(",")]
    if len({*keys}) < len(keys):
        raise UsageError(f"{name} = {text!r}: a key said twice")
    return ",".join(keys)


def clashes(own: Mapping[str, str]) -> Iterator[str]:
    """Each of the user's own keys that would mean two things at once, beyond those that do so by design."""
    known = catalogue()
    bound = {name: set(own[name].split(",") if name in own else entry.keys) for name, entry in known.items()}
    for a, b in combinations(known, 2):
        if (a in own or b in own) and together(known[a], known[b]):
            by_design = {*known[a].keys} & {*known[b].keys}
            for key in sorted((bound[a] & bound[b]) - by_design):
                mine, other = (a, b) if a in own else (b, a)
                about = known[other].description
                yield f"{mine}: {written(key)!r} is the key of {other} ({about}) at the same time"


def normal(key: str, where: str) -> str:
    """A key in Textual's name for it: `?` is `question_mark`.

    Raises:
        UsageError: there is no such key; `where` begins the line.
    """
    if not key:
        raise UsageError(f"{where}: no key between the commas (the comma's own name is comma)")
    if len(key) == 1:
        return _character_to_key(key)
    *modifiers, base = key.split("+")
    if all(each in MODIFIERS for each in modifiers):
        if len(base) == 1:
            return "+".join([*modifiers, _character_to_key(base)])
        if base in NAMED or len(format_key(base)) == 1:
            return key
    known = [*NAMED, *(f"{modifier}+{name}" for modifier in MODIFIERS[:3] for name in [*"abcdefghijklmnopqrstuvwxyz"])]
    raise UsageError(f"{where}: unknown key {key!r}{nearest(key, known)}")


def written(key: str) -> str:
    """A key as the config file may say it: the character itself where it is a plain one."""
    character = format_key(key)
    plain = len(character) == 1 and character.isascii() and character not in ',"\\'
    return character if plain else key


def label(key: str) -> str:
    """A key as hints and the help show it: `←`, `^p`, `?`."""
    if key.startswith("ctrl+"):
        return f"^{label(key.removeprefix('ctrl+'))}"
    return LABELS.get(key) or format_key(key)


def spelled(text: str) -> str:
    """Keys as `label` writes them, in words where ASCII has no sign for them: `← →` is `left right`."""
    for sign, word in WORDS.items():
        text = re.sub(f"(?<=\\S){sign}", f" {sign}", text).replace(sign, word)
    return text


def toml(keymap: Mapping[str, str]) -> str:
    """All bindings with their keys as they are now, ready for the config file."""
    lines = ["[keys]"]
    group = ""
    groups = list(dict.fromkeys(entry.group for entry in catalogue().values()))
    for entry in sorted(catalogue().values(), key=lambda entry: groups.index(entry.group)):
        if entry.group != group:
            group = entry.group
            lines.append("")
        keys = keymap[entry.id].split(",") if entry.id in keymap else entry.keys
        said = f'{entry.id} = "{",".join(map(written, keys))}"'
        lines.append(f"{said:<34} # {entry.description}")
    return "\n".join(lines)
