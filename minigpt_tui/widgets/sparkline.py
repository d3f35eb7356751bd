"""The second row: the loss, now and over the whole run. Always in sight."""

from __future__ import annotations

import numpy as np

from minigpt_core.status import Envelope, Status
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, Part, strip, width
from minigpt_tui.widgets.palette import ACCENT_BOLD, ACCENT_STYLE, FAINT_STYLE, MUTED_STYLE, SECOND_STYLE, TEXT_STYLE

BARS = "▁▂▃▄▅▆▇█"
TREND_SHARE = 0.1
"""The trend compares the last tenth of the run with the tenth before it."""
TREND_THRESHOLD = 0.002
"""Relative change below which the loss counts as level."""


def bars(values: np.ndarray, columns: int) -> str:
    """At most `columns` block characters for the means of equal buckets.

    The scale is logarithmic and leaves the steep first tenth out (it shows as full), so that late progress shows.
    Values that are not finite are left out; a bucket of nothing else is a blank.
    """
    if columns <= 0 or not len(values):
        return ""
    finite = np.isfinite(values)
    starts = np.arange(min(columns, len(values))) * len(values) // min(columns, len(values))
    counts = np.add.reduceat(finite.astype(float), starts)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts)
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    seen = np.isfinite(means)
    if not seen.any():
        return " " * len(means)
    scaled = np.log(np.maximum(means, 1e-6))
    low, high = scaled[seen].min(), scaled[seen][np.count_nonzero(seen) // 10 :].max()
    span = high - low or 1.0
    share = np.clip(np.nan_to_num((scaled - low) / span), 0, 1)
    levels = np.where(seen, share * (len(BARS) - 1) + 0.5, 0).astype(int)
    return "".join(BARS[level] if ok else " " for level, ok in zip(levels, seen, strict=True))


def trend(values: np.ndarray) -> str:
    """An arrow: where the loss has been going lately."""
    values = values[np.isfinite(values)]
    n = max(1, round(len(values) * TREND_SHARE))
    if len(values) < 2 * n:
        return " "
    now, before = values[-n:].mean(), values[-2 * n : -n].mean()
    change = (now - before) / max(abs(before), 1e-9)
    return "→" if abs(change) < TREND_THRESHOLD else "↓" if change < 0 else "↑"


class LossLine(Lines):
    """`loss 1.873 ↓ ▇▅▄▃▂▂▁▁ val 1.981 best 1.981 @1,000`."""

    def __init__(self) -> None:
        super().__init__(id="loss-line")
        self._status = Status()
        self._values = np.empty(0)
        self._beside_past = False

    @property
    def buckets(self) -> int:
        """How many points of the series are worth asking for."""
        return max(1, self.size.width)

    def update(self, status: Status, series: Envelope) -> None:
        self._status, self._values = status, series.mean
        self._paint()

    def stand_beside_past(self, past: bool) -> None:
        """Say that this is the loss of now, while the panes below show a recorded step."""
        if past != self._beside_past:
            self._beside_past = past
            self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns = self.size.width
        if not columns:
            return
        status = self._status
        loss = status.smoothed_loss if status.smoothed_loss is not None else status.train_loss
        left: list[Part] = [
            (" live loss " if self._beside_past else " loss ", MUTED_STYLE),
            (fmt.number(loss), ACCENT_BOLD),
            (f" {trend(self._values)} ", ACCENT_STYLE),
        ]
        right: list[Part] = []
        if status.best_val_loss is not None and columns >= 44:
            right = [(" best val ", MUTED_STYLE), (fmt.number(status.best_val_loss), SECOND_STYLE)]
            if status.best_step is not None and columns >= 60:
                right += [(f" @{status.best_step:,}", MUTED_STYLE)]
            right += [(" ", TEXT_STYLE)]
        room = columns - width(left) - width(right)
        line = bars(self._values, room)
        # While the run is younger than the row is wide, what is still to come is a faint floor.
        rest = ("·" * max(0, room - len(line)), FAINT_STYLE)
        self.show([strip([*left, (line, ACCENT_STYLE), rest, *right])])
