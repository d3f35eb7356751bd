"""The app on a scripted session: what is on the screen, what the keys do, at every size."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from textual import events
from textual.pilot import Pilot

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_core.status import Envelope, Pause, Resume, Save, ScaleLearningRate, Status, StepOnce
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.widgets import slash
from minigpt_tui.widgets.loss_chart import log_ticks, nice_ticks
from minigpt_tui.widgets.sparkline import BARS, bars, trend
from minigpt_tui.widgets.stats import layout, stat_rows
from minigpt_tui.widgets.status_line import fit, items
from tests.scripted_session import EVAL_EVERY, OWN, ScriptedSession, Terminal

SIZES = [(80, 24), (120, 35), (200, 50), (80, 50), (200, 24), (60, 16), (50, 14), (20, 5), (3, 2)]


def app_of(session: ScriptedSession, **terminal: object) -> MiniGPTApp:
    return MiniGPTApp(session, Terminal(**terminal))  # type: ignore[arg-type]


def rows(app: MiniGPTApp) -> list[str]:
    """The screen as text."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def screen(app: MiniGPTApp) -> str:
    return "\n".join(rows(app))


async def refreshed(pilot: Pilot[None]) -> None:
    pilot.app.main.poll()  # type: ignore[attr-defined]
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_shows_state_and_keeps_inside(size: tuple[int, int]) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=size) as pilot:
        for keys in ("2", "a", "f4f"):
            await pilot.press(*keys)
            await refreshed(pilot)
        assert len(rows(app)) == size[1]
        assert rows(app)[0].strip().startswith("▶"[: size[0]])
        if size[0] >= 20:
            assert "1.8" in rows(app)[1]  # the loss is always in sight


async def test_a_resize_while_it_runs() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.press("2")
        for size in [(20, 5), (120, 35), (80, 24), (50, 14), (200, 50)]:
            session.advance(20)
            await pilot.resize_terminal(*size)
            await refreshed(pilot)
            assert app.focused is not None
            assert app.focused.display
        assert "layer 0 head 0, rows=query cols=key, step 1300, 0..1 sqrt" in screen(app)


async def test_the_first_frame_comes_before_the_session_starts() -> None:
    session = ScriptedSession()
    seen: list[str] = []
    app = app_of(session)
    start = session.start
    session.start = lambda: (seen.append(screen(app)), start())[1]  # type: ignore[method-assign,func-returns-value]
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
    assert "loss" in seen[0]


async def test_steering_keys_send_commands() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("n")
        assert session.commands == []  # one step means something only while paused
        await pilot.press("space")
        await refreshed(pilot)
        await pilot.press("n", "s", "space")
        app.main.action_scale(0.5)
        assert session.commands == [Pause(), StepOnce(), Save(), Resume(), ScaleLearningRate(0.5)]


async def test_a_finished_run_says_why_a_key_does_nothing() -> None:
    session = ScriptedSession(step=5000, trains=False)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await refreshed(pilot)
        assert "✓ done" in rows(app)[0]
        assert "final val" in rows(app)[0]
        assert "pause" not in rows(app)[-1]
        await pilot.press("space")
        await pilot.pause()
        assert session.commands == []
        assert "finished" in rows(app)[0]


async def test_a_prompt_streams_its_answer_with_its_stamp() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.press("i", *"To be", "enter")
        [generation] = session.generations
        assert generation.prompt == "To be"
        session.stream(generation, 10)
        await refreshed(pilot)
        assert "● step 1,234 · val 2.00 @1,000 · seed 7 · T 0.8" in screen(app)
        assert "To bethe people" in screen(app)
        session.stream(generation, 1000)
        await refreshed(pilot)
        assert "✓ step 1,234" in screen(app)
        assert app.main.transcript.active == []


@pytest.mark.parametrize("size", [(80, 24), (50, 14)])
async def test_keys_that_follow_i_at_once_are_text(size: tuple[int, int]) -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=size) as pilot:
        for key in ("i", "q", "space", "s", "enter"):  # one burst, as a fast typist or a paste sends it
            app.post_message(events.Key(key, " " if key == "space" else key if len(key) == 1 else None))
        await pilot.pause(0.2)
        assert session.commands == []
        assert [g.prompt for g in session.generations] == ["q s"]
        assert app.main.prompt.display


async def test_a_prompt_before_the_weights_is_shown_as_queued() -> None:
    session = ScriptedSession(step=0, phase="starting", message="loading torch")
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await refreshed(pilot)
        assert "loading torch" in rows(app)[0]
        await pilot.press("i", *"Hi", "enter")
        await refreshed(pilot)
        assert "queued: waiting for the first weights" in screen(app)


