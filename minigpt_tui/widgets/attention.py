"""The attention pane: one head's map with a cursor, or all heads as small multiples."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from minigpt_core.frame import Frame
from minigpt_core.heads import label
from minigpt_tui.safetext import safe, token_label
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.lines import Lines, Part, message, strip, width
from minigpt_tui.widgets.map_view import View, around, fit, strongest
from minigpt_tui.widgets.multiples import multiples
from minigpt_tui.widgets.palette import ACCENT_BOLD, BRIGHT_STYLE, FAINT_STYLE, MUTED_STYLE, TEXT_STYLE, WARN_STYLE

WAITING = "no attention yet: waiting for the first weights"


class AttentionPane(Lines, can_focus=True):
    """Asks nothing: `update` brings a frame, keys choose what of it is drawn."""

    class Moved(Message):
        """Another query, layer or head was chosen."""

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
        self._frame: Frame | None = None
        self._failure: str | None = None
        self._labels: list[str] = []
        self.layer_index = 0
        self.head_index = 0
        self.all_heads = False
        self.cursor: tuple[int, int] | None = None
        """(query, key); None until a map was drawn."""
        self._corner = (0, 0)
        self._past = False
        self._stale = True
        """What is on show is not what there is: nothing is drawn out of sight."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.all_heads if action == "zoom" else True  # with nothing to zoom into, enter is free for others

    # --- what to show ---

    @property
    def position(self) -> int:
        """The position under the cursor; before a map was drawn, the last one that a token follows."""
        if self.cursor is not None:
            return self.cursor[0]
        return 0 if self._frame is None else max(0, len(self._frame.tokens) - 2)

    @property
    def head(self) -> tuple[int, int]:
        """The chosen layer and head."""
        return self.layer_index, self.head_index

    def update(self, frame: Frame | None, failure: str | None = None, past: bool = False) -> None:
        """A frame from the session, or why there is none; what is already shown costs nothing.

        Args:
            past: the frame is a recorded one.
        """
        if not self._stale and (frame, failure, past) == (self._frame, self._failure, self._past):
            return
        self._failure, self._past = failure, past
        if frame is not None:
            if self._frame is None or self._frame.tokens != frame.tokens:
                self._labels = [token_label(token) for token in frame.tokens]
                self.cursor = None
            self.layer_index = min(self.layer_index, frame.weights.shape[0] - 1)
            self.head_index = min(self.head_index, frame.weights.shape[1] - 1)
        self._frame = frame
        self._paint()

    def select(self, layer: int, head: int) -> None:
        """Show one head's map."""
        self.all_heads = False
        if self._frame is not None:
            n_layers, n_heads = self._frame.weights.shape[:2]
            layer, head = min(layer, n_layers - 1), min(head, n_heads - 1)
        self.layer_index, self.head_index = layer, head
        self._moved()

    def move_query(self, by: int) -> None:
        """Move the cursor to a later or earlier query, whatever is drawn."""
        if self._frame is not None:
            query = min(max(self.position + by, 0), len(self._frame.tokens) - 1)
            self.cursor = (query, min(self.cursor[1] if self.cursor is not None else query, query))
            self._moved()

    def action_layer(self, by: int) -> None:
        if self._frame is not None:
            self.layer_index = (self.layer_index + by) % self._frame.weights.shape[0]
            self._moved()

    def action_head(self, by: int) -> None:
        if self._frame is not None:
            self.head_index = (self.head_index + by) % self._frame.weights.shape[1]
            self._moved()

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
            self._moved()

    def action_edge(self, last: int) -> None:
        if self.cursor is not None and not self.all_heads:
            self.cursor = (self.cursor[0], self.cursor[0] if last else 0)
            self._paint()

    def _moved(self) -> None:
        self._paint()
        self.post_message(self.Moved())

    def on_resize(self) -> None:
        self._paint()

    def on_focus(self) -> None:
        self._paint()  # the cursor is marked only where keys would move it

    def on_blur(self) -> None:
        self._paint()

    # --- drawing ---

    def _paint(self) -> None:
        columns, rows = self.size
        self._stale = not (self.display and columns and rows)
        if self._stale:
            return
        if self._frame is None:
            text, style = (WAITING, FAINT_STYLE) if self._failure is None else (self._failure, WARN_STYLE)
            self.show(message(safe(text, newlines=False), style, columns))
        elif self.all_heads:
            what, pictures = multiples(self._frame, self.head, self._look, columns, rows - 1)
            self.show([self._caption(what, self._frame.stamp.step, columns), *pictures])
        else:
            self.show(self._map(self._frame, columns, rows))

    def _caption(self, what: str, step: int, columns: int) -> Strip:
        """As much of the caption as fits whole, and a legend where there is room for one."""
        full = f"{what}, rows=query cols=key, step {step}, 0..1 sqrt"
        for text in (full, f"{what}, rows=query cols=key, step {step}", f"{what}, step {step}", what):
            if len(text) <= columns:
                break
        segments = [Segment(text[:columns], WARN_STYLE if self._past else MUTED_STYLE)]
        if text == full and columns - len(full) >= 18:
            segments += [Segment("  0 ", FAINT_STYLE), *heatmap.legend(self._look), Segment(" 1", FAINT_STYLE)]
        return Strip(segments)

    def _map(self, frame: Frame, columns: int, rows: int) -> list[Strip]:
        tokens = len(frame.tokens)
        digits = len(str(tokens - 1))
        margin = digits + 2 + self._look.rows_per_cell
        ticks = rows >= 10
        body = max(1, rows - 3 - ticks)
        weights = frame.weights[self.layer_index, self.head_index]
        grid = fit(tokens, max(1, columns - margin), body, self._look.rows_per_cell)
        if self.cursor is None:
            self.cursor = strongest(weights, grid)
            self.post_message(self.Moved())
        view = around(self.cursor, self._corner, grid, tokens, self._look.rows_per_cell)
        self._corner = (view.q0, view.k0)
        part = weights[view.q0 : view.q1, view.k0 : view.k1]
        level = heatmap.levels(part, self._look.n, view.q0, view.k0)
        query, key = self.cursor or (0, 0)
        if self.has_focus:
            level[query - view.q0, key - view.k0] = heatmap.MARKED
        level = np.repeat(np.repeat(level, view.scale_y, axis=0), view.scale_x, axis=1)
        picture = heatmap.strips(level, self._look, (view.q0 * view.scale_y, view.k0 * view.scale_x))

        role = label(frame.scores[:, self.layer_index, self.head_index])
        what = f"layer {self.layer_index} head {self.head_index} {role}".rstrip()
        out = [self._caption(what, frame.stamp.step, columns)]
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
        text = f"q {query} {fmt.quoted(self._labels[query])} → k {key} {fmt.quoted(self._labels[key])}"
        parts: list[Part] = [
            (text, TEXT_STYLE),
            (f" p={fmt.share(value)}", BRIGHT_STYLE),
            (f" #{rank}/{query + 1}", MUTED_STYLE),
        ]
        if view.q1 - view.q0 < tokens or view.k1 - view.k0 < tokens:
            here = f"  part: q {view.q0}–{view.q1 - 1} k {view.k0}–{view.k1 - 1} of {tokens}"
            room = columns - width(parts)
            parts += [(text, FAINT_STYLE) for text in (here, f"  part of {tokens}", " part") if len(text) <= room][:1]
        return strip(parts)


def _first_cell(label: str) -> str:
    """One cell that stands for a token on an axis."""
    return label[0] if label and cell_len(label[0]) == 1 else "□"
