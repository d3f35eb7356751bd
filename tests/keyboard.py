"""Presses the keys of bindings on a screen as it is at first, and tells which of them do not do what they should."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from textual.pilot import Pilot

from minigpt_tui.app import MiniGPTApp
from minigpt_tui.keymap import catalogue
from tests.scripted_session import EVAL_EVERY, ScriptedSession, Terminal

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
    await pilot.pause(0)
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


# --- the main screen ---

STEP = 1234
NEWEST = 1200
"""The newest recorded frame."""


def front(app: Any) -> str:
    """The screen on top."""
    return type(app.screen).__name__


def focus(app: Any) -> str | None:
    return app.focused.id if app.focused is not None else None


def text(widget: Any) -> str:
    """The rows of a pane."""
    return "\n".join(row.text for row in widget._rows)


def app_of(**session: Any) -> MiniGPTApp:
    return MiniGPTApp(ScriptedSession(STEP, **session), Terminal())  # type: ignore[arg-type]


async def begun(pilot: Pilot[Any], pane: str = "loss") -> None:
    """The screen as it opens: the run goes on, nobody asked anything, this pane has the focus."""
    app: Any = pilot.app
    session, main = app.session, app.main
    assert await until(pilot, lambda: session.started)
    while app.screen is not main:
        await app.pop_screen()
    for generation in session.generations:
        if not generation.done:
            generation.finish("cancelled")
    session.generations.clear()
    session.commands.clear()
    session.paused, session.eval_every, session.sample_every = False, EVAL_EVERY, 0
    main.prompt.begin("")
    main.remove_class("-max")
    main.action_present()
    if focus(app) != pane:
        main.action_pick(pane)
    main.poll()
    await pilot.pause(0)


def poll(app: Any) -> None:
    app.main.poll()


MAIN = Stage(app_of, begun, poll, (80, 24), shared=True)
