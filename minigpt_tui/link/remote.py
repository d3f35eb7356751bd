"""Sessions on a run that trains in another process: the same to a screen as one that trains here.

On the machine of the run its past is read from its directory, and only what is live comes over the link. Through a
forwarded socket all of it does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from minigpt_core.config import SampleConfig
from minigpt_core.frame import Frame, HeadHistory, RecordedSample
from minigpt_core.generation import Generation
from minigpt_core.ladder import Ladder
from minigpt_core.library import Library
from minigpt_core.lock import holder
from minigpt_core.rundir import RunDir
from minigpt_core.series import BETA
from minigpt_core.status import Command, Envelope, Event, Reading, Status
from minigpt_tui.link import messages as m
from minigpt_tui.link.client import Link
from minigpt_tui.past import Past

FRESH_SECONDS = 0.5
"""How long an answer about the past is as good as new."""
KEPT_ANSWERS = 200
LOOKING_SECONDS = 3.0
"""After which nobody is taken to look at frames, if nobody asks for one."""
LAST_STEPS = 100
"""Among which the newest row is sought."""
AHEAD = 2
"""Excerpts asked for before they are needed, since whoever asks for one does not wait."""


class Asked(Generation):
    """An answer that is written in another process."""

    def __init__(self, prompt: str, config: SampleConfig, cancel: Callable[[], None]) -> None:
        super().__init__(prompt, config)
        self._cancel_there = cancel

    def cancel(self) -> None:
        super().cancel()
        self._cancel_there()


class Live:
    """The half of a session that needs the trainer: its status, its weights, and what it is told to do."""

    trains = True
    owned = False

    def __init__(self) -> None:
        self._link = Link(self._find, self._hear, self._opened)
        self._welcome: m.Welcome | None = None
        self._news = m.News(Status(message="connecting"), Reading(), None)
        self._frame: Frame | None = None
        self._watched: str | None = None
        self._looking = False
        self._asked_frame = 0.0
        self._numbers = itertools.count(1)
        self._prompts: dict[int, Generation] = {}
        self._questions: dict[m.Question, float] = {}
        """When each was asked last, seconds of the monotonic clock."""
        self._pending: dict[int, m.Question] = {}
        self._answers: dict[m.Question, Any] = {}
        self._drawn: dict[tuple[object, ...], Any] = {}
        """The newest answer about each series, whatever the steps: better than none while a new one is on its way."""
        self._lock = threading.Lock()

    # --- what a subclass does ---

    def _find(self) -> Path | None:
        """Where the socket is now; from the link's thread."""
        raise NotImplementedError

    # --- for screens ---

    @property
    def connected(self) -> bool:
        return self._link.problem is None

    @property
    def trainer(self) -> m.Welcome | None:
        """Who was connected to last; None before the first time."""
        return self._welcome

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in a line."""
        return self._link.problem

    def live_status(self) -> Status:
        status, problem = self._news.status, self._link.problem
        if problem is None or status.finished:
            return status
        return msgspec.structs.replace(status, warning=f"not connected ({problem}); trying again")

    def send(self, command: Command) -> None:
        assert isinstance(command, m.Obeyed)
        self._link.say(m.Do(command))

    def generate(self, prompt: str, config: SampleConfig) -> Generation:
        number = next(self._numbers)
        generation = Asked(prompt, config, lambda: self._cancel(number))
        self._prompts[number] = generation
        if self.connected:
            self._ask_for(number, generation)
        elif self._news.status.finished:
            self._drop_prompts("the run has ended; talk to it with: minigpt-tui chat")
        return generation

    def watch(self, text: str | None) -> None:
        self._watched = text
        self._link.say(m.Watch(text))

    def live_frame(self) -> Frame | None:
        self._asked_frame = time.monotonic()
        if not self._looking:
            self._looking = True
            self._link.say(m.Look(True))
        return self._frame

    def excerpt(self, number: int) -> str | None:
        for ahead in range(1, AHEAD + 1):
            self._ask(m.Excerpt(number + ahead))
        found = self._ask(m.Excerpt(number))
        return found.text if isinstance(found, m.Found) else None

    def reading(self) -> Reading:
        return self._news.reading

    # --- what can be asked ---

    def _ask(self, question: m.Question) -> Any:
        """The last answer known, None before the first; a stale one is asked for again."""
        now = time.monotonic()
        with self._lock:
            asked = self._questions.get(question)
            if self.connected and (asked is None or now - asked > FRESH_SECONDS):
                self._questions[question] = now
                if question not in self._pending.values():
                    number = next(self._numbers)
                    self._pending[number] = question
                    self._link.say(m.Ask(number, question))
            return self._answers.get(question)

    def _cancel(self, number: int) -> None:
        if self.connected:
            self._link.say(m.Cancel(number))
        elif (generation := self._prompts.pop(number, None)) is not None:
            generation.finish("cancelled")

    def _ask_for(self, number: int, generation: Generation) -> None:
        self._link.say(m.Prompt(number, generation.prompt, generation.config, generation.shown))

    # --- the link's thread ---

    def _opened(self) -> None:
        """A new connection knows nothing of the one before."""
        with self._lock:
            self._pending.clear()
            self._questions.clear()
        self._looking = False
        if self._watched is not None:
            self._link.say(m.Watch(self._watched))
        for number, generation in self._prompts.copy().items():
            self._ask_for(number, generation)
        self._ask(m.Excerpt(1))
        self._ask(m.Excerpt(2))

    def _hear(self, reply: m.Reply) -> None:
        match reply:
            case m.Welcome():
                self._drop_prompts("the connection was lost before the answer was complete", begun=True)
                self._welcome = reply
            case m.News():
                self._news = reply
                if self._looking and time.monotonic() - self._asked_frame > LOOKING_SECONDS:
                    self._looking = False
                    self._link.say(m.Look(False))
            case m.Picture():
                self._see(reply)
            case m.Pieces():
                self._read_on(reply)
            case m.Answer(number, value):
                with self._lock:
                    question = self._pending.pop(number, None)
                    if question is not None:
                        self._answers.pop(question, None)
                        self._answers[question] = value  # the newest last
                        if isinstance(question, m.SeriesOf):
                            self._drawn[_shape(question)] = value
                        while len(self._answers) > KEPT_ANSWERS:
                            oldest = next(iter(self._answers))
                            del self._answers[oldest]
                            self._questions.pop(oldest, None)

    def _see(self, picture: m.Picture) -> None:
        self._frame = m.read_frame(picture)

    def _read_on(self, news: m.Pieces) -> None:
        generation = self._prompts.get(news.number)
        if generation is None:
            return
        if generation.stamp is None:
            generation.stamp, generation.warnings = news.stamp, news.warnings
        for piece in news.pieces:
            generation.put(piece.sample, piece.text, piece.choice)
        generation.n_tokens = news.n_tokens
        if news.reason is not None:
            del self._prompts[news.number]
            generation.finish(news.reason, news.error)

    def _drop_prompts(self, why: str, begun: bool = False) -> None:
        """End the answers that nobody will complete; those that have not begun can still be asked for."""
        for number, generation in self._prompts.copy().items():
            if generation.stamp is not None or not begun:
                self._prompts.pop(number, None)
                generation.finish("failed", why)


def _shape(question: m.SeriesOf) -> tuple[object, ...]:
    return question.metric, question.buckets, question.lo is None, question.hi is None


class AttachedSession(Live, Past):
    """A run that trains in another process of this machine: its past from its directory, the rest over the link."""

    def __init__(self, run: RunDir) -> None:
        Past.__init__(self, run)
        Live.__init__(self)

    def _find(self) -> Path | None:
        held = holder(self.run)
        return Path(held.socket) if held is not None and held.here and held.socket else None

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

    def _find(self) -> Path | None:
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
        value = self._ask(question) or self._drawn.get(_shape(question))
        if isinstance(value, m.Envelopes):
            return m.read_envelope(value)
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
        return m.read_array(value) if isinstance(value, m.Array) else np.empty(0, np.int64)

    def head_history(self) -> HeadHistory | None:
        value = self._ask(m.Heads())
        return m.read_heads(value) if isinstance(value, m.HeadScores) else None

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

    def _see(self, picture: m.Picture) -> None:
        frame = m.read_frame(picture)
        if not picture.past:
            self._frame = frame
        elif self._step is not None:
            self._past_frame = frame
            self._past_sample = None if picture.sample is None else RecordedSample(*picture.sample)
