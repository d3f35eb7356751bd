"""The n-gram ladder of a run, fitted in the background, and the rungs it passes as it trains."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

import numpy as np

from minigpt_core.corpus import split
from minigpt_core.errors import UserError
from minigpt_core.hardware import give_way
from minigpt_core.ladder import Crossing, Crossings, Ladder, fit_ladder, load_ladder, write_ladder
from minigpt_core.rundir import RunDir
from minigpt_core.status import Event, MetricsRow


class Landmarks:
    """Knows a run's ladder once it is fitted: from the run's directory, or else in a thread of its own.

    Args:
        tokens: (n,) the whole encoded text.

    Attributes:
        ladder: None while it is not known, or cannot be (the text is too short).
    """

    def __init__(self, run: RunDir, tokens: np.ndarray, vocab_size: int) -> None:
        self.ladder: Ladder | None = None
        self._run_dir, self._tokens, self._vocab_size = run, tokens, vocab_size
        self._crossings = Crossings()
        self._compared = False
        """Whether the crossings have the ladder."""
        self._thread = threading.Thread(target=self._fit, name="ladder", daemon=True)

    def start(self) -> None:
        """Begin to fit; a second time does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def resume(self, told: Iterable[Event], rows: Iterable[MetricsRow]) -> None:
        """Go on with a run that has events and rows already: before `start`, or after a rollback."""
        self._compared = False
        self._crossings = Crossings(event.data["rung"] for event in told if event.kind == "rung")
        for row in rows:
            self._crossings.feed(row)

    def passed(self, row: MetricsRow) -> list[Crossing]:
        """The rungs passed with this row, or before it if the ladder was not known then. For the trainer's thread."""
        found = self._crossings.feed(row)
        if not self._compared and self.ladder is not None:
            self._compared = True
            found = self._crossings.set_ladder(self.ladder)
        return found

    def _fit(self) -> None:
        give_way()
        ladder = load_ladder(self._run_dir)
        if ladder is None:
            with contextlib.suppress(UserError):  # too short a text has none; a full disk costs only the copy
                ladder = fit_ladder(*split(self._tokens, 1), self._vocab_size)
                write_ladder(self._run_dir, ladder)
        self.ladder = ladder
