"""The numbers beside the chart, aligned and in steady widths; with too few rows the least important leave.

A number out of its healthy range is marked, and what that usually means stands below.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from textual.strip import Strip

from minigpt_core.bits import bits_per_byte
from minigpt_core.frame import Health
from minigpt_core.status import Reading, Status
from minigpt_core.vitals import Hint, Recent, gap, hints
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, strip
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    BRIGHT_STYLE,
    MUTED_STYLE,
    SECOND_STYLE,
    TEXT_STYLE,
    WARN,
    WARN_STYLE,
)


class Row(NamedTuple):
    """A label and its value; rank 0 leaves last. `group` rows stand together where there is room for gaps."""

    rank: int
    group: int
    label: str
    value: str
    style: Style = TEXT_STYLE


HINT_SHARE = 3
"""Hints take at most one row in so many."""
FLAGGED_RANK = 3
"""A number that is out of its range stays in sight."""


def stat_rows(
    status: Status, reading: Reading, now: float, health: Health | None = None, recent: Recent | None = None
) -> list[Row]:
    """Everything worth knowing, in reading order."""
    above = gap(status)
    clipped = status.clipped if recent is None or recent.clipped is None else recent.clipped
    loss = status.smoothed_loss if status.smoothed_loss is not None else status.train_loss
    usable = loss is not None and math.isfinite(loss) and loss < 50
    # Of text it has not seen, as others report it.
    measured = status.final_val_loss if status.final_val_loss is not None else status.val_loss
    rows = [
        Row(0, 0, "train", fmt.number(status.train_loss), BRIGHT_STYLE),
        Row(2, 0, "smoothed", fmt.number(status.smoothed_loss), ACCENT_BOLD),
        Row(1, 0, "val", _at(status.val_loss, status.val_step), SECOND_STYLE),
        Row(4, 0, "best", _at(status.best_val_loss, status.best_step), SECOND_STYLE),
    ]
    if above is not None:
        rows.append(Row(15, 0, "gap", f"{above:+.3f}"))
    if status.final_val_loss is not None:
        rows.append(Row(0, 0, "final", fmt.number(status.final_val_loss), SECOND_STYLE))
    rows += [
        Row(9, 1, "perplexity", fmt.number(math.exp(loss), 2) if usable and loss is not None else fmt.UNKNOWN),
        Row(8, 1, "bits/byte", fmt.number(bits_per_byte(measured, status.tokens_per_byte), 3)),
        Row(5, 2, "lr", fmt.learning_rate(status.lr)),
    ]
    if status.lr_scale != 1.0:
        rows.append(Row(6, 2, "lr scale", f"×{status.lr_scale:g}", WARN_STYLE))
    rows += [
        Row(7, 2, "grad norm", fmt.number(status.grad_norm)),
        Row(14, 2, "clipped", f"{clipped:.0%}"),
        *_health_rows(health),
        Row(3, 3, "tok/s", fmt.short(status.tok_s) if status.tok_s else fmt.UNKNOWN),
        *([Row(5, 3, "mfu", f"{status.mfu:.1%}")] if status.mfu is not None else []),
        Row(12, 3, "tokens", fmt.short(status.tokens)),
        Row(11, 3, "epoch", f"{status.epoch:.2f}"),
        Row(10, 3, "elapsed", fmt.duration(status.elapsed)),
        Row(13, 4, "params", fmt.short(status.n_params) if status.n_params else fmt.UNKNOWN),
        Row(
            16,
            4,
            "device",
            " ".join(safe(t, newlines=False) for t in (status.device, status.precision) if t) or fmt.UNKNOWN,
        ),
        Row(17, 5, "cpu", f"{reading.cpu_percent:.0f}%"),
        Row(18, 5, "memory", fmt.size(reading.memory_bytes) if reading.memory_bytes else fmt.UNKNOWN),
    ]
    if reading.gpu_percent is not None:
        rows.append(Row(6, 5, "gpu", f"{reading.gpu_percent:.0f}%"))
    if reading.gpu_memory_bytes is not None:
        rows.append(Row(9, 5, "gpu mem", fmt.size_of(reading.gpu_memory_bytes, reading.gpu_memory_total)))
    if reading.gpu_celsius is not None:
        rows.append(Row(19, 5, "gpu temp", f"{reading.gpu_celsius:.0f} °C"))
    if status.saved_step is not None and status.saved_at is not None:
        ago = fmt.age(now - status.saved_at)
        rows.append(Row(15, 6, "saved", f"@{status.saved_step:,} {ago}"))
    return rows


def _health_rows(health: Health | None) -> list[Row]:
    """What the newest frame says of the weights, as far as it is known."""
    rows = []
    if health is not None and health.update_ratio is not None and math.isfinite(health.update_ratio):
        rows.append(Row(20, 2, "update ratio", f"{health.update_ratio:.1f}"))
    if health is not None and np.isfinite(health.dead_units).any():
        rows.append(Row(21, 2, "dead units", f"{np.nanmean(health.dead_units):.1%}"))
    return rows


def _at(value: float | None, step: int | None) -> str:
    return fmt.number(value) + (f" @{step:,}" if step is not None else "")


def layout(rows: list[Row], columns: int, height: int, found: Sequence[Hint] = ()) -> list[Strip]:
    """Choose what fits, keep the order, and put gaps between groups while there are rows to spare; hints below."""
    out_of_range = {hint.vital for hint in found}
    rows = [_flagged(row) if row.label in out_of_range else row for row in rows]
    below = _hint_rows(found, columns, height // HINT_SHARE)
    height -= len(below)
    kept = sorted(range(len(rows)), key=lambda i: rows[i].rank)[:height]
    chosen = [rows[i] for i in sorted(kept)]
    gaps = len({row.group for row in chosen}) - 1
    spaced = len(chosen) + gaps <= height
    out: list[Strip] = []
    for index, row in enumerate(chosen):
        if spaced and index and row.group != chosen[index - 1].group:
            out.append(Strip([]))
        value = row.value if cell_len(row.value) + len(row.label) < columns else row.value.split(" @")[0]
        pad = max(1, columns - len(row.label) - cell_len(value))
        out.append(strip([(row.label, MUTED_STYLE), (" " * pad, TEXT_STYLE), (value, row.style)]))
    return [*out, *([Strip([])] * (height - len(out)) if below else []), *below]


def _flagged(row: Row) -> Row:
    return row._replace(rank=min(row.rank, FLAGGED_RANK), value=f"! {row.value}", style=WARN_STYLE)


def _hint_rows(found: Sequence[Hint], columns: int, height: int) -> list[Strip]:
    """As many hints as fit whole, the most urgent first; of a single one that does not, its beginning."""
    out: list[str] = []
    for hint in found:
        lines = wrap(f"! {hint.text}", max(1, columns), subsequent_indent="  ")
        if len(out) + len(lines) <= height or not out:
            out += lines
    return [strip([(line, WARN_STYLE)]) for line in out[:height]]


class Stats(Lines):
    """Loss, schedule, pace, size and machine."""

    def __init__(self) -> None:
        super().__init__(id="stats", classes="pane")
        self.border_title = "stats"
        self._status = Status()
        self._reading = Reading()
        self._health: Health | None = None
        self._recent = Recent()
        self._beside_past = False

    def stand_beside_past(self, past: bool) -> None:
        """Say in the title that these are numbers of now, while the panes around them show a recorded step."""
        if past != self._beside_past:
            self._beside_past = past
            self.border_title = f"stats [{WARN}]live[/]" if past else "stats"

    def update(
        self,
        status: Status | None = None,
        reading: Reading | None = None,
        health: Health | None = None,
        recent: Recent | None = None,
    ) -> None:
        """Take in what is new; a status brings everything to the screen, several times a second."""
        self._reading = reading if reading is not None else self._reading
        self._health = health if health is not None else self._health
        self._recent = recent if recent is not None else self._recent
        if status is not None:
            self._status = status
            self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        if self.size.width and self.size.height:
            rows = stat_rows(self._status, self._reading, time.time(), self._health, self._recent)
            found = hints(self._status, self._reading, self._health, self._recent)
            self.show(layout(rows, self.size.width, self.size.height, found))
