"""The part of the main screen that steers training: each key is a command, obeyed at the next boundary and logged."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from minigpt_core.status import (
    Command,
    Pause,
    Resume,
    Save,
    ScaleLearningRate,
    SetEvalEvery,
    SetSampleEvery,
    StepOnce,
)
from minigpt_tui.screens.travel import TravelScreen


class SteerScreen(TravelScreen):
    """Says at once what was asked for; the trainer's own word on it is in the log."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "pause, resume", id="run.pause"),
        Binding("n", "step", "one step while paused", id="run.step"),
        Binding("s", "save", "save a checkpoint", id="run.save"),
        Binding("left_parenthesis", "scale(0.5)", "learning rate ×0.5", id="run.slower"),
        Binding("right_parenthesis", "scale(2.0)", "learning rate ×2", id="run.faster"),
        Binding("e", "evaluate(0.5)", "evaluate twice as often", id="run.evaluate-more"),
        Binding("E", "evaluate(2.0)", "evaluate half as often", id="run.evaluate-less"),
        Binding("w", "write(0.5)", "write by itself twice as often", id="run.write-more"),
        Binding("W", "write(2.0)", "write by itself half as often", id="run.write-less"),
        Binding("m", "note", "note, for the log and the chart", id="run.note"),
    ]

    def _steer(self, command: Command, said: str) -> None:
        if not self._session.trains or self._status.finished:
            self.say("this run is finished: nothing to steer, but it answers prompts")
        else:
            self._session.send(command)
            self.say(said, until_obeyed=True)

    def action_pause(self) -> None:
        if self._status.phase == "paused":
            self._steer(Resume(), "resuming")
        else:
            self._steer(Pause(), "pausing at the next step")

    def action_step(self) -> None:
        if self._status.phase == "paused" or not self._session.trains:
            self._steer(StepOnce(), "one step")
        else:
            self.say("space pauses; n then trains one step at a time")

    def action_save(self) -> None:
        self._steer(Save(), "saving at the next step")

    def action_scale(self, factor: float) -> None:
        self._steer(ScaleLearningRate(factor), f"learning rate ×{factor:g} from the next step on")

    def action_evaluate(self, factor: float) -> None:
        """Change the steps between evaluations."""
        every = max(1, round((self._status.eval_every or 1) * factor))
        self._steer(SetEvalEvery(every), f"evaluating every {every:,} steps from now on")

    def action_write(self, factor: float) -> None:
        """Change the steps between the texts that the model writes by itself; until then, it is each evaluation."""
        every = max(1, round((self._status.sample_every or self._status.eval_every or 1) * factor))
        self._steer(SetSampleEvery(every), f"writing by itself every {every:,} steps from now on")


STEERING = frozenset(binding.id for binding in SteerScreen.BINDINGS if isinstance(binding, Binding))
"""The ids of what a run that no longer trains has no use for."""
