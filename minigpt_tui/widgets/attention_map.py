"""One attention map as rows: caption, axes, picture, and what is under the cursor. Pure functions from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from minigpt_tui.safetext import PICTURES
from minigpt_tui.widgets import attention_caption as say
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import Norm, Ramp
from minigpt_tui.widgets.lines import Part, strip, width
from minigpt_tui.widgets.map_view import Cell, Room, View, fits
from minigpt_tui.widgets.palette import ACCENT_BOLD, BRIGHT_STYLE, FAINT_STYLE, MUTED_STYLE, TEXT_STYLE

TICKS = 10
"""Keys between two numbers on the axis, and the rows from which on they have one of their own."""
TWO_LINES = 16
"""Rows from which on a caption may take two lines."""
NARROW = 60
"""Columns below which it does."""


class Plan(NamedTuple):
    """Where the parts of the pane go. It follows from sizes alone, so that nothing jumps while training goes on."""

    captions: int
    axes: int
    """Lines of the keys' axis: none, their characters, or numbers above them too."""
    margin: int
    room: Room

    @property
    def top(self) -> int:
        """The row in which the picture begins."""
        return self.captions + self.axes


class Drawn(NamedTuple):
    """A map with all that decides how it looks.

    Attributes:
        weights: (T, T).
        labels: T, as `token_label` makes them.
        cells: T, one cell each.
        marked: show the cursor in the picture, not only on the axes.
    """

    weights: np.ndarray
    labels: Sequence[str]
    cells: Sequence[str]
    view: View
    cursor: Cell
    marked: bool
    norm: Norm
    look: Ramp


def plan(tokens: int, columns: int, rows: int, per_cell: int) -> Plan:
    """The parts that so many cells have room for."""
    margin = len(str(tokens - 1)) + 2 + per_cell
    axes = 0 if rows < 4 else 1 + (rows >= TICKS)
    wide = max(1, columns - margin)
    one = Room(wide, max(1, rows - 2 - axes), per_cell)
    if rows >= TWO_LINES and (columns < NARROW or not fits(tokens, one)):
        return Plan(2, axes, margin, one._replace(rows=one.rows - 1))
    return Plan(1, axes, margin, one)


def first_cell(label: str) -> str:
    """One cell that stands for a token on an axis: the first but a space, with which most merged tokens begin."""
    sign = label[:2].lstrip(PICTURES[" "])[:1] or label[:1]
    return sign if sign and cell_len(sign) == 1 else "□"


