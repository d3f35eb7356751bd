"""The scrubber of time travel: one row with the recorded frames from the first to the newest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from minigpt_tui.keymap import spelled
from minigpt_tui.widgets.lines import Lines, Part, strip, width
from minigpt_tui.widgets.palette import BACKGROUND, FAINT, MUTED, RAISED, WARN

TITLE = " ◂ PAST "
KEYS = (
    "←→ frame  pgup/pgdn 10  home/end  space {play}  esc live",
    "←→ frame  space {play}  esc live",
    "space {play}  esc live",
    "esc live",
)
MIN_BAR, MAX_BAR = 8, 100
"""Cells: with less room for the bar, other parts leave."""
TITLE_STYLE = Style(color=BACKGROUND, bgcolor=WARN, bold=True)
WARN_STYLE = Style(color=WARN, bgcolor=RAISED)
REST_STYLE = Style(color=FAINT, bgcolor=RAISED)
KEYS_STYLE = Style(color=MUTED, bgcolor=RAISED)


class Timeline(Lines, can_focus=True):
    """Says which recorded step is wanted; reading and showing it is the screen's business.

    The bar is even in frames, not in steps: early training, where most happens, is recorded more densely.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "one frame back", show=False, id="timeline.back"),
        Binding("right", "move(1)", "one frame on", show=False, id="timeline.on"),
        Binding("pageup", "move(-10)", "ten frames back", show=False, id="timeline.far-back"),
        Binding("pagedown", "move(10)", "ten frames on", show=False, id="timeline.far-on"),
        Binding("home", "seek(0)", "first frame", show=False, id="timeline.first"),
        Binding("end", "seek(-1)", "newest frame", show=False, id="timeline.newest"),
        Binding("space", "play", "play from here, stop", show=False, id="timeline.play"),
        Binding("escape", "screen.present", "return to the present", show=False, id="timeline.live"),
    ]

    class Sought(Message):
        """Another recorded step is wanted."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class Played(Message):
        """The animation begins: `advance` is to be called whenever a frame has been shown."""

    def __init__(self) -> None:
        super().__init__(id="timeline")
        self.steps = np.empty(0, np.int64)
        """(n,) the steps that were recorded, ascending."""
        self.step = 0
        """The one that is wanted."""
        self.playing = False
        self._run_step = 0
        self._bar = (0, 0)
        """First column and length of the bar."""

    @property
    def index(self) -> int:
        """The number of the wanted frame, from 0."""
        return int(np.abs(self.steps - self.step).argmin()) if len(self.steps) else 0

    def update(self, steps: np.ndarray, run_step: int) -> None:
        """The recorded steps of this moment, and how far the run is. A wanted frame that is gone gives way to the
        nearest."""
        self.steps, self._run_step = steps, run_step
        self._seek(self.index)
        self._paint()

    def open(self, steps: np.ndarray, run_step: int) -> None:
        """Begin at the newest frame."""
        self.playing = False
        self.steps, self.step, self._run_step = steps, -1, run_step
        self._seek(len(steps) - 1)

    def advance(self) -> None:
        """The next frame of the animation; at the newest it stops."""
        if self.index + 1 < len(self.steps):
            self._seek(self.index + 1)
        if self.index + 1 >= len(self.steps):
            self.playing = False
            self._paint()

    def _seek(self, index: int) -> None:
        if not len(self.steps):
            return
        step = int(self.steps[min(max(index, 0), len(self.steps) - 1)])
        if step != self.step:
            self.step = step
            self._paint()
            self.post_message(self.Sought(step))

    # --- keys and mouse ---

    def action_move(self, by: int) -> None:
        self.playing = False
        self._seek(self.index + by)
        self._paint()

    def action_seek(self, index: int) -> None:
        self.playing = False
        self._seek(index % max(1, len(self.steps)))
        self._paint()

    def action_play(self) -> None:
        """From here to the end; from the end, all of it."""
        self.playing = not self.playing
        if self.playing and self.index + 1 >= len(self.steps):
            self._seek(0)
        self._paint()
        if self.playing:
            self.post_message(self.Played())

    def on_mouse_down(self, event: events.MouseDown) -> None:
        start, length = self._bar
        if start <= event.x < start + length:
            self.capture_mouse()
            self._seek_column(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self:
            self._seek_column(event.x)

    def on_mouse_up(self) -> None:
        self.release_mouse()

    def _seek_column(self, x: int) -> None:
        start, length = self._bar
        self.playing = False
        self._seek(round((x - start) / max(1, length - 1) * (len(self.steps) - 1)))
        self._paint()

    # --- drawing ---

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns, n = self.size.width, len(self.steps)
        if not columns or not n:
            return
        digits = len(f"{self._run_step:,}")
        place = f"step {self.step:>{digits},} of {self._run_step:,} "
        frames = f" {self.index + 1:>{len(str(n))}}/{n} frames "
        keys = [f" {text.format(play='stop' if self.playing else 'play')}" for text in KEYS]
        if self.app.terminal.ascii:  # type: ignore[attr-defined]
            keys = [spelled(text) for text in keys]
        # The first of these that leaves room for a bar; at worst the step alone.
        choices = [(f" {place}", frames, keys_text) for keys_text in (*keys, "")]
        choices += [(f" {place}", "", ""), (f" {self.step:,} ", "", "")]
        rooms = [columns - len(TITLE) - sum(map(len, choice)) for choice in choices]
        best = next((i for i, room in enumerate(rooms) if room >= MIN_BAR), -1)
        left, middle, right = choices[best]
        size = max(0, min(MAX_BAR, rooms[best]))
        self._bar = (len(TITLE) + len(left), size)
        at = min(size - 1, round(self.index / max(1, n - 1) * (size - 1)))
        parts: list[Part] = [(TITLE, TITLE_STYLE), (left, WARN_STYLE)]
        if size:
            parts += [("━" * at, WARN_STYLE), ("●", WARN_STYLE), ("─" * (size - 1 - at), REST_STYLE)]
        parts += [(middle, WARN_STYLE), (right, KEYS_STYLE)]
        self.show([strip([*parts, (" " * max(0, columns - width(parts)), KEYS_STYLE)])])
