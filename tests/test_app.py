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
from rich.cells import cell_len
from textual import events
from textual.pilot import Pilot
from textual.widget import Widget

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_core.status import Envelope, Event, Pause, Resume, Save, ScaleLearningRate, Status, StepOnce
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.widgets import feed, slash
from minigpt_tui.widgets.log import line
from minigpt_tui.widgets.sparkline import BARS, bars, trend
from minigpt_tui.widgets.stats import layout, stat_rows
from minigpt_tui.widgets.status_line import fit, items
from minigpt_tui.widgets.ticks import log_ticks, nice_ticks
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
        assert "layer 0 head 0 previous, rows=query cols=key, step 1300, 0..1 sqrt" in screen(app)


async def test_the_first_frame_comes_before_the_session_starts() -> None:
    session = ScriptedSession()
    seen: list[str] = []
    app = app_of(session)
    start = session.start
    session.start = lambda: (seen.append(screen(app)), start())[1]  # type: ignore[method-assign,func-returns-value]
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
    assert "loss" in seen[0]


async def test_the_past_and_the_first_look_show_as_soon_as_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for pace in ("DATA_SECONDS", "FRAME_SECONDS"):
        monkeypatch.setattr(f"minigpt_tui.screens.main.{pace}", 3600.0)
    session = ScriptedSession(step=0)
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.pause(0.2)
        assert "layer 0 head 0" not in screen(app)
        session.advance(1000)
        async with asyncio.timeout(10):
            while "layer 0 head 0" not in screen(app) or "loss 1.9" not in rows(app)[1]:
                await pilot.pause(0.02)
        assert app.main._eager._task is None  # from then on the slow pace is enough


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


async def test_what_torchrun_started_is_not_left_to_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("d")
        await pilot.pause()
        assert "torchrun started this run" in rows(app)[0]
        assert not app.detaching
        assert not session.closed


async def test_keys_that_follow_i_are_text_in_order_however_slow_the_pane_is(monkeypatch: pytest.MonkeyPatch) -> None:
    session = ScriptedSession()
    app = app_of(session)

    async def dawdle(pane: Widget, event: events.Key) -> None:
        await asyncio.sleep(0.05)

    monkeypatch.setattr(type(app.main.chart), "_on_key", dawdle, raising=False)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in ("i", "E", "a"):
            app.post_message(events.Key(key, key))
        while app.focused is not app.main.prompt:
            await asyncio.sleep(0.005)
        for key in ("r", "l", "y"):
            app.post_message(events.Key(key, key))
        await pilot.pause(0.4)
        assert app.main.prompt.text == "Early"


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
        frame = app.session.frame()
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


@pytest.mark.parametrize(("keys", "text", "column"), [("left", "abcdefgh", 3), ("backspace", "abc", 3)])
async def test_keys_in_a_burst_inside_the_prompt_all_count(keys: str, text: str, column: int) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", *"abcdefgh")
        for _ in range(5):
            app.post_message(events.Key(keys, None))
        await pilot.pause(0.2)
        assert app.main.prompt.text == text
        assert app.main.prompt.cursor_location == (0, column)


async def test_a_hidden_log_is_bounded_and_one_being_read_stays_in_place() -> None:
    session = ScriptedSession()
    for n in range(9000):
        session._log("info", f"note {n}")
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        log = app.main.events
        await refreshed(pilot)
        assert log.seen >= 9000
        assert len(log._blocks) <= feed.MAX_LINES  # it was never laid out
        await pilot.press("4")
        await pilot.pause()
        assert "note 8999" in screen(app)
        log.scroll_to(y=2500, animate=False, immediate=True)
        log.release_anchor()
        await pilot.pause()
        top = rows(app)[5]
        assert "note" in top
        for n in range(1500):
            session._log("info", f"more {n}")
        app.main.poll()
        await pilot.pause()
        assert log.virtual_size.height <= feed.MAX_LINES
        assert rows(app)[5] == top


async def test_many_events_are_one_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(200, 50)) as pilot:
        await refreshed(pilot)
        scrolled: list[object] = []
        monkeypatch.setattr(app.main.events, "scroll_end", lambda **how: scrolled.append(how))
        for n in range(50):
            app.session._log("info", f"note {n}")  # type: ignore[attr-defined]
        app.main.poll()
        assert len(scrolled) == 1


async def test_help_in_the_prompt_is_seen_wherever_one_was() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2", "i", *"/HELP", "enter")
        await pilot.pause()
        assert "//text" in screen(app)


async def test_saving_stays_on_show_until_the_app_is_left() -> None:
    session = ScriptedSession()
    session.joined = False
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q", "ctrl+c")
        await pilot.pause()
        assert "saving… (again: leave at once)" in rows(app)[0]
        assert app.main.status_line._notice is not None
        assert app.main.status_line._notice[1] == math.inf
        await pilot.press("q")


async def test_attention_that_failed_says_why() -> None:
    session = ScriptedSession()
    session.frame = lambda: None  # type: ignore[method-assign]
    session.probe_failure = lambda: "not in the vocabulary: \x1b[31m"  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await refreshed(pilot)
        assert "not in the vocabulary: ␛[31m" in screen(app)


