"""The head gallery: every attention head in a row, with its role, its scores and how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar, NamedTuple

import numpy as np
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.strip import Strip

from minigpt_core.frame import HeadHistory
from minigpt_core.heads import BORN, SCORES, label
from minigpt_tui.widgets.lines import Lines, Part, cut, message, strip, width
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    BRIGHT_STYLE,
    FAINT_STYLE,
    MUTED_STYLE,
    TEXT_STYLE,
)
from minigpt_tui.widgets.roles import (
    MEANING,
    ROLES,
    SHORT,
    STYLES,
    Births,
    Head,
    all_births,
    head_name,
    last_birth,
    last_birth_step,
)
from minigpt_tui.widgets.sparkline import BARS

SELECTED = Style(bgcolor="#303030")  # 236
MIN_SPARKLINE, MAX_SPARKLINE = 8, 64
MIN_HEADS = 5
"""Rows: with fewer heads in sight the explanation makes room for them."""
ROLE, SCORE = 9, 5
"""Cells of the longest role, and of a score with a blank."""


def trace(values: np.ndarray, columns: int) -> tuple[str, np.ndarray]:
    """The means of at most `columns` equal buckets of frames as blocks on a fixed scale from 0 to 1, so heads compare.

    Values that are not finite are left out; a bucket of nothing else is a blank. Returns the blocks and the means (NaN
    for a blank).
    """
    if columns <= 0 or not len(values):
        return "", np.empty(0)
    starts = np.linspace(0, len(values), min(columns, len(values)), endpoint=False).astype(int)
    seen = np.isfinite(values)
    counts = np.add.reduceat(seen, starts, dtype=np.int64)
    sums = np.add.reduceat(np.where(seen, values, 0.0), starts)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    levels = (np.clip(np.nan_to_num(means), 0, 1) * (len(BARS) - 1) + 0.5).astype(int)
    return "".join(BARS[n] if c else " " for n, c in zip(levels, counts, strict=True)), means


def ranking(scores: np.ndarray, reverse: bool) -> list[Head]:
    """Heads by one score (L, H), the highest first, or the lowest if reversed; NaN comes last, equals by layer."""
    keys = np.where(np.isfinite(scores), scores if reverse else -scores, np.inf).ravel()
    heads_per_layer = scores.shape[1]
    return [divmod(int(i), heads_per_layer) for i in np.argsort(keys, kind="stable")]


class Columns(NamedTuple):
    """Cells of each column of the table; 0 leaves it out."""

    name: int
    role: int
    scores: int
    """How many scores: all, or only the chosen one."""
    trace: int
    born: int

    @staticmethod
    def fitting(columns: int, name: int, born: Sequence[int]) -> Columns:
        """What has room, the most telling first: name and score, role, sparkline, births, the other scores.

        Args:
            born: cells that the births take, from the fullest wording to the shortest.
        """
        room = columns - 2 - name  # the cursor's mark, and a blank
        role = ROLE + 1 if room >= ROLE + 1 + SCORE else 0
        scores = len(SCORES) if room - role - SCORE * len(SCORES) > MIN_SPARKLINE else 1
        room -= role + SCORE * scores + 1
        births = next((cells for cells in born if room - cells >= min(2 * MIN_SPARKLINE, cells)), 0)
        births = births if room - births >= MIN_SPARKLINE else 0
        return Columns(name, role, scores, max(0, min(MAX_SPARKLINE, room - births)), births)


class HeadTable(Lines, can_focus=True):
    """Asks nothing: `update` brings the scores, keys choose their order and a head."""

    DEFAULT_CSS = "HeadTable { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "sort('previous')", "sort by previous; again: reversed", show=False, id="gallery.by-previous"),
        Binding("i", "sort('induction')", "sort by induction", show=False, id="gallery.by-induction"),
        Binding("s", "sort('sink')", "sort by sink", show=False, id="gallery.by-sink"),
        Binding("e", "sort('entropy')", "sort by entropy", show=False, id="gallery.by-entropy"),
        Binding("l", "sort('layer')", "sort by layer", show=False, id="gallery.by-layer"),
        Binding("up", "move(-1)", "head above", show=False, id="gallery.up"),
        Binding("down", "move(1)", "head below", show=False, id="gallery.down"),
        Binding("pageup", "page(-1)", "page up", show=False, id="gallery.page-up"),
        Binding("pagedown", "page(1)", "page down", show=False, id="gallery.page-down"),
        Binding("home", "edge(0)", "first head", show=False, id="gallery.first"),
        Binding("end", "edge(-1)", "last head", show=False, id="gallery.last"),
    ]

    selected: reactive[Head | None] = reactive(None, repaint=False)
    """The head under the cursor; it stays on its head when the order changes."""

    def __init__(self) -> None:
        super().__init__(id="heads")
        self.score = "induction"
        """The score that the sparklines show, and the order follows unless it is by layer."""
        self.by_layer = False
        self.reverse = False
        self._history: HeadHistory | None = None
        self._waiting = ""
        self._now = 0
        self._births: Births = {}
        self._order: list[Head] = []
        self._top = 0

    # --- what to show ---

    def update(self, history: HeadHistory | None, at: int | None, births: Births, waiting: str) -> None:
        """Show the recorded scores.

        Args:
            at: the step whose scores are shown as numbers; None is the newest.
            waiting: said where nothing is recorded.
        """
        self._history, self._births, self._waiting = history, births, waiting
        if history is not None:
            last = len(history.steps) - 1
            self._now = last if at is None else max(0, int(np.searchsorted(history.steps, at, side="right")) - 1)
        self._sort()

    def action_sort(self, by: str) -> None:
        again = by == ("layer" if self.by_layer else self.score)
        self.reverse = again and not self.reverse
        self.by_layer = by == "layer"
        if not self.by_layer:
            self.score = by
        self._sort()

    def _sort(self) -> None:
        if self._history is None:
            self._order = []
        else:
            scores = self._history.scores[self._now, SCORES.index(self.score)]
            self._order = ranking(scores, self.reverse) if not self.by_layer else list(np.ndindex(scores.shape))
            if self.by_layer and self.reverse:
                self._order.reverse()
            if self.selected not in self._order:
                self.selected = self._order[0]
        self._paint()

    # --- the cursor ---

    def _go(self, row: int) -> None:
        if self._order:
            self.selected = self._order[min(max(row, 0), len(self._order) - 1)]
            self._paint()

    def _row(self) -> int:
        return self._order.index(self.selected) if self.selected in self._order else 0

    def action_move(self, by: int) -> None:
        self._go(self._row() + by)

    def action_page(self, by: int) -> None:
        self._go(self._row() + by * max(1, self._layout()[1] - 1))

    def action_edge(self, end: int) -> None:
        self._go(end % max(1, len(self._order)))

    def on_click(self, event: events.Click) -> None:
        above, rows, _ = self._layout()
        if above <= event.y < above + rows and self._top + event.y - above < len(self._order):
            self._go(self._top + event.y - above)

    def on_mouse_scroll_down(self) -> None:
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        self.action_move(-1)

    def on_resize(self) -> None:
        self._paint()

    # --- drawing ---

    def _layout(self) -> tuple[int, int, int]:
        """Rows above the heads, of heads, and below them; a low screen keeps the heads."""
        height = self.size.height
        above = 2 + len(self._meaning()) if height >= 10 else 1 if height >= 3 else 0
        below = 1 + max(len(self._about(role)) for role in ROLES)
        below = below if height - above - below >= MIN_HEADS else 0
        return above, max(1, height - above - below), below

    def _meaning(self) -> list[str]:
        return wrap(MEANING[self.score], max(1, self.size.width - 2))[:2]

    def _paint(self) -> None:
        columns, height = self.size
        if not columns or not height:
            return
        if self._history is None or self.selected is None:
            self.show(message(self._waiting, FAINT_STYLE, columns))
            return
        above, rows, below = self._layout()
        n_layers, n_heads = self._history.scores.shape[2:]
        wordings = [
            {head: word(self._births.get(head, ())) for head in self._order}
            for word in (all_births, last_birth, last_birth_step)
        ]
        cells = [2 + max(map(len, born.values())) for born in wordings] if self._births else []
        sizes = Columns.fitting(columns, len(f"L{n_layers - 1} H{n_heads - 1}"), cells)
        born = wordings[cells.index(sizes.born)] if sizes.born else {}
        row = self._row()
        self._top = min(max(self._top, row - rows + 1, 0), row, max(0, len(self._order) - rows))
        out: list[Strip] = []
        if above > 1:
            out = [self._title(columns), *(strip([(f" {text}", MUTED_STYLE)]) for text in self._meaning())]
        if above:
            out += [self._headings(sizes)]
        shown = self._order[self._top : self._top + rows]
        out += [self._head(head, sizes, born.get(head, ""), columns) for head in shown]
        if below:
            out += [Strip([])] * (rows - len(shown)) + self._explanation(columns)
        self.show(out)

    def _title(self, columns: int) -> Strip:
        assert self._history is not None
        here = [label(self._history.scores[(self._now, slice(None), *head)]) for head in self._order]
        parts: list[Part] = [(" heads", BRIGHT_STYLE), (f" {len(here)}", TEXT_STYLE)]
        for role, style in STYLES.items():
            if count := here.count(role):
                parts += [("  ", TEXT_STYLE), (f"{count} {role}", style)]
        step = f"step {self._history.steps[self._now]:,} "
        gap = columns - width(parts) - len(step)
        return strip([*parts, (" " * gap, TEXT_STYLE), (step, MUTED_STYLE)] if gap > 1 else parts)

    def _headings(self, sizes: Columns) -> Strip:
        assert self._history is not None
        arrow = "↑" if self.reverse else "↓"
        by_layer: Part = (" head" + arrow, ACCENT_BOLD) if self.by_layer else (" head", MUTED_STYLE)
        parts = [(f"{by_layer[0]:<{sizes.name + 2}}"[: sizes.name + 2], by_layer[1])]
        parts += [(f"{'role':<{sizes.role}}"[: sizes.role], MUTED_STYLE)]
        for name in self._scores(sizes):
            chosen = name == self.score and not self.by_layer
            text = f"{SHORT[name]}{arrow}" if chosen else f"{SHORT[name]} "
            parts.append((text, ACCENT_BOLD if chosen else MUTED_STYLE))
        first, last = self._history.steps[[0, -1]]
        axis = [f"{self.score}, step {first:,} to {last:,}", f"{self.score} to {last:,}", self.score, ""]
        axis = [text for text in axis if len(text) <= sizes.trace]
        parts += [(f" {axis[0]:<{sizes.trace}}" if axis else "", MUTED_STYLE)]
        parts += [("  born", MUTED_STYLE)] if sizes.born else []
        return strip(parts)

    def _scores(self, sizes: Columns) -> tuple[str, ...]:
        return SCORES if sizes.scores > 1 else (self.score,)

    def _head(self, head: Head, sizes: Columns, born: str, columns: int) -> Strip:
        assert self._history is not None
        history = self._history.scores[(slice(None), slice(None), *head)]  # (n, 4)
        now = history[self._now]
        role = label(now)
        here = head == self.selected
        parts: list[Part] = [("▸" if here else " ", ACCENT_BOLD)]
        parts += [(f"{head_name(head):<{sizes.name + 1}}", BRIGHT_STYLE if here else TEXT_STYLE)]
        parts += [(f"{role or '·':<{sizes.role}}", STYLES.get(role, FAINT_STYLE))] if sizes.role else []
        for name in self._scores(sizes):
            value = now[SCORES.index(name)]
            plain = TEXT_STYLE if name == self.score else MUTED_STYLE
            parts.append((f"{_decimal(value)} ", STYLES.get(name, plain) if value >= BORN else plain))
        blocks, means = trace(history[:, SCORES.index(self.score)], sizes.trace)
        parts.append((" ", TEXT_STYLE))
        high = np.flatnonzero(np.diff(means >= BORN)) + 1
        for start, end in zip([0, *high], [*high, len(blocks)], strict=True):
            strong = start < len(blocks) and means[start] >= BORN
            parts.append((blocks[start:end], STYLES.get(self.score, TEXT_STYLE) if strong else MUTED_STYLE))
        parts.append(("·" * (sizes.trace - len(blocks)), FAINT_STYLE))
        if sizes.born:
            parts.append((f"  {born:<{sizes.born - 2}}", TEXT_STYLE))
        if here:
            parts.append((" " * (columns - width(parts)), TEXT_STYLE))
            parts = [(text, style + SELECTED) for text, style in parts]
        return strip(parts)

    def _about(self, role: str) -> list[str]:
        return wrap(f"{head_name(self.selected or (0, 0))} {ROLES[role]}", max(1, self.size.width - 2))

    def _explanation(self, columns: int) -> list[Strip]:
        """What the role of the chosen head means, under a line with its births."""
        assert self._history is not None
        assert self.selected is not None
        role = label(self._history.scores[(self._now, slice(None), *self.selected)])
        births = all_births(self._births.get(self.selected, ()))
        rule = f"─ {cut(births, columns - 4)} " if births else ""
        out = [strip([(rule + "─" * (columns - len(rule)), FAINT_STYLE)])]
        name = len(head_name(self.selected))
        first, *rest = self._about(role)
        colon = first.find(":") + 1
        out += [
            strip(
                [
                    (f" {first[:name]}", BRIGHT_STYLE),
                    (first[name:colon], STYLES.get(role, BRIGHT_STYLE)),
                    (first[colon:], TEXT_STYLE),
                ]
            )
        ]
        return out + [strip([(f" {text}", TEXT_STYLE)]) for text in rest]


def _decimal(value: float) -> str:
    """A score in four cells: 0.93, 1.00; unknown is a dash."""
    return f"{value:4.2f}" if np.isfinite(value) else "   —"
