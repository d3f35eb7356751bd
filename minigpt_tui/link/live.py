"""What a session needs a trainer in another process for: its status, its weights, and what it is told to do."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.frame import Frame
from minigpt_core.generation import Generation
from minigpt_core.status import Command, Reading, Status
from minigpt_tui.link import messages as m
from minigpt_tui.link.client import Link

FRESH_SECONDS = 0.5
"""How long an answer about the past is as good as new."""
KEPT_ANSWERS = 200
LOOKING_SECONDS = 3.0
"""After which nobody is taken to look at frames, if nobody asks for one."""
ENDED = "the run has ended; talk to it with: minigpt-tui chat"
WATCHED = 50_000
"""Characters of a watched text that are sent: more than any context holds, less than a trainer refuses."""
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
        self._link = Link(self._find, self._hear, self._opened, self._lost)
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

    def _find(self) -> Path | str:
        """Where the socket is now, or why there is none, in a line; from the link's thread."""
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
            self._drop_prompts(ENDED)
        return generation

    def watch(self, text: str | None) -> None:
        self._watched = text = text and text[-WATCHED:]
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
        try:
            self._link.say(m.Prompt(number, generation.prompt, generation.config, generation.shown))
        except UserError as error:
            self._prompts.pop(number, None)
            generation.finish("failed", f"the prompt {error}")

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

    def _lost(self, refused: bool) -> None:
        if refused:  # to say all of it again would end the next connection, too
            self._watched = None
            self._drop_prompts("the trainer refused what it was told")
        elif self._news.status.finished:
            self._drop_prompts(ENDED)
        else:
            self._drop_prompts("the connection was lost before the answer was complete", begun=True)

    def _hear(self, reply: m.Reply) -> None:
        match reply:
            case m.Welcome():
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
            case m.Answer(number):
                value = m.read_answer(reply)
                with self._lock:
                    question = self._pending.pop(number, None)
                    if question is not None:
                        self._answers.pop(question, None)
                        self._answers[question] = value  # the newest last
                        if isinstance(question, m.SeriesOf):
                            self._drawn[shape(question)] = value
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
        rows = len(generation.config.rows)
        if not all(0 <= piece.sample < rows for piece in news.pieces):
            raise m.MalformedError(f"there are {rows} samples")
        if generation.stamp is None:
            generation.stamp, generation.warnings = news.stamp, news.warnings
        for piece in news.pieces:
            generation.put(piece.sample, piece.text, piece.choice)
        generation.n_tokens = news.n_tokens
        if news.reason is not None:
            self._prompts.pop(news.number, None)
            generation.finish(news.reason, news.error)

    def _drop_prompts(self, why: str, begun: bool = False) -> None:
        """End the answers that nobody will complete; those that have not begun can still be asked for."""
        for number, generation in self._prompts.copy().items():
            if generation.stamp is not None or not begun:
                self._prompts.pop(number, None)
                generation.finish("failed", why)


def shape(question: m.SeriesOf) -> tuple[object, ...]:
    """What two questions about the same line of a chart have in common, wherever it begins and ends."""
    return question.metric, question.buckets, question.lo is None, question.hi is None
