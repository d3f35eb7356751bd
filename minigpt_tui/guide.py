"""How a lesson follows a live run: its chapters, when the time of each has come, and who turns the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minigpt_tui.facts import Facts

WORDS_A_SECOND = 4.0
"""How fast a text about something new is read."""
LEAST_SECONDS = 8.0
"""A chapter stays at least this long before the next one comes by itself."""


@dataclass(frozen=True)
class Chapter:
    """A page of a lesson.

    Attributes:
        text: keys stand in `backticks`, facts in {braces} (see `Facts.quotes`); a line break is kept.
        pane: the pane that it speaks of.
        holds: whether its time has come. Once it has, it stays so.
        waiting: what for, until then; facts in braces.
        writes: let the model write something at that moment, for the text to quote as {wrote}.
        head: the kind of head that the attention pane is to show.
    """

    title: str
    text: str
    pane: str
    holds: Callable[[Facts], bool] = lambda facts: True
    waiting: str = ""
    writes: bool = False
    head: str | None = None

    @property
    def seconds(self) -> float:
        """How long it takes to read."""
        return max(LEAST_SECONDS, len(self.text.split()) / WORDS_A_SECOND)


@dataclass(frozen=True)
class Lesson:
    """A run to watch, and the chapters that explain it. `data`, `model` and `train` are as in `plan.Request`."""

    name: str
    data: str
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    chapters: tuple[Chapter, ...]


class Guide:
    """Which chapter is open, and which may be. Times are in seconds on any clock that only goes forward.

    Attributes:
        index: the open chapter.
        reached: the last chapter that has been open.
        over: the run has ended, so what has not happened never will; all chapters may be read.
    """

    def __init__(self, chapters: Sequence[Chapter], now: float = 0.0) -> None:
        self.chapters = chapters
        self.index = self.reached = 0
        self.over = False
        self._met: set[int] = set()
        self._since = now

    @property
    def chapter(self) -> Chapter:
        return self.chapters[self.index]

    @property
    def next(self) -> Chapter | None:
        return self.chapters[self.index + 1] if self.index + 1 < len(self.chapters) else None

    @property
    def missed(self) -> bool:
        """The run has ended without what the open chapter tells of."""
        return self.over and self.index not in self._met

    @property
    def ready(self) -> bool:
        """Whether there is a next chapter that may be opened."""
        following = self.index + 1
        return self.next is not None and (following <= self.reached or following in self._met or self.over)

    def update(self, facts: Facts) -> list[int]:
        """Look at the run; the chapters whose time has come just now."""
        self.over = self.over or facts.status.finished
        news = [i for i, chapter in enumerate(self.chapters) if i not in self._met and chapter.holds(facts)]
        self._met.update(news)
        return news

    def turn(self, now: float) -> bool:
        """Open the next chapter by itself: its time has come, and this one, the last one reached, has been read."""
        read = now - self._since >= self.chapter.seconds
        return self.index == self.reached and read and self.forward(now)

    def forward(self, now: float) -> bool:
        """Open the next chapter if it may be; whether it was."""
        if not self.ready:
            return False
        self._open(self.index + 1, now)
        return True

    def back(self, now: float) -> bool:
        """Open the chapter before; whether there is one."""
        if not self.index:
            return False
        self._open(self.index - 1, now)
        return True

    def restart(self, now: float) -> None:
        """The reader was away: the open chapter is read from its beginning."""
        self._since = now

    def _open(self, index: int, now: float) -> None:
        self.index, self._since = index, now
        self.reached = max(self.reached, index)
