"""The part of the main screen that looks into the weights, of now or, with the timeline, of a recorded step.

Attention, logit lens, sample and the chart's cursor move together: to the step of the frame that the session brings.
"""

from __future__ import annotations

import time

from textual import on
from textual.timer import Timer

from minigpt_core.frame import Frame
from minigpt_tui.screens.talk import TalkScreen
from minigpt_tui.screens.watching import KINDS, Watching
from minigpt_tui.session import Session
from minigpt_tui.widgets.attention import AttentionPane
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.lens import LensPane
from minigpt_tui.widgets.loss_chart import LossChart
from minigpt_tui.widgets.recorded import RecordedSamplePane
from minigpt_tui.widgets.stats import Stats
from minigpt_tui.widgets.timeline import Timeline

NOTHING_RECORDED = "nothing recorded yet: frames come while it trains"
NOTHING_ASKED = "nothing was asked yet: press i and type a prompt, then x looks at it"
PAST_SECONDS = 1 / 30
"""Between two polls while a recorded frame is on its way or an animation plays."""
FRAME_SECONDS = 0.1
"""Between two frames of an animation, at least."""
PATIENCE_SECONDS = 1.0
"""An animation goes on without a frame that takes longer; it may have been thinned out."""


class TravelScreen(TalkScreen):
    """Owns the timeline and the panes that it moves. Where they are on the screen, a subclass knows."""

    def __init__(self, session: Session, look: Ramp) -> None:
        super().__init__(session)
        self.chart = LossChart()
        self.stats = Stats()
        self.attention = AttentionPane(look)
        self.lens = LensPane()
        self.recorded = RecordedSamplePane()
        self.timeline = Timeline()
        self.watching = Watching(session, self.transcript)
        self.past: int | None = None
        """The recorded step on show; None while the present is."""
        self._frame: Frame | None = None
        self._sought_at = 0.0
        self._next_at = 0.0
        """When the animation may go on, on the monotonic clock."""
        self._ticks: Timer | None = None

    def on_mount(self) -> None:
        self._ticks = self.set_interval(PAST_SECONDS, self._tick, pause=True)

    # --- what a subclass does ---

    def show_past(self) -> None:
        """`past` has changed: what is outside the panes of this class follows."""
        raise NotImplementedError

    # --- the present ---

    def poll_frame(self) -> None:
        """Bring the panes up to date with the frame that the session has."""
        self.watching.refresh()
        if self.past is None:
            self._frame = self._session.frame()
            self.stats.update(health=None if self._frame is None else self._frame.health)
        else:
            self.timeline.update(self._session.recorded(), self._status.step)
            self._take_recorded()
        self._show_frame()

    def _show_frame(self) -> None:
        failure = self._session.probe_failure()
        past = self._frame is not None and self._frame.stamp.step == self.past
        self.attention.watching(KINDS[0] if past else self.watching.name)  # what was recorded is the run's own text
        self.attention.update(self._frame, failure, past)
        self.lens.update(self.attention.shown, failure, self.attention.position, self.attention.head, past)

    @on(AttentionPane.Moved)
    def _moved(self) -> None:
        self._show_frame()

    @on(LossChart.Refused)
    def _refused(self, event: LossChart.Refused) -> None:
        self.say(event.why)

    def look_at(self, text: str | None) -> None:
        self.watching.own(text)
        self._show_frame()

    @on(AttentionPane.TextWanted)
    def _other_text(self, event: AttentionPane.TextWanted) -> None:
        if self.past is not None:
            self.say("what was recorded is the validation text; esc returns to the present")
            return
        before = self.watching.name
        (self.watching.next_excerpt if event.excerpt else self.watching.next_kind)()
        if self.watching.name != before:
            self.say(f"attention (2): {self.watching.name}")
        else:
            self.say("the validation text has no other excerpt" if event.excerpt else NOTHING_ASKED)
        self._show_frame()

    def action_query(self, by: int) -> None:
        self.attention.move_query(by)

    def action_head(self, what: str, by: int) -> None:
        (self.attention.action_layer if what == "layer" else self.attention.action_head)(by)

    # --- the past ---

    def action_travel(self) -> None:
        """Look back at the newest recorded frame, or return to the present."""
        if self.past is not None:
            self.action_present()
            return
        steps = self._session.recorded()
        if not len(steps):
            self.say(NOTHING_RECORDED)
            return
        self.past = int(steps[-1])
        self.timeline.open(steps, self._status.step)
        self._mark_past()
        self.set_focus(self.timeline)

    def action_present(self) -> None:
        if self.past is None:
            return
        self.past = None
        self.timeline.playing = False
        self._session.look_back(None)
        self.chart.mark(None)
        self._mark_past()
        if self.focused in (self.timeline, self.recorded):
            self.leave_prompt()
        self.poll_frame()

    def _mark_past(self) -> None:
        past = self.past is not None
        self.set_class(past, "-past")
        self.transcript.set_class(past, "-away")
        self.recorded.set_class(not past, "-away")
        self.stats.stand_beside_past(past)
        self.show_past()

    @on(Timeline.Sought)
    def _seek(self, event: Timeline.Sought) -> None:
        if self.past is None:
            return
        self._sought_at = time.monotonic()
        self._session.look_back(event.step)
        self._tick()
        self._wake()

    @on(Timeline.Played)
    def _wake(self) -> None:
        if self._ticks is not None:
            self._ticks.resume()

    def _tick(self) -> None:
        """Show what has been read; once it is what was wanted, go on with the animation or stop asking."""
        if self.past is None:
            self._rest()
            return
        self._take_recorded()
        self._show_frame()
        now = time.monotonic()
        arrived = self.past == self.timeline.step and self._frame is not None and self._frame.stamp.step == self.past
        if not arrived and now - self._sought_at < PATIENCE_SECONDS:
            return
        if not self.timeline.playing:
            self._rest()
        elif now >= self._next_at:
            # From when it was due, so that the pace is steady; but what is late is not made up for.
            self._next_at = max(self._next_at, now - PAST_SECONDS) + FRAME_SECONDS
            self.timeline.advance()

    def _rest(self) -> None:
        if self._ticks is not None:
            self._ticks.pause()

    def _take_recorded(self) -> None:
        """The frame that the session has, if it is a recorded one, and the sample that belongs to it."""
        frame = self._session.frame()
        if frame is None or frame.stamp.step not in self.timeline.steps:  # the present's, until the first is read
            return
        self._frame = frame
        self.recorded.update(self._session.recorded_sample())
        self.chart.mark(frame.stamp.step)
        if frame.stamp.step != self.past:
            self.past = frame.stamp.step
            self.show_past()
