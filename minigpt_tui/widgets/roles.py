"""What the scores and roles of heads are called, what they mean, and their colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style

from minigpt_core.heads import BORN
from minigpt_tui.widgets.palette import BACKGROUND

Head = tuple[int, int]
"""(layer, head), both from 0."""
Births = Mapping[Head, Sequence[tuple[int, str]]]
"""(step, role) of every role that a head took up, the earliest first."""

MEANING = {
    "previous": "previous: share of its attention on the token just before.",
    "induction": "induction: share of its attention on what followed the same token last time.",
    "sink": "sink: share of its attention on the very first token of the text.",
    "entropy": "entropy: how evenly its attention spreads; 1 evenly over all, 0 on one token.",
}
ROLES = {
    "previous": "previous-token head: attends to the token just before, so every position knows what it follows; "
    "induction heads further up build on that.",
    "induction": "induction head: looks for an earlier copy of the current token and attends to what came after it; so "
    "what was seen once can go on the same way.",
    "sink": "sink head: rests its attention on the very first token, where it does no harm, until what it looks for "
    "turns up.",
    "diffuse": "diffuse head: spreads its attention almost evenly over all it may see, an average of the context; "
    "untrained, every head does.",
    "": f"no single role: no score reaches {BORN:g} and its attention is not even; its map says more.",
}
COLOURS = {"previous": "#5fafff", "induction": "#ffaf00", "sink": "#d787af", "diffuse": "#949494"}
"""75, 214, 175, 246: apart for colour-blind eyes too (after Okabe and Ito), and the word stands there as well."""
STYLES = {role: Style(color=colour, bgcolor=BACKGROUND) for role, colour in COLOURS.items()}
SHORT = {"previous": "prev", "induction": "indu", "sink": "sink", "entropy": "entr"}


def head_name(head: Head) -> str:
    return f"L{head[0]} H{head[1]}"


def all_births(births: Sequence[tuple[int, str]]) -> str:
    """`previous @120, induction @310`."""
    return ", ".join(f"{role} @{step}" for step, role in births)


def last_birth(births: Sequence[tuple[int, str]]) -> str:
    return all_births(births[-1:])


def last_birth_step(births: Sequence[tuple[int, str]]) -> str:
    return f"@{births[-1][0]}" if births else ""
