"""Answers that a run's log remembers, for the transcript of an app that opens on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.generation import FinishReason, Generation
from minigpt_core.status import Event, Stamp

MAX_ANSWERS = 20


class Sample(msgspec.Struct):
    """The data of an event of kind "sample"."""

    prompt: str
    answer: str
    settings: dict[str, Any]
    finish_reason: FinishReason
    seed: int = 0
    val_loss: float | None = None
    val_step: int | None = None


def past_answers(events: Sequence[Event]) -> list[Generation]:
    """The newest answers among some events, oldest first, finished; what cannot be understood is skipped."""
    found: list[Generation] = []
    for event in reversed(events):
        if len(found) == MAX_ANSWERS:
            break
        if event.kind == "sample" and (generation := _generation(event)) is not None:
            found.append(generation)
    return found[::-1]


def _generation(event: Event) -> Generation | None:
    try:
        sample = msgspec.convert(event.data, Sample)
        # The log holds one sample of an answer, however many there were.
        config = SampleConfig.from_dict(sample.settings | {"num_samples": 1})
    except (msgspec.ValidationError, UserError):
        return None
    generation = Generation(sample.prompt, config)
    generation.stamp = Stamp(step=event.step, val_loss=sample.val_loss, val_step=sample.val_step, seed=sample.seed)
    generation.put(0, sample.answer)
    generation.finish(sample.finish_reason)
    return generation
