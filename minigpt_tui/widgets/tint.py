"""How sure the model was of each token that it wrote: colours for a glance, numbers for the one under the cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from minigpt_core.status import Choice
from minigpt_tui.safetext import token_label
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Part, cut, width
from minigpt_tui.widgets.palette import BACKGROUND, BRIGHT, BRIGHT_STYLE, MUTED_STYLE, SECOND

AT_LEAST = (0.7, 0.3, 0.1)
"""The probabilities that part the colours."""
COLOURS = (BRIGHT, "#ffd7af", SECOND, "#d75f00")
"""254, 223, 215, 166: from sure to unsure, each darker than the one before, so apart for colour-blind eyes too."""
STYLES = tuple(Style(color=colour, bgcolor=BACKGROUND) for colour in COLOURS)
MONO = tuple(
    STYLES[0] + style
    for style in (Style(), Style(underline=True, dim=True), Style(underline=True), Style(underline=True, bold=True))
)
"""The same without colours."""
MAX_LABEL = 12
"""Cells of a token in the read-out; bytes of a tokenizer's longest token may be many."""


def style(p: float, mono: bool) -> Style:
    """How a token of this probability is shown."""
    return (MONO if mono else STYLES)[sum(p < least for least in AT_LEAST)]


def legend(mono: bool) -> Text:
    """`p .7 .3 .1 0`, each in the style of what is at least so likely."""
    styles = MONO if mono else STYLES
    marks = [(f" ≥{fmt.share(least, 1)}", styles[n]) for n, least in enumerate(AT_LEAST)]
    return Text.assemble(("p", MUTED_STYLE), *marks, (f" <{fmt.share(AT_LEAST[-1], 1)}", styles[-1]))


def read_out(choice: Choice, columns: int) -> Text:
    """`'e' p=.83 · 'a' .08 · ␣ .03`: the token and what it was drawn from, as much as fits."""
    token = choice.label or choice.text
    drawn = token_label(token)
    parts: list[Part] = [(label(token), BRIGHT_STYLE), (f" p={probability(choice.p)}", MUTED_STYLE)]
    for text, p in choice.alternatives:
        if token_label(text) == drawn:
            continue
        other = (f" · {label(text)} {probability(p)}", MUTED_STYLE)
        if width([*parts, other]) > columns:
            break
        parts.append(other)
    return fit(parts, columns)


def fit(parts: Sequence[Part], columns: int) -> Text:
    """The parts in one line, cut at so many cells."""
    out = Text()
    for text, style in parts:
        out.append(cut(text, columns - out.cell_len), style)
    return out


def label(text: str) -> str:
    """A token in a line of others: white space visible, never long."""
    return fmt.quoted(cut(token_label(text), MAX_LABEL))


def probability(p: float) -> str:
    """.83, .004, <.001."""
    if not math.isfinite(p) or p >= 0.01:
        return fmt.share(p, 2)
    return fmt.share(p) if p >= 0.001 else "<.001"
