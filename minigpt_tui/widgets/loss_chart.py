"""The loss chart: smoothed training loss over its faint raw envelope, and the validation points."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
from textual.binding import Binding, BindingType
from textual.strip import Strip

from minigpt_core.ladder import Ladder
from minigpt_core.status import Envelope
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.chart_marks import Area, with_cursor, with_ladder
from minigpt_tui.widgets.lines import Lines, message
from minigpt_tui.widgets.palette import ACCENT, FAINT, FAINT_STYLE, RAW, SECOND
from minigpt_tui.widgets.plotting import TOO_SMALL, built, limits, loss_labels, new_plot, rgb, step_labels

WAITING = "no loss yet"
LEGEND = f"[{ACCENT}]━ train[/]  [{FAINT}]░ raw[/]  [{SECOND}]◆ val[/]"
LADDER_LEGEND = f"  [{FAINT}]─ n-grams[/]"
MIN_SPAN = 20
"""Steps: zooming in stops here."""
VALUES = 256
"""Points asked for to find the one at the cursor: so many that each is a bucket of its own."""
AXIS = "│┤"
"""What plotext draws the y axis with: the data begins to the right of it."""


class Series(Protocol):
    """The one method of a session that the chart needs."""

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope: ...


class LossChart(Lines, can_focus=True):
    """Draws with plotext, which is loaded with the first point so that it does not delay the first frame."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "zoom(0.5)", "zoom in", show=False),
        Binding("left_square_bracket", "zoom(2.0)", "zoom out", show=False),
        Binding("left", "pan(-0.25)", "earlier", show=False),
        Binding("right", "pan(0.25)", "later", show=False),
        Binding("end", "follow", "follow", show=False),
        Binding("home", "whole", "whole run", show=False),
        Binding("y", "log", "log y", show=False),
        Binding("l", "ladder", "n-gram lines", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="loss", classes="pane")
        self.border_title = "1 loss, nats/token"
        self.border_subtitle = LEGEND
        self.log_y = False
        self.span: int | None = None
        """Steps on screen; None is the whole run."""
        self.end: int | None = None
        """The last step on screen; None follows the run."""
        self.show_ladder = True
        self._ladder: Ladder | None = None
        self._cursor: int | None = None
        self._source: Series | None = None
        self._last_step = 0
        self._version: object = None
        self._drawn: object = None
        self._picture: list[Strip] = []
        """The chart without the cursor, which moves over it."""
        self._area: Area | None = None
        """Where in the picture the data is; None while there is no picture."""

    # --- what to show ---

    def update(self, source: Series, last_step: int, version: object, ladder: Ladder | None = None) -> None:
        """Draw again if `version` (anything that changes with the data), the view or the size changed.

        The past does not change: a view of it is drawn once.
        """
        self._source, self._last_step, self._version, self._ladder = source, last_step, version, ladder
        rungs = ladder if self.show_ladder else None
        key = (version if self.following else None, self.span, self.end, self.log_y, self.size, rungs)
        if key != self._drawn and self.size.width and self.size.height:
            self._drawn = key
            self.border_subtitle = LEGEND + (LADDER_LEGEND if rungs is not None else "")
            self._draw(source)

    def _redraw(self) -> None:
        self.border_title = f"1 loss, nats/token{' (log)' if self.log_y else ''}{'' if self.following else ' ‖'}"
        self._drawn = None
        if self._source is not None:
            self.update(self._source, self._last_step, self._version, self._ladder)

    def mark(self, step: int | None) -> None:
        """Draw a vertical line at a step, with the loss there; None takes it away. Costs no new drawing of the rest."""
        if step != self._cursor:
            self._cursor = step
            self._show_picture()

    @property
    def following(self) -> bool:
        return self.end is None

    @property
    def window(self) -> tuple[int, int]:
        """First and last step on screen."""
        hi = self._last_step if self.end is None else self.end
        return (0, hi) if self.span is None else (max(0, hi - self.span), hi)

    def action_zoom(self, factor: float) -> None:
        lo, hi = self.window
        span = max(MIN_SPAN, round((hi - lo) * factor))
        self.span = None if span >= self._last_step and self.following else min(span, max(MIN_SPAN, self._last_step))
        self._redraw()

    def action_pan(self, share: float) -> None:
        lo, hi = self.window
        if self.span is None:
            return
        self.end = max(self.span, hi + round((hi - lo) * share))
        if self.end >= self._last_step:
            self.end = None
        self._redraw()

    def action_follow(self) -> None:
        self.end = None
        self._redraw()

    def action_whole(self) -> None:
        self.span = self.end = None
        self._redraw()

    def action_log(self) -> None:
        self.log_y = not self.log_y
        self._redraw()

    def action_ladder(self) -> None:
        self.show_ladder = not self.show_ladder
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    # --- drawing ---

    def _draw(self, source: Series) -> None:
        columns, rows = self.size
        lo, hi = self.window
        first, last = (None, None) if self.span is None else (lo, hi)
        train = source.series("train_loss", first, last, buckets=2 * max(8, columns))
        val = source.series("val_loss", first, last, buckets=max(8, columns))
        smoothed = source.series("smoothed", first, last, buckets=2 * max(8, columns))
        self._picture, self._area = [], None
        x, line = _points(smoothed.step, smoothed.mean, self.log_y)
        if not len(x):
            zoomed = self.span is not None and len(source.series("smoothed", buckets=1))
            text = f"no point between steps {lo:,} and {hi:,}: [ zooms out" if zoomed else WAITING
            self.show(message(text, FAINT_STYLE, columns))
            return
        if columns < 12 or rows < 3:
            self.show(message(TOO_SMALL, FAINT_STYLE, columns))
            return
        raw_x, raw = _points(np.repeat(train.step, 2), np.column_stack([train.low, train.high]).ravel(), self.log_y)
        val_x, val_y = _points(val.step, val.mean, self.log_y)
        self._plot(columns, rows, (raw_x, raw), (x, line), (val_x, val_y))
        self._show_picture()

    def _show_picture(self) -> None:
        """The picture with the cursor over it."""
        if self._area is None:
            return
        picture = self._picture
        if self._cursor is not None and self._source is not None:
            text = f"step {self._cursor:,}"
            for metric, name in (("train_loss", "train"), ("smoothed", "smoothed")):
                value = self._near(self._source, metric, self._cursor)
                text += f"  {name} {fmt.number(value)}" if value is not None else ""
            picture = with_cursor(picture, self._area, self._cursor, text)
        self.show(picture)

    def _near(self, source: Series, metric: str, step: int) -> float | None:
        """The value logged at a step or last before it, if that is not farther than a few columns away."""
        lo, hi = self.window
        reach = max(MIN_SPAN, 2 * (hi - lo) // max(1, self.size.width))
        found = source.series(metric, max(0, step - reach), step, buckets=VALUES)
        return float(found.mean[-1]) if len(found) else None

    def _plot(self, columns: int, rows: int, raw: _Line, train: _Line, val: _Line) -> None:
        plot = new_plot(columns, rows)
        bottom, top = limits(np.concatenate([raw[1], train[1], val[1]]))
        steps = np.concatenate([train[0], val[0]])
        left, right = float(steps.min()), float(steps.max())
        right = right if right > left else left + 1
        plot.xlim(left, right)
        plot.ylim(bottom, top)
        for (x, y), colour in ((raw, RAW), (train, ACCENT)):
            if len(x) > 1:
                plot.plot(x.tolist(), y.tolist(), color=rgb(colour), marker="braille")
            else:
                plot.scatter(x.tolist(), y.tolist(), color=rgb(colour), marker="•")
        if len(val[0]):
            plot.scatter(val[0].tolist(), val[1].tolist(), color=rgb(SECOND), marker="◆")
        plot.xticks(*step_labels(left, right, columns, rows))
        plot.yticks(*loss_labels(bottom, top, rows, self.log_y))
        lines, picture = built(plot, self.app.console)
        margin = 1 + next(i for i, character in enumerate(lines[0].plain) if character in AXIS)
        height = len(lines) - (2 if rows >= 6 else 0)
        self._area = Area(margin, columns - margin, height, (left, right), (bottom, top))
        if self._ladder is not None and self.show_ladder:
            picture = with_ladder(picture, self._area, self._ladder, self.log_y)
        self._picture = picture


_Line = tuple[np.ndarray, np.ndarray]


def _points(x: np.ndarray, y: np.ndarray, log: bool) -> _Line:
    """What plotext can draw: finite points only, and on a logarithmic axis positive ones, as their log10."""
    keep = np.isfinite(x) & np.isfinite(y)
    if log:
        keep &= np.nan_to_num(y) > 0
    x, y = x[keep], y[keep]
    return x, np.log10(y) if log else y