async def test_escape_stops_then_leaves_and_regenerate_keeps_or_changes_the_seed() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", *"/seed 11", "enter", *"Now", "enter")
        session.stream(session.generations[0], 5)
        await pilot.press("escape")
        assert session.generations[0].cancelled
        session.stream(session.generations[0], 5)
        await refreshed(pilot)
        assert "stopped" in screen(app)
        assert app.focused is app.main.prompt
        await pilot.press("escape")
        assert app.focused is not app.main.prompt
        await pilot.press("r", "R")
        assert [g.config.seed for g in session.generations] == [11, 11, None]
        assert {g.prompt for g in session.generations} == {"Now"}


async def test_the_prompt_edits_lines_and_remembers() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", "a", "ctrl+j", "b", "enter", "c", "enter", *"draft")
        assert [g.prompt for g in session.generations] == ["a\nb", "c"]
        await pilot.press("up")
        assert app.main.prompt.text == "c"
        await pilot.press("up")
        assert app.main.prompt.text == "a\nb"
        await pilot.press("down", "down", "down")
        assert app.main.prompt.text == "draft"


async def test_slash_commands_change_the_settings_and_name_mistakes() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", *"/temp 0.5", "enter", *"/tmep 1", "enter")
        await pilot.pause()
        assert "did you mean /temp?" in rows(app)[0]
        assert "T 0.5" in screen(app)
        await pilot.press(*"//x", "enter")
        assert session.generations[0].prompt == "/x"
        assert session.generations[0].config.temperature == 0.5


@pytest.mark.parametrize("text", ["/temp", "/temp hot", "/temp -1", "/tokens 0", "/topp 2", "/topk 1.5", "/nope", "/"])
def test_bad_slash_commands_are_one_clear_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        slash.apply(text, SampleConfig())
    assert "\n" not in str(caught.value)


async def test_attention_keys_choose_layer_head_and_cursor() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(200, 50)) as pilot:
        await refreshed(pilot)
        await pilot.press("2", "greater_than_sign", "full_stop", "full_stop", "comma")
        await pilot.pause()
        assert "layer 1 head 1, rows=query cols=key, step 1200, 0..1 sqrt" in screen(app)
        app.main.attention.cursor = (14, 3)
        await pilot.press("left")
        await pilot.pause()
        frame = app.session.attention()
        assert frame is not None
        p = frame.weights[1, 1, 14, 2]
        assert f"q 14 ⏎ → k 2 'r' p={p:.3f}".replace("p=0", "p=") in screen(app)
        await pilot.press("a")
        await pilot.pause()
        assert "▸L1 H1" in screen(app)
        assert "L3 H3" in screen(app)
        await pilot.press("down", "enter")
        await pilot.pause()
        assert "layer 2 head 1" in screen(app)


async def test_an_unchanged_frame_is_not_painted_again() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(200, 50)) as pilot:
        await refreshed(pilot)
        before = app.main.attention._rows
        await refreshed(pilot)
        assert app.main.attention._rows is before


async def test_the_chart_zooms_pans_and_follows() -> None:
    session = ScriptedSession(step=2000)
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await refreshed(pilot)
        chart = app.main.chart
        await pilot.press("right_square_bracket")
        assert chart.window == (1000, 2000)
        await pilot.press("left")
        assert chart.window == (750, 1750)
        session.advance(500)
        await refreshed(pilot)
        assert chart.window == (750, 1750)
        await pilot.press("end", "y")
        await pilot.pause()
        assert chart.window == (1500, 2500)
        assert "(log)" in screen(app)


@pytest.mark.parametrize("step", [0, 1, 2, 250])
async def test_the_first_points_of_a_run(step: int) -> None:
    app = app_of(ScriptedSession(step=step))
    async with app.run_test(size=(80, 24)) as pilot:
        await refreshed(pilot)
        assert ("no loss yet" in screen(app)) == (step == 0)


async def test_numbers_that_are_not_finite_do_not_break_a_pane() -> None:
    session = ScriptedSession(train_loss=math.nan, smoothed_loss=math.inf, val_loss=math.nan, grad_norm=math.inf)
    bad = np.array([np.nan, np.inf, -1.0, 0.0, 2.0])
    session.series = lambda *a, **k: Envelope(np.arange(5.0), bad, bad, bad)  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await refreshed(pilot)
        await pilot.press("y")
        await refreshed(pilot)
        assert "nan" in screen(app)


