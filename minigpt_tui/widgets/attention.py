"""The attention pane: one head's map with a cursor, or all heads as small multiples."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.strip import Strip

from minigpt_core.status import AttentionFrame
from minigpt_tui.safetext import safe, token_label
from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.lines import Lines, Part, message, strip, width
from minigpt_tui.widgets.palette import ACCENT_BOLD, BRIGHT_STYLE, FAINT_STYLE, MUTED_STYLE, TEXT_STYLE, WARN_STYLE

WAITING = "no attention yet: waiting for the first weights"
MIN_THUMBNAIL = 10
"""Pixels: smaller small multiples show little; where not all fit, they scroll with the selection."""


class View(NamedTuple):
    """The part of a map on screen: queries and keys from-to, and pixels a token."""

    q0: int
    q1: int
    k0: int
    k1: int
    scale_x: int
    scale_y: int


class Grid(NamedTuple):
    """How many queries and keys are on screen, and pixels a token."""

    queries: int
    keys: int
    scale_x: int
    scale_y: int


def fit(tokens: int, columns: int, rows: int, per_cell: int) -> Grid:
    """How large a token is drawn in so many cells, and how many of the tokens then have room."""
    if per_cell == 2:
        scale_x = scale_y = max(1, min(columns // tokens, 2 * rows // tokens))
    else:
        scale_x, scale_y = (2 if columns >= 2 * tokens else 1), 1
    return Grid(
        min(tokens, max(1, per_cell * rows // scale_y)), min(tokens, max(1, columns // scale_x)), scale_x, scale_y
    )


def around(cursor: tuple[int, int], corner: tuple[int, int], grid: Grid, tokens: int, per_cell: int) -> View:
    """The part of the map with the cursor in it, as near as can be to the corner of the last one."""
    query, key = cursor
    q0 = min(max(corner[0], query - grid.queries + 1), query, tokens - grid.queries)
    k0 = min(max(corner[1], key - grid.keys + 1), key, tokens - grid.keys)
    q0 -= q0 % per_cell if q0 + grid.queries < tokens else 0  # keep the same queries paired in a cell while scrolling
    if query >= q0 + grid.queries:
        q0 += per_cell
    return View(q0, q0 + grid.queries, k0, k0 + grid.keys, grid.scale_x, grid.scale_y)


def _strongest(weights: np.ndarray, grid: Grid) -> tuple[int, int]:
    """Where the cursor begins: the last query on screen and the key it looks at most."""
    query = grid.queries - 1
    return query, int(np.argmax(np.nan_to_num(weights[query, : min(query + 1, grid.keys)])))


class AttentionPane(Lines, can_focus=True):
    """Asks nothing: `update` brings a frame, keys choose what of it is drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("less_than_sign", "layer(-1)", "previous layer", show=False),
        Binding("greater_than_sign", "layer(1)", "next layer", show=False),
        Binding("comma", "head(-1)", "previous head", show=False),
        Binding("full_stop", "head(1)", "next head", show=False),
        Binding("a", "all", "all heads", show=False),
        Binding("enter", "zoom", "zoom into the head", show=False),
        Binding("up", "move(-1, 0)", "query up", show=False),
        Binding("down", "move(1, 0)", "query down", show=False),
        Binding("left", "move(0, -1)", "key left", show=False),
        Binding("right", "move(0, 1)", "key right", show=False),
        Binding("home", "edge(0)", "first key", show=False),
        Binding("end", "edge(1)", "last visible key", show=False),
    ]

    def __init__(self, look: Ramp) -> None:
        super().__init__(id="attention", classes="pane")
        self.border_title = "2 attention"
        self._look = look
        self._frame: AttentionFrame | None = None
        self._failure: str | None = None
        self._labels: list[str] = []
        self.layer_index = 0
        self.head_index = 0
        self.all_heads = False
        self.cursor: tuple[int, int] | None = None
        """(query, key); None until a map was drawn."""
        self._corner = (0, 0)

    # --- what to show ---

    def update(self, frame: AttentionFrame | None, failure: str | None = None) -> None:
        """A frame from the session, or why there is none; what is already shown costs nothing."""
        if frame is self._frame and (frame is not None or (self._rows and failure == self._failure)):
            return
        self._failure = failure
        if frame is not None:
            if self._frame is None or self._frame.tokens != frame.tokens:
                self._labels = [token_label(token) for token in frame.tokens]
                self.cursor = None
            self.layer_index = min(self.layer_index, frame.weights.shape[0] - 1)
            self.head_index = min(self.head_index, frame.weights.shape[1] - 1)
        self._frame = frame
        self._paint()

    def action_layer(self, by: int) -> None:
        if self._frame is not None:
            self.layer_index = (self.layer_index + by) % self._frame.weights.shape[0]
            self._paint()

    def action_head(self, by: int) -> None:
        if self._frame is not None:
            self.head_index = (self.head_index + by) % self._frame.weights.shape[1]
            self._paint()

    def action_all(self) -> None:
        self.all_heads = not self.all_heads
        self._paint()

    def action_zoom(self) -> None:
        self.all_heads = False
        self._paint()

    def action_move(self, queries: int, keys: int) -> None:
        if self.all_heads:
            if queries:
                self.action_layer(queries)
            if keys:
                self.action_head(keys)
        elif self.cursor is not None and self._frame is not None:
            query = min(max(self.cursor[0] + queries, 0), len(self._frame.tokens) - 1)
            self.cursor = (query, min(max(self.cursor[1] + keys, 0), query))
            self._paint()

    def action_edge(self, last: int) -> None:
        if self.cursor is not None and not self.all_heads:
            self.cursor = (self.cursor[0], self.cursor[0] if last else 0)
            self._paint()

    def on_resize(self) -> None:
        self._paint()

    def on_focus(self) -> None:
        self._paint()  # the cursor is marked only where keys would move it

    def on_blur(self) -> None:
        self._paint()

    # --- drawing ---

    def _paint(self) -> None:
        columns, rows = self.size
        if not columns or not rows:
            return
        if self._frame is None:
            text, style = (WAITING, FAINT_STYLE) if self._failure is None else (self._failure, WARN_STYLE)
            self.show(message(safe(text, newlines=False), style, columns))
        elif self.all_heads:
            self.show(self._multiples(self._frame, columns, rows))
        else:
            self.show(self._map(self._frame, columns, rows))

    def _caption(self, what: str, step: int, columns: int) -> Strip:
        """As much of the caption as fits whole, and a legend where there is room for one."""
        full = f"{what}, rows=query cols=key, step {step}, 0..1 sqrt"
        for text in (full, f"{what}, rows=query cols=key, step {step}", f"{what}, step {step}", what):
            if len(text) <= columns:
                break
        segments = [Segment(text[:columns], MUTED_STYLE)]
        if text == full and columns - len(full) >= 18:
            segments += [Segment("  0 ", FAINT_STYLE), *heatmap.legend(self._look), Segment(" 1", FAINT_STYLE)]
        return Strip(segments)

    def _map(self, frame: AttentionFrame, columns: int, rows: int) -> list[Strip]:
        tokens = len(frame.tokens)
        digits = len(str(tokens - 1))
        margin = digits + 2 + self._look.rows_per_cell
        ticks = rows >= 10
        body = max(1, rows - 3 - ticks)
        weights = frame.weights[self.layer_index, self.head_index]
        grid = fit(tokens, max(1, columns - margin), body, self._look.rows_per_cell)
        if self.cursor is None:
            self.cursor = _strongest(weights, grid)
        view = around(self.cursor, self._corner, grid, tokens, self._look.rows_per_cell)
        self._corner = (view.q0, view.k0)
        part = weights[view.q0 : view.q1, view.k0 : view.k1]
        level = heatmap.levels(part, self._look.n, view.q0, view.k0)
        query, key = self.cursor or (0, 0)
        if self.has_focus:
            level[query - view.q0, key - view.k0] = heatmap.MARKED
        level = np.repeat(np.repeat(level, view.scale_y, axis=0), view.scale_x, axis=1)
        picture = heatmap.strips(level, self._look, (view.q0 * view.scale_y, view.k0 * view.scale_x))

        out = [self._caption(f"layer {self.layer_index} head {self.head_index}", frame.stamp.step, columns)]
        out += self._key_axis(view, margin, ticks, key)
        for y, line in enumerate(picture):
            first = view.q0 + y * self._look.rows_per_cell // view.scale_y
            last = view.q0 + ((y + 1) * self._look.rows_per_cell - 1) // view.scale_y
            out.append(Strip.join([self._query_label(first, min(last, view.q1 - 1), digits, margin, query), line]))
        out.append(self._read_out(weights, view, tokens, columns))
        return out

    def _key_axis(self, view: View, margin: int, ticks: bool, key: int) -> list[Strip]:
        """Indices every ten keys, and every key's first cell."""
        cells: list[Part] = [(" " * margin, TEXT_STYLE)]
        for k in range(view.k0, view.k1):
            style = ACCENT_BOLD if k == key else MUTED_STYLE
            cells.append((set_cell_size(_first_cell(self._labels[k]), view.scale_x), style))
        if not ticks:
            return [strip(cells)]
        length = (view.k1 - view.k0) * view.scale_x
        line = [" "] * length
        for k in range(-(-view.k0 // 10) * 10, view.k1, 10):
            at = (k - view.k0) * view.scale_x
            if at + len(str(k)) <= length:
                line[at : at + len(str(k))] = str(k)
        return [strip([(" " * margin + "".join(line), FAINT_STYLE)]), strip(cells)]

    def _query_label(self, first: int, last: int, digits: int, margin: int, query: int) -> Strip:
        parts: list[Part] = [(f"{first:>{digits}} ", ACCENT_BOLD if first <= query <= last else FAINT_STYLE)]
        for q in range(first, last + 1):
            style = ACCENT_BOLD if q == query else MUTED_STYLE
            parts += [(_first_cell(self._labels[q]), style)]
        return strip(parts).adjust_cell_length(margin, TEXT_STYLE)

    def _read_out(self, weights: np.ndarray, view: View, tokens: int, columns: int) -> Strip:
        """`q 41 ⏎ → k 40 ':' p=.731 #1/42`, and which part of the map is on screen if not all of it."""
        query, key = self.cursor or (0, 0)
        row = np.nan_to_num(weights[query, : query + 1])
        value = float(row[key])
        rank = 1 + int((row > value).sum())
        probability = f"{value:.3f}".removeprefix("0")
        text = f"q {query} {_quoted(self._labels[query])} → k {key} {_quoted(self._labels[key])}"
        parts: list[Part] = [
            (text, TEXT_STYLE),
            (f" p={probability}", BRIGHT_STYLE),
            (f" #{rank}/{query + 1}", MUTED_STYLE),
        ]
        if view.q1 - view.q0 < tokens or view.k1 - view.k0 < tokens:
            here = f"  part: q {view.q0}–{view.q1 - 1} k {view.k0}–{view.k1 - 1} of {tokens}"
            room = columns - width(parts)
            parts += [(text, FAINT_STYLE) for text in (here, f"  part of {tokens}", " part") if len(text) <= room][:1]
        return strip(parts)

    def _multiples(self, frame: AttentionFrame, columns: int, rows: int) -> list[Strip]:
        n_layers, n_heads, tokens, _ = frame.weights.shape
        per_cell = self._look.rows_per_cell
        room = rows - 1
        fits = min(columns // n_heads - 1, (room // n_layers - 1) * per_cell)
        side = max(1, min(tokens, max(MIN_THUMBNAIL, fits), columns - 1, (room - 1) * per_cell))
        height = -(-side // per_cell) + 1
        across = max(1, min(n_heads, columns // (side + 1)))
        down = max(1, min(n_layers, room // height))
        top = min(max(0, self.layer_index - down // 2), n_layers - down)
        start = min(max(0, self.head_index - across // 2), n_heads - across)
        partial = down * across < n_layers * n_heads
        what = f"layers {top}–{top + down - 1} heads {start}–{start + across - 1}" if partial else "all heads"
        out = [self._caption(what, frame.stamp.step, columns)]
        gap = Strip([Segment(" ", TEXT_STYLE)])
        for layer in range(top, top + down):
            names: list[Part] = []
            blocks: list[list[Strip]] = []
            for head in range(start, start + across):
                here = (layer, head) == (self.layer_index, self.head_index)
                names.append(
                    (
                        set_cell_size(f"{'▸' if here else ' '}L{layer} H{head}", side + 1),
                        ACCENT_BOLD if here else MUTED_STYLE,
                    )
                )
                small = heatmap.overview(frame.weights[layer, head], side)
                blocks.append(heatmap.strips(heatmap.levels(small, self._look.n), self._look))
            out.append(strip(names))
            out += [Strip.join([piece for part in line for piece in (part, gap)]) for line in zip(*blocks, strict=True)]
        return out


def _first_cell(label: str) -> str:
    """One cell that stands for a token on an axis."""
    return label[0] if label and cell_len(label[0]) == 1 else "□"


def _quoted(label: str) -> str:
    """Visible white space as it is, ordinary text in quotes."""
    return f"'{label}'" if label.isascii() else label
