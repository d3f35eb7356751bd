"""The Lab protocol: all that the experiment screen may ask of an ablation experiment. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from minigpt_core.lab.overlay import Mean
from minigpt_core.lab.paired import Row

LabPhase = Literal["starting", "training", "drawing", "stopping", "done", "stopped", "failed"]
ENDED: frozenset[str] = frozenset({"done", "stopped", "failed"})


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """One variant, or the baseline evaluated otherwise.

    Attributes:
        row: what its runs came to; None while none has ended.
        ended, runs: how many of its runs have ended, and how many there will be; 0 for what is not trained.
        curve: mean validation loss over the seeds that have come to a step, those under way too.
        difference: the same of its loss minus the baseline's of the same seed.
        expected: what is to be expected and why, in paragraphs.
    """

    variant: str
    row: Row | None
    ended: int
    runs: int
    curve: Mean
    difference: Mean
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An experiment at one moment.

    Attributes:
        message: why it failed, in a line.
        spread: the baseline's own spread, in a sentence.
        standings: the baseline first; empty before it has begun.
        share: of all steps, 0 to 1.
        running: the runs under way, a few words each.
        eta: seconds still to go, if that is known.
    """

    name: str
    phase: LabPhase = "starting"
    message: str = ""
    spread: str = ""
    standings: tuple[Standing, ...] = ()
    ended: int = 0
    runs: int = 0
    share: float = 0.0
    running: tuple[str, ...] = ()
    eta: float | None = None


class Lab(Protocol):
    """Every method returns at once."""

    def start(self) -> None:
        """Begin to train what is not trained yet. Called once."""

    def look(self) -> View: ...

    def stop(self) -> None:
        """Save the runs under way and end."""

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all is saved; False if it is not by then."""
