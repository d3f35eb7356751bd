"""Presses the keys of bindings on a screen as it is at first, and tells which of them do not do what they should."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from textual.pilot import Pilot

from minigpt_tui.keymap import catalogue

PATIENCE_SECONDS = 3.0
"""What a key brings about by a timer or a thread comes within this time."""


class Case(NamedTuple):
    """What every key of a binding must do. A binding that does several things has several of these."""

    binding: str
    sees: Callable[[Any], object]
    """Looks at something of the app,"""
    then: object
    """which is this once the key was pressed, and was not before."""
    given: str = ""
    """Keys pressed before, with blanks between."""


async def as_it_opens(pilot: Pilot[Any]) -> None:
    """Nothing needs to be done before the keys."""


def as_it_is(app: Any) -> None:
    """Nothing needs to be done after the keys that are given."""


class Stage(NamedTuple):
    """Where keys are pressed."""

    make: Callable[[], Any]
    """The app."""
    begin: Callable[[Pilot[Any]], Awaitable[None]] = as_it_opens
    """Brings about where all cases begin: the screen, the focus, what there is to see."""
    refresh: Callable[[Any], None] = as_it_is
    """Lets the app see what the given keys have changed."""
    size: tuple[int, int] = (120, 35)
    shared: bool = False
    """One app does for all keys, because `begin` undoes whatever they did."""


async def until(pilot: Pilot[Any], done: Callable[[], bool]) -> bool:
    """Wait for something that a timer or a thread brings about; whether it came."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            return False
        await pilot.pause(0.01)
    return True


async def failures(stage: Stage, cases: Sequence[Case]) -> list[str]:
    """A line for each key that does not do what its case says."""
    presses = [(case, key) for case in cases for key in catalogue()[case.binding].keys]
    found = []
    for some in [presses] if stage.shared else [[each] for each in presses]:
        app = stage.make()
        async with app.run_test(size=stage.size) as pilot:
            for case, key in some:
                await stage.begin(pilot)
                await pilot.press(*case.given.split())
                stage.refresh(app)
                if problem := await _press(pilot, case, key):
                    found.append(f"{case.binding}: {' '.join([*case.given.split(), key])}: {problem}")
    return found


async def _press(pilot: Pilot[Any], case: Case, key: str) -> str:
    """What is wrong with the key, if anything is."""
    app = pilot.app
    await pilot.pause()
    active = app.screen.active_bindings.get(key)
    if active is None or not active.enabled or active.binding.id != case.binding:
        return f"is the key of {active.binding.id if active is not None else 'nothing'} here"
    before = case.sees(app)
    if before == case.then:
        return f"{before!r} before it was pressed"
    await pilot.press(key)
    if not await until(pilot, lambda: case.sees(app) == case.then):
        return f"{before!r} became {case.sees(app)!r} instead of {case.then!r}"
    return ""
