"""Looking back: the timeline moves attention, lens, sample and the chart's cursor together, and ends in the present."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from textual.pilot import Pilot

from minigpt_core.frame import RecordedSample
from minigpt_core.status import Pause
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.screens.travel import FRAME_SECONDS, NOTHING_RECORDED, PAST_SECONDS, TravelScreen
from tests.scripted_session import ScriptedSession, Terminal

WIDE = (200, 50)


def app_of(session: ScriptedSession, **terminal: object) -> MiniGPTApp:
    return MiniGPTApp(session, Terminal(**terminal))  # type: ignore[arg-type]


def rows(app: MiniGPTApp) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


def screen(app: MiniGPTApp) -> str:
    return "\n".join(rows(app))


async def look_back(pilot: Pilot[None], *keys: str) -> None:
    pilot.app.main.poll()  # type: ignore[attr-defined]
    await pilot.press("t", *keys)
    await pilot.pause()


async def until(pilot: Pilot[None], done: Callable[[], bool]) -> None:
    """Wait for something that a timer brings about."""
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        await pilot.pause(0.02)
    await pilot.pause()


def shows(app: MiniGPTApp, step: int) -> bool:
    """Whether all that moves together is at this step."""
    text, main = screen(app), app.main
    return (
        f"looking back at {step:,} " in text
        and f"step {step}, 0..1 sqrt" in text  # attention
        and text.count(f", step {step}") == 2  # and the lens
        and f" step {step:,}  train " in text  # the chart's cursor
        and main.past == main.timeline.step == main.chart._cursor == step
    )


async def test_t_opens_the_newest_frame_and_returns_to_the_present() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot)
        assert app.focused is app.main.timeline
        assert shows(app, 1200)
        assert session.past == 1200
        assert " ◂ PAST  step 1,200 of 1,234 " in screen(app)
        assert "12/12 frames" in screen(app)
        assert "▶ training" in rows(app)[0]
        await pilot.press("t")
        await pilot.pause()
        assert (session.past, app.main.past) == (None, None)
        assert "PAST" not in screen(app)
        assert "looking back" not in screen(app)
        assert " step 1,200  train " not in screen(app)
        assert app.focused is app.main.chart


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        (["left"], 1100),
        (["left", "left", "right"], 1100),
        (["right"], 1200),
        (["pageup"], 200),
        (["pageup", "pageup"], 100),
        (["home"], 100),
        (["home", "pagedown"], 1100),
        (["home", "end"], 1200),
    ],
)
async def test_keys_move_everything_together(keys: list[str], step: int) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, *keys)
        assert shows(app, step)


async def test_the_sample_of_the_past_stands_in_the_place_of_the_transcript() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot)
        assert "written at step 800" in screen(app)
        assert "by itself" not in screen(app)
        before = app.main.transcript._blocks
        await pilot.press("home")
        await pilot.pause()
        assert "No sample was recorded up to this step." in screen(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "by itself" in screen(app)
        assert app.main.transcript._blocks == before


async def test_escape_returns_to_the_present_from_any_pane_before_it_restores_a_maximised_one() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "2", "f", "escape")
        assert app.main.past is None
        assert app.main.has_class("-max")
        assert app.focused is app.main.attention
        await pilot.press("escape")
        assert not app.main.has_class("-max")


async def test_nothing_recorded_is_one_line() -> None:
    session = ScriptedSession(step=50)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await look_back(pilot)
        assert NOTHING_RECORDED in rows(app)[0]
        assert app.main.past is None
        assert not app.main.timeline.display


async def test_a_run_that_goes_on_rescales_the_bar_and_leaves_the_past_where_it_is() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "left")
        session.advance(1000)
        app.main.poll()
        await pilot.pause()
        assert "11/22 frames" in screen(app)
        assert "step 1,100 of 2,234" in screen(app)
        assert "step 2,234/5,000" in rows(app)[0]
        assert shows(app, 1100)
        await pilot.press("end")
        await pilot.pause()
        assert shows(app, 2200)


async def test_a_wanted_frame_that_was_thinned_out_gives_way_to_the_nearest() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "left")
        session.recorded = lambda: np.array([200, 1000, 1200])  # type: ignore[method-assign]
        app.main.poll()
        await pilot.pause()
        assert "2/3 frames" in screen(app)
        assert shows(app, 1000)


async def test_the_panes_wait_for_a_frame_that_is_still_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[float] = []
    tick = TravelScreen._tick
    monkeypatch.setattr(TravelScreen, "_tick", lambda screen: (ticks.append(time.monotonic()), tick(screen)))
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot)
        session.reads = 10**6
        await pilot.press("left")
        assert app.main.timeline.step == 1100
        assert app.main.past == app.main.chart._cursor == 1200
        session._unread = 2
        await until(pilot, lambda: app.main.past == 1100)
        assert shows(app, 1100)
        before = len(ticks)
        await pilot.pause(5 * PAST_SECONDS)
        assert len(ticks) <= before + 1  # nobody asks for what has been read


async def test_no_frame_of_the_present_is_shown_as_one_of_the_past() -> None:
    session = ScriptedSession(step=1234)
    session.recorded = lambda: np.array([300, 700])  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        app.main.poll()
        session.reads = 10**6
        await pilot.press("t")
        await pilot.pause(0.1)
        assert app.main.chart._cursor is None
        assert app.main.attention._past is False
        assert "step 1200, 0..1 sqrt" in screen(app)


async def test_playing_shows_every_frame_in_order_steadily_and_stops_at_the_end() -> None:
    session = ScriptedSession(step=2050)  # so many frames that it still plays when the key has been handled
    session.reads = 2
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "home")
        await pilot.pause(0.2)
        shown: list[int] = []
        mark = app.main.chart.mark
        app.main.chart.mark = lambda step: (shown.append(step), mark(step))[1]  # type: ignore[method-assign,func-returns-value]
        await pilot.press("space")
        assert app.main.timeline.playing
        assert "space stop" in screen(app)
        await until(pilot, lambda: not app.main.timeline.playing and app.main.past == 2000)
        assert sorted(set(shown)) == list(range(100, 2001, 100))
        assert shown == sorted(shown)
        assert shows(app, 2000)
        assert session.commands == []  # space did not pause the training


async def test_playing_stops_at_a_key_and_begins_again_from_the_start_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("minigpt_tui.screens.travel.PATIENCE_SECONDS", 1e9)
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot)
        session.reads = 10**6  # so it stays at its first frame
        await pilot.press("space")
        assert app.main.timeline.playing
        assert app.main.timeline.step == 100
        await pilot.press("space")
        assert not app.main.timeline.playing
        await pilot.press("home", "space", "right")
        assert not app.main.timeline.playing
        await pilot.press("space", "t")
        await pilot.pause(2 * FRAME_SECONDS)
        assert session.past is None
        assert not app.main.timeline.playing


async def test_an_animation_goes_on_without_a_frame_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt_tui.screens.travel.PATIENCE_SECONDS", 0.05)
    session = ScriptedSession(step=350)
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "home")
        session.reads = 10**6
        await pilot.press("space")
        await until(pilot, lambda: not app.main.timeline.playing)
        assert app.main.timeline.step == 300


async def test_the_bar_is_clicked_and_dragged() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot)
        start, length = app.main.timeline._bar
        await pilot.click("#timeline", offset=(start, 0))
        await pilot.pause()
        assert shows(app, 100)
        await pilot.mouse_down("#timeline", offset=(start, 0))
        await pilot.hover("#timeline", offset=(start + length - 1, 0))
        await pilot.mouse_up("#timeline", offset=(start + length - 1, 0))
        await pilot.pause()
        assert shows(app, 1200)
        await pilot.click("#timeline", offset=(1, 0))  # beside the bar
        assert shows(app, 1200)


async def test_a_resize_while_looking_back() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "left")
        for size in [(80, 24), (60, 16), (40, 12), (20, 5), (3, 2), (120, 35), WIDE]:
            await pilot.resize_terminal(*size)
            app.main.poll()
            await pilot.pause()
            assert app.main.past == 1100
            assert app.focused is app.main.timeline
            if size[0] >= 20:
                assert "1,100" in "".join(row for row in rows(app) if "PAST" in row)
        await until(pilot, lambda: shows(app, 1100))  # once it is laid out


@pytest.mark.parametrize("size", [(80, 24), (50, 14)])
async def test_asking_something_returns_to_the_present(size: tuple[int, int]) -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=size) as pilot:
        await look_back(pilot, "i", *"To be", "enter")
        assert [generation.prompt for generation in session.generations] == ["To be"]
        assert app.main.past is None
        assert app.main.transcript.display
        assert app.focused is app.main.prompt


async def test_space_elsewhere_still_pauses_the_training() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "3", "space")
        assert session.commands == [Pause()]
        assert app.focused is app.main.recorded


async def test_a_finished_run_has_its_past() -> None:
    app = app_of(ScriptedSession(step=5000, trains=False))
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "pageup")
        assert "40/50 frames" in screen(app)
        assert shows(app, 4000)


async def test_a_hostile_sample_of_the_past_is_made_safe() -> None:
    session = ScriptedSession()
    evil = "[/x]\x1b]52;c;QUJD\x07\u202e\x9b31m"
    session.recorded_sample = lambda: RecordedSample(1200, evil, evil)  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await look_back(pilot, "3")
        text = screen(app)
        assert text.count("[/x]␛]52;c;QUJD␇") == 2
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\x9b"}


async def test_ascii_in_the_past_too() -> None:
    app = app_of(ScriptedSession(), color="none", ascii=True)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "left")
        assert screen(app).isascii()


# --- the chart's cursor and ladder ---


async def test_the_chart_cursor_is_at_its_step_and_says_the_values_there() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot, "pageup", "right")
        chart = app.main.chart
        area = chart._area
        assert area is not None
        x = area.column(300)
        assert x is not None
        assert all(row.text[x] != " " for row in chart._rows[: area.rows])
        loss = float(session.loss(np.array([300.0]))[0])
        assert f"step 300  train {loss:.3f}  smoothed " in screen(app)
        await pilot.press("1", "y", "right_square_bracket")  # logarithmic, and the last half only
        await pilot.pause()
        assert "step 300  train" not in screen(app)
        await pilot.press("home")
        await pilot.pause()
        assert f"step 300  train {loss:.3f}" in screen(app)


async def test_a_look_back_draws_no_chart_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(ScriptedSession(step=5000, trains=False))
    async with app.run_test(size=WIDE) as pilot:
        await look_back(pilot)
        app.main.poll()
        drawn: list[object] = []
        monkeypatch.setattr(app.main.chart, "_draw", drawn.append)
        await pilot.press(*["left"] * 5)
        app.main.poll()
        assert drawn == []


@pytest.mark.parametrize("log", [False, True])
async def test_the_ladder_is_drawn_where_it_is_in_range_and_can_be_taken_away(log: bool) -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        app.main.poll()
        chart = app.main.chart
        if log:
            await pilot.press("y")
        await pilot.pause()
        area = chart._area
        assert area is not None
        text = [row.text for row in chart._rows]
        for name, loss in (("uniform", 4.174), ("unigram", 3.347), ("bigram", 2.485)):
            y = area.row(np.log10(loss) if log else loss)
            assert y is not None
            assert f"{name} {loss:.2f}" in text[y]
        assert "4-gram" not in "".join(text)  # on the row of the 5-gram
        assert "n-grams" in screen(app)
        await pilot.press("l")
        await pilot.pause()
        assert not any("gram" in row.text for row in chart._rows)
        assert "n-grams" not in "".join(rows(app)[:-1])


async def test_the_ladder_does_not_change_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    session = ScriptedSession(step=5000)
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        app.main.poll()
        await pilot.press("right_square_bracket")  # the last half: far below the first rungs
        await pilot.pause()
        area = app.main.chart._area
        assert area is not None
        assert area.losses[1] < 2.4
        assert "uniform" not in screen(app)
        assert "bigram" not in screen(app)


async def test_a_ladder_that_comes_late_is_drawn_over_a_view_of_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    session = ScriptedSession(step=2000)
    ladder, session.ladder = session.ladder, lambda: None  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=WIDE) as pilot:
        app.main.poll()
        await pilot.press("right_square_bracket", "left", "left", "left", "left")
        await pilot.pause()
        assert "gram" not in "".join(rows(app)[:-1])
        session.ladder = ladder  # type: ignore[method-assign]
        app.main.poll()
        await pilot.pause()
        assert "bigram 2.48" in screen(app)
