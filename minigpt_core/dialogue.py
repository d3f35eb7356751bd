"""Conversations with a model of a play: who speaks in a text, and how two people's turns become a prompt.

A model that never saw a chat has seen plays. Its prompt is a scene in the making: what was said so far, and the name
of the one whose turn it is. All of it is pure text.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from minigpt_core.errors import UsageError

TEMPLATE = "{name}:\n{text}\n\n{reply}:\n"
"""How a play is printed: the speaker, what is said, a blank line, the speaker who answers."""
FIELDS = ("name", "text", "reply")
LEAST_SPEECHES = 3
"""Who speaks less often is no speaker but a line that happens to end with a colon."""
MAX_NAME = 40
SPEECH = re.compile(rf"(?:\A|\n[ \t]*\n)([^\W\d_][^\n:]{{0,{MAX_NAME - 1}}}):[ \t]*\n(?=[ \t]*\S)")
"""A name alone on a line after a blank one, and text in the line that follows."""


def speakers(text: str, at_most: int) -> tuple[str, ...]:
    """The names that begin at least `LEAST_SPEECHES` speeches of a play, most frequent first.

    >>> speakers("ROMEO:\\nAy me.\\n\\nJULIET:\\nHist!\\n\\nROMEO:\\nMy dear?\\n\\nROMEO:\\nLet me stand here.", 9)
    ('ROMEO',)
    """
    counts = Counter(match[1] for match in SPEECH.finditer(text))
    return tuple(name for name, n in counts.most_common(at_most) if n >= LEAST_SPEECHES)


def as_written(name: str, names: Sequence[str]) -> str | None:
    """A speaker as the text writes the name, however it is capitalised; None if nobody of that name speaks in it."""
    return next((each for each in names if each.lower() == name.lower()), None)


def unknown_speaker(name: str, names: Sequence[str]) -> UsageError:
    """The error for somebody who does not speak in a text; it offers the nearest names."""
    written = {each.lower(): each for each in names}
    near = [written[each] for each in difflib.get_close_matches(name.lower(), written, n=3)]
    return UsageError(
        f"{name} does not speak in this text; "
        + (f"did you mean {' or '.join(near)}?" if near else "/chat lists who does")
    )


class Template(msgspec.Struct, frozen=True):
    """How one turn and the name of who replies are written.

    Raises:
        UsageError: a field is missing, unknown, twice or out of order; the message says what a template needs.
    """

    text: str = TEMPLATE

    def __post_init__(self) -> None:
        wanted = f"a template needs {{name}}, {{text}} and {{reply}} once each, in this order; not {self.text!r}"
        found = re.findall(r"\{(\w*)\}", self.text)
        for field in FIELDS:
            if field not in found:
                raise UsageError(f"no {{{field}}} in it: {wanted}")
        for field in found:
            if field not in FIELDS:
                raise UsageError(f"unknown field {{{field}}}: {wanted}")
        if tuple(found) != FIELDS:
            raise UsageError(wanted)
        if not self.stop:
            raise UsageError(f"nothing between {{text}} and {{reply}}: that is what ends a speech; {wanted}")

    @property
    def stop(self) -> str:
        """What ends a speech, the reply as well: a blank line in a play."""
        return self.text.partition("{text}")[2].partition("{reply}")[0]

    def turn(self, name: str, text: str, reply: str) -> str:
        """What is said, up to where the reply begins."""
        said = {"name": name, "text": text, "reply": reply}
        return re.sub(r"\{(\w+)\}", lambda field: said[field[1]], self.text)


class Turn(NamedTuple):
    """What was said, and the reply to it."""

    text: str
    reply: str


def scene(template: Template, name: str, reply: str, turns: Sequence[Turn], text: str, at_most: int) -> str:
    """The prompt to which the model's answer is the reply: the turns so far and the new one.

    Args:
        name: who says `text`.
        reply: who answers.
        at_most: characters. The oldest turns are left out, each as a whole, until the rest fits; the new one stays.
    """
    prompt = template.turn(name, text, reply)
    for turn in reversed(turns):
        earlier = template.turn(name, turn.text, reply) + turn.reply + template.stop
        if len(earlier) + len(prompt) > at_most:
            break
        prompt = earlier + prompt
    return prompt