def draw(drawn: Drawn, place: Plan, columns: int) -> list[Strip]:
    """Everything but the caption."""
    view, look = drawn.view, drawn.look
    values = heatmap.reduced(drawn.weights, view.queries, view.keys)
    level = heatmap.levels(values / _unit(drawn, values), look.n, view.queries, view.keys)
    row, column = view.place(drawn.cursor)
    if drawn.marked:
        level[row, column] = heatmap.MARKED
    level = np.repeat(np.repeat(level, view.scale_y, axis=0), view.scale_x, axis=1)
    corner = int(view.queries[0]) * view.scale_y, int(view.keys[0]) * view.scale_x
    lines = heatmap.strips(level, look, corner)
    out = _key_axis(drawn, place, column)
    digits = place.margin - 2 - look.rows_per_cell
    for y, line in enumerate(lines):
        first = y * look.rows_per_cell // view.scale_y
        last = min(((y + 1) * look.rows_per_cell - 1) // view.scale_y, len(view.queries) - 2)
        names = "".join(drawn.cells[view.queries[i]] for i in range(first, last + 1))
        index = f"{view.queries[first]:>{digits}} "
        label = _query_label(index, names, row - first if first <= row <= last else -1, place.margin)
        out.append(Strip([*label, *line], place.margin + line.cell_length))
    out.append(_read_out(drawn, values, columns))
    return out


def _unit(drawn: Drawn, values: np.ndarray) -> np.ndarray | float:
    """What is drawn as 1. In a part it is what it would be in the whole, so that moving about changes no colour."""
    if drawn.view.coarse() or drawn.norm == "absolute":
        return heatmap.unit(values, drawn.norm)
    queries = drawn.view.queries
    return heatmap.unit(drawn.weights[queries[0] : queries[-1]] if drawn.norm == "row" else drawn.weights, drawn.norm)


def _key_axis(drawn: Drawn, place: Plan, column: int) -> list[Strip]:
    """Indices where there is room for them, and every key's first cell."""
    view, blank = drawn.view, " " * place.margin
    names = [drawn.cells[k].ljust(view.scale_x) for k in view.keys[:-1]]
    axis = strip(
        [
            (blank + "".join(names[:column]), MUTED_STYLE),
            (names[column], ACCENT_BOLD),
            ("".join(names[column + 1 :]), MUTED_STYLE),
        ]
    )
    if place.axes < 2:
        return [axis][: place.axes]
    line = [" "] * (len(names) * view.scale_x)
    free = 0
    for i in _ticks(view):
        at, text = i * view.scale_x, str(view.keys[i])
        if free <= at and at + len(text) <= len(line):
            line[at : at + len(text)] = text
            free = at + len(text) + 1
    return [strip([(blank + "".join(line), FAINT_STYLE)]), axis]


def _ticks(view: View) -> range:
    """The columns that have a number: every tenth key, or where keys share a column every tenth column."""
    start = 0 if view.coarse() else -int(view.keys[0]) % TICKS
    return range(start, len(view.keys) - 1, TICKS)


@lru_cache(4096)
def _query_label(index: str, names: str, chosen: int, margin: int) -> tuple[Segment, ...]:
    """The index and the first cells of the queries in a row; `chosen` of them is the cursor's, or -1."""
    blank = " " * (margin - len(index) - len(names))
    parts: list[Part] = [(index, FAINT_STYLE if chosen < 0 else ACCENT_BOLD)]
    parts += [(name, ACCENT_BOLD if i == chosen else MUTED_STYLE) for i, name in enumerate(names)]
    return tuple(Segment(text, style) for text, style in [*parts, (blank, TEXT_STYLE)] if text)


def _read_out(drawn: Drawn, values: np.ndarray, columns: int) -> Strip:
    """`q 41 ⏎ → k 40 ':' p=.731 #1/42`, and which part of the map is on screen if not all of it."""
    view, tokens = drawn.view, len(drawn.labels)
    row, column = view.place(drawn.cursor)
    if view.coarse():
        (q0, q1), (k0, k1) = view.queries[row : row + 2].tolist(), view.keys[column : column + 2].tolist()
        visible = values[row, view.keys[:-1] < q1]
    else:
        (q0, k0), (q1, k1) = drawn.cursor, (drawn.cursor[0] + 1, drawn.cursor[1] + 1)
        visible, column = drawn.weights[q0, : q0 + 1], k0
    visible = np.nan_to_num(visible)
    value = float(visible[column]) if column < len(visible) else 0.0
    query, key = say.where("q", drawn.labels, q0, q1 - 1), say.where("k", drawn.labels, k0, k1 - 1)
    p: Part = (f"p={fmt.share(value)}", BRIGHT_STYLE)
    rank: Part = (f" #{1 + int((visible > value).sum())}/{len(visible)}", MUTED_STYLE)
    texts = [f"{query.full} → {key.full} ", f"{query.short} → {key.short} ", ""]
    choices: list[list[Part]] = [[(texts[0], TEXT_STYLE), p, rank], *([(text, TEXT_STYLE), p] for text in texts)]
    parts = next((choice for choice in choices if width(choice) <= columns), [p])
    if not view.whole(tokens):
        here = f"  part: q {view.queries[0]}–{view.queries[-1] - 1} k {view.keys[0]}–{view.keys[-1] - 1}"
        if len(here) <= columns - width(parts):  # that it is a part, and of how many, the caption says
            parts = [*parts, (here, FAINT_STYLE)]
    return strip(parts)
