"""The logit lens pane, the roles of heads, and what health shows: from frames to the screen."""

from __future__ import annotations

import math
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from textual.screen import ModalScreen

from minigpt_core.frame import Frame, Health
from minigpt_core.heads import label
from minigpt_core.status import Status
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.widgets.heatmap import ramp
from minigpt_tui.widgets.lens import FULL_LOSS, bar, guess_rows, next_tokens, stage_rows
from minigpt_tui.widgets.multiples import arrange, multiples
from minigpt_tui.widgets.palette import TEXT_STYLE
from minigpt_tui.widgets.stats import layout, stat_rows
from tests.scripted_session import LAYERS, TEXT, ScriptedSession, Terminal, frame_of

EVIL = "[/x]\x1b]52;c;QUJD\x07\u202e\x9b31m"


def app_of(session: ScriptedSession) -> MiniGPTApp:
    return MiniGPTApp(session, Terminal())


def screen(app: MiniGPTApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def hostile(frame: Frame) -> Frame:
    return replace(frame, tokens=(EVIL,) * len(frame.tokens), lens_labels=dict.fromkeys(frame.lens_labels, EVIL))


# --- numbers to rows ---


def test_the_token_that_follows_is_marked_or_added() -> None:
    frame = frame_of(1200, TEXT)
    for query in range(len(TEXT) - 1):
        found = next_tokens(frame, query)
        [true] = [guess for guess in found if guess.follows]
        assert true.label in (TEXT[query + 1], "␣", "⏎")
        assert true.probability == pytest.approx(math.exp(-frame.lens.losses[-1, query]), abs=1e-3)
        among = ord(TEXT[query + 1]) in frame.lens.tokens[-1, query]
        assert len(found) == (5 if among else 6)


def test_of_two_tokens_with_one_label_the_loss_says_which_follows() -> None:
    frame = frame_of(1200, "ab")
    frame.lens.tokens[-1, 0] = [1, 2, 3, 4, 5]
    frame.lens.probabilities[-1, 0] = [0.4, 0.3, 0.1, 0.05, 0.05]
    frame.lens.losses[-1, 0] = -math.log(0.3)
    frame = replace(frame, lens_labels={1: "b", 2: "b", 3: "x", 4: "y", 5: "z"})
    assert [guess.follows for guess in next_tokens(frame, 0)] == [False, True, False, False, False]
    frame.lens.losses[-1, 0] = math.nan
    assert sum(guess.follows for guess in next_tokens(frame, 0)) == 1


def test_nothing_follows_the_last_token() -> None:
    found = next_tokens(frame_of(1200, "a"), 0)
    assert len(found) == 5
    assert not any(guess.follows for guess in found)


@pytest.mark.parametrize("share", [0, 0.5, 1, 7, -1, math.nan, math.inf])
def test_a_bar_has_its_width(share: float) -> None:
    parts = bar(share, 10, TEXT_STYLE)
    assert sum(len(text) for text, _ in parts) == 10
    if share == 0.5:
        assert len(parts[0][0]) == 5


def test_a_stage_row_says_top_token_probability_loss_and_norm() -> None:
    frame = frame_of(1200, TEXT)
    out = [row.text for row in stage_rows(frame, 10, 60, 20)]
    assert len(out) == 1 + LAYERS + 1
    for stage, row in enumerate(out[1:]):
        top = frame.lens_labels[int(frame.lens.tokens[stage, 10, 0])]
        name = f"block {stage}" if stage else "embed"
        loss = frame.lens.losses[stage, 10]
        assert row.startswith(name)
        assert f"'{top}'" in row
        assert f"{frame.lens.probabilities[stage, 10, 0]:.3f}"[1:] in row
        assert f"{loss:.2f}" in row
        assert row.endswith(f"{frame.health.residual_norms[stage]:.1f}")
        size = row.count("━") + row.count("─")
        assert row.count("━") == round(min(loss / FULL_LOSS, 1) * size)


@pytest.mark.parametrize("rows", range(1, 9))
def test_of_many_stages_some_are_shown_and_always_the_last(rows: int) -> None:
    out = stage_rows(frame_of(1200, TEXT), 10, 60, rows)
    assert len(out) <= max(2, rows)
    assert out[-1].text.startswith(f"block {LAYERS}")


@pytest.mark.parametrize("columns", range(12, 80, 3))
def test_rows_keep_their_columns(columns: int) -> None:
    frame = frame_of(1200, TEXT)
    for row in stage_rows(frame, 3, columns, 20):
        assert row.cell_length <= max(columns, 30)
    for row in guess_rows(frame, 3, columns):
        assert row.cell_length <= max(columns, 30)


def test_badges_say_the_role_of_every_head() -> None:
    frame, look = frame_of(3000, TEXT), ramp("256", ascii=False)
    out = multiples(frame, (0, 0), look, arrange(frame.weights.shape, (0, 0), look.rows_per_cell, 72, 34))
    text = "\n".join(row.text for row in out)
    for layer in range(4):
        for head in range(4):
            badge = {"previous": "p", "induction": "i", "sink": "s"}.get(label(frame.scores[:, layer, head]), " ")
            assert f"L{layer} H{head} {badge}" in text
    assert {"p", "i", "s"} <= {name.rstrip()[-1] for name in text.split("L")}


def test_health_is_shown_once_it_is_known() -> None:
    def labels(health: Health | None) -> dict[str, str]:
        return {row.label: row.value for row in stat_rows(Status(), ScriptedSession().reading(), 0.0, health)}

    assert "update ratio" not in labels(None)
    nothing = labels(Health(np.ones(3), np.array([np.nan, np.nan])))
    assert not {"update ratio", "dead units"} & set(nothing)
    found = labels(Health(np.ones(3), np.array([0.0, 0.5]), update_ratio=-3.14))
    assert found["update ratio"] == "-3.1"
    assert found["dead units"] == "25.0%"
    assert "update ratio" not in labels(Health(np.ones(3), np.ones(2), update_ratio=-math.inf))
    assert all(row.cell_length <= 22 for row in layout(stat_rows(Status(), ScriptedSession().reading(), 0.0), 22, 40))


# --- in the app ---


async def test_the_lens_follows_the_attention_cursor() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(200, 50)) as pilot:
        app.main.poll()
        await pilot.press("2")
        await pilot.pause()
        last = len(TEXT) - 2
        assert f"q {last} 'A' → 'l', step 1200" in screen(app)
        await pilot.press("up", "up")
        await pilot.pause()
        assert f"q {last - 2} ⏎ → ⏎, step 1200" in screen(app)
        assert "L0 H0 previous" in screen(app)
        await pilot.press("full_stop")
        await pilot.pause()
        assert "L0 H1 sink" in screen(app)


