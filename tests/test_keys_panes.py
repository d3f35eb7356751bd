"""Every key of the panes of the main screen and of the timeline, pressed in the app: what it changes."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from minigpt_tui.app import MiniGPTApp
from minigpt_tui.widgets.attention_choice import Choice
from minigpt_tui.widgets.chart_view import View
from tests.keyboard import MAIN, NEWEST, STEP, Case, app_of, begun, failures, front, text
from tests.scripted_session import ANSWER, EXCERPTS

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
    await begun(pilot, "loss")
    chart.redraw()


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
    Case("chart.overlays", front, "RunsScreen"),
]


async def test_keys_of_the_loss_chart() -> None:
    assert await failures(MAIN._replace(begin=whole_chart), CHART) == []


STRIPS = [Case("chart.strips", lambda app: "tok/s" in text(app.main.chart), False, "f")]


async def test_the_key_of_the_strips_where_they_have_room() -> None:
    assert await failures(MAIN._replace(size=(80, 32)), STRIPS) == []


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
    Case("attention.mode", lambda app: text(app.main.attention).startswith("layers 0–"), True),
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
    Case("attention.text", lambda app: app.session.tokens, "x", "i x enter tab 2"),
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


def asked(app: Any) -> list[tuple[str, int | None]]:
    """Prompts, and the seeds they were asked with."""
    return [(generation.prompt, generation.config.seed) for generation in app.session.generations]


async def three_answers(pilot: Pilot[Any]) -> None:
    """Nothing is selected; the last of the answers is in view."""
    await begun(pilot, "samples")
    app: Any = pilot.app
    app.copy_to_clipboard("")
    transcript = app.main.transcript
    transcript.clear()
    for prompt in ("first", "second", "third"):
        app.main._ask(prompt, app.main._settings)
        app.session.stream(app.session.generations[-1], 10_000, ANSWER * 5)
    transcript.poll(ready=True)
    await pilot.pause(0)


def chosen(app: Any) -> str:
    """The prompt of the selected answer."""
    answer = app.main.transcript.selected
    return answer.generation.prompt if answer is not None else ""


def token(app: Any) -> str:
    """The one under the cursor, whose alternatives the border tells."""
    found = re.search(r"'(.)'.* p=", app.main.transcript.border_subtitle or "")
    return found[1] if found else ""


def pages(app: Any) -> float:
    """How far from the top; the first row of a page keeps the answer's stamp."""
    return app.main.transcript.scroll_offset.y / (app.main.transcript.size.height - 1)


def pages_from_end(app: Any) -> float:
    transcript = app.main.transcript
    return (transcript.max_scroll_y - transcript.scroll_offset.y) / (transcript.size.height - 1)


def compared(app: Any) -> list[tuple[str, ...]]:
    """The prompts of answers that are shown together."""
    blocks = app.main.transcript._answer_blocks
    return [tuple(each.generation.prompt for each in block.answers) for block in blocks if len(block.answers) > 1]


THREE = [("first", None), ("second", None), ("third", None)]
SAMPLES = [
    Case("samples.older", chosen, "second"),
    Case("samples.newer", chosen, "second", "up up"),
    Case("samples.left", token, "."),
    Case("samples.right", token, "t"),
    Case("samples.tint", lambda app: "≥.7" in (app.main.transcript.border_subtitle or ""), True),
    Case("samples.versus", compared, [("second", "second")], "up"),
    Case("samples.page-up", pages_from_end, 1.0),
    Case("samples.page-down", pages, 1.0, "home"),
    Case("samples.top", pages, 0.0),
    Case("samples.follow", pages_from_end, 0.0, "home"),
    Case("talk.again", asked, [*THREE, ("third", 7)]),
    Case("talk.again", asked, [*THREE, ("second", 7)], "up"),
    Case("talk.new-seed", asked, [*THREE, ("third", None)]),
    Case("talk.copy", lambda app: app.clipboard, ANSWER * 5),
]


async def test_keys_of_the_samples_pane() -> None:
    assert await failures(MAIN._replace(begin=three_answers), SAMPLES) == []


SAVING = [Case("samples.save", lambda app: [path.name for path in app.folder.rglob("*.txt")], ["step-1234-seed-7.txt"])]


async def test_the_key_that_saves_an_answer(tmp_path: Path) -> None:
    def make() -> MiniGPTApp:
        app = app_of(run_dir=str(tmp_path))
        app.folder = tmp_path  # type: ignore[attr-defined]
        return app

    assert await failures(MAIN._replace(make=make, begin=three_answers), SAVING) == []


# --- looking back ---


async def looking_back(pilot: Pilot[Any]) -> None:
    await begun(pilot)
    pilot.app.main.action_travel()  # type: ignore[attr-defined]
    await pilot.pause(0)


def past(app: Any) -> int | None:
    return app.main.past


TIMELINE = [
    Case("timeline.back", past, 1100),
    Case("timeline.on", past, 200, "home"),
    Case("timeline.far-back", past, 200),
    Case("timeline.far-on", past, 1100, "home"),
    Case("timeline.first", past, 100),
    Case("timeline.newest", past, NEWEST, "home"),
    Case("timeline.play", past, NEWEST, "left left"),
    Case("timeline.play", lambda app: app.main.timeline.playing, False, "home space"),
    Case("timeline.live", past, None),
]


async def test_keys_of_the_timeline() -> None:
    assert await failures(MAIN._replace(begin=looking_back), TIMELINE) == []


CASES = [*CHART, *STRIPS, *ATTENTION, *LENS, *SAMPLES, *SAVING, *TIMELINE]
