"""The attention pane: one head's map with a cursor, all heads as small multiples, or the mean of several."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from minigpt_core.frame import Frame
from minigpt_tui.safetext import safe, token_label
from minigpt_tui.widgets import attention_caption as say
from minigpt_tui.widgets import attention_map, heatmap, map_view
from minigpt_tui.widgets.attention_caption import Caption
from minigpt_tui.widgets.attention_choice import Choice
from minigpt_tui.widgets.attention_map import Drawn, Plan
from minigpt_tui.widgets.heatmap import NORMS, Ramp
from minigpt_tui.widgets.lines import Lines, message
from minigpt_tui.widgets.map_view import View
from minigpt_tui.widgets.multiples import Layout, arrange, multiples, what_is_shown
from minigpt_tui.widgets.palette import FAINT_STYLE, WARN_STYLE

WAITING = "no attention yet: waiting for the first weights"
TITLE = "2 attention"
TITLE_ROOM = 6
"""Cells of a border that a title cannot have."""


class AttentionPane(Lines, can_focus=True):
    """Asks nothing: `update` brings a frame, keys choose what of it is drawn."""

    class Moved(Message):
        """Another query, layer or head was chosen, or another frame is on show."""

    class TextWanted(Message):
        """Somebody wants to look at another text: another kind of text, or the next excerpt of the validation text."""

        def __init__(self, excerpt: bool) -> None:
            super().__init__()
            self.excerpt = excerpt

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("less_than_sign", "layer(-1)", "previous layer", id="attention.previous-layer"),
        Binding("greater_than_sign", "layer(1)", "next layer", id="attention.next-layer"),
        Binding("comma", "head(-1)", "previous head", id="attention.previous-head"),
        Binding("full_stop", "head(1)", "next head", id="attention.next-head"),
        Binding("a", "all", "one head, all heads, mean", id="attention.mode"),
        Binding("enter", "zoom", "zoom into the marked head", id="attention.zoom"),
        Binding("up", "move(-1, 0)", "query up", id="attention.up"),
        Binding("down", "move(1, 0)", "query down", id="attention.down"),
        Binding("left", "move(0, -1)", "key left", id="attention.left"),
        Binding("right", "move(0, 1)", "key right", id="attention.right"),
        Binding("home", "edge(0)", "first key", id="attention.first"),
        Binding("end", "edge(1)", "last visible key", id="attention.last"),
        Binding("z", "overview", "overview, and 1:1", id="attention.overview"),
        Binding("y", "norm", "what the brightest means", id="attention.norm"),
        Binding("p", "pin", "pin this step, and let go", id="attention.pin"),
        Binding("x", "text(False)", "validation, last prompt, last answer", id="attention.text"),
        Binding("X", "text(True)", "next validation excerpt", id="attention.excerpt"),
    ]

    def __init__(self, look: Ramp) -> None:
        super().__init__(id="attention", classes="pane")
        self.border_title = TITLE
        self._text = ""
        self._look = look
        self._frame: Frame | None = None
        """The newest one brought; what is on show may be the pinned one."""
        self._pinned: Frame | None = None
        self._failure: str | None = None
        self._tokens: tuple[str, ...] = ()
        self._labels: list[str] = []
        self._cells: list[str] = []
        self.choice = Choice()
        self.norm: heatmap.Norm = "absolute"
        self.whole = False
        """Overview where not every token has a pixel."""
        self.cursor: tuple[int, int] | None = None
        """(query, key); None until a map was drawn."""
        self._moved_by_hand = False
        """The cursor was put where it is, and stays there when the text grows."""
        self._corner = (0, 0)
        self._place: Plan | Layout | None = None
        """Where what was drawn last lies, for the mouse."""
        self._view: View | None = None
        """Of the map that was drawn last."""
        self._past = False
        self._stale = True
        """What is on show is not what there is: nothing is drawn out of sight."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "zoom" or self.choice.mode == "all"  # nothing to zoom into: enter is free for others

    # --- what to show ---

    @property
    def shown(self) -> Frame | None:
        """The frame on show: the pinned one, or else the newest."""
        return self._frame if self._pinned is None else self._pinned

    @property
    def pinned(self) -> bool:
        return self._pinned is not None

    @property
    def position(self) -> int:
        """The position under the cursor; before a map was drawn, the last one that a token follows."""
        if self.cursor is not None:
            return self.cursor[0]
        return 0 if self.shown is None else max(0, len(self.shown.tokens) - 2)

    @property
    def head(self) -> tuple[int, int]:
        """The chosen layer and head."""
        return self.choice.layer, self.choice.head

    def update(self, frame: Frame | None, failure: str | None = None, past: bool = False) -> None:
        """A frame from the session, or why there is none; what is already shown costs nothing.

        Args:
            past: the frame is a recorded one.
        """
        if not self._stale and (frame, failure, past) == (self._frame, self._failure, self._past):
            return
        self._frame, self._failure, self._past = frame, failure, past
        if self._pinned is None or self._stale:
            self._take()
            self._paint()

    def watching(self, name: str) -> None:
        """Say which text is looked at, in the title where it has room for that."""
        self._text = name
        full = f"{TITLE}: {name}"
        self.border_title = full if len(full) + TITLE_ROOM <= self.outer_size.width else TITLE

    def let_go(self) -> None:
        """Follow the newest frame again."""
        if self._pinned is not None:
            self._pinned = None
            self._take()
            self._moved()

    def _take(self) -> None:
        """What is chosen fits the frame on show. The cursor stays in a text that only grew, if it was put there."""
        frame = self.shown
        if frame is None:
            return
        if frame.tokens != self._tokens:
            grown = frame.tokens[: len(self._tokens)] == self._tokens
            if not (grown and self._moved_by_hand):
                self.cursor, self._moved_by_hand = None, False
            self._tokens = frame.tokens
            self._labels = [token_label(token) for token in frame.tokens]
            self._cells = [attention_map.first_cell(text) for text in self._labels]
        self.choice.fit(frame.weights.shape[:2])

    def select(self, layer: int, head: int) -> None:
        """Show one head's map."""
        self.choice.mode, self.choice.layer, self.choice.head = "one", layer, head
        if self.shown is not None:
            self.choice.fit(self.shown.weights.shape[:2])
        self._moved()

    def move_query(self, by: int) -> None:
        """Move the cursor to a later or earlier query, whatever is drawn."""
        if self.shown is not None:
            query = min(max(self.position + by, 0), len(self.shown.tokens) - 1)
            self._put(query, self.cursor[1] if self.cursor is not None else query)

    def _put(self, query: int, key: int) -> None:
        """The cursor, on a key that the query can see."""
        self.cursor, self._moved_by_hand = (query, min(key, query)), True
        self._moved()

    # --- keys ---

    def action_layer(self, by: int) -> None:
        if self.shown is not None:
            self.choice.step_layer(by, self.shown.weights.shape[:2])
            self._moved()

    def action_head(self, by: int) -> None:
        if self.shown is not None:
            self.choice.step_head(by, self.shown.weights.shape[:2])
            self._moved()

    def action_all(self) -> None:
        self.choice.next_mode()
        self._paint()

    def action_zoom(self) -> None:
        self.choice.mode = "one"
        self._paint()

    def action_overview(self) -> None:
        """All of the text at once, or a pixel for every token around the cursor."""
        frame = self.shown
        if self.choice.mode == "all" or frame is None or self.cursor is None:
            return
        place = self._plan(frame)
        if map_view.fits(len(frame.tokens), place.room):
            return  # nothing is reduced or cut off
        self.whole = not self.whole
        self._corner = map_view.centred(self.cursor, len(frame.tokens), place.room)
        self._paint()

    def action_norm(self) -> None:
        self.norm = NORMS[(NORMS.index(self.norm) + 1) % len(NORMS)]
        self._paint()

    def action_pin(self) -> None:
        """Hold on to this frame while training goes on."""
        if self._pinned is not None:
            self.let_go()
        elif self._frame is not None:
            self._pinned = self._frame
            self._paint()

    def action_text(self, excerpt: bool) -> None:
        self.let_go()  # another text is another frame
        self.post_message(self.TextWanted(excerpt))

    def action_move(self, queries: int, keys: int) -> None:
        if self.choice.mode == "all":
            if queries:
                self.action_layer(queries)
            if keys:
                self.action_head(keys)
        elif self.cursor is not None and self._view is not None:
            self._put(*map_view.move(self._view, self.cursor, len(self._tokens), queries, keys))

    def action_edge(self, last: int) -> None:
        if self.cursor is not None and self.choice.mode != "all":
            self._put(self.cursor[0], self.cursor[0] if last else 0)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the pointer is, or look into the head that it points at."""
        offset = event.get_content_offset(self)
        if offset is None or self._place is None:
            return
        if isinstance(self._place, Layout):
            head = self._place.at(offset.x, offset.y - 1)
            if head is not None:
                self.select(*head)
        elif self._view is not None:
            pixel = (offset.y - self._place.top) * self._look.rows_per_cell
            cell = self._view.at(pixel, offset.x - self._place.margin)
            if cell is not None:
                self._put(*cell)

    def _moved(self) -> None:
        self._paint()
        self.post_message(self.Moved())

    def on_resize(self) -> None:
        self.watching(self._text)
        self._paint()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self._paint()  # the cursor is marked only where keys would move it

    # --- drawing ---

    def _paint(self) -> None:
        columns, rows = self.size
        self._stale = not (self.display and columns and rows)
        if self._stale:
            return
        frame, self._place, self._view = self.shown, None, None
        if frame is None:
            text, style = (WAITING, FAINT_STYLE) if self._failure is None else (self._failure, WARN_STYLE)
            self.show(message(safe(text, newlines=False), style, columns))
        elif self.choice.mode == "all":
            self.show(self._multiples(frame, columns, rows))
        else:
            self.show(self._map(frame, columns))

    def _multiples(self, frame: Frame, columns: int, rows: int) -> list[Strip]:
        place = arrange(frame.weights.shape, self.head, self._look.rows_per_cell, columns, rows - 1)
        self._place = place
        short = place.side < len(frame.tokens)
        said = self._caption(frame).multiples(what_is_shown(place, frame.weights.shape), short, columns)
        return [*said, *multiples(frame, self.head, self._look, place, self.norm)]

    def _caption(self, frame: Frame) -> Caption:
        return Caption(frame.stamp.step, self.pinned, self.norm, self._look, self._past)

    def _plan(self, frame: Frame) -> Plan:
        return attention_map.plan(len(frame.tokens), self.size.width, self.size.height, self._look.rows_per_cell)

    def _map(self, frame: Frame, columns: int) -> list[Strip]:
        tokens = len(frame.tokens)
        what, weights = self.choice.weights(frame)
        plan = self._plan(frame)
        if self.cursor is None:
            self.cursor = map_view.strongest(weights, plan.room)
            self.post_message(self.Moved())
        if self.whole or map_view.fits(tokens, plan.room):
            view = map_view.whole(tokens, plan.room)
        else:
            view = map_view.part(self.cursor, self._corner, tokens, plan.room)
            self._corner = int(view.queries[0]), int(view.keys[0])
        self._place, self._view = plan, view
        drawn = Drawn(weights, self._labels, self._cells, view, self.cursor, self.has_focus, self.norm, self._look)
        much = [] if view.whole(tokens) and not view.coarse() else say.how_much(tokens, view.coarse())
        said = self._caption(frame).of_map(what, much, plan.captions, columns)
        return [*said, *attention_map.draw(drawn, plan, columns)]
