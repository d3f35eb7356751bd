"""An experiment's table: a variant a row, with its colour in the chart, and a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.strip import Strip

from minigpt_core.lab.paired import difference
from minigpt_tui.lab.session import Standing
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, Part, cut, message, strip
from minigpt_tui.widgets.overlay_chart import COLOURS, mark
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    BACKGROUND,
    BAD_STYLE,
    BRIGHT_STYLE,
    FAINT_STYLE,
    MUTED_STYLE,
    TEXT_STYLE,
)

WAITING = "the experiment is being prepared"
SELECTED = Style(bgcolor="#303030")  # 236


class Column(NamedTuple):
    """A column of numbers: rank 0 leaves last where room is short."""

    heading: str
    rank: int
    cells: Sequence[str]

    @property
    def width(self) -> int:
        return max(len(self.heading), *map(len, self.cells)) + 2


def columns_of(standings: Sequence[Standing]) -> list[Column]:
    """The numbers, as text; what is not known yet is a dash."""
    rows = [standing.row for standing in standings]
    return [
        Column("rate", 5, [fmt.UNKNOWN if row is None else f"{row.learning_rate:g}" for row in rows]),
        Column("parameters", 4, [fmt.count(None if row is None else row.n_params) for row in rows]),
        Column("val loss", 0, [fmt.number(None if row is None else row.val_loss, 4) for row in rows]),
        Column("difference", 1, ["" if row is None else difference(row) for row in rows]),
        Column("train loss", 6, [fmt.number(None if row is None else row.train_loss, 4) for row in rows]),
        Column("gap", 7, [fmt.number(None if row is None else row.gap, 4) for row in rows]),
        Column("diverged", 3, [str(len(row.diverged)) if row is not None and row.diverged else "" for row in rows]),
        Column("runs", 2, [f"{each.ended}/{each.runs}" if each.runs else "" for each in standings]),
    ]


class LabTable(Lines, can_focus=True):
    """Asks nothing: `update` brings the standings, keys choose one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "variant above", show=False, id="lab.up"),
        Binding("down", "move(1)", "variant below", show=False, id="lab.down"),
        Binding("home", "edge(0)", "first variant", show=False, id="lab.first"),
        Binding("end", "edge(-1)", "last variant", show=False, id="lab.last"),
    ]
    selected: reactive[int] = reactive(0, repaint=False)
    """The number of the variant under the cursor."""

    def __init__(self, coloured: bool) -> None:
        super().__init__(id="lab-table")
        self._coloured = coloured
        self._standings: Sequence[Standing] = ()
        self._top = 0

    def update(self, standings: Sequence[Standing]) -> None:
        self._standings = standings
        self._go(self.selected)

    def _go(self, row: int) -> None:
        self.selected = min(max(row, 0), max(0, len(self._standings) - 1))
        self._paint()

    def action_move(self, by: int) -> None:
        self._go(self.selected + by)

    def action_edge(self, end: int) -> None:
        self._go(end % max(1, len(self._standings)))

    def on_click(self, event: events.Click) -> None:
        if 1 <= event.y <= len(self._standings) - self._top:
            self._go(self._top + event.y - 1)

    def on_resize(self) -> None:
        self._paint()

    # --- drawing ---

    def look_of(self, index: int) -> tuple[str, str | None]:
        """Colour and letter of a variant's curve; dots (None) while there are colours to tell it by."""
        return COLOURS[index % len(COLOURS)], None if self._coloured and index < len(COLOURS) else mark(index)

    def _paint(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        if not self._standings:
            self.show(message(WAITING, FAINT_STYLE, width))
            return
        names = [safe(standing.variant, newlines=False) for standing in self._standings]
        shown, name = self._fitting(width, max(map(len, (*names, "variant"))))
        rows = height - 1
        self._top = min(max(self._top, self.selected - rows + 1, 0), self.selected, max(0, len(names) - rows))
        heading = "".join(f"{column.heading:>{column.width}}" for column in shown)
        out = [strip([(f"   {'variant':<{name}}{heading}", MUTED_STYLE)])]
        out += [self._row(i, names[i], name, shown, width) for i in range(self._top, min(len(names), self._top + rows))]
        self.show(out)

    def _fitting(self, width: int, name: int) -> tuple[list[Column], int]:
        """The columns that have room, and the cells of the names, cut only where two columns have no room else."""
        columns = columns_of(self._standings)
        if len({standing.row.learning_rate for standing in self._standings if standing.row is not None}) < 2:
            columns = [column for column in columns if column.heading != "rate"]
        if not any(columns[-2].cells):
            del columns[-2]  # nothing diverged
        room = width - 4 - min(name, 12)
        chosen: list[Column] = []
        for column in sorted(columns, key=lambda column: column.rank):
            if column.width <= room - (max(0, name - 12) if column.rank > 1 else 0):
                chosen.append(column)
                room -= column.width
        return [column for column in columns if column in chosen], min(name, 12 + max(0, room))

    def _row(self, index: int, name: str, cells: int, shown: list[Column], width: int) -> Strip:
        here = index == self.selected
        colour, letter = self.look_of(index)
        swatch = (letter or "━") if self._standings[index].runs else " "
        parts: list[Part] = [
            ("▸" if here else " ", ACCENT_BOLD),
            (f"{swatch} ", Style(color=colour, bgcolor=BACKGROUND, bold=True)),
            (f"{cut(name, cells):<{cells}}", BRIGHT_STYLE if here else TEXT_STYLE),
        ]
        for column in shown:
            plain = BRIGHT_STYLE if column.rank == 1 else MUTED_STYLE if column.rank > 1 else TEXT_STYLE
            style = BAD_STYLE if column.heading == "diverged" else plain
            parts.append((f"{column.cells[index]:>{column.width}}", style))
        if here:
            parts.append((" " * width, TEXT_STYLE))
            parts = [(text, style + SELECTED) for text, style in parts]
        return strip(parts)
