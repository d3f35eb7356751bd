"""Runs side by side: what came out, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from textual.binding import Binding, BindingType

from minigpt_core.summary import RunSummary
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, Part, cut, strip
from minigpt_tui.widgets.overlay_chart import COLOURS, mark
from minigpt_tui.widgets.palette import BACKGROUND, BRIGHT_STYLE, FAINT_STYLE, MUTED_STYLE, SECOND_STYLE, TEXT_STYLE

GAP = 2
NARROWEST = 8
"""Cells of a run's column."""

Row = tuple[str, Style, list[str]]
"""A label, how to show its values, and one value for each run."""


def differing(runs: Sequence[RunSummary]) -> list[tuple[str, list[str]]]:
    """The settings that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [safe(run.settings.get(name, fmt.UNKNOWN), newlines=False) for run in runs] for name in names}
    return [(name.replace("_", " "), row) for name, row in values.items() if len(set(row)) > 1]


def outcome(runs: Sequence[RunSummary]) -> list[Row]:
    return [
        ("val", SECOND_STYLE, [fmt.number(run.val_loss, 4) for run in runs]),
        ("best", SECOND_STYLE, [fmt.number(run.best_val_loss, 4) for run in runs]),
        ("bits/byte", SECOND_STYLE, [fmt.number(run.bits_per_byte, 4) for run in runs]),
        ("step", TEXT_STYLE, [fmt.count(run.step) for run in runs]),
        ("time", TEXT_STYLE, [fmt.duration(run.last.time if run.last is not None else None) for run in runs]),
        ("parameters", TEXT_STYLE, [fmt.count(run.n_params) for run in runs]),
    ]


def shortened(name: str, cells: int) -> str:
    """A name without its middle: runs often differ at the end of their names."""
    if cell_len(name) <= cells:
        return name
    tail = name[-(cells // 2) :]
    return cut(name, cells - cell_len(tail)) + tail


class RunSettings(Lines, can_focus=True):
    """A column a run, under its name in its colour; rows scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll(-1)", "up", id="runs.settings-up", show=False),
        Binding("down,j", "scroll(1)", "down", id="runs.settings-down", show=False),
    ]

    def __init__(self, runs: Sequence[RunSummary], coloured: bool) -> None:
        super().__init__(id="settings")
        self._runs, self._coloured = runs, coloured
        found = [(label, TEXT_STYLE, values) for label, values in differing(runs)]
        self._rows_of: list[Row] = [*outcome(runs), *found]
        self._same = not found
        self._top = 0

    @property
    def length(self) -> int:
        """Rows that show all."""
        return 2 + len(self._rows_of)

    def look_of(self, index: int) -> tuple[str, str | None]:
        """Colour and letter of a run's curve; dots (None) while there are colours to tell it by."""
        return COLOURS[index % len(COLOURS)], None if self._coloured and index < len(COLOURS) else mark(index)

    def action_scroll(self, by: int) -> None:
        self._top += by
        self._paint()

    def on_mouse_scroll_down(self) -> None:
        self.action_scroll(1)

    def on_mouse_scroll_up(self) -> None:
        self.action_scroll(-1)

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns, rows = self.size
        if not columns or rows < 2:
            return
        label = max(len(text) for text, _, _ in self._rows_of)
        room = columns - 1 - label
        shown = min(len(self._runs), max(1, room // (NARROWEST + GAP)))
        widest = max(cell_len(safe(run.name, newlines=False)) + 2 for run in self._runs)
        widest = max(widest, *(cell_len(value) for _, _, values in self._rows_of for value in values))
        cells = max(1, min(widest, room // shown - GAP))
        heading: list[Part] = [(" " * (1 + label), TEXT_STYLE)]
        for i, run in enumerate(self._runs[:shown]):
            colour, letter = self.look_of(i)
            name = shortened(safe(run.name, newlines=False), cells - 2)
            swatch = Style(color=colour, bgcolor=BACKGROUND, bold=True)
            heading += [
                (" " * (GAP + cells - 2 - cell_len(name)) + (letter or "━") + " ", swatch),
                (name, BRIGHT_STYLE),
            ]
        self._top = min(max(self._top, 0), max(0, len(self._rows_of) - (rows - 2)))
        last = self._top + rows - 2
        out = [strip(heading)]
        for text, style, values in self._rows_of[self._top : last]:
            fitted = [cut(value, cells) for value in values[:shown]]
            told = "".join(" " * (GAP + cells - cell_len(value)) + value for value in fitted)
            out.append(strip([(f" {text:<{label}}", MUTED_STYLE), (told, style)]))
        out.append(strip([(f" {cut(self._told(shown, last), columns - 2)}", FAINT_STYLE)]))
        self.show(out)

    def _told(self, shown: int, last: int) -> str:
        more = len(self._runs) - shown
        told = ["all settings are the same" if self._same else "all other settings are the same"]
        if last < len(self._rows_of):
            told.insert(0, f"↓ {len(self._rows_of) - last} more rows")
        if more:
            told.insert(0, f"{more} more {'run' if more == 1 else 'runs'}: no room")
        return "; ".join(told)
