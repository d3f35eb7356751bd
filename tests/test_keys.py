"""Every key of the main screen and of the tour, pressed in the app: what it changes, or what it commands."""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from textual.pilot import Pilot

from minigpt_core.ladder import RUNGS
from minigpt_core.status import Pause, Resume, Save, ScaleLearningRate, SetEvalEvery, SetSampleEvery, StepOnce
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.keymap import catalogue
from minigpt_tui.screens.tour import TourScreen
from minigpt_tui.tour import FIRST
from tests import test_keys_panes, test_keys_screens
from tests.keyboard import MAIN, NEWEST, STEP, Case, Stage, app_of, failures, focus, front, poll
from tests.scripted_session import EVAL_EVERY, Terminal
from tests.test_tour import TourSession, V


def sent(app: Any) -> list[object]:
    return list(app.session.commands)


EVERYWHERE = [
    Case("app.commands", front, "CommandPalette"),
    Case("app.help", front, "HelpScreen"),
    Case("app.interrupt", lambda app: app.session.generations[0].cancelled, True, "i x enter"),
    Case("app.escape", lambda app: app.session.generations[0].cancelled, True, "i x enter tab"),
    Case("app.escape", lambda app: app.main.past, None, "t 1"),
    Case("app.escape", lambda app: app.main.has_class("-max"), False, "f"),
    Case("pane.loss", focus, "loss", "2"),
    Case("pane.attention", focus, "attention"),
    Case("pane.samples", focus, "samples"),
    Case("pane.log", focus, "log"),
    Case("pane.lens", focus, "lens"),
    Case("pane.next", focus, "samples"),
    Case("pane.maximise", lambda app: app.main.transcript.display, False),
    Case("pane.maximise", lambda app: app.main.transcript.display, True, "f"),
    Case("run.travel", lambda app: app.main.past, NEWEST),
    Case("run.travel", lambda app: app.main.past, None, "t"),
    Case("run.gallery", front, "GalleryScreen"),
    Case("run.browse", front, "RunsScreen"),
    Case("run.pause", sent, [Pause()]),
    Case("run.pause", sent, [Pause(), Resume()], "space"),
    Case("run.step", sent, [Pause(), StepOnce()], "space"),
    Case("run.save", sent, [Save()]),
    Case("run.slower", sent, [ScaleLearningRate(0.5)]),
    Case("run.faster", sent, [ScaleLearningRate(2.0)]),
    Case("run.evaluate-more", sent, [SetEvalEvery(EVAL_EVERY // 2)]),
    Case("run.evaluate-less", sent, [SetEvalEvery(EVAL_EVERY * 2)]),
    Case("run.write-more", sent, [SetSampleEvery(EVAL_EVERY // 2)]),
    Case("run.write-less", sent, [SetSampleEvery(EVAL_EVERY * 2)]),
    Case("run.note", lambda app: (focus(app), app.main.prompt.text), ("prompt", "/note ")),
    Case("talk.prompt", lambda app: (focus(app), app.main.prompt.text), ("prompt", "")),
    Case("talk.command", lambda app: (focus(app), app.main.prompt.text), ("prompt", "/")),
    Case("prompt.settings", lambda app: str(app.main.prompt.border_title).startswith("prompt"), False, "i"),
]


async def test_keys_of_the_screen() -> None:
    assert await failures(MAIN, EVERYWHERE) == []


LEAVING = [
    Case("app.quit", lambda app: app.session.closed, True),
    Case("app.quit", lambda app: app.session.closed, True, "i"),
    Case("app.leave", lambda app: app.session.closed, True),
    Case("run.detach", lambda app: (app.session.closed, app.detaching), (True, True)),
    Case("app.leave", lambda app: app.insisted, True, "q"),
]


def unsaved() -> MiniGPTApp:
    """The app on a run that takes long to save itself."""
    app = app_of()
    app.session.joined = False  # type: ignore[attr-defined]
    return app


async def test_keys_that_leave() -> None:
    assert await failures(MAIN._replace(make=unsaved, shared=False), LEAVING) == []


SUSPENDING = [Case("app.suspend", lambda app: app.stopped, [0])]


async def test_the_key_that_suspends(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> MiniGPTApp:
        app = app_of()
        app.stopped = []  # type: ignore[attr-defined]
        monkeypatch.setattr(app, "suspend", nullcontext)
        monkeypatch.setattr(os, "kill", lambda process, _: app.stopped.append(process))  # type: ignore[attr-defined]
        return app

    assert await failures(MAIN._replace(make=make), SUSPENDING) == []


# --- the tour ---


def tour() -> MiniGPTApp:
    """On a run that has come to the end of the lesson."""
    session = TourSession(step=STEP)
    session.passes(*RUNGS)
    return MiniGPTApp(session, Terminal(), partial(TourScreen, lesson=FIRST, vocab_size=V, clock=lambda: 0.0))  # type: ignore[arg-type]


async def lesson(pilot: Pilot[Any]) -> None:
    main = pilot.app.main  # type: ignore[attr-defined]
    main.poll()
    main.poll_lesson()
    await pilot.pause(0)


def chapter(app: Any) -> int:
    return app.main.guide.index


TOUR = [
    Case("tour.onward", chapter, 1),
    Case("tour.backward", chapter, 0, "enter"),
    Case("tour.lesson", focus, "lesson", "2"),
    Case("tour.lesson", lambda app: app.main.lesson.display, True, "escape"),
]


async def test_keys_of_the_tour() -> None:
    assert await failures(Stage(tour, lesson, poll, (80, 24)), TOUR) == []


# --- all of them ---

CASES = [*EVERYWHERE, *LEAVING, *SUSPENDING, *TOUR, *test_keys_panes.CASES, *test_keys_screens.CASES]


def test_every_binding_has_a_case_and_every_case_a_binding() -> None:
    assert {case.binding for case in CASES} == set(catalogue())
