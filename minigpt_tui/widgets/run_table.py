"""The table of runs: one a row, with a sparkline of its loss, a cursor and marks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from minigpt_core.summary import CURVE_POINTS, RunSummary
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, Part, cut, message, strip
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    ACCENT_STYLE,
    BAD_STYLE,
    BRIGHT_STYLE,
    FAINT_STYLE,
    MUTED_STYLE,
    SECOND_STYLE,
    TEXT_STYLE,
    WARN_STYLE,
)
from minigpt_tui.widgets.sparkline import bars

Order = Literal["changed", "name", "val"]
ORDERS: tuple[Order, ...] = ("changed", "name", "val")

SELECTED = Style(bgcolor="#303030")  # 236
GUTTER = 3
"""Cells before the name: cursor, mark, gap."""
GAP = 2
SHORT_NAME, LONG_NAME = 14, 28
"""Cells of a name that the two most important columns, and that all others, leave it."""
CURVE = 12
STATES: dict[str, Style] = {
    "training": ACCENT_STYLE,
    "done": TEXT_STYLE,
    "stopped": WARN_STYLE,
    "empty": FAINT_STYLE,
    "broken": BAD_STYLE,
    "unread": FAINT_STYLE,
}


class Column(NamedTuple):
    """Always as wide, whatever its cells hold, so that nothing moves while they arrive; rank 0 leaves last."""

    heading: str
    rank: int
    width: int
    cell: Callable[[RunSummary], str]
    style: Style = MUTED_STYLE
    left: bool = False


def _step(run: RunSummary) -> str:
    if run.last is None:
        return fmt.UNKNOWN
    of = "" if run.total_steps in (None, run.step) else f"/{fmt.short(run.total_steps)}"
    return fmt.count(run.step) + of


COLUMNS = (
    Column("state", 0, 8, lambda run: "…" if run.state == "unread" else run.state, left=True),
    Column("loss", 3, CURVE, lambda run: "", ACCENT_STYLE, left=True),
    Column("step", 4, 12, _step),
    Column("val", 1, 6, lambda run: fmt.number(run.val_loss), SECOND_STYLE),
    Column("best", 5, 6, lambda run: fmt.number(run.best_val_loss), SECOND_STYLE),
    Column("time", 6, 7, lambda run: fmt.duration(run.last.time if run.last is not None else None)),
    Column("size", 7, 6, lambda run: f"{fmt.short(run.n_bytes)}B"),
    Column("params", 8, 6, lambda run: fmt.short(run.n_params)),
    Column("text", 9, 14, lambda run: safe(run.corpus, newlines=False), left=True),
    Column("changed", 2, 7, lambda run: fmt.age(max(0.0, time.time() - run.modified))),
)


def arranged(runs: Sequence[RunSummary], words: str, order: Order) -> list[RunSummary]:
    """The runs in whose name, state and text all these words occur.

    Args:
        runs: the newest first.
        order: "changed" has those that train first, by their names: they would change places all the time.
    """
    wanted = words.casefold().split()
    found = [run for run in runs if all(word in f"{run.name} {run.state} {run.corpus}".casefold() for word in wanted)]
    if order == "changed":
        found.sort(key=lambda run: (0, run.name) if run.state == "training" else (1, ""))
    elif order == "name":
        found.sort(key=lambda run: run.name.casefold())
    else:  # what has none, or none that is a number, comes last
        found.sort(
            key=lambda run: run.val_loss if run.val_loss is not None and not math.isnan(run.val_loss) else math.inf
        )
    return found


class RunTable(Lines, can_focus=True):
    """Asks nothing: `update` brings the runs, its screen and the mouse move the cursor, which stays on its run."""

    class Moved(Message):
        """The cursor is on another run, or that run has changed."""

    class Opened(Message):
        """A double click."""

    def __init__(self) -> None:
        super().__init__(id="runs")
        self._runs: Sequence[RunSummary] = ()
        self._marked: Mapping[str, Style] = {}
        self._longest = SHORT_NAME
        self._nothing = ""
        self._cursor = 0
        self._top = 0

    @property
    def run(self) -> RunSummary | None:
        """The one under the cursor."""
        return self._runs[self._cursor] if self._runs else None

    def update(
        self, runs: Sequence[RunSummary], marked: Mapping[str, Style], longest: int, nothing: str, first: bool = False
    ) -> None:
        """Show these.

        Args:
            marked: names, and what their marks look like.
            longest: cells of the longest name there is, also among runs that are filtered out.
            nothing: a sentence for when there are none.
            first: put the cursor on the first one.
        """
        here = self.run.name if self.run is not None else None
        self._runs, self._marked, self._longest, self._nothing = runs, marked, max(SHORT_NAME, longest), nothing
        at = next((i for i, run in enumerate(runs) if run.name == here), self._cursor)
        self._go(0 if first else at)

    def _go(self, row: int) -> None:
        self._cursor = min(max(row, 0), max(0, len(self._runs) - 1))
        self._paint()
        self.post_message(self.Moved())

    @property
    def _page(self) -> int:
        return max(1, self.size.height - 1)

    def move(self, by: int) -> None:
        """So many runs down."""
        self._go(self._cursor + by)

    def page(self, by: int) -> None:
        """So many pages down."""
        self._go(self._cursor + by * self._page)

    def edge(self, end: int) -> None:
        """To the first run (0) or the last (-1)."""
        self._go(end % max(1, len(self._runs)))

    def on_click(self, event: events.Click) -> None:
        if 1 <= event.y <= len(self._runs) - self._top:
            self._go(self._top + event.y - 1)
            if event.chain == 2:
                self.post_message(self.Opened())

    def on_mouse_scroll_down(self) -> None:
        self.move(1)

    def on_mouse_scroll_up(self) -> None:
        self.move(-1)

    def on_resize(self) -> None:
        self._paint()

    # --- drawing ---

    def _paint(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        if not self._runs:
            self.show([Strip([]), *message(self._nothing, FAINT_STYLE, width - GUTTER)])
            return
        shown, name = fitting(width - 1, self._longest)
        rows = self._page
        self._top = min(max(self._top, self._cursor - rows + 1, 0), self._cursor, max(0, len(self._runs) - rows))
        heading: list[Part] = [(" " * GUTTER + _fitted("run", name, True), MUTED_STYLE)]
        heading += [(" " * GAP + _fitted(column.heading, column.width, column.left), MUTED_STYLE) for column in shown]
        visible = range(self._top, min(len(self._runs), self._top + rows))
        self.show([strip(heading), *(self._row(i, name, shown, width) for i in visible)])

    def _row(self, index: int, name: int, shown: Sequence[Column], width: int) -> Strip:
        run, here = self._runs[index], index == self._cursor
        parts: list[Part] = [
            ("▸" if here else " ", ACCENT_BOLD),
            ("● " if run.name in self._marked else "  ", self._marked.get(run.name, ACCENT_BOLD)),
            (_fitted(safe(run.name, newlines=False), name, True), BRIGHT_STYLE if here else TEXT_STYLE),
        ]
        for column in shown:
            style = STATES[run.state] if column.heading == "state" else column.style
            unread = run.state == "unread" and column.heading not in ("state", "changed")
            text = bars(np.array(run.curve), column.width) if column.heading == "loss" else column.cell(run)
            parts += [(" " * GAP, TEXT_STYLE), (_fitted("" if unread else text, column.width, column.left), style)]
        if here:
            parts.append((" " * width, TEXT_STYLE))
            parts = [(text, style + SELECTED) for text, style in parts]
        return strip(parts)


def fitting(width: int, longest: int) -> tuple[list[Column], int]:
    """The columns that have room, whole, and the cells of the name; what is left widens the sparkline."""
    room, chosen = width - GUTTER, list[Column]()
    for column in sorted(COLUMNS, key=lambda column: column.rank):
        name = min(longest, SHORT_NAME if column.rank < 2 else LONG_NAME)
        if GAP + column.width > room - name:
            break
        chosen.append(column)
        room -= GAP + column.width
    name = min(longest, max(1, room))
    more = min(room - name, CURVE_POINTS - CURVE)
    shown = [column for column in COLUMNS if column in chosen]
    return [column._replace(width=CURVE + more) if column.heading == "loss" else column for column in shown], name


def _fitted(text: str, cells: int, left: bool) -> str:
    text = cut(text, cells)
    return set_cell_size(text, cells) if left else " " * (cells - cell_len(text)) + text