def test_a_warning_follows_the_state_and_is_shortened_before_the_progress_goes() -> None:
    text = "NVIDIA L4 is there, but this torch is a CPU build: install a CUDA build of torch"
    found = items(ScriptedSession(warning=text).status(), 0.0)
    wide = "".join(part for part, _ in fit(found, 200))
    assert wide.startswith(f"▶ training │ {text} │ step")
    narrow = "".join(part for part, _ in fit(found, 78))
    assert narrow.startswith("▶ training │ GPU unused: see log (4) │ step 1,234/5,000 │ 25%")
    for columns in range(1, 250):
        assert sum(cell_len(part) for part, _ in fit(found, columns)) <= columns


async def test_nothing_moves_by_itself() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)):
        assert app.animation_level == "none"
        assert not app.main.prompt.cursor_blink


async def test_what_is_copied_is_as_safe_as_what_is_shown() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", "x", "enter")
        session.stream(session.generations[0], 100, answer="a\x1b]52;c;QUJD\x07\nb")
        app.main.poll()
        await pilot.press("escape", "c")
        assert app.clipboard == "a␛]52;c;QUJD␇\nb"


@pytest.mark.parametrize("when", [math.inf, -math.inf, math.nan, 1e300])
def test_a_log_with_an_impossible_time_is_shown(when: float) -> None:
    assert line(Event(kind="info", step=1, time=when, message="m")).plain.startswith("--:--:-- ")


def sample_event(prompt: str, answer: str, **data: object) -> Event:
    values: dict[str, object] = {"prompt": prompt, "answer": answer, "settings": {"temperature": 0.5}}
    values |= {"val_loss": 2.5, "val_step": 250, "seed": 9, "finish_reason": "length"}
    return Event(kind="sample", step=300, time=1.7e9, message="sampled", data=values | data)


async def test_the_answers_of_the_past_open_the_transcript() -> None:
    session = ScriptedSession()
    session._events = [sample_event(f"old {n}", "answer") for n in range(30)]
    session._events += [
        sample_event("bad", "x", settings={"temperature": "hot"}),
        sample_event("bad", "x", settings={"num_samples": 10**12, "top_p": 7}),
        sample_event("bad", "x", seed=None),
        sample_event("bad", "x", finish_reason="why not"),
        Event(kind="sample", step=300, time=1.7e9, message="no data"),
        sample_event("", "written alone", val_loss=None, settings={"num_samples": 10**12}),
        sample_event("Once", " upon a time"),
    ]
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await refreshed(pilot)
        text = screen(app)
        assert "✓ step 300 · val 2.50 @250 · seed 9 · T 0.5" in text
        assert "Once upon a time" in text
        assert "✓ step 300 · seed 9 · T 0.5" not in text  # a validation step without a loss says nothing
        assert text.index("written alone") < text.index("Once upon") < text.index(OWN)
        past = [answer.generation.prompt for answer in app.main.transcript._answers][:-1]
        assert past == [*(f"old {n}" for n in range(12, 30)), "", "Once"]
        assert app.main.transcript._answers[18].asked is False
        await pilot.press("r")
        assert (session.generations[0].prompt, session.generations[0].config.seed) == ("Once", 9)
        session._events.append(sample_event("Once", "again"))
        await refreshed(pilot)
        assert "again" not in screen(app)  # later answers come by themselves


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("/SEED Random", "seed", None),
        ("/stop  Al", "stop", ("Al",)),
        ("/stop", "stop", ()),
        ("/Samples 8", "num_samples", 8),
        ("/tokens 10000", "max_new_tokens", 10_000),
    ],
)
def test_slash_commands_set(text: str, field: str, value: object) -> None:
    assert getattr(slash.apply(text, SampleConfig(seed=1, stop=("x",))), field) == value


@pytest.mark.parametrize("text", ["/tokens 10001", "/samples 9", "/samples 0"])
def test_what_the_app_cannot_show_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        slash.apply(text, SampleConfig())


async def test_watch_chooses_the_text_of_the_attention_pane() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        watched: list[str | None] = []
        session.watch = watched.append  # type: ignore[method-assign]
        await pilot.press("i", *"/Watch To be", "enter", *"/watch", "enter", *"/stop [/x]", "enter")
        await pilot.pause()
        assert watched == ["To be", None]
        assert "stop '[/x]'" in screen(app)


async def test_zoomed_in_between_two_points_the_chart_says_so() -> None:
    session = ScriptedSession(step=2000)
    series = session.series
    session.series = lambda metric, lo=None, hi=None, buckets=200: series(  # type: ignore[method-assign]
        metric, *((1, 0) if lo is not None else (lo, hi)), buckets
    )
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await refreshed(pilot)
        await pilot.press("right_square_bracket")
        await refreshed(pilot)
        assert "no point between steps 1,000 and 2,000" in screen(app)
        assert "no loss yet" not in screen(app)


async def test_the_past_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session = ScriptedSession(step=2000)
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await refreshed(pilot)
        await pilot.press("right_square_bracket", "left")
        drawn: list[object] = []
        monkeypatch.setattr(app.main.chart, "_draw", drawn.append)
        session.advance(500)
        await refreshed(pilot)
        assert drawn == []
        await pilot.press("end")
        assert len(drawn) == 1


async def test_the_cursor_of_a_map_out_of_sight_stays() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(200, 50)) as pilot:
        await refreshed(pilot)
        app.main.attention.cursor = (14, 3)
        await pilot.press("2", "a", "home", "end")
        assert app.main.attention.cursor == (14, 3)