@pytest.mark.parametrize("size", [(200, 50), (120, 35), (80, 24), (60, 16)])
async def test_five_shows_the_lens_and_its_keys_move_the_cursor(size: tuple[int, int]) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=size) as pilot:
        app.main.poll()
        await pilot.press("5")
        await pilot.pause()
        assert app.focused is app.main.lens
        start = app.main.attention.position
        assert f"q {start} " in screen(app)
        assert "block 4" in screen(app)
        await pilot.press("up", "left", "down", "up")
        await pilot.pause()
        assert app.main.attention.position == start - 2
        assert f"q {start - 2} " in screen(app)
        await pilot.press("greater_than_sign", "full_stop", "full_stop", "comma")
        assert app.main.attention.head == (1, 1)
        await pilot.press("f")
        await pilot.pause()
        assert "next token" in screen(app)
        assert app.main.lens.size.width > size[0] - 6


@pytest.mark.parametrize("size", [(200, 50), (120, 35), (80, 24), (40, 12), (20, 5), (3, 2)])
async def test_hostile_labels_do_not_reach_the_terminal(size: tuple[int, int]) -> None:
    session = ScriptedSession()
    frame = hostile(frame_of(1200, TEXT))
    session.frame = lambda: frame  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=size) as pilot:
        app.main.poll()
        await pilot.press("5")
        await pilot.pause()
        text = screen(app)
        assert size[0] < 20 or "'" in text or "␛" in text
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\x9b"}
        assert all(len(row) <= size[0] for row in text.split("\n"))


async def test_a_text_of_one_token_and_scores_that_are_not_numbers() -> None:
    session = ScriptedSession()
    one = replace(frame_of(1200, "a"), scores=np.full((4, 4, 4), np.nan, np.float32))
    session.frame = lambda: one  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        app.main.poll()
        await pilot.press("5", "up", "down", "2", "up", "down", "left", "right", "a", "a")
        await pilot.pause()
        text = screen(app)
        assert "q 0 'a', the text ends here, step 1200" in text
        assert "← follows" not in text
        assert "no one role" in text
        assert "nan" not in text


async def test_what_could_not_be_looked_at_is_said_here_too() -> None:
    session = ScriptedSession()
    session.frame = lambda: None  # type: ignore[method-assign]
    session.probe_failure = lambda: f"not in the vocabulary: {EVIL}"  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        app.main.poll()
        await pilot.press("5", "up", "2", "up")
        await pilot.pause()
        assert screen(app).count("not in the vocabulary:") == screen(app).count("[/x]␛") == 2


async def test_a_pane_out_of_sight_is_not_drawn_but_up_to_date_when_it_comes_into_sight() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        app.main.poll()
        assert app.main.lens._rows == app.main.attention._rows == []
        session.advance(200)
        app.main.poll()
        await pilot.press("5")
        await pilot.pause()
        assert "step 1400" in screen(app)
        await pilot.press("1")
        session.advance(200)
        app.main.poll()
        await pilot.press("5")
        await pilot.pause()
        assert "step 1600" in screen(app)


async def test_the_gallery_is_opened_with_g_and_its_head_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    class GalleryScreen(ModalScreen[tuple[int, int]]):
        def __init__(self, session: object, look: object) -> None:
            super().__init__()

    stub = types.ModuleType("minigpt_tui.screens.gallery")
    stub.GalleryScreen = GalleryScreen  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    app = app_of(ScriptedSession())
    async with app.run_test(size=(200, 50)) as pilot:
        app.main.poll()
        for result, chosen in ((None, (0, 0)), ((2, 3), (2, 3)), ((99, 99), (3, 3))):
            await pilot.press("g")
            await pilot.pause()
            assert isinstance(app.screen, GalleryScreen)
            app.screen.dismiss(result)
            await pilot.pause()
            assert app.main.attention.head == chosen
        assert app.focused is app.main.attention
        assert "layer 3 head 3" in screen(app)
