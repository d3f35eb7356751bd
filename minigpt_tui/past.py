"""What a run's directory tells of its past: one half of a session, the same whoever trains the run, or nobody."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from minigpt_core.cast import Cast
from minigpt_core.frame import Frame, HeadHistory, RecordedSample
from minigpt_core.history import RunHistory
from minigpt_core.ladder import Ladder
from minigpt_core.library import Library
from minigpt_core.replay import Replay
from minigpt_core.rundir import RunDir
from minigpt_core.status import Envelope, Event, Status


class Past:
    """The methods of `minigpt_tui.session.Session` that a directory can answer; threads of its own read it.

    Args:
        tokens: (n,) the encoded text, if it is at hand; else it is read from the directory when it is needed.
    """

    near = True

    def __init__(self, run: RunDir, tokens: np.ndarray | None = None) -> None:
        self.run = run
        self.library = Library(run.path.parent)
        self._history = RunHistory(run)
        self._replay = Replay(run)
        self._cast = Cast(run, tokens)

    def follow(self) -> None:
        """Begin to read. Called once."""
        self._history.follow()
        self._replay.start()

    def smoothed(self, status: Status) -> Status:
        """A status with the smoothed loss, which a viewer chooses and a trainer does not know."""
        return msgspec.structs.replace(status, smoothed_loss=self._history.series.last("smoothed"))

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        return self._history.series.envelope(metric, lo, hi, buckets)

    def smooth(self, beta: float) -> None:
        self._history.series.smooth(beta)

    def events(self, after: int = 0) -> list[Event]:
        return self._history.events[after:]

    def speakers(self) -> tuple[str, ...]:
        return self._cast.names()

    def ladder(self) -> Ladder | None:
        return self._history.ladder

    def recorded(self) -> np.ndarray:
        return self._replay.steps()

    def look_back(self, step: int | None) -> None:
        self._replay.look_back(step)

    @property
    def looking_back(self) -> bool:
        return self._replay.looking_back

    def past_frame(self) -> Frame | None:
        """While looking back: the recorded frame read last."""
        return self._replay.frame()

    def past_failure(self) -> str | None:
        """Why the recording cannot be read, in a line."""
        return self._replay.failure

    def recorded_sample(self) -> RecordedSample | None:
        return self._replay.sample()

    def head_history(self) -> HeadHistory | None:
        return self._replay.head_history()

    def let_go(self) -> None:
        """Stop reading; returns at once."""
        self._history.close()
        self._replay.close()
        self.library.close()

    def gone(self, timeout: float | None) -> bool:
        """After `let_go`: whether the last read has ended within so many seconds."""
        began = time.monotonic()
        return self._history.join(timeout) and self._replay.join(
            None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        )
