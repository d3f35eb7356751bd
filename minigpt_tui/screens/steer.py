"""The part of the main screen that steers training: each key is a command, obeyed at the next boundary and logged."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from minigpt_core.errors import UserError
from minigpt_core.status import (
    Command,
    Note,
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
        Binding("d", "app.detach", "detach: leave, training goes on", id="run.detach"),
        Binding("left_parenthesis", "scale(0.5)", "learning rate ×0.5", id="run.slower"),
        Binding("right_parenthesis", "scale(2.0)", "learning rate ×2", id="run.faster"),
        Binding("e", "evaluate(0.5)", "evaluate twice as often", id="run.evaluate-more"),
        Binding("E", "evaluate(2.0)", "evaluate half as often", id="run.evaluate-less"),
        Binding("w", "write(0.5)", "write by itself twice as often", id="run.write-more"),
        Binding("W", "write(2.0)", "write by itself half as often", id="run.write-less"),
    ]

    def _steer(self, command: Command) -> None:
        if not self._session.trains or self._status.finished:
            self.say("this run is finished: nothing to steer, but it answers prompts")
        else:
            try:
                self._session.send(command)
            except UserError as error:
                self.say(f"this {error}")
                return
            self.say(confirmation(command, self._status.phase == "paused"), until_obeyed=True)

    def action_pause(self) -> None:
        if self._status.phase == "paused":
            self._steer(Resume())
        else:
            self._steer(Pause())

    def action_step(self) -> None:
        if self._status.phase == "paused" or not self._session.trains:
            self._steer(StepOnce())
        else:
            self.say("space pauses; n then trains one step at a time")

    def action_save(self) -> None:
        self._steer(Save())

    def action_scale(self, factor: float) -> None:
        self._steer(ScaleLearningRate(factor))

    def action_evaluate(self, factor: float) -> None:
        """Change the steps between evaluations."""
        self._steer(SetEvalEvery(max(1, round((self._status.eval_every or 1) * factor))))

    def action_write(self, factor: float) -> None:
        """Change the steps between the texts that the model writes by itself; until then, it is each evaluation."""
        every = self._status.sample_every or self._status.eval_every or 1
        self._steer(SetSampleEvery(max(1, round(every * factor))))


def confirmation(command: Command, paused: bool) -> str:
    """What is said of a command at once: a run that trains obeys between two steps, a paused one now."""
    match command:
        case Pause():
            return "already paused: space resumes" if paused else "pausing at the next step"
        case Resume():
            return "resuming" if paused else "not paused: nothing to resume"
        case StepOnce():
            return "one step"
        case Save():
            return "saving now" if paused else "saving at the next step"
        case ScaleLearningRate(factor):
            return f"learning rate ×{factor:g} from the next step on"
        case SetEvalEvery(steps):
            return f"evaluating every {steps:,} steps from now on"
        case SetSampleEvery(steps):
            often = f"every {steps:,} steps" if steps else "after each evaluation"
            return f"writing by itself {often} from now on"
        case Note(text):
            return f"noted: {text}"
    return ""


STEERING = frozenset(binding.id for binding in SteerScreen.BINDINGS if isinstance(binding, Binding))
"""The ids of what a run that no longer trains has no use for."""
