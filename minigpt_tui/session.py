"""The Session protocol: all that a screen may ask of a run, wherever that run lives.

`LocalSession` answers from an engine in this process or, for a finished run, from its directory; those of
`minigpt_tui.link.remote` ask the process that trains. Screens and widgets know this protocol and the plain types of
`minigpt_core.status`, and no torch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from minigpt_core.config import SampleConfig
from minigpt_core.frame import Frame, HeadHistory, RecordedSample
from minigpt_core.generation import Generation
from minigpt_core.ladder import Ladder
from minigpt_core.library import Library
from minigpt_core.status import Command, Envelope, Event, Reading, Status


class Session(Protocol):
    """Every method returns at once: none waits for a training step, a disk or a link."""

    trains: bool
    """Whether there is a trainer to command; False on a finished run."""

    owned: bool
    """Whether the run ends with this session: False where another process trains it."""

    near: bool
    """Whether the run's directory lies on this machine."""

    library: Library
    """The runs that lie beside this one."""

    def start(self) -> None:
        """Begin loading torch and training. Called once, after the first frame is on the screen."""

    def status(self) -> Status: ...

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        """A metric (a field of `MetricsRow`) between two steps, at most `buckets` points."""

    def smooth(self, beta: float) -> None:
        """From now on the series "smoothed" is an exponential moving average with this β; 0 is the raw loss."""

    def events(self, after: int = 0) -> list[Event]:
        """The events of the run from number `after` on."""

    def send(self, command: Command) -> None:
        """Ask the trainer to do something at its next boundary.

        Raises:
            UserError: it is too long to be sent to it.
        """

    def generate(self, prompt: str, config: SampleConfig) -> Generation:
        """Sample from the weights of this moment; requests made before they exist wait for them."""

    def watch(self, text: str | None) -> None:
        """Choose the text whose last tokens, as many as the context holds, are looked at; None is the run's own."""

    def excerpt(self, number: int) -> str | None:
        """A piece of validation text as long as the context, from number 1 on; None where there is none."""

    def speakers(self) -> tuple[str, ...]:
        """Who speaks in the run's text, most frequent first, as in a play; none while they are not known."""

    def frame(self) -> Frame | None:
        """The newest look into the weights, or while looking back the recorded one read last; None if there is none."""

    def probe_failure(self) -> str | None:
        """Why the last look brought no frame, in a line; None if it did."""

    def recorded(self) -> np.ndarray:
        """(n,) int64: the steps at which frames were recorded, ascending."""

    def look_back(self, step: int | None) -> None:
        """From now on `frame` is the recorded one nearest to this step, once it is read; None is the present."""

    def recorded_sample(self) -> RecordedSample | None:
        """While looking back: what the model wrote at that step or last before it."""

    def head_history(self) -> HeadHistory | None:
        """The scores of all heads through the run; None while there is nothing recorded."""

    def ladder(self) -> Ladder | None:
        """The n-gram losses of the run's text; None while they are not known."""

    def reading(self) -> Reading:
        """Live readings of the machine."""

    def close(self) -> None:
        """Stop training (it saves) and let go of everything; returns at once, `join` waits."""

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended and is saved; False if it has not by then."""
