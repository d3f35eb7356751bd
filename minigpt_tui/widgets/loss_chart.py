"""The loss chart: the smoothed loss over its raw envelope, validation points, other runs, and strips below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

from rich.cells import cell_len
from textual.strip import Strip

from minigpt_core.ladder import Ladder
from minigpt_core.status import FINISHED, Event, Status
from minigpt_tui.widgets import chart_strips
from minigpt_tui.widgets.chart_axes import Axis, Series
from minigpt_tui.widgets.chart_control import ChartControl
from minigpt_tui.widgets.chart_data import OVERLAYS, gather, whole_steps
from minigpt_tui.widgets.chart_marks import with_cursor
from minigpt_tui.widgets.chart_picture import LABEL, Look, draw
from minigpt_tui.widgets.chart_readout import readout
from minigpt_tui.widgets.lines import message
from minigpt_tui.widgets.palette import ACCENT, FAINT, FAINT_STYLE, MUTED, SECOND
from minigpt_tui.widgets.plotting import TOO_SMALL

WAITING = "no loss yet"
RECENT = 1000
"""Steps among which something new is looked for before a chart is drawn again."""
PACE, SLOW_PACE = 1.0, 2.0
"""Seconds between two drawings while the run goes on: with a column's worth of new steps, and with less."""
YOUNG = 0.1
"""Share of a run that is drawn at once when it is new."""
COST = 50.0
"""Times what a drawing took to wait before the next one: a slow machine is not kept busy with charts."""
STRIPS_ROWS, STRIPS_COLUMNS = 18, 60
"""What the pane needs to have strips."""
CORNERS = 4
"""Cells of a border that its title cannot have."""


def legend(entries: Sequence[tuple[str, str]], columns: int) -> str:
    """Entries with their colours as markup, two cells apart: as many as fit whole, the first before the others."""
    out: list[str] = []
    used = -2
    for text, colour in entries:
        used += 2 + cell_len(text)
        if used > columns:
            break
        out.append(f"[{colour}]{text}[/]")
    return "  ".join(out)


