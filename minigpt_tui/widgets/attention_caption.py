"""What is said above and below an attention map, in as many words as fit whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import Norm, Ramp
from minigpt_tui.widgets.lines import Part, cut, strip
from minigpt_tui.widgets.palette import FAINT_STYLE, MUTED_STYLE, WARN_STYLE

AXES = "rows=query cols=key"
NORM: dict[Norm, str] = {"absolute": "0..1 sqrt", "row": "row max=1 sqrt", "head": "map max=1 sqrt"}
ESSENTIAL = 2
"""Up to this rank a phrase stays until the others have been shortened."""

LEGEND = 18
"""Cells of the legend: 0, the ramp, 1."""


class Phrase(NamedTuple):
    """A piece of a caption; what has the higher rank goes first, and before that it may be said shorter."""

    rank: int
    text: str
    short: str = ""
    style: Style = MUTED_STYLE


def caption(phrases: Sequence[Phrase], columns: int) -> list[Part]:
    """The phrases that fit, with commas between; what is left of a single one that does not is whole words."""
    left = [phrase for phrase in phrases if phrase.text]
    gone: list[Phrase] = []
    while len(left) > 1 and _length(left) > columns:
        # First what nobody misses goes, then the longest words become short, then the rest goes by rank.
        last = max(left, key=lambda phrase: phrase.rank)
        long = next((phrase for phrase in left if phrase.short), None) if last.rank <= ESSENTIAL else None
        if long is not None:
            left[left.index(long)] = long._replace(text=long.short, short="")
        else:
            left.remove(last)
            gone.append(last)
    for phrase in reversed(gone):  # short words may have made room for one again
        if _length([*left, phrase]) <= columns:
            left.append(phrase)
    if _length(left) > columns:
        left = [left[0]._replace(text=words(left[0].short or left[0].text, columns))]
    parts: list[Part] = []
    for phrase in left:
        parts += [(", ", MUTED_STYLE)] if parts else []
        parts.append((phrase.text, phrase.style))
    return parts


def _length(phrases: Sequence[Phrase]) -> int:
    return sum(cell_len(phrase.text) for phrase in phrases) + 2 * (len(phrases) - 1)


def words(text: str, columns: int) -> str:
    """As many whole words as fit; at least a piece of the first."""
    while cell_len(text) > columns and " " in text:
        text = text.rsplit(" ", 1)[0]
    return cut(text, columns)


class Place(NamedTuple):
    """A query or key, or a group of them: `q 41 ⏎` or `k 36–39 'the␣'`, and its characters alone."""

    full: str
    short: str


def where(name: str, labels: Sequence[str], first: int, last: int) -> Place:
    index = f"{name} {first}" if first == last else f"{name} {first}–{last}"
    text = fmt.quoted("".join(labels[first : last + 1]))
    return Place(f"{index} {text}", text)


def what_head(layer: int, head: int, role: str) -> Phrase:
    """One head, and its role if it has one."""
    return Phrase(0, f"layer {layer} head {head} {role}".rstrip(), f"L{layer} H{head} {role}".rstrip())


def what_mean(layer: int | None, n_layers: int, n_heads: int) -> Phrase:
    """The average over the heads of a layer, or of all layers for None."""
    if layer is None:
        return Phrase(
            0, f"mean of all {n_layers * n_heads} heads of {n_layers} layers", f"mean of {n_layers * n_heads} heads"
        )
    return Phrase(0, f"mean of the {n_heads} heads of layer {layer}", f"mean, layer {layer}")


def when_phrase(step: int, pinned: bool) -> Phrase:
    return Phrase(1, f"pinned at step {step}", style=WARN_STYLE) if pinned else Phrase(1, f"step {step}")


def how_much(tokens: int, coarse: bool) -> list[Phrase]:
    """That not all tokens are on screen, or several in one pixel, and the key that changes it."""
    if not coarse:
        return [Phrase(1, f"part of {tokens} tokens, z: overview", f"part of {tokens} (z)")]
    return [
        Phrase(1, f"overview of {tokens}: keys summed, queries averaged", f"overview of {tokens}"),
        Phrase(2, "rows sum to 1"),
        Phrase(3, "z: 1:1"),
    ]


class Caption(NamedTuple):
    """What every caption says: which weights, and what the brightest colour means."""

    step: int
    pinned: bool
    norm: Norm
    look: Ramp
    past: bool

    def of_map(self, what: Phrase, much: list[Phrase], n_lines: int, columns: int) -> list[Strip]:
        """Of one map, in one line or two."""
        when, norm, axes = when_phrase(self.step, self.pinned), Phrase(3, NORM[self.norm]), Phrase(4, AXES)
        if n_lines == 1:
            return [self._line([what, axes, when, *much, norm], columns)]
        if not much:
            return [self._line([what, when], columns), self._line([axes, norm], columns)]
        return [self._line([what, when, norm], columns), self._line([*much, axes], columns, legend=False)]

    def multiples(self, what: str, reduced: bool, columns: int) -> list[Strip]:
        """Of small maps of all heads."""
        how = [Phrase(2, "overview: keys summed, queries averaged", "overview")] if reduced else []
        when = when_phrase(self.step, self.pinned)
        return [self._line([Phrase(0, what), Phrase(4, AXES), when, *how, Phrase(3, NORM[self.norm])], columns)]

    def _line(self, phrases: list[Phrase], columns: int, legend: bool = True) -> Strip:
        """In the colour of warnings while one looks back; with a legend where there is room."""
        parts = caption(phrases, columns)
        line = strip([(text, WARN_STYLE if self.past else style) for text, style in parts])
        if not legend or columns - line.cell_length < LEGEND:
            return line
        ramp = heatmap.legend(self.look)
        return Strip([*line, Segment("  0 ", FAINT_STYLE), *ramp, Segment(" 1", FAINT_STYLE)])
