"""What a lesson may say of a live run, collected from its session."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minigpt_core.generation import Generation
from minigpt_core.heads import BORN, SCORES
from minigpt_core.ladder import RUNGS
from minigpt_core.status import Status
from minigpt_tui.safetext import safe
from minigpt_tui.session import Session
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import cut

WITH_STEP = 20
"""Cells before a piece of text whose step is told on the same line."""
SHARES = dict(zip(RUNGS, (1.0, 0.70, 0.50, 0.40, 0.35, 0.33), strict=True))
"""Rungs of the n-gram ladder as shares of ln V on English prose, for a run whose ladder is not known."""


class Head(NamedTuple):
    """An attention head, and a score of it."""

    layer: int
    head: int
    score: float

    def __str__(self) -> str:
        return f"layer {self.layer} head {self.head}"


class Wrote(NamedTuple):
    """What the model wrote, and at which step."""

    step: int | None
    text: str


NOTHING = Wrote(None, fmt.UNKNOWN)


@dataclass(frozen=True)
class Facts:
    """A run at one moment, as far as lessons speak of it.

    Attributes:
        uniform: ln V, the loss of guessing among all characters evenly.
        rungs: loss of each rung of the n-gram ladder, in nats; estimates unless `exact`.
        passed: the step at which the run got below each rung that it has passed.
        previous, induction: the head with the largest score of that kind in the newest recorded frame.
        frames: how many frames are recorded.
    """

    status: Status
    vocab_size: int
    rungs: Mapping[str, float]
    exact: bool = False
    passed: Mapping[str, int] = field(default_factory=dict)
    previous: Head | None = None
    induction: Head | None = None
    births: Mapping[str, int] = field(default_factory=dict)
    """The step of the first birth of each role."""
    frames: int = 0
    first: Wrote = NOTHING
    """What the model wrote first, and last."""
    last: Wrote = NOTHING

    @property
    def loss(self) -> float | None:
        """The smoothed training loss; before there is one, the raw one."""
        status = self.status
        return status.train_loss if status.smoothed_loss is None else status.smoothed_loss

    def level(self, rung: str) -> str:
        return ("" if self.exact or rung == "uniform" else "about ") + fmt.number(self.rungs[rung], 2)

    def born(self, role: str) -> bool:
        """Whether a head has taken up this role: the log says so, or a score does."""
        best: Head | None = getattr(self, role)
        return role in self.births or (best is not None and best.score >= BORN)

    def quotes(self, wrote: Wrote, columns: int) -> dict[str, Any]:
        """Everything that a text may name in braces.

        Args:
            wrote: what the model wrote when the chapter's time came.
            columns: cells of a line, for pieces of the model's own text that stand on one by themselves.
        """
        status = self.status
        values: dict[str, Any] = {
            "V": self.vocab_size,
            "params": fmt.count(status.n_params or None),
            "step": fmt.count(status.step),
            "steps": fmt.count(status.total_steps),
            "loss": fmt.number(self.loss, 2),
            "val": fmt.number(status.val_loss, 2),
            "val_step": fmt.count(status.val_step),
            "run": shown(status.name, 40) or fmt.UNKNOWN,
            "chance": share(None if self.loss is None else math.exp(-self.loss)),
            "frames": fmt.count(self.frames),
        }
        for n, rung in enumerate(RUNGS):
            values[f"level{n}"] = self.level(rung)
            values[f"passed{n}"] = fmt.count(self.passed.get(rung))
        for role in ("previous", "induction"):
            best: Head | None = getattr(self, role)
            values[role] = fmt.UNKNOWN if best is None else str(best)
            values[f"{role}_share"] = share(None if best is None else best.score)
            values[f"{role}_born"] = fmt.count(self.births.get(role))
        values["wrote"] = shown(wrote.text, columns)
        values["wrote_step"] = fmt.count(wrote.step)
        for name, piece in (("first", self.first), ("last", self.last)):
            values[name] = shown(piece.text, columns - WITH_STEP)
            values[f"{name}_step"] = fmt.count(piece.step)
        return values


def share(value: float | None) -> str:
    """A probability as people say it: 43 %."""
    return fmt.UNKNOWN if value is None or not math.isfinite(value) else f"{value:.0%}".replace("%", " %")


def shown(text: str, columns: int) -> str:
    """A piece of untrusted text in one line of at most so many cells."""
    return cut(safe(text, newlines=False), columns)


class Watcher:
    """Collects the facts of a run from its session."""

    def __init__(self, session: Session, vocab_size: int) -> None:
        self._session, self._vocab_size = session, vocab_size
        self._seen = 0
        """Events taken in."""
        self._passed: dict[str, int] = {}
        self._births: dict[str, int] = {}
        self._wrote: list[Generation] = []
        """The first and the last thing that the model wrote by itself."""

    def follow(self, generation: Generation) -> None:
        """The model writes something by itself."""
        self._wrote = [*self._wrote[:1], generation]

    def facts(self) -> Facts:
        status = self._session.status()
        self._take_events()
        ladder = self._session.ladder()
        uniform = math.log(self._vocab_size)
        rungs = {name: share * uniform for name, share in SHARES.items()}
        if ladder is not None:
            rungs = {rung.name: rung.loss for rung in ladder.rungs}
        else:
            self._compare(status, rungs)
        history = self._session.head_history()
        newest = None if history is None or not len(history.steps) else history.scores[-1]  # (4, L, H)
        return Facts(
            status=status,
            vocab_size=self._vocab_size,
            rungs=rungs,
            exact=ladder is not None,
            passed=dict(self._passed),
            previous=best_head(newest, "previous"),
            induction=best_head(newest, "induction"),
            births=dict(self._births),
            frames=len(self._session.recorded()),
            first=wrote(self._wrote[:1]),
            last=wrote(self._wrote),
        )

    def _take_events(self) -> None:
        """The run tells which rungs it passes, and which heads take up a role, each once."""
        events = self._session.events(self._seen)
        self._seen += len(events)
        for event in events:
            if event.kind == "rung":
                self._passed.setdefault(event.data["rung"], event.step)
            elif event.kind == "birth":
                self._births.setdefault(event.data["role"], event.step)

    def _compare(self, status: Status, rungs: Mapping[str, float]) -> None:
        """Without a ladder nobody tells: compare with the estimates."""
        loss = status.smoothed_loss
        for name, level in rungs.items():
            if loss is not None and loss < level:
                self._passed.setdefault(name, status.step)


def best_head(scores: np.ndarray | None, kind: str) -> Head | None:
    """The head with the largest score of a kind; `scores` is (4, L, H)."""
    if scores is None:
        return None
    score = np.nan_to_num(scores[SCORES.index(kind)])  # (L, H)
    layer, head = np.unravel_index(int(score.argmax()), score.shape)
    return Head(int(layer), int(head), float(score[layer, head]))


def wrote(generations: Sequence[Generation]) -> Wrote:
    """The text of the newest generation that has begun."""
    for generation in reversed(generations):
        if generation.stamp is not None and generation.text():
            return Wrote(generation.stamp.step, generation.text())
    return NOTHING