class LossChart(ChartControl):
    """Draws with plotext, which is loaded with the first point so that it does not delay the first frame."""

    def __init__(self) -> None:
        super().__init__()
        self._ladder: Ladder | None = None
        self._marks: Sequence[Event] = ()
        self._look: object = None
        self._news: object = None
        self._drawn_at, self._drawn_step, self._cost = 0.0, 0, 0.0
        self._picture: list[Strip] = []
        """The chart without the cursor, which moves over it."""
        self._say()

    # --- what to show ---

    def update(
        self,
        source: Series,
        status: Status,
        ladder: Ladder | None = None,
        marks: Sequence[Event] = (),
        overlays: Mapping[str, Series] | None = None,
    ) -> None:
        """Draw again if that would show something new; a change of the view at once, new points at a calm pace.

        Args:
            marks: the events to mark on the x axis; more come, none goes.
            overlays: other runs by name, of which the first few are drawn.
        """
        self._source, self._status, self._ladder, self._marks = source, status, ladder, marks
        self._overlays = dict(list((overlays or {}).items())[:OVERLAYS])
        if not (self.size.width and self.size.height):
            return
        rests = status.phase == "paused" or status.phase in FINISHED
        view = (self.view, self.axis, self.log_y, self.beta, self.show_strips, self._rungs, self.size)
        look = (view, rests, len(marks), tuple(self._overlays))
        if look == self._look:
            if not self.view.following or monotonic() < self._due(status):
                return
            news = self._newest(source, status)
            if news == self._news:
                return
        else:
            news = self._newest(source, status)
        self._look, self._news = look, news
        self._draw(source)

    def redraw(self) -> None:
        """Draw again at once, with what `update` brought last."""
        self._say()
        self._look = None
        if self._source is not None:
            self.update(self._source, self._status, self._ladder, self._marks, self._overlays)

    def mark(self, step: int | None) -> None:
        """Put the cursor on a step of time travel; None takes it away. Costs no new drawing of the rest."""
        self._travelling = step is not None
        if step != self._cursor:
            self._cursor = step
            self.show_cursor()

    @property
    def _rungs(self) -> Ladder | None:
        return self._ladder if self.show_ladder else None

    def _newest(self, source: Series, status: Status) -> object:
        """Something that differs when there are new points."""
        found = source.series("train_loss", max(0, status.step - RECENT), None, buckets=1)
        return status.val_step, found.step.tobytes(), found.mean.tobytes()

    def _due(self, status: Status) -> float:
        """When new points are worth a drawing, on the monotonic clock: at once while a run is young and grows fast."""
        share = (status.step - self._drawn_step) / max(1, status.step)
        if share > YOUNG:
            return self._drawn_at
        lo, hi = self.window
        column = share * self._own_end >= (hi - lo) / max(1, self.size.width)
        return self._drawn_at + max(PACE if column else SLOW_PACE, COST * self._cost)

    def _say(self) -> None:
        """The border: what the lines are."""
        waits = "" if self.view.following else " ‖"
        self.border_title = f"1 loss, nats/token{' (log)' if self.log_y else ''}{waits}"
        smooth = f"smoothed {self.beta:g}".replace("0.", ".") if self.beta else "unsmoothed"
        entries = [(f"━ {smooth}", ACCENT), ("◆ val", SECOND), ("░ raw", FAINT), ("★ best", SECOND)]
        if self._rungs is not None:
            entries.append(("─ n-grams", MUTED))
        self.border_subtitle = legend(entries, self.size.width - CORNERS)

    # --- drawing ---

    def on_resize(self) -> None:
        self.redraw()

    def _draw(self, source: Series) -> None:
        began = monotonic()
        columns, rows = self.size
        self._measure()
        self._say()
        self._picture, self._area = [], None
        frame = self.view.frame(self._last)
        strips = len(chart_strips.METRICS) if self._has_strips else 0
        status = self._status
        others = {name: (other, Axis.of(other, self.axis)) for name, other in self._overlays.items()}
        scene = gather(
            source, self._scale, frame, columns, self.log_y, (status.best_step, status.best_val_loss), others
        )
        if not len(scene.smoothed.x):
            lo, hi = whole_steps(self._scale, frame)
            zoomed = self.view.span is not None and len(source.series("smoothed", buckets=1))
            text = f"no point between steps {lo:,} and {hi:,}: [ zooms out" if zoomed else WAITING
            self.show(message(text, FAINT_STYLE, columns))
        elif columns < 12 or rows < 3:
            self.show(message(TOO_SMALL, FAINT_STYLE, columns))
        else:
            margin = chart_strips.MARGIN if strips else LABEL
            look = Look(columns, rows - strips, self.log_y, margin, self._rungs)
            self._picture, self._area = draw(scene, self._scale, frame, look, self._marks)
            if strips:
                steps = whole_steps(self._scale, frame)
                self._picture += chart_strips.rows(source, self._scale, frame, steps, self._area.columns)
            self.show_cursor()
        self._drawn_at, self._drawn_step = monotonic(), status.step
        self._cost = self._drawn_at - began

    @property
    def _has_strips(self) -> bool:
        return self.show_strips and not self.no_room_for_strips()

    def no_room_for_strips(self) -> str:
        for have, need, of in ((self.size.height, STRIPS_ROWS, "rows"), (self.size.width, STRIPS_COLUMNS, "columns")):
            if have < need:
                return f"no room for strips: the chart has {have} {of}, they need {need}"
        return ""

    def show_cursor(self) -> None:
        """The picture with the cursor over it."""
        if self._area is None:
            return
        picture, area = self._picture, self._area
        if self._cursor is not None and self._source is not None:
            x = area.column(self.place(self._cursor))
            if x is not None:
                notes = [event.message for event in self._marks if area.column(self.place(event.step)) == x]
                lo, hi = whole_steps(self._scale, self.window)
                words = readout(self._source, self._cursor, 2 * (hi - lo) // max(1, self.size.width))
                picture = with_cursor(picture, area, x, words, notes)
        self.show(picture)
