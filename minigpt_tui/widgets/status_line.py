"""The first row: what the run is doing. Parts leave whole, the least important first, as the row gets narrow."""

from __future__ import annotations

import math
import time
from operator import itemgetter
from typing import NamedTuple

from rich.cells import set_cell_size
from rich.style import Style

from minigpt_core.status import Status
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, Part, cut, strip, width
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    BAD_STYLE,
    BRIGHT_STYLE,
    FAINT_STYLE,
    MUTED_STYLE,
    TEXT_STYLE,
    WARN_STYLE,
)

STATES = {
    "starting": ("○", MUTED_STYLE),
    "training": ("▶", ACCENT_BOLD),
    "evaluating": ("◆", ACCENT_BOLD),
    "paused": ("‖", WARN_STYLE),
    "saving": ("↓", WARN_STYLE),
    "done": ("✓", ACCENT_BOLD),
    "stopped": ("■", MUTED_STYLE),
    "failed": ("✗", BAD_STYLE),
}
SEPARATOR: Part = (" │ ", FAINT_STYLE)
NOTICE_SECONDS = 2.5
IN_FULL = 5
"""The rank of the whole of a part that has a shorter form: step, progress and time to go come first."""
LEAST_MESSAGE = 12
"""Cells: less of a message says nothing."""


class Item(NamedTuple):
    """One part of the row; `rank` 0 leaves last. `short` stands in where the parts have no room."""

    rank: int
    parts: list[Part]
    short: list[Part] | None = None
    message: bool = False
    """It may be cut."""


def items(status: Status, now: float, past: int | None = None) -> list[Item]:
    """The parts of the row from left to right. `past` is the step that is looked back at."""
    glyph, style = STATES[status.phase]
    word = status.phase
    found = [Item(0, [(f"{glyph} {word}", style)])]

    def add(rank: int, text: str, style: Style = TEXT_STYLE, label: str = "") -> None:
        found.append(Item(rank, [(label, MUTED_STYLE), (text, style)]))

    if past is not None:
        add(0, f"◂ looking back at {past:,}", WARN_STYLE)
    if status.warning:
        short = f"{'GPU unused' if status.device == 'cpu' else 'warning'}: see log (4)"
        found.append(Item(1, [(safe(status.warning, newlines=False), WARN_STYLE)], [(short, WARN_STYLE)]))
    if status.phase in ("starting", "evaluating", "saving") and status.message:
        found.append(Item(1, [(safe(status.message, newlines=False), MUTED_STYLE)], message=True))
    if status.phase == "done":
        add(1, fmt.number(status.final_val_loss), BRIGHT_STYLE, "final val ")
    if status.phase != "starting" or status.step:
        total = "" if status.total_steps is None else f"/{status.total_steps:,}"
        add(2, f"{status.step:,}{total}", BRIGHT_STYLE, "step ")
    if status.progress is not None and not status.finished:
        add(3, f"{status.progress:.0%}")
    if not status.finished and status.eta is not None:
        add(4, fmt.duration(status.eta), TEXT_STYLE, "ETA ")
    if status.tok_s and not status.finished:
        if status.step and status.tokens:
            add(6, f"{status.tok_s * status.step / status.tokens:.1f} it/s")
        add(8, f"{fmt.short(status.tok_s)} tok/s")
    if status.epoch:
        add(9, f"{status.epoch:.2f}", TEXT_STYLE, "epoch ")
    if status.device:
        add(5, " ".join(safe(part, newlines=False) for part in (status.device, status.precision) if part))
    if status.saved_at is not None:
        ago = fmt.age(now - status.saved_at)
        add(10, "now" if ago == "now" else f"{ago} ago", TEXT_STYLE, "saved ")
    if status.name:
        add(7, safe(status.name, newlines=False), MUTED_STYLE)
    return found


def fit(found: list[Item], columns: int) -> list[Part]:
    """The most important parts that fit whole, in their order; only a message may be cut, with an ellipsis."""
    candidates = [(item.rank, index, item.short or item.parts) for index, item in enumerate(found)]
    candidates += [(IN_FULL, index, item.parts) for index, item in enumerate(found) if item.short]
    chosen: dict[int, list[Part]] = {}
    used = 0
    gap = width([SEPARATOR])
    for _, index, parts in sorted(candidates, key=itemgetter(0, 1)):
        room = columns - used - (gap if chosen else 0)
        if index in chosen:  # its short form, for which the whole may stand in
            room = columns - used + width(chosen[index])
        text, style = parts[0]
        shown = [(cut(text, room), style)] if found[index].message and room >= LEAST_MESSAGE else parts
        if width(shown) <= room:
            chosen[index] = shown
            used = columns - room + width(shown)
    if not chosen:
        text, style = found[0].parts[0]
        return [(set_cell_size(text, columns), style)]
    line: list[Part] = []
    for index in sorted(chosen):
        line += ([SEPARATOR] if line else []) + chosen[index]
    return line


class StatusLine(Lines):
    """State, step, progress, pace and place of the run; for a few seconds, the answer to a key."""

    def __init__(self) -> None:
        super().__init__(id="status")
        self._status = Status()
        self._notice: tuple[str, float] | None = None
        self._until_obeyed = False
        self._past: int | None = None

    def update(self, status: Status, past: int | None = None) -> None:
        """The state of the run, and the step that is looked back at."""
        before, self._status, self._past = self._status, status, past
        stepped = status.phase == "paused" and status.step != before.step
        if self._until_obeyed and (stepped or status.phase != before.phase):
            self._notice = None
        self._paint()

    def say(self, text: str, until_obeyed: bool = False, sticky: bool = False) -> None:
        """Show one line of feedback for a few seconds in place of the status.

        Args:
            until_obeyed: what was asked for shows in the status itself, so the notice makes way once that changes.
            sticky: it stays for good, whatever is said later.
        """
        if self._notice is not None and self._notice[1] == math.inf:
            return
        self._notice = (safe(text, newlines=False), math.inf if sticky else time.monotonic() + NOTICE_SECONDS)
        self._until_obeyed = until_obeyed
        self._paint()

    @property
    def notice(self) -> str:
        """The feedback on show, or nothing."""
        return self._notice[0] if self._notice and time.monotonic() < self._notice[1] else ""

    def _paint(self) -> None:
        columns = max(0, self.size.width - 2)
        if self.notice:
            line: list[Part] = [(cut(self.notice, columns), WARN_STYLE)]
        else:
            line = fit(items(self._status, time.time(), self._past), columns)
        self.show([strip([(" ", TEXT_STYLE), *line])])

    def on_resize(self) -> None:
        self._paint()