async def test_hostile_text_does_not_reach_the_terminal() -> None:
    evil = "[/x]\x1b]52;c;QUJD\x07\u202e\x9b31m"
    session = ScriptedSession(name=evil, device=evil)
    session.tokens = evil * 3
    session._log("info", evil)
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.press("i", "x", "enter")
        session.stream(session.generations[0], 1000, answer=evil)
        session.generations[0].warnings = (evil,)
        await refreshed(pilot)
        text = screen(app)
        assert "[/x]" in text
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\x9b"}


async def test_ascii_means_ascii_everywhere() -> None:
    app = app_of(ScriptedSession(), color="none", ascii=True)
    async with app.run_test(size=(120, 35)) as pilot:
        for keys in (["i", "x", "enter"], ["escape", "escape", "2"], ["question_mark"]):
            await pilot.press(*keys)
            await refreshed(pilot)
            assert screen(app).isascii()


async def test_failure_is_shown_and_kept_for_the_exit() -> None:
    app = app_of(ScriptedSession(phase="failed", message="loss is not finite at step 7; try a smaller rate"))
    async with app.run_test(size=(80, 24)) as pilot:
        await refreshed(pilot)
        assert "✗ failed" in rows(app)[0]
        assert "loss is not finite at step 7" in screen(app)
        await pilot.press("q")
        await pilot.pause()
    assert app.return_code == 1
    assert app.failure is not None


async def test_quit_waits_for_the_save_unless_asked_twice() -> None:
    session = ScriptedSession()
    session.joined = False
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q")
        await pilot.pause(0.1)
        assert session.closed
        assert "saving…" in rows(app)[0]
        assert app.is_running
        await pilot.press("ctrl+q")
    assert app.return_code == 0


async def test_a_signal_leaves_as_quit_does() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        await pilot.pause()
    assert session.closed
    assert app.signal_received == signal.SIGTERM


async def test_ctrl_c_says_how_to_quit() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+c", "ctrl+z")
        await pilot.pause()
        assert "quit" in rows(app)[0]
        assert app.is_running


def test_the_app_imports_no_torch_and_plots_late() -> None:
    code = "import sys, minigpt_tui.app; print(sorted({'torch', 'plotext', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- pure parts ---


@pytest.mark.parametrize("columns", range(1, 200, 7))
def test_status_parts_leave_whole(columns: int) -> None:
    status = ScriptedSession().status()
    line = "".join(text for text, _ in fit(items(status, 0.0), columns))
    assert len(line) <= columns
    whole = {"".join(text for text, _ in item.parts) for item in items(status, 0.0)}
    assert columns < 12 or all(part in whole for part in line.split(" │ "))


def test_unknown_numbers_are_dashes_and_rows_are_aligned() -> None:
    found = layout(stat_rows(Status(), ScriptedSession().reading(), 0.0), 22, 40)
    assert {row.cell_length for row in found} <= {0, 22}
    assert found[0].text.endswith("—")


def test_sparkline_is_a_mean_that_skips_what_is_not_finite() -> None:
    assert bars(np.array([]), 10) == ""
    assert bars(np.array([np.nan, np.inf]), 10) == "  "
    # One spike in a bucket of ten must not fill it, as a maximum would.
    values = np.array([2.0] * 9 + [20.0] + [8.0] * 10 + [1.0] * 10)
    low, high, least = bars(values, 3)
    assert BARS.index(low) < BARS.index(high)
    assert least == BARS[0]
    assert (trend(np.linspace(4, 2, 100)), trend(np.linspace(2, 4, 100)), trend(np.full(100, 2.0))) == ("↓", "↑", "→")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1.2, 4.4), (1.94, 1.97), (0, 50_000), (2, 2)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high, 5)
    assert 1 <= len(ticks) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    if low > 0 and high > low:
        assert log_ticks(low, high, 5)


async def test_left_alone_the_model_writes_after_each_evaluation() -> None:
    session = ScriptedSession(step=40)
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        assert len(session.own) == 1
        assert "by itself" in screen(app)
        assert OWN in screen(app)
        session.advance(EVAL_EVERY)
        app.main.poll()
        app.main.poll()
        assert len(session.own) == 2

        await pilot.press("i")  # somebody is about to talk to it
        session.advance(EVAL_EVERY)
        app.main.poll()
        assert len(session.own) == 2


async def test_a_finished_run_does_not_write_by_itself() -> None:
    session = ScriptedSession(trains=False)
    async with app_of(session).run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert not session.own
