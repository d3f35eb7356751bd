"""The gallery screen: what every attention head does and how it came to it, beside a map of the one chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from minigpt_core import heads
from minigpt_core.frame import HeadHistory
from minigpt_core.status import Event
from minigpt_tui.safetext import safe
from minigpt_tui.session import Session
from minigpt_tui.widgets.gallery import HeadTable
from minigpt_tui.widgets.head_map import HeadMap
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.hints import Hint, KeyHints
from minigpt_tui.widgets.roles import Births, Head

POLL_SECONDS = 1.0
WAITING = "no frames yet: the first look into the weights comes when training has begun"
NEVER = "no frames yet: this run recorded none, and it is finished"
HINTS = [
    Hint(2, "gallery.up gallery.down", "head"),
    Hint(1, "gallery.choose", "its map", "screen.choose"),
    Hint(
        3, " ".join(f"gallery.by-{column}" for column in ("previous", "induction", "sink", "entropy", "layer")), "sort"
    ),
    Hint(4, "again", "reverses"),
    Hint(0, "gallery.close", "back", "screen.close"),
]


class Birthdays:
    """When each head took up its roles: as the run's log says, or from its frames where the log says nothing."""

    def __init__(self) -> None:
        self._logged: dict[tuple[Head, str], int] = {}
        self._start_again()

    def _start_again(self) -> None:
        self._births = heads.Births()
        self._computed: dict[tuple[Head, str], int] = {}
        self._fed = -1

    def take(self, log: Iterable[Event]) -> None:
        """New events of the run, each once and in order. What lies on a branch that a resume gave up is forgotten."""
        for event in log:
            if event.kind == "birth":
                data = event.data
                self._logged.setdefault(((data["layer"], data["head"]), data["role"]), event.step)
            elif event.kind == "resumed":
                self._logged = {key: step for key, step in self._logged.items() if step <= event.step}

    def feed(self, history: HeadHistory) -> None:
        """The run's frames; those later than all before are new."""
        if self._fed > history.steps[-1]:
            self._start_again()  # a resume went back
        for i in np.flatnonzero(history.steps > self._fed):
            for step, layer, head, role, _ in self._births.update(int(history.steps[i]), history.scores[i]):
                self._computed[(layer, head), role] = step
        self._fed = int(history.steps[-1])

    def by_head(self) -> Births:
        out: dict[Head, list[tuple[int, str]]] = {}
        for (head, role), step in (self._logged or self._computed).items():
            out.setdefault(head, []).append((step, role))
        return {head: sorted(births) for head, births in out.items()}


class GalleryScreen(Screen[tuple[int, int] | None]):
    """Closes with the (layer, head) to look at, or None."""

    CSS = """
    GalleryScreen { overflow: hidden; }
    GalleryScreen #gallery { height: 1fr; }
    GalleryScreen #head-map { display: none; }
    GalleryScreen.-w-map #head-map, GalleryScreen.-w-large-map #head-map { display: block; width: 43; margin: 0 1 0 2; }
    GalleryScreen.-w-large-map #head-map { width: 65; }
    GalleryScreen #hints { height: 1; }
    """
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 (Textual declares it as an instance variable)
        (0, "-w-alone"),
        (110, "-w-map"),
        (160, "-w-large-map"),
    ]
    AUTO_FOCUS = "HeadTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,g,q", "close", "back", id="gallery.close"),
        Binding("enter", "choose", "its map in the attention pane", id="gallery.choose"),
    ]

    def __init__(self, session: Session, look: Ramp) -> None:
        super().__init__()
        self._session = session
        self._birthdays = Birthdays()
        self._seen = 0
        self._shown: object = None
        self.table = HeadTable()
        self.map = HeadMap(look)
        self.key_hints = KeyHints()

    def compose(self) -> ComposeResult:
        yield Horizontal(self.table, self.map, id="gallery")
        yield self.key_hints

    def on_mount(self) -> None:
        self.key_hints.update(HINTS)
        self.watch(self.table, "selected", self._show_map)
        self.poll()
        self.set_interval(POLL_SECONDS, self.poll)

    def poll(self) -> None:
        """Bring everything up to date; what has not changed costs nothing."""
        session = self._session
        log = session.events(self._seen)
        self._seen += len(log)
        self._birthdays.take(log)
        history, frame = session.head_history(), session.frame()
        if history is not None and not len(history.steps):
            history = None
        if history is not None:
            self._birthdays.feed(history)
        at = None if frame is None else frame.stamp.step
        version = (at, self._seen, None if history is None else (len(history.steps), int(history.steps[-1])))
        if version != self._shown or history is None:
            self._shown = version
            self.table.update(history, at, self._birthdays.by_head(), self._waiting())
        self._show_map()

    def _waiting(self) -> str:
        why = self._session.probe_failure()
        if why is not None:
            return f"no frames yet: {safe(why, newlines=False)}"
        return NEVER if not self._session.trains or self._session.status().finished else WAITING

    def _show_map(self) -> None:
        self.map.update(self._session.frame(), self.table.selected)

    def action_choose(self) -> None:
        self.dismiss(self.table.selected)

    def action_close(self) -> None:
        self.dismiss(None)
