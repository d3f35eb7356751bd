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
    """The data of an event of kind "sample": one text in `answer`, or every text of the answer in `answers`."""

    prompt: str
    settings: dict[str, Any]
    finish_reason: FinishReason
    answer: str = ""
    answers: list[str] = []
    sample: int = 0
    """Which of several the one text is."""
    seed: int = 0
    val_loss: float | None = None
    val_step: int | None = None
    shown: str | None = None


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
        texts = sample.answers or [sample.answer]
        config = _settings(sample, len(texts))
    except (msgspec.ValidationError, UserError):
        return None
    generation = Generation(sample.prompt, config)
    generation.shown = sample.shown
    generation.stamp = Stamp(step=event.step, val_loss=sample.val_loss, val_step=sample.val_step, seed=sample.seed)
    for number, text in enumerate(texts):
        generation.put(number, text)
    generation.finish(sample.finish_reason)
    return generation


def _settings(sample: Sample, texts: int) -> SampleConfig:
    """The settings of so many texts as the log holds, however many there were."""
    config: SampleConfig = SampleConfig.from_dict(sample.settings | {"num_samples": texts})
    heats = config.temperatures
    if len(heats) in (0, texts):
        return config
    own = heats[sample.sample] if 0 <= sample.sample < len(heats) else heats[0]
    alone: SampleConfig = config.replace(temperature=own, temperatures=())
    return alone
