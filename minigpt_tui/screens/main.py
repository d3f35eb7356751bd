"""The one screen that matters: status, loss, attention, samples, log and the prompt.

It polls the session on timers and hands plain data to the panes; no pane knows the session, and nothing here waits.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantBlur, DescendantFocus
from textual.message import Message
from textual.widgets import Static

from minigpt_core.library import Overlay
from minigpt_core.status import Event
from minigpt_core.vitals import RECENT_STEPS, Recent
from minigpt_tui.base import TerminalApp
from minigpt_tui.safetext import safe
from minigpt_tui.screens.steer import SteerScreen
from minigpt_tui.session import Session
from minigpt_tui.widgets.chart_marks import EVENT_MARKS
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.hints import KeyHints, hints
from minigpt_tui.widgets.log import EventLog
from minigpt_tui.widgets.loss_chart import LossChart
from minigpt_tui.widgets.past import past_answers
from minigpt_tui.widgets.sparkline import LossLine
from minigpt_tui.widgets.status_line import StatusLine

if TYPE_CHECKING:
    from textual.widget import Widget

PANES = ("loss", "attention", "samples", "log", "lens")
STATUS_SECONDS = 0.25
DATA_SECONDS = 1.0
READING_SECONDS = 1.0
FRAME_SECONDS = 1.0
SLOWLY = 4
"""With --low-bandwidth all of these are so many times as long."""
EAGER_SECONDS = 0.05
"""While what there is to see has not come yet."""
BEGIN_SECONDS = 0.05
"""From the first frame to the loading of torch, which would keep the frame from reaching the terminal."""


class MainScreen(SteerScreen):
    """Where the panes go at which size is in `app.tcss`; the names of the sizes are here."""

    AUTO_FOCUS = "#loss"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 (Textual declares it as an instance variable)
        (0, "-w-tiny"),
        (60, "-w-narrow"),
        (110, "-w-medium"),
        (160, "-w-wide"),
        (260, "-w-huge"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-h-nano"),
        (9, "-h-tiny"),
        (16, "-h-short"),
        (30, "-h-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit", "save and quit (attached: just leave); again: at once", id="app.leave"),
        Binding("escape", "escape", "stop the answer, or go live, or restore", id="app.escape"),
        *[Binding(str(n), f"pick('{name}')", f"{name} pane", id=f"pane.{name}") for n, name in enumerate(PANES, 1)],
        Binding("tab", "app.focus_next", "next pane", id="pane.next"),
        Binding("f", "maximise", "maximise the pane, and back", id="pane.maximise"),
        Binding("t", "travel", "look back in time, and live again", id="run.travel"),
        Binding("g", "gallery", "gallery of all heads", id="run.gallery"),
        Binding("b", "runs", "other runs: overlay, compare", id="run.browse"),
        Binding("r", "again(True)", "ask again, same seed", id="talk.again"),
        Binding("R", "again(False)", "ask again, new seed", id="talk.new-seed"),
        Binding("c", "copy", "copy the answer", id="talk.copy"),
    ]

    class NeverTrained(Message):
        """The run failed before its first step."""

    def __init__(self, session: Session, look: Ramp) -> None:
        super().__init__(session, look)
        self._look = look
        self._picked = "loss"
        self._calm = False
        self._there = False, False
        """Whether there was a past, and a frame, when last asked for."""
        self._overlays: dict[str, Overlay] = {}
        """Other runs over the loss chart, by name."""
        self._marks: list[Event] = []
        """The events that the chart shows."""
        self.status_line = StatusLine()
        self.loss_line = LossLine()
        self.events = EventLog()
        self.key_hints = KeyHints()
        self.failure = Static(id="failure", markup=False)

    def compose(self) -> ComposeResult:
        yield self.status_line
        yield self.loss_line
        yield self.failure
        yield Container(
            self.chart, self.stats, self.attention, self.transcript, self.recorded, self.lens, self.events, id="body"
        )
        yield self.timeline
        yield self.prompt
        yield self.key_hints

    def on_mount(self) -> None:
        pace = SLOWLY if isinstance(self.app, TerminalApp) and self.app.terminal.low_bandwidth else 1
        self.set_interval(pace * STATUS_SECONDS, self._poll_status)
        self.set_interval(pace * DATA_SECONDS, self._poll_data)
        self.set_interval(pace * READING_SECONDS, self._poll_reading)
        self.set_interval(pace * FRAME_SECONDS, self.poll_frame)
        self._show_pick()
        self.call_after_refresh(self.set_timer, BEGIN_SECONDS, self._begin)

    def _begin(self) -> None:
        """The first frame is on the screen: now torch may be loaded."""
        self._session.start()
        self.poll()
        self._eager = self.set_interval(EAGER_SECONDS, self._poll_eagerly)

    # --- polling ---

    def _poll_eagerly(self) -> None:
        """The past, read by a thread, and the first look into the weights show as soon as they are there."""
        there = len(self._session.series("train_loss", buckets=1).mean) > 0, self._session.frame() is not None
        if there != self._there:
            self._there = there
            self.poll()
        if all(there):
            self._eager.stop()

    def poll(self) -> None:
        """Bring everything up to date at once."""
        self._calm = True
        self._poll_status()
        self._poll_panes()
        self._poll_reading()
        self._poll_stream()

    def _poll_status(self) -> None:
        before, self._status = self._status, self._session.status()
        self._calm = not self._calm
        if self._calm and self._status.phase == before.phase == "training":
            return  # a change of phase shows at once, numbers twice a second: more could not be read
        self.status_line.update(self._status, self.past)
        self.stats.update(status=self._status)
        if self._status.phase == "failed" and before.phase != "failed":
            self.failure.update(f"✗ {safe(self._status.message)}")
            self.add_class("-failed")
            if self._session.trains and self._status.train_loss is None:
                self.post_message(self.NeverTrained())
        if self._status.phase != before.phase:
            self._show_hints()
            if before.phase == "starting":
                gc.freeze()  # torch is loaded: a collection that walks all of its objects would hold up a key by 0.3 s
                gc.enable()

    def _poll_data(self) -> None:
        status = self._status
        self.loss_line.update(status, self._session.series("train_loss", buckets=self.loss_line.buckets))
        if self.chart.display:
            self.chart.update(self._session, status, self._session.ladder(), self._marks, self._overlays)
        self.stats.update(recent=self._recent())
        events = self._session.events(self.events.seen)
        if events and not self.events.seen and self.transcript.last is None:
            self.transcript.show_past(past_answers(events))
        self.events.take(events)
        self._marks += [event for event in events if event.kind in EVENT_MARKS]
        self._sample_by_itself()  # after the past, which comes first

    @on(LossChart.Smoothed)
    def _smooth(self, event: LossChart.Smoothed) -> None:
        self._session.smooth(event.beta)
        for run in self._overlays.values():
            run.smooth(event.beta)
        self.chart.redraw()

    @on(LossChart.OverlaysWanted)
    def action_runs(self) -> None:
        """Choose which of the runs beside this one are laid over the loss chart."""
        from minigpt_tui.screens.runs import RunsScreen

        library = self._session.library
        library.refresh()
        self.app.push_screen(RunsScreen(library, self._status.name, self._overlays), self._overlay)

    def _overlay(self, names: tuple[str, ...] | None) -> None:
        found = {name: self._session.library.overlay(name) for name in names or ()}
        self._overlays = {name: run for name, run in found.items() if run is not None}
        for run in self._overlays.values():
            run.smooth(self.chart.beta)
        self._poll_data()

    def _recent(self) -> Recent:
        """Means over the last steps, steadier than a step's own."""
        since = self._status.step - RECENT_STEPS
        means = [self._session.series(name, since, None, buckets=1).mean for name in Recent._fields]
        return Recent(*(float(mean[0]) if len(mean) else None for mean in means))

    def _poll_panes(self) -> None:
        self._poll_data()
        self.poll_frame()

    def _poll_reading(self) -> None:
        self.stats.update(reading=self._session.reading())

    # --- panes ---

    def _pane(self, name: str) -> Widget:
        past = name == "samples" and self.past is not None
        return self.recorded if past else self.query_one(f"#{name}")

    def action_pick(self, name: str) -> None:
        self._picked = name
        self._show_pick()
        self.set_focus(self._pane(name))

    def action_maximise(self) -> None:
        focused = "samples" if self.focused is self.recorded else self.focused.id if self.focused is not None else None
        if not self.has_class("-max") and focused in PANES:
            self._picked = focused
        self.set_class(not self.has_class("-max"), "-max", update=False)
        self._show_pick()

    def action_escape(self) -> None:
        if self.stop_answers():
            return
        if self.past is not None:
            self.action_present()
        else:
            self.remove_class("-max")

    def _show_pick(self) -> None:
        for name in PANES:
            self.set_class(name == self._picked, f"-pick-{name}", update=False)
            self.query_one(f"#{name}").set_class(name == self._picked, "-picked", update=False)
        self.recorded.set_class(self._picked == "samples", "-picked", update=False)
        self.update_node_styles()  # once: it styles everything below as well
        self.call_after_refresh(self._poll_panes)

    def on_resize(self) -> None:
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        """After a resize: no key goes to a pane that went out of sight, and panes that came into sight have data."""
        if self.focused is None or not self.focused.display:
            self._pane(self._picked).focus()
        self._poll_panes()

    def say(self, text: str, sticky: bool = False, until_obeyed: bool = False) -> None:
        self.status_line.say(text, until_obeyed, sticky)

    def show_past(self) -> None:
        self.status_line.update(self._status, self.past)
        self.loss_line.stand_beside_past(self.past is not None)
        self._show_hints()

    def action_gallery(self) -> None:
        from minigpt_tui.screens.gallery import GalleryScreen

        self.app.push_screen(GalleryScreen(self._session, self._look), self._select_head)

    def _select_head(self, head: tuple[int, int] | None) -> None:
        """What the gallery was left with."""
        if head is not None:
            self.attention.select(*head)
            self.action_pick("attention")

    def show_samples(self) -> None:
        self.action_present()  # what is written now belongs to the present
        if not self.transcript.display:
            self._picked = "samples"
            self._show_pick()

    def leave_prompt(self) -> None:
        self.set_focus(self._pane(self._picked))

    @on(DescendantFocus)
    @on(DescendantBlur)
    def _show_hints(self) -> None:
        focus = self.focused.id if self.focused is not None else ""
        trains = self._session.trains and not self._status.finished
        paused, past = self._status.phase == "paused", self.past is not None
        self.key_hints.update(hints(focus or "", trains, paused, past, self._session.owned))
