"""How a chart of a run is moved: its view, its axes and its cursor, by keys and by the mouse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from minigpt_core.series import BETA
from minigpt_core.status import Status
from minigpt_tui.widgets.chart_axes import AXES, Axis, AxisName, Series
from minigpt_tui.widgets.chart_marks import Area
from minigpt_tui.widgets.chart_view import View
from minigpt_tui.widgets.lines import Lines

BETAS = (0.0, 0.9, 0.98, 0.99, 0.995, 0.999)
MIN_SPAN = 20
"""Steps: zooming in stops here."""
WHEEL = 0.8
"""What one notch of the wheel zooms by."""


class ChartControl(Lines, can_focus=True):
    """Knows what is to be shown and asks a subclass to show it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "zoom(0.5)", "zoom in", show=False, id="chart.zoom-in"),
        Binding("left_square_bracket", "zoom(2.0)", "zoom out", show=False, id="chart.zoom-out"),
        Binding("left", "pan(-0.25)", "earlier", show=False, id="chart.earlier"),
        Binding("right", "pan(0.25)", "later", show=False, id="chart.later"),
        Binding("comma", "cursor(-1)", "cursor left", show=False, id="chart.cursor-left"),
        Binding("full_stop", "cursor(1)", "cursor right", show=False, id="chart.cursor-right"),
        Binding("escape", "hide_cursor", "hide the cursor", show=False, id="chart.hide-cursor"),
        Binding("end", "follow", "follow the run", show=False, id="chart.follow"),
        Binding("home", "whole", "whole run", show=False, id="chart.whole"),
        Binding("y", "log", "logarithmic loss", show=False, id="chart.log"),
        Binding("x", "axis", "x: step, epoch, tokens, time", show=False, id="chart.axis"),
        Binding("plus,equals_sign", "smooth(1)", "smoother", show=False, id="chart.smoother"),
        Binding("minus", "smooth(-1)", "less smooth", show=False, id="chart.rougher"),
        Binding("0", "smooth(0)", "smoothing as it was", show=False, id="chart.smooth-default"),
        Binding("l", "ladder", "n-gram lines", show=False, id="chart.ladder"),
        Binding("u", "strips", "learning rate, gradient, speed", show=False, id="chart.strips"),
        Binding("o", "overlays", "overlay other runs", show=False, id="chart.overlays"),
    ]

    class Smoothed(Message):
        """Another smoothing is wanted; `redraw` is to be called once the source has it."""

        def __init__(self, beta: float) -> None:
            super().__init__()
            self.beta = beta

    class Refused(Message):
        """A key did nothing, and why."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    class OverlaysWanted(Message):
        """The runs to draw beside this one are to be chosen."""

    def __init__(self) -> None:
        super().__init__(id="loss", classes="pane")
        self.view = View()
        self.axis: AxisName = "step"
        self.log_y = False
        self.beta = BETA
        self.show_ladder = self.show_strips = True
        self._status = Status()
        self._source: Series | None = None
        self._overlays: Mapping[str, Series] = {}
        self._cursor: int | None = None
        self._travelling = False
        """The cursor is where time travel is, and not the user's to move."""
        self._scale = Axis.counting_steps()
        self._own_end = self._end = 0.0
        """Where on the x axis this run ends, and the last of all that are drawn."""
        self._area: Area | None = None
        """Where in the picture the data is; None while there is no picture."""
        self._drag: tuple[int, View, bool] | None = None
        """Where the mouse went down, the view then, and whether it has moved since."""

    # --- what a subclass does ---

    def redraw(self) -> None:
        """Show another view at once."""
        raise NotImplementedError

    def no_room_for_strips(self) -> str:
        """Why strips would not show at this size; nothing if they would."""
        raise NotImplementedError

    def show_cursor(self) -> None:
        """Show the cursor in its place, or nowhere."""
        raise NotImplementedError

    # --- where things are ---

    @property
    def window(self) -> tuple[float, float]:
        """First and last of the x axis in sight."""
        return self.view.window(self._last)

    @property
    def _last(self) -> float:
        """The end that the view refers to: a zoomed view follows this run, even where another is longer."""
        self._measure()
        return self._own_end if self.view.span is not None and self.view.following else self._end

    def _measure(self) -> None:
        if self._source is not None:
            self._scale = Axis.counting_steps() if self.axis == "step" else Axis.of(self._source, self.axis)
            self._own_end = self.place(self._status.step)
            self._end = max([self._own_end, *(Axis.of(other, self.axis).end for other in self._overlays.values())])

    def place(self, step: int) -> float:
        """Where a step is on the x axis."""
        return float(self._scale.at(np.array([float(step)]))[0])

    def step(self, x: float) -> int:
        """The step nearest to a place on the x axis."""
        return round(float(self._scale.steps(np.array([x]))[0]))

    # --- keys ---

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is the screen's while there is no cursor to hide."""
        return action != "hide_cursor" or (self._cursor is not None and not self._travelling)

    def _go(self, view: View) -> None:
        if view.following and view.span is not None and self._own_end < self._end:
            view = view._replace(end=self._end)  # among longer runs: not back to the end of this one
        self.view = view
        self.redraw()

    def action_zoom(self, factor: float) -> None:
        """Around the cursor if it is in sight, around the newest point of a view that follows, or the middle."""
        lo, hi = self.window
        at = self._own_end if self.view.following else (lo + hi) / 2
        if self._cursor is not None and not self._travelling:
            place = self.place(self._cursor)
            at = place if lo <= place <= hi else at
        before = self.view
        self._zoom(factor, (at - lo) / (hi - lo) if hi > lo else 1.0)
        if self.view.span == before.span:
            why = "this is as near as it gets" if factor < 1 and before.span is not None else "the whole run is shown"
            self.post_message(self.Refused(why))

    def _zoom(self, factor: float, at: float) -> None:
        last = self._last
        self._go(self.view.zoomed(factor, last, MIN_SPAN * last / max(1, self._status.step), at))

    def action_pan(self, share: float) -> None:
        self._go(self.view.panned(share, self._last))

    def action_follow(self) -> None:
        self.view = self.view._replace(end=None)
        self.redraw()

    def action_whole(self) -> None:
        self.view = View()
        self.redraw()

    def action_log(self) -> None:
        self.log_y = not self.log_y
        self.redraw()

    def action_axis(self) -> None:
        """Count something else on the x axis; the same steps stay in sight."""
        before, window = self._scale, np.array(self.window)
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self._measure()
        lo, hi = self._scale.at(before.steps(window)).tolist()
        if self.view.span is not None:
            self.view = View(hi - lo, None if self.view.following else hi)
        self.redraw()

    def action_smooth(self, by: int) -> None:
        at = BETAS.index(self.beta) + by
        self.beta = BETAS[min(max(at, 0), len(BETAS) - 1)] if by else BETA
        self.post_message(self.Smoothed(self.beta))

    def action_ladder(self) -> None:
        self.show_ladder = not self.show_ladder
        self.redraw()

    def action_strips(self) -> None:
        """Show or hide them; where they would not fit, say what they need."""
        if why := self.no_room_for_strips():
            self.post_message(self.Refused(why))
            return
        self.show_strips = not self.show_strips
        self.redraw()

    def action_overlays(self) -> None:
        self.post_message(self.OverlaysWanted())

    def action_cursor(self, by: int) -> None:
        """Move the cursor by columns; the first time, to the newest point in sight."""
        if self._area is None or self._travelling:
            return
        if self._cursor is None:
            self._set_cursor(min(self._own_end, self.window[1]))
            return
        x = self.place(self._cursor)
        left, right = self._area.frame
        step = self.step(x + by * (right - left) / self._area.columns)
        self._cursor = min(max(0, step if step != self._cursor else self._cursor + by), self._status.step)
        view = self.view.with_point(self.place(self._cursor), self._last)
        if view != self.view:
            self._go(view)
        else:
            self.show_cursor()

    def action_hide_cursor(self) -> None:
        self._cursor = None
        self.show_cursor()

    def _set_cursor(self, x: float) -> None:
        if not self._travelling:
            self._cursor = min(max(0, self.step(x)), self._status.step)
            self.show_cursor()

    # --- mouse ---

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 1 / WHEEL)

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        place = event.get_content_offset(self)
        if self._area is not None and place is not None:
            event.stop()
            lo, hi = self.window
            self._zoom(factor, min(max((self._area.x(place.x) - lo) / (hi - lo), 0.0), 1.0) if hi > lo else 1.0)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        place = event.get_content_offset(self)
        if self._area is not None and place is not None and event.button == 1:
            self._drag = place.x, self.view, False
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._drag is None or self._area is None:
            return
        begun, view, moved = self._drag
        by = event.get_content_offset_capture(self).x - begun
        if by or moved:
            self._drag = begun, view, True
            self._go(view.panned(-by / self._area.columns, self._last))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self.release_mouse()
        drag, self._drag = self._drag, None
        if drag is not None and not drag[2] and self._area is not None and drag[0] >= self._area.margin:
            self._set_cursor(self._area.x(drag[0]))
