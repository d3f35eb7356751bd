"""The head gallery on a session of its own: what the table says, in which order, and what every key does."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from textual.app import App
from textual.pilot import Pilot

from minigpt_core.frame import Frame, HeadHistory, Health, Lens
from minigpt_core.heads import SCORES
from minigpt_core.status import Event, Stamp, Status
from minigpt_tui.screens.gallery import NEVER, WAITING, Birthdays, GalleryScreen
from minigpt_tui.widgets.gallery import ranking, trace
from minigpt_tui.widgets.heatmap import ramp
from minigpt_tui.widgets.palette import THEME
from minigpt_tui.widgets.roles import MEANING
from tests.scripted_session import Terminal

SIZES = [(80, 24), (120, 35), (200, 50), (60, 16), (40, 12), (20, 5), (8, 3), (3, 2)]
TOKENS = tuple("to be or not to be, that is")


def grown(layers: int = 2, heads: int = 4, frames: int = 40) -> np.ndarray:
    """(n, 4, L, H): L0 H1 becomes a previous-token head, then L1 H2 an induction head, L1 H0 a sink; others stay."""
    t = np.linspace(0, 1, frames)
    scores = np.empty((frames, 4, layers, heads), np.float32)
    scores[:] = np.array([0.06, 0.02, 0.1, 0.97])[:, None, None]
    scores += np.arange(layers * heads).reshape(layers, heads) * 1e-4  # no two alike
    for role, layer, head, middle in (("previous", 0, 1, 0.3), ("induction", 1, 2, 0.6), ("sink", 1, 0, 0.8)):
        up = 1 / (1 + np.exp(-(t - middle) * 25))
        scores[:, SCORES.index(role), layer, head] = 0.05 + 0.9 * up
        scores[:, SCORES.index("entropy"), layer, head] = 0.97 - 0.7 * up
    return scores


class FakeSession:
    """What the gallery asks of a session, and nothing else."""

    def __init__(self, scores: np.ndarray | None = None, every: int = 10, trains: bool = True) -> None:
        self.trains = trains
        self.scores = grown() if scores is None else scores
        self.steps = np.arange(len(self.scores), dtype=np.int64) * every
        self.log: list[Event] = []
        self.at: int | None = None if not len(self.steps) else int(self.steps[-1])
        self.why: str | None = None
        self.phase = "training" if trains else "done"
        self._frames: dict[int, Frame] = {}

    def status(self) -> Status:
        return Status(phase=self.phase)  # type: ignore[arg-type]

    def events(self, after: int = 0) -> list[Event]:
        return self.log[after:]

    def head_history(self) -> HeadHistory | None:
        return HeadHistory(self.steps, self.scores) if len(self.steps) else None

    def probe_failure(self) -> str | None:
        return self.why

    def frame(self) -> Frame | None:
        if self.at is None:
            return None
        if self.at not in self._frames:
            t = len(TOKENS)
            even = np.tril(np.ones((t, t), np.float32))
            weights = np.broadcast_to(even / even.sum(-1, keepdims=True), (*self.scores.shape[2:], t, t))
            nothing = np.zeros((0, 0))
            self._frames[self.at] = Frame(
                Stamp(step=self.at), TOKENS, weights, self.scores[-1], Lens(nothing, nothing, nothing), {},
                Health(nothing, nothing),
            )  # fmt: skip
        return self._frames[self.at]


class GalleryApp(App[None]):
    def __init__(self, session: FakeSession, depth: str = "256") -> None:
        super().__init__()
        self.register_theme(THEME)
        self.theme = THEME.name
        self.terminal = Terminal()
        self.gallery = GalleryScreen(session, ramp(depth, ascii=False))  # type: ignore[arg-type]
        self.answers: list[tuple[int, int] | None] = []

    def on_mount(self) -> None:
        self.push_screen(self.gallery, self.answers.append)


def rows(app: App[None]) -> list[str]:
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def table(app: GalleryApp) -> list[str]:
    """The rows of heads, in order, without the marks of the cursor."""
    return [row[1:] for row in rows(app) if re.match(r"[▸ ]L\d+ H\d+ +\S+ +(\d\.\d\d|—)", row)]


def names(app: GalleryApp) -> list[str]:
    return [" ".join(row.split()[:2]) for row in table(app)]


def marked(app: GalleryApp) -> str:
    return next(row for row in rows(app) if row.startswith("▸"))


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


def birth(step: int, layer: int, head: int, role: str) -> Event:
    data = {"layer": layer, "head": head, "role": role, "score": 0.6}
    return Event(kind="birth", step=step, time=0.0, message=f"L{layer} H{head}", data=data)


# --- numbers ---


def test_a_trace_has_a_fixed_scale_and_leaves_out_what_is_not_finite() -> None:
    assert trace(np.array([0.0, 0.5, 1.0]), 10)[0] == "▁▅█"
    assert trace(np.array([0.2, 0.2]), 10)[0] == trace(np.array([0.2]), 10)[0] * 2  # not stretched to its own range
    assert trace(np.array([0.0, 1.0, np.nan, 1.0, np.nan, np.nan]), 3)[0] == "▅█ "
    assert trace(np.array([]), 5)[0] == trace(np.array([0.5]), 0)[0] == ""


@given(arrays(np.float32, st.integers(0, 90), elements=st.floats(0, 1, width=32) | st.just(np.nan)), st.integers(0, 40))
def test_a_trace_is_as_long_as_there_are_frames_or_cells_and_its_buckets_cover_every_frame(
    values: np.ndarray, columns: int
) -> None:
    blocks, means = trace(values, columns)
    assert len(blocks) == len(means) == min(len(values), columns)
    if columns and np.isfinite(values).any():
        seen = values[np.isfinite(values)]
        assert np.nanmin(means) >= seen.min() - 1e-6
        assert np.nanmax(means) <= seen.max() + 1e-6


@given(arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32) | st.just(np.nan)), st.booleans())
def test_a_ranking_holds_every_head_once_in_order_with_the_unknown_last(scores: np.ndarray, reverse: bool) -> None:
    order = ranking(scores, reverse)
    assert sorted(order) == sorted(np.ndindex(scores.shape))
    values = np.array([scores[head] for head in order])
    known = np.isfinite(values)
    assert not known[np.argmin(known) :].any() or known.all()
    steps = np.diff(values[known])
    assert (steps >= 0).all() if reverse else (steps <= 0).all()


def test_births_come_from_the_log_or_else_from_the_frames() -> None:
    history = HeadHistory(np.arange(40) * 10, grown())
    days = Birthdays()
    days.feed(history)
    first = {role: int(history.steps[np.argmax(history.scores[:, SCORES.index(role), *head] >= 0.5)])
             for role, head in (("previous", (0, 1)), ("induction", (1, 2)), ("sink", (1, 0)))}  # fmt: skip
    expected = {(0, 1): [(first["previous"], "previous")], (1, 2): [(first["induction"], "induction")]}
    assert days.by_head() == {**expected, (1, 0): [(first["sink"], "sink")]}
    days.take([birth(310, 1, 2, "induction")])
    assert days.by_head() == {(1, 2): [(310, "induction")]}


def test_frame_by_frame_the_births_are_those_of_the_whole() -> None:
    whole, live = Birthdays(), Birthdays()
    steps, scores = np.arange(40) * 10, grown()
    whole.feed(HeadHistory(steps, scores))
    for n in range(1, 41):
        live.feed(HeadHistory(steps[:n], scores[:n]))
    assert live.by_head() == whole.by_head()
    live.feed(HeadHistory(steps[:5], scores[:5]))  # resumed from an early checkpoint: what followed never was
    assert live.by_head() == {}


def test_a_birth_on_an_abandoned_branch_is_forgotten_and_may_come_again() -> None:
    days = Birthdays()
    again = Event(kind="resumed", step=200, time=0.0, message="resumed from step 200")
    days.take([birth(100, 0, 1, "previous"), birth(310, 1, 2, "induction"), again])
    assert days.by_head() == {(0, 1): [(100, "previous")]}
    days.take([birth(420, 1, 2, "induction")])
    assert days.by_head()[1, 2] == [(420, "induction")]


# --- the screen ---


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_keeps_inside_and_shows_the_chosen_head(size: tuple[int, int]) -> None:
    app = GalleryApp(FakeSession(grown(12, 12)))
    async with app.run_test(size=size) as pilot:
        await press(pilot, "end", "home", "pagedown", "p")
        assert len(rows(app)) == size[1]
        assert any(row.startswith("▸") for row in rows(app))
        if size[0] >= 40:
            assert len(names(app)) >= size[1] - 10  # most of the screen is the table
            assert marked(app).split()[0].startswith("▸L")


async def test_a_row_has_role_scores_history_and_birth_and_the_bottom_explains_the_role() -> None:
    session = FakeSession()
    session.log = [birth(240, 1, 2, "induction"), birth(250, 1, 2, "sink")]
    app = GalleryApp(session)
    async with app.run_test(size=(100, 24)) as pilot:
        await pilot.pause()
        row = marked(app)
        assert row.split()[:7] == ["▸L1", "H2", "induction", "0.06", "0.95", "0.10", "0.27"]
        assert "▁▁▁" in row
        assert "███" in row
        assert row.endswith("induction @240, sink @250")
        text = " ".join(rows(app))
        assert "L1 H2 induction head: looks for an earlier copy of the current token and attends to" in text
        assert MEANING["induction"] in text
        assert "heads 8  1 previous  1 induction  1 sink  5 diffuse" in rows(app)[0]
        assert rows(app)[0].endswith("step 390")


async def test_where_no_births_are_logged_the_frames_tell_them() -> None:
    app = GalleryApp(FakeSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "induction @240" in marked(app)


@pytest.mark.parametrize(("key", "score"), [("p", "previous"), ("i", "induction"), ("s", "sink"), ("e", "entropy")])
async def test_a_key_sorts_by_its_score_and_again_the_other_way(key: str, score: str) -> None:
    session = FakeSession()
    order = [f"L{layer} H{head}" for layer, head in ranking(session.scores[-1, SCORES.index(score)], False)]
    app = GalleryApp(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "l", key)
        assert names(app) == order
        assert MEANING[score] in " ".join(rows(app))
        await press(pilot, key)
        assert names(app) == order[::-1]
        await press(pilot, "l", key)  # a fresh choice begins with the highest
        assert names(app) == order


async def test_by_layer_and_back_from_the_last() -> None:
    app = GalleryApp(FakeSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "s", "l")
        assert names(app) == [f"L{layer} H{head}" for layer in range(2) for head in range(4)]
        assert MEANING["sink"] in " ".join(rows(app))  # the sparklines stay
        await press(pilot, "l")
        assert names(app)[0] == "L1 H3"


async def test_the_cursor_moves_by_line_page_and_end_and_stays_on_its_head() -> None:
    app = GalleryApp(FakeSession(grown(12, 12)))
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "l", "home")
        assert app.gallery.table.selected == (0, 0)
        await press(pilot, "up")
        assert app.gallery.table.selected == (0, 0)
        await press(pilot, "down", "down")
        assert app.gallery.table.selected == (0, 2)
        page = len(names(app)) - 1
        await press(pilot, "pagedown", "pagedown")
        assert app.gallery.table.selected == divmod(2 + 2 * page, 12)
        assert f"L{app.gallery.table.selected[0]} H{app.gallery.table.selected[1]}" in names(app)
        await press(pilot, "pageup")
        assert app.gallery.table.selected == divmod(2 + page, 12)
        await press(pilot, "end")
        assert app.gallery.table.selected == (11, 11)
        assert names(app)[-1] == "L11 H11"
        await press(pilot, "p")
        assert app.gallery.table.selected == (11, 11)
        assert marked(app).startswith("▸L11 H11")


async def test_enter_answers_with_the_head_and_the_ways_out_with_none() -> None:
    for key, answer in (("enter", (1, 2)), ("escape", None), ("g", None), ("q", None)):
        app = GalleryApp(FakeSession())
        async with app.run_test(size=(80, 24)) as pilot:
            await press(pilot, key)
            assert app.answers == [answer]
            assert app.is_running


async def test_a_click_chooses_a_row_and_the_wheel_moves_on() -> None:
    app = GalleryApp(FakeSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "l", "home")
        y = next(y for y, row in enumerate(rows(app)) if "L1 H0" in row)
        await pilot.click(offset=(5, y))
        assert app.gallery.table.selected == (1, 0)
        app.gallery.table.on_mouse_scroll_down()
        app.gallery.table.on_mouse_scroll_down()
        app.gallery.table.on_mouse_scroll_up()
        assert app.gallery.table.selected == (1, 1)


async def test_it_follows_the_run_and_repaints_only_what_changed() -> None:
    session = FakeSession(grown(frames=40))
    every = session.scores
    session.scores, session.steps, session.at = every[:20], session.steps[:20], 190
    app = GalleryApp(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "l")
        assert "step 190" in rows(app)[0]
        assert not any("induction @" in row for row in rows(app))
        painted: list[object] = []
        refresh = app.gallery.table.refresh
        app.gallery.table.refresh = lambda *regions, **how: (painted.extend(regions), refresh(*regions, **how))[1]  # type: ignore[method-assign]
        app.gallery.poll()
        assert painted == []
        session.scores = np.concatenate([every[:20], every[19:20]])
        session.steps, session.at = np.arange(21) * 10, 200
        session.scores[-1, 1, 1, 2] = 0.99
        app.gallery.poll()
        await pilot.pause()
        assert "0.99" in next(row for row in rows(app) if "L1 H2" in row)
        session.scores, session.steps, session.at = every, np.arange(40) * 10, 390
        await pilot.pause(1.1)  # by its own timer
        assert "induction @240" in next(row for row in rows(app) if "L1 H2" in row)


async def test_looking_back_the_numbers_are_those_of_that_step() -> None:
    session = FakeSession()
    session.at = 100
    app = GalleryApp(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "l")
        assert "step 100" in rows(app)[0]
        assert next(row for row in rows(app) if "L1 H2" in row).split()[2:4] == ["diffuse", "0.06"]


async def test_nan_scores_are_dashes_and_come_last() -> None:
    scores = grown()
    scores[:, :, 0, 0] = np.nan
    scores[:20, 0] = np.nan
    app = GalleryApp(FakeSession(scores))
    async with app.run_test(size=(80, 24)) as pilot:
        for key in "pise":
            await press(pilot, key)
            assert names(app)[-1] == "L0 H0"
            await press(pilot, key)
            assert names(app)[-1] == "L0 H0"
        assert table(app)[-1].split()[2:7] == ["·", "—", "—", "—", "—"]
        await press(pilot, "end")
        assert "L0 H0 no single role" in " ".join(rows(app))


async def test_with_nothing_recorded_it_says_why() -> None:
    nothing = np.empty((0, 4, 2, 4), np.float32)
    session = FakeSession(nothing)
    app = GalleryApp(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "down", "end", "pageup", "p", "l")
        assert WAITING in rows(app)[0]
        session.why = "not enough memory for a look"
        app.gallery.poll()
        await pilot.pause()
        assert rows(app)[0].strip() == "no frames yet: not enough memory for a look"
        session.why, session.phase = None, "done"
        app.gallery.poll()
        await pilot.pause()
        assert rows(app)[0].strip() == NEVER
        session.scores, session.steps, session.phase = grown(), np.arange(40) * 10, "training"
        app.gallery.poll()
        await pilot.pause()
        assert len(names(app)) == 8
        await press(pilot, "end", "enter")
    assert app.answers == [(1, 3)]


async def test_where_there_is_room_the_map_of_the_chosen_head_stands_beside_it() -> None:
    app = GalleryApp(FakeSession(), "16")
    async with app.run_test(size=(120, 35)) as pilot:
        await press(pilot, "l", "home", "down")
        assert "L0 H1, rows=query cols=key, step 390" in rows(app)[0]
        assert "@@" not in rows(app)[10]  # even attention far down is faint
        assert sum("'" in row for row in rows(app)) > 5  # the masked future
        await pilot.resize_terminal(200, 50)
        await pilot.pause()
        assert "L0 H1, rows=query cols=key, step 390" in rows(app)[0]
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "rows=query" not in " ".join(rows(app))
