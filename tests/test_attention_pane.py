"""The attention pane: what its keys choose, what it says, and which text it looks at."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from minigpt_core.config import SampleConfig
from minigpt_core.generation import Generation
from minigpt_tui.screens.watching import Watching
from minigpt_tui.widgets import map_view
from minigpt_tui.widgets.attention import AttentionPane
from minigpt_tui.widgets.attention_caption import Phrase, caption
from minigpt_tui.widgets.heatmap import ramp
from minigpt_tui.widgets.map_view import Room
from tests.scripted_session import EXCERPTS, TEXT, frame_of

LONG = (TEXT * 4)[:256]
WIDE, SMALL = (76, 38), (40, 20)


class PaneApp(App[None]):
    """The pane alone, as large as the screen."""

    CSS = "AttentionPane { height: 1fr; width: 1fr; border: round white; padding: 0 1; }"

    def __init__(self, depth: str = "256") -> None:
        super().__init__()
        self.pane = AttentionPane(ramp(depth, ascii=False))  # type: ignore[arg-type]
        self.wanted: list[bool] = []

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_attention_pane_text_wanted(self, event: AttentionPane.TextWanted) -> None:
        self.wanted.append(event.excerpt)


@asynccontextmanager
async def pane(text: str = TEXT, size: tuple[int, int] = WIDE, depth: str = "256"):
    app = PaneApp(depth)
    async with app.run_test(size=size) as pilot:
        app.pane.update(frame_of(1200, text))
        await pilot.pause()
        yield pilot, app.pane


def rows(of: AttentionPane) -> list[str]:
    return [row.text for row in of._rows]


def colours(of: AttentionPane) -> list[object]:
    return [(segment.text, segment.style) for row in of._rows for segment in row]


def value(of: AttentionPane) -> float:
    """What is read at the cursor."""
    found = re.search(r"p=([\d.]+)", rows(of)[-1])
    assert found is not None
    return float(found[1])


# --- modes ---


async def test_a_goes_from_one_head_to_all_to_the_mean_and_back() -> None:
    async with pane() as (pilot, of):
        assert rows(of)[0].startswith("layer 0 head 0 previous, ")
        await pilot.press("a")
        assert rows(of)[0].startswith("all heads, ")
        assert "L3 H3" in "\n".join(rows(of))
        await pilot.press("a")
        assert rows(of)[0].startswith("mean of the 4 heads of layer 0, ")
        await pilot.press("a")
        assert rows(of)[0].startswith("layer 0 head 0 ")


async def test_past_the_last_layer_the_mean_is_over_all_heads_and_its_read_out_is_that_mean() -> None:
    async with pane() as (pilot, of):
        frame = of.shown
        assert frame is not None
        await pilot.press("a", "a", "greater_than_sign")
        of._put(14, 3)
        assert rows(of)[0].startswith("mean of the 4 heads of layer 1, ")
        assert value(of) == pytest.approx(frame.weights[1, :, 14, 3].mean(), abs=6e-4)
        await pilot.press("greater_than_sign", "greater_than_sign", "greater_than_sign")
        assert rows(of)[0].startswith("mean of all 16 heads of 4 layers, ")
        assert value(of) == pytest.approx(frame.weights[:, :, 14, 3].mean(), abs=6e-4)
        await pilot.press("greater_than_sign")
        assert "of layer 0, " in rows(of)[0]
        await pilot.press("less_than_sign", "full_stop")
        assert rows(of)[0].startswith("layer 3 head 1 ")


# --- overview and 1:1 ---


async def test_a_long_text_begins_as_a_part_that_says_so_and_z_shows_all_of_it() -> None:
    async with pane(LONG) as (pilot, of):
        assert "part of 256 tokens, z: overview" in rows(of)[1]
        assert "part: q 194–255" in rows(of)[-1]
        assert of.cursor is not None
        assert of.cursor[0] == 254
        await pilot.press("z")
        assert rows(of)[1] == "overview of 256: keys summed, queries averaged, rows sum to 1, z: 1:1"
        assert "part" not in "".join(rows(of))
        await pilot.press("z")
        assert "part of 256 tokens" in rows(of)[1]


async def test_in_the_overview_the_cursor_steps_from_group_to_group_and_reads_their_mass() -> None:
    async with pane(LONG) as (pilot, of):
        await pilot.press("z", "up", "left")
        assert of._view is not None
        assert of.cursor is not None
        queries, keys = of._view.queries, of._view.keys
        row, column = of._view.place(of.cursor)
        (q0, q1), (k0, k1) = queries[row : row + 2].tolist(), keys[column : column + 2].tolist()
        assert row == len(queries) - 3
        assert f"q {q0}–{q1 - 1} " in rows(of)[-1]
        assert f"k {k0}–{k1 - 1} " in rows(of)[-1]
        frame = of.shown
        assert frame is not None
        mass = frame.weights[0, 0, q0:q1, k0:k1].sum(1).mean()
        assert value(of) == pytest.approx(mass, abs=6e-4)
        await pilot.press("z")  # 1:1 around the cursor
        assert of._view.queries[0] < of.cursor[0] < of._view.queries[-1]
        assert f"q {of.cursor[0]} " in rows(of)[-1]


async def test_a_text_that_fits_is_whole_and_z_changes_nothing() -> None:
    async with pane() as (pilot, of):
        before = rows(of)
        assert "part" not in before[0]
        await pilot.press("z")
        assert rows(of) == before


# --- normalisation ---


async def test_y_changes_what_is_brightest_and_the_caption_names_it() -> None:
    async with pane() as (pilot, of):
        seen = []
        for name in ("0..1 sqrt", "row max=1 sqrt", "map max=1 sqrt", "0..1 sqrt"):
            assert name in rows(of)[0]
            seen.append(colours(of))
            await pilot.press("y")
        assert seen[0][4:] != seen[1][4:] != seen[2][4:]
        assert seen[0] == seen[3]


async def test_per_row_every_query_has_a_brightest_key_and_the_read_out_stays_a_probability() -> None:
    async with pane(depth="none", size=(76, 70)) as (pilot, of):
        p = value(of)
        picture = [row[5:] for row in rows(of)[3:-1]]
        assert not all("@" in row for row in picture)
        await pilot.press("y")
        of.screen.set_focus(None)  # the cursor would stand in the way
        await pilot.pause()
        picture = [row[5:] for row in rows(of)[3:-1]]
        assert len(picture) == len(TEXT)
        assert all("@" in row for row in picture)
        assert value(of) == p


# --- pin ---


async def test_a_pinned_map_stays_at_its_step_until_let_go() -> None:
    async with pane() as (pilot, of):
        await pilot.press("p")
        assert "pinned at step 1200" in rows(of)[0]
        pinned, before = of.shown, rows(of)
        of.update(frame_of(1300, TEXT))
        of.update(None, "no frame", past=True)
        newest = frame_of(1400, TEXT)
        of.update(newest)
        assert of.shown is pinned
        assert rows(of) == before
        await pilot.press("full_stop")
        assert "L0 H1 sink, pinned at step 1200" in rows(of)[0] or "layer 0 head 1 sink" in rows(of)[0]
        await pilot.press("p")
        assert of.shown is newest
        assert "pinned" not in rows(of)[0]
        assert "step 1400" in rows(of)[0]


async def test_to_look_at_another_text_lets_go_of_the_pin() -> None:
    async with pane() as (pilot, of):
        await pilot.press("p", "x", "X")
        await pilot.pause()
        assert not of.pinned
        assert pilot.app.wanted == [False, True]  # type: ignore[attr-defined]


# --- the cursor, the mouse, the room ---


async def test_the_cursor_follows_a_growing_text_unless_it_was_put_somewhere() -> None:
    async with pane(TEXT[:20]) as (pilot, of):
        assert of.position == 18
        of.update(frame_of(1200, TEXT[:30]))
        assert of.position == 28
        await pilot.press("up")
        of.update(frame_of(1200, TEXT[:40]))
        assert of.position == 27
        of.update(frame_of(1200, LONG[7:50]))
        assert of.position == 41


async def test_the_cursor_is_marked_as_soon_as_keys_would_move_it() -> None:
    async with pane(depth="none") as (pilot, of):
        assert of.has_focus
        assert rows(of)[-2].rstrip().endswith("X")
        of.screen.set_focus(None)
        await pilot.pause()
        assert "X" not in rows(of)[-2]


async def test_a_click_puts_the_cursor_and_chooses_a_head() -> None:
    async with pane() as (pilot, of):
        # Border and padding, then the margin; a row is two queries: the first of the tenth row is number 20.
        await pilot.click(AttentionPane, offset=(2 + 6 + 5, 1 + 3 + 10))
        assert of.cursor == (20, 5)
        await pilot.press("a")
        await pilot.click(AttentionPane, offset=(2 + 20, 1 + 1 + 12))
        assert of.choice.mode == "one"
        assert of.head != (0, 0)


@pytest.mark.parametrize("size", [(20, 8), (16, 5), (24, 12), (47, 29), (53, 18), (76, 38), (3, 3)])
@pytest.mark.parametrize("depth", ["256", "none"])
async def test_at_every_size_and_in_every_mode_no_line_is_too_long(size: tuple[int, int], depth: str) -> None:
    async with pane(LONG, size, depth) as (pilot, of):
        of.watching("validation 3")
        for keys in ([], ["z"], ["p", "y"], ["a"], ["a"], ["z"], ["up", "left", "end", "home"]):
            await pilot.press(*keys)
            assert len(of._rows) <= max(3, of.size.height)
            for row in of._rows[: of.size.height]:
                assert row.cell_length <= max(8, of.size.width)
            if size >= (20, 8):
                assert re.match(r"L\d H\d|layers? \d|all heads|mean", rows(of)[0])
        title = of.border_title
        assert title in ("2 attention", "2 attention: validation 3")
        assert len(str(title)) + 6 <= max(size[0], 17)


# --- captions and arithmetic ---


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90))
def test_a_caption_fits_and_cuts_no_word(columns: int) -> None:
    phrases = [Phrase(0, "layer 10 head 11 induction", "L10 H11"), Phrase(4, "rows cols"), Phrase(1, "step 1200")]
    text = "".join(part for part, _ in caption(phrases, columns))
    assert len(text) <= columns
    if columns >= 7:
        whole = " ".join([*(word for phrase in phrases for word in (phrase.text, phrase.short))])
        assert set(re.split("[ ,]+", text)) <= set(whole.split())


rooms = st.builds(Room, st.integers(1, 90), st.integers(1, 50), st.sampled_from([1, 2]))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 300), rooms, st.data())
def test_every_view_fits_its_room_and_holds_the_cursor(tokens: int, room: Room, data: st.DataObject) -> None:
    query = data.draw(st.integers(0, tokens - 1))
    cursor = query, data.draw(st.integers(0, query))
    whole = map_view.whole(tokens, room)
    corner = map_view.centred(cursor, tokens, room)
    for view in (whole, map_view.part(cursor, corner, tokens, room), map_view.part(cursor, (0, 0), tokens, room)):
        row, column = view.place(cursor)
        assert 0 <= row < len(view.queries) - 1
        assert 0 <= column < len(view.keys) - 1
        assert (len(view.keys) - 1) * view.scale_x <= room.columns
        assert (len(view.queries) - 1) * view.scale_y <= room.rows * room.per_cell
        assert (np.diff(view.queries) > 0).all()
        assert (np.diff(view.keys) > 0).all()
        at = view.at(row * view.scale_y, column * view.scale_x)
        assert at is not None
        assert view.place(at) == (row, column)
    assert whole.whole(tokens)
    assert whole.coarse() != map_view.fits(tokens, room)


# --- which text ---


def watching(answers: list[Generation]) -> tuple[Watching, list[str | None]]:
    watched: list[str | None] = []
    excerpt: Callable[[int], str | None] = lambda n: EXCERPTS[n - 1] if 0 < n <= len(EXCERPTS) else None  # noqa: E731
    session = SimpleNamespace(watch=watched.append, excerpt=excerpt)

    class Answers:
        @property
        def last(self) -> object:
            return SimpleNamespace(generation=answers[-1]) if answers else None

        @property
        def last_asked(self) -> object:
            asked = [answer for answer in answers if answer.prompt]
            return SimpleNamespace(generation=asked[-1]) if asked else None

    return Watching(session, Answers()), watched  # type: ignore[arg-type]


def test_excerpts_come_one_after_the_other_and_begin_again() -> None:
    of, watched = watching([])
    names = []
    for _ in range(3):
        of.next_excerpt()
        names.append(of.name)
    assert names == ["validation 1", "validation 2", "validation"]
    assert watched == [*EXCERPTS, None]


def test_without_prompts_there_is_only_the_validation_text() -> None:
    of, watched = watching([])
    of.next_kind()
    assert (of.name, watched) == ("validation", [None])


def test_the_last_answer_is_followed_as_it_is_written_and_so_is_the_next() -> None:
    first = Generation("To be", SampleConfig())
    answers = [first]
    of, watched = watching(answers)
    of.next_kind()
    assert (of.name, watched[-1]) == ("last prompt", "To be")
    first.put(0, ", or")
    of.refresh()
    assert watched[-1] == "To be"
    of.next_kind()
    assert (of.name, watched[-1]) == ("last answer", "To be, or")
    first.put(0, " not")
    of.refresh()
    of.refresh()
    assert watched[-2:] == ["To be, or", "To be, or not"]
    answers.append(Generation("Who", SampleConfig()))
    of.refresh()
    assert watched[-1] == "Who"
    of.next_kind()
    assert (of.name, watched[-1]) == ("validation", None)
    before = list(watched)
    of.refresh()
    assert watched == before


def test_a_typed_text_is_nobodys_excerpt() -> None:
    of, watched = watching([])
    of.own("Hello")
    assert (of.name, watched) == ("your text", ["Hello"])
    of.refresh()
    of.next_excerpt()
    assert (of.name, watched) == ("validation", ["Hello", None])
    of.own(None)
    assert of.name == "validation"
