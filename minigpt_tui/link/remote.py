"""Sessions on a run that trains in another process: the same to a screen as one that trains here.

On the machine of the run its past is read from its directory, and only what is live comes over the link. Through a
forwarded socket all of it does.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from minigpt_core.frame import Frame, HeadHistory, RecordedSample
from minigpt_core.ladder import Ladder
from minigpt_core.library import Library
from minigpt_core.lock import holder, is_locked
from minigpt_core.rundir import RunDir
from minigpt_core.series import BETA
from minigpt_core.status import Envelope, Event, Status
from minigpt_tui.link import messages as m
from minigpt_tui.link.live import Live, shape
from minigpt_tui.past import Past

LAST_STEPS = 100
"""Among which the newest row is sought."""


class AttachedSession(Live, Past):
    """A run that trains in another process of this machine: its past from its directory, the rest over the link."""

    def __init__(self, run: RunDir) -> None:
        Past.__init__(self, run)
        Live.__init__(self)

    def _find(self) -> Path | str:
        if not is_locked(self.run):
            return "nobody trains this run now"
        held = holder(self.run)
        if held is None:
            return f"{str(self.run.control)!r} does not say who trains this run"
        if not held.here:
            return f"it trains on {held.host!r} now"
        return Path(held.socket) if held.socket else f"process {held.pid} has it, and cannot be attached to yet"

    def listen(self) -> None:
        """Connect, and leave the past alone."""
        self._link.start()

    def connect(self) -> None:
        """Begin to read and to listen, before a screen is there."""
        self.follow()
        self._link.start()

    def start(self) -> None:
        """Nothing is left to begin."""

    def status(self) -> Status:
        return self.smoothed(self.live_status())

    def frame(self) -> Frame | None:
        return self.past_frame() if self.looking_back else self.live_frame()

    def probe_failure(self) -> str | None:
        return self.past_failure() if self.looking_back else self._news.failure

    def close(self) -> None:
        self.let_go()
        self._link.close()

    def join(self, timeout: float | None = None) -> bool:
        return self._link.join(timeout) and self.gone(timeout)


class Elsewhere(Library):
    """The runs beside one on another machine, which cannot be seen from here."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.ready, self.problem = True, "the runs beside this one lie on its own machine; look there"

    def refresh(self) -> None:
        pass

    def overlay(self, name: str) -> None:
        return None


class ForwardedSession(Live):
    """A run on another machine, through a socket that is forwarded from there: everything comes over the link."""

    near = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.library: Library = Elsewhere()
        self._beta = BETA
        self._events: list[Event] = []
        self._step: int | None = None
        """That is looked back at."""
        self._past_frame: Frame | None = None
        self._past_sample: RecordedSample | None = None

    def _find(self) -> Path | str:
        return self._path

    def connect(self) -> None:
        self._link.start()

    def start(self) -> None:
        """Nothing is left to begin."""

    def status(self) -> Status:
        status = self.live_status()
        last = self.series("smoothed", max(0, status.step - LAST_STEPS), buckets=2 * LAST_STEPS).mean  # none is merged
        return msgspec.structs.replace(status, smoothed_loss=float(last[-1]) if len(last) else None)

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        question = m.SeriesOf(metric, lo, hi, buckets, self._beta)
        value = self._ask(question) or self._drawn.get(shape(question))
        if isinstance(value, Envelope):
            return value
        nothing = np.empty(0)
        return Envelope(nothing, nothing, nothing, nothing)

    def smooth(self, beta: float) -> None:
        self._beta = beta

    def events(self, after: int = 0) -> list[Event]:
        self._ask(m.RecordedSteps())  # so that they are here when somebody looks back
        value = self._ask(m.EventsFrom(len(self._events)))
        if isinstance(value, m.Events):
            self._events += value.events
        return self._events[after:]

    def speakers(self) -> tuple[str, ...]:
        value = self._ask(m.Speakers())
        return value.names if isinstance(value, m.Found) else ()

    def ladder(self) -> Ladder | None:
        value = self._ask(m.LadderOf())
        return value.ladder if isinstance(value, m.Found) else None

    def recorded(self) -> np.ndarray:
        value = self._ask(m.RecordedSteps())
        return value if isinstance(value, np.ndarray) else np.empty(0, np.int64)

    def head_history(self) -> HeadHistory | None:
        value = self._ask(m.Heads())
        return value if isinstance(value, HeadHistory) else None

    def look_back(self, step: int | None) -> None:
        if step != self._step:
            self._step = step
            self._looking = step is None
            self._link.say(m.Look(True, step))
        if step is None:
            self._past_frame = self._past_sample = None

    def frame(self) -> Frame | None:
        return self.live_frame() if self._step is None else self._past_frame

    def recorded_sample(self) -> RecordedSample | None:
        return self._past_sample

    def probe_failure(self) -> str | None:
        return self._news.failure

    def close(self) -> None:
        self._link.close()

    def join(self, timeout: float | None = None) -> bool:
        return self._link.join(timeout)

    def _opened(self) -> None:
        super()._opened()
        if (step := self._step) is not None:
            self._link.say(m.Look(True, step))

    def _see(self, picture: m.Picture) -> None:
        frame = m.read_frame(picture)
        if not picture.past:
            self._frame = frame
        elif self._step is not None:
            self._past_frame = frame
            self._past_sample = None if picture.sample is None else RecordedSample(*picture.sample)
