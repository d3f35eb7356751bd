"""Every key of the main screen, its panes and the tour, pressed in the app: what it changes, or what it commands."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from minigpt_core.ladder import RUNGS
from minigpt_core.status import Pause, Resume, Save, ScaleLearningRate, SetEvalEvery, SetSampleEvery, StepOnce
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.screens.tour import TourScreen
from minigpt_tui.tour import FIRST
from minigpt_tui.widgets.attention_choice import Choice
from minigpt_tui.widgets.chart_view import View
from tests.keyboard import Case, Stage, failures, until
from tests.scripted_session import ANSWER, EVAL_EVERY, EXCERPTS, OWN, ScriptedSession, Terminal
from tests.test_tour import TourSession, V

STEP = 1234
NEWEST = 1200
"""The newest recorded frame."""


# --- what is looked at ---


def front(app: Any) -> str:
    """The screen on top."""
    return type(app.screen).__name__


def focus(app: Any) -> str | None:
    return app.focused.id if app.focused is not None else None


def sent(app: Any) -> list[object]:
    return list(app.session.commands)


def asked(app: Any) -> list[tuple[str, int | None]]:
    """Prompts, and the seeds they were asked with."""
    return [(generation.prompt, generation.config.seed) for generation in app.session.generations]


def text(widget: Any) -> str:
    return "\n".join(row.text for row in widget._rows)


# --- the screen ---


def app_of(**session: Any) -> MiniGPTApp:
    return MiniGPTApp(ScriptedSession(STEP, **session), Terminal())


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
    main.action_pick(pane)
    main.poll()
    await pilot.pause(0)


def poll(app: Any) -> None:
    app.main.poll()


MAIN = Stage(app_of, begun, poll, (80, 24), shared=True)
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


# --- the loss chart ---


def columns_from_the_newest(app: Any) -> int | None:
    """Where the cursor of the chart is."""
    chart = app.main.chart
    if chart._cursor is None:
        return None
    return chart._area.column(chart.place(chart._cursor)) - chart._area.column(chart.place(STEP))


async def whole_chart(pilot: Pilot[Any]) -> None:
    chart = pilot.app.main.chart  # type: ignore[attr-defined]
    chart.view, chart.axis, chart.log_y = View(), "step", False
    chart.show_ladder = chart.show_strips = True
    chart.action_hide_cursor()
    chart.action_smooth(0)
    chart.redraw()
    await begun(pilot, "loss")


CHART = [
    Case("chart.zoom-in", lambda app: app.main.chart.window, (STEP / 2, STEP)),
    Case("chart.zoom-out", lambda app: app.main.chart.window, (0, STEP), "]"),
    Case("chart.earlier", lambda app: app.main.chart.window, (STEP * 3 / 8, STEP * 7 / 8), "]"),
    Case("chart.later", lambda app: app.main.chart.window, (STEP / 2, STEP), "] left"),
    Case("chart.cursor-left", columns_from_the_newest, 0),
    Case("chart.cursor-left", columns_from_the_newest, -1, "comma"),
    Case("chart.cursor-right", columns_from_the_newest, 0),
    Case("chart.cursor-right", columns_from_the_newest, 0, "comma comma"),
    Case("chart.hide-cursor", columns_from_the_newest, None, "comma"),
    Case("chart.follow", lambda app: app.main.chart.window, (STEP / 2, STEP), "] left"),
    Case("chart.whole", lambda app: app.main.chart.window, (0, STEP), "] left"),
    Case("chart.log", lambda app: "(log)" in app.main.chart.border_title, True),
    Case("chart.axis", lambda app: app.main.chart.axis, "epoch"),
    Case("chart.axis", lambda app: app.main.chart.axis, "step", "x x x"),
    Case("chart.smoother", lambda app: app.session.beta, 0.99),
    Case("chart.rougher", lambda app: app.session.beta, 0.9),
    Case("chart.smooth-default", lambda app: app.session.beta, 0.98, "- -"),
    Case("chart.ladder", lambda app: "n-grams" in app.main.chart.border_subtitle, False),
    Case("chart.strips", lambda app: "tok/s" in text(app.main.chart), False),
    Case("chart.overlays", front, "RunsScreen"),
]


async def test_keys_of_the_loss_chart() -> None:
    assert await failures(MAIN._replace(begin=whole_chart, size=(160, 50)), CHART) == []


# --- attention and the logit lens ---

AT = (20, 10)
"""The cursor of the attention pane: query and key."""


async def one_head(pilot: Pilot[Any], pane: str = "attention") -> None:
    main = pilot.app.main  # type: ignore[attr-defined]
    main.look_at(None)
    await begun(pilot, pane)
    attention = main.attention
    attention.let_go()
    attention.choice, attention.norm, attention.whole, attention.cursor = Choice(), "absolute", False, AT
    attention._moved()
    await pilot.pause(0)


def watched(app: Any) -> str:
    return app.main.watching.name


ATTENTION = [
    Case("attention.previous-layer", lambda app: app.main.attention.head, (3, 0)),
    Case("attention.next-layer", lambda app: app.main.attention.head, (1, 0)),
    Case("attention.previous-head", lambda app: app.main.attention.head, (0, 3)),
    Case("attention.next-head", lambda app: app.main.attention.head, (0, 1)),
    Case("attention.mode", lambda app: text(app.main.attention).startswith("all heads"), True),
    Case("attention.mode", lambda app: text(app.main.attention).startswith("mean"), True, "a"),
    Case("attention.mode", lambda app: text(app.main.attention).startswith("layer 0 head 0"), True, "a a"),
    Case("attention.zoom", lambda app: text(app.main.attention).startswith("layer 0 head 1"), True, "a right"),
    Case("attention.up", lambda app: app.main.attention.cursor, (19, 10)),
    Case("attention.down", lambda app: app.main.attention.cursor, (21, 10)),
    Case("attention.left", lambda app: app.main.attention.cursor, (20, 9)),
    Case("attention.right", lambda app: app.main.attention.cursor, (20, 11)),
    Case("attention.first", lambda app: app.main.attention.cursor, (20, 0)),
    Case("attention.last", lambda app: app.main.attention.cursor, (20, 20)),
    Case("attention.overview", lambda app: app.main.attention._view.coarse(), True),
    Case("attention.overview", lambda app: app.main.attention._view.coarse(), False, "z"),
    Case("attention.norm", lambda app: "0..1 sqrt" in text(app.main.attention), False),
    Case("attention.pin", lambda app: app.main.attention.pinned, True),
    Case("attention.pin", lambda app: app.main.attention.pinned, False, "p"),
    Case("attention.text", lambda app: app.session.tokens, "x", "i x enter 2"),
    Case("attention.excerpt", lambda app: app.session.tokens, EXCERPTS[0]),
]


async def test_keys_of_the_attention_pane() -> None:
    assert await failures(MAIN._replace(begin=one_head), ATTENTION) == []


def query(app: Any) -> str:
    """The position that the logit lens shows."""
    found = re.match(r"q (\d+)", text(app.main.lens))
    return found[1] if found else ""


def head(app: Any) -> str:
    """The head that it shows."""
    found = re.search(r"L\d+ H\d+", text(app.main.lens))
    return found[0] if found else ""


LENS = [
    Case("lens.earlier", query, "19"),
    Case("lens.later", query, "21"),
    Case("lens.previous-layer", head, "L3 H0"),
    Case("lens.next-layer", head, "L1 H0"),
    Case("lens.previous-head", head, "L0 H3"),
    Case("lens.next-head", head, "L0 H1"),
]


async def test_keys_of_the_logit_lens() -> None:
    assert await failures(MAIN._replace(begin=partial(one_head, pane="lens")), LENS) == []


# --- samples ---


async def three_answers(pilot: Pilot[Any]) -> None:
    """Nothing is selected; the last of the answers is in view."""
    await begun(pilot)
    app: Any = pilot.app
    app.clipboard_ = app.copy_to_clipboard("")
    transcript = app.main.transcript
    transcript.clear()
    for prompt in ("first", "second", "third"):
        app.main._ask(prompt, app.main._settings)
        app.session.stream(app.session.generations[-1], 10_000, ANSWER * 5)
    transcript.poll(ready=True)
    app.main.action_pick("samples")
    await pilot.pause(0)


def chosen(app: Any) -> str:
    """The prompt of the selected answer."""
    answer = app.main.transcript.selected
    return answer.generation.prompt if answer is not None else ""


def letter(app: Any) -> str:
    """What the lower border tells of the token under the cursor."""
    return str(app.main.transcript.border_subtitle or "")


def place(app: Any) -> float:
    """Pages from the top."""
    return app.main.transcript.scroll_offset.y / app.main.transcript.size.height
