"""The transcript: how answers wrap, are stamped, stand side by side, are selected, tinted and looked into."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.geometry import Region
from textual.pilot import Pilot

from minigpt_core.config import SampleConfig
from minigpt_core.generation import Generation
from minigpt_core.status import Choice, Event, Stamp
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.safetext import safe
from minigpt_tui.screens import talk
from minigpt_tui.widgets import tint, transcript
from minigpt_tui.widgets.answer import Answer, Sample
from minigpt_tui.widgets.columns import AnswerBlock, Look
from minigpt_tui.widgets.feed import MAX_LINES
from minigpt_tui.widgets.flow import Flow
from minigpt_tui.widgets.past import past_answers
from minigpt_tui.widgets.transcript import UNKNOWN_TOKENS, Transcript
from tests.scripted_session import ScriptedSession, Terminal

CHARACTERS = st.one_of(st.sampled_from("ab \n\r\t\u0301\ufe0f\u200d漢❤1\x1b["), st.characters())
TEXTS = st.lists(st.text(CHARACTERS, max_size=12), max_size=12)
WORDS = "to be, or not to be:\nthat is the question\n"


def stamped(
    prompt: str = "To be",
    texts: tuple[str, ...] = (WORDS,),
    step: int = 1000,
    known: bool = True,
    done: bool = True,
    **settings: object,
) -> Generation:
    """An answer of one-letter tokens, whose probabilities fall from 1 to .1 and begin anew."""
    generation = Generation(prompt, SampleConfig(**settings))  # type: ignore[arg-type]
    generation.stamp = Stamp(step=step, val_loss=1.98, val_step=step // 250 * 250, seed=7)
    for number, text in enumerate(texts):
        put(generation, text, number, known)
    if done:
        generation.finish("length")
    return generation


def put(generation: Generation, text: str, sample: int = 0, known: bool = True) -> None:
    for n, letter in enumerate(text):
        p = 1 - n % 10 / 10
        choice = Choice(letter, p, ((letter, p), ("\n", 0.05), ("[/]", 0.001)))
        generation.put(sample, letter, choice if known else None)


def laid_out(answer: Answer, columns: int, old: Answer | None = None, tinted: bool = False) -> AnswerBlock:
    for each in (old, answer):
        if each is not None:
            each.take()
    block = AnswerBlock(answer, Look(tinted), old)
    block.lay_out(columns)
    return block


def lines(block: AnswerBlock) -> list[str]:
    return [block.line(n).text for n in range(block.height)]


# --- wrapping ---


@given(TEXTS, st.integers(1, 30))
def test_pieces_wrap_as_their_whole_and_lose_nothing(pieces: list[str], columns: int) -> None:
    flow: Flow[int] = Flow(columns)
    for n, piece in enumerate(pieces):
        flow.append(piece, n)
    flow.end()
    wrapped = ["".join(text for text, _ in line) for line in flow.lines]
    if columns > 2:  # one cell of text cannot hold a wide character
        assert "".join(wrapped) == safe("".join(pieces))
    assert all(line.endswith("\n") or "\n" not in line for line in wrapped)
    assert all(cell_len(line.removesuffix("\n")) <= columns for line in wrapped) or columns == 1
    whole: Flow[int] = Flow(columns)
    whole.append("".join(pieces), 0)
    whole.end()
    assert ["".join(text for text, _ in line) for line in whole.lines] == wrapped


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=30), st.integers(10, 40))
def test_lines_break_between_words_and_are_as_full_as_they_can_be(words: list[str], columns: int) -> None:
    flow: Flow[int] = Flow(columns)
    flow.append(" ".join(words), 0)
    wrapped = ["".join(text for text, _ in line) for line in flow.lines]
    assert [word for line in wrapped for word in line.split()] == words
    for line, following in pairwise(wrapped):
        assert len(line.rstrip()) <= columns - 1 < len(line) + len(following.split()[0])


@given(TEXTS, st.integers(1, 70), st.integers(1, 4), st.booleans())
def test_no_line_of_a_block_is_wider_than_the_pane(texts: list[str], columns: int, samples: int, both: bool) -> None:
    generation = Generation("漢字\t[b]\x1b]0;x\x07\n", SampleConfig(num_samples=samples, stop=("\n[/x]",)))
    generation.warnings = ("w\x1b[31m" * 9,)
    generation.stamp = Stamp(step=10**9, val_loss=float("nan"), val_step=3)
    for n, text in enumerate(texts):
        generation.put(n % samples, text, Choice(text, 0.5, ()))
    generation.finish("failed", "e[/x]" * 30)
    old = Answer(stamped(num_samples=samples)) if both else None
    block = laid_out(Answer(generation), columns, old, tinted=True)
    for n in range(block.height):
        row = block.line(n)
        assert row.cell_length <= columns or columns == 1
        assert "\x1b" not in row.text
        assert "\n" not in row.text


def test_a_long_answer_grows_at_the_cost_of_what_is_new() -> None:
    """Work is counted in letters laid out, not in seconds."""
    written: list[int] = []

    class Counting(Flow[int]):
        def append(self, text: str, key: int) -> None:
            written.append(len(text))
            super().append(text, key)

    answer = Answer(stamped("", ("word " * 2000,), done=False))
    block = laid_out(answer, 60)
    block.columns[0].flow.__class__ = Counting
    put(answer.generation, "new")
    answer.take()
    before = [id(line) for line in block.columns[0].flow.lines]
    block.lay_out(60)
    assert sum(written) == 3
    assert [id(line) for line in block.columns[0].flow.lines][: len(before) - 1] == before[:-1]


@given(st.lists(st.lists(st.text("ab \n", max_size=9), min_size=3, max_size=3), max_size=8), st.integers(20, 100))
def test_lines_looked_at_while_it_grows_are_those_of_the_whole(rounds: list[list[str]], columns: int) -> None:
    growing = Answer(stamped(texts=(), num_samples=3, done=False))
    block = laid_out(growing, columns)
    for texts in rounds:
        for n, text in enumerate(texts):
            put(growing.generation, text, n, known=False)
        growing.take()
        block.lay_out(columns)
        lines(block)
    whole = stamped(texts=tuple("".join(texts) for texts in zip(*rounds, strict=True)), num_samples=3, done=False)
    assert lines(block) == lines(laid_out(Answer(whole), columns))


def test_the_stop_text_is_no_tokens_text() -> None:
    sample = Sample()
    for piece, text in (("a", "a"), ("", "\n"), ("\nb", "b"), ("", "\n"), ("", "\n")):
        generation = Generation("", SampleConfig())
        generation.put(0, piece, Choice(text, 0.5, ()))
        sample.take(generation.take()[0])
    assert sample.text == "a\nb"
    assert sample.pieces == [("a", 0), ("\n", 1), ("b", 2)]
    assert sample.tokens == [0, 1, 2]


# --- stamps and columns ---


def test_a_stamp_names_what_is_not_the_default_and_drops_whole_parts() -> None:
    answer = Answer(stamped(top_k=40, temperature=0.5, max_new_tokens=90), asked=False)
    whole = "step 1,000 · val 1.98 @1,000 · seed 7 · T 0.5 · top-k 40 · 90 tokens · by itself"
    assert answer.stamp(200) == whole
    for columns in range(11, 90):
        parts = answer.stamp(columns).split(" · ")
        assert set(parts) <= set(whole.split(" · "))
        assert parts[0] == "step 1,000"
        assert cell_len(" · ".join(parts)) <= columns
    assert answer.stamp(33) == "step 1,000 · seed 7 · T 0.5"


@pytest.mark.parametrize(("columns", "beside"), [(90, 3), (80, 2), (50, 1), (26, 1)])
def test_temperatures_stand_side_by_side_where_there_is_room(columns: int, beside: int) -> None:
    block = laid_out(Answer(stamped(texts=("cold", "mild", "hot"), temperatures=(0.2, 0.8, 1.5))), columns)
    text = lines(block)
    assert "T 0.2 0.8 1.5" in text[0] or columns < 40
    assert text[1] == "To be"
    labels = [line.split("T ")[1:] for line in text[1:] if "T " in line]
    assert len(labels[0]) == beside
    assert [float(label.strip(" │")) for row in labels for label in row] == [0.2, 0.8, 1.5]
    assert "cold" in text[3]
    assert ("mild" in text[3]) == (beside > 1)


@pytest.mark.parametrize("columns", [70, 50])
def test_two_answers_stand_together_each_under_its_stamp(columns: int) -> None:
    old = Answer(stamped(texts=("then",), known=False))
    new = Answer(stamped(texts=("n",), step=2000, done=False))
    block = laid_out(new, columns, old)
    put(new.generation, "ow")
    new.take()
    block.lay_out(columns)
    text = lines(block)
    assert text[0].startswith("● then and now · seed 7 · T 0.8")
    assert sum("To be" in line for line in text) == 1
    at = {word: next(n for n, line in enumerate(text) if word in line) for word in ("step 1,000", "step 2,000")}
    assert "then" in text[at["step 1,000"] + 1]
    assert "now" in text[at["step 2,000"] + 1]
    assert (at["step 1,000"] == at["step 2,000"]) == (columns == 70)


def test_several_samples_of_two_answers_stand_in_pairs() -> None:
    old, new = (Answer(stamped(texts=(f"a{n}", f"b{n}", f"c{n}"), num_samples=3, step=n)) for n in (1, 2))
    text = lines(laid_out(new, 100, old))
    for letter in "abc":
        assert any(f"{letter}1" in line and f"{letter}2" in line for line in text)


# --- tint ---


def test_colours_follow_the_probability_and_stand_apart_without_colours() -> None:
    for mono in (False, True):
        styles = [tint.style(p, mono) for p in (1.0, 0.7, 0.69, 0.3, 0.1, 0.09, 0.0)]
        assert styles[0] == styles[1]
        assert styles[2] == styles[3]
        assert len(set(styles)) == 4
    assert len({(s.bold, s.dim, s.underline) for s in tint.MONO}) == 4
    block = laid_out(Answer(stamped("", ("abcdefghij",))), 60, tinted=True)
    shown = [(s.text, s.style and s.style.color and s.style.color.name) for s in block.line(1)]
    assert shown == list(zip(("abcd", "efgh", "i", "j"), tint.COLOURS, strict=True))


def test_the_read_out_is_one_safe_line_of_whole_parts() -> None:
    choice = Choice("e", 0.83, (("e", 0.83), ("\n", 0.08), (" ", 0.004), ("\x1b[31m[/b]", 0.00001)))
    assert tint.read_out(choice, 80).plain == "'e' p=.83 · ⏎ .08 · ␣ .004 · ␛[31m[/b] <.001"
    assert tint.read_out(choice, 20).plain == "'e' p=.83 · ⏎ .08"
    for columns in range(80):
        assert tint.read_out(choice, columns).cell_len <= columns
    assert cell_len(tint.read_out(Choice("x" * 99, 1.0, ()), 80).plain) < 30


# --- in the app ---


def app_of(session: ScriptedSession | None = None, **terminal: object) -> MiniGPTApp:
    return MiniGPTApp(session or ScriptedSession(step=5000, trains=False), Terminal(**terminal))  # type: ignore[arg-type]


def screen(app: MiniGPTApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> list[list[Generation]]:
    """Answers that were saved, those of a file together; nothing is written."""
    saved: list[list[Generation]] = []

    def keep(generations: list[Generation], place: Path, name: str) -> Path:
        saved.append(generations)
        return place

    monkeypatch.setattr(talk, "keep", keep)
    return saved


async def filled(pilot: Pilot[None], *generations: Generation) -> Transcript:
    app = pilot.app
    assert isinstance(app, MiniGPTApp)
    pane = app.main.transcript
    for generation in generations:
        pane.follow(generation)
    pane.poll(ready=True)
    await pilot.press("3")
    await pilot.pause()
    return pane


async def test_up_and_down_select_and_end_follows_again() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, *(stamped(f"prompt {n} ", step=n) for n in range(9)))
        assert pane.selected is None
        assert "▸ step 8" in screen(app)
        await pilot.press(*["up"] * 8)
        assert pane.selected is pane._answers[0]
        assert "▸ step 0" in screen(app)
        assert screen(app).count("▸") == 1
        pane.follow(stamped("by itself ", step=77), asked=False)  # what nobody asked for disturbs nobody
        pane.poll(ready=True)
        await pilot.pause()
        assert "▸ step 0" in screen(app)
        await pilot.press("down")
        assert pane.selected is pane._answers[1]
        await pilot.press("end")
        await pilot.pause()
        assert pane.selected is None
        assert "▸ step 77" in screen(app)
        await pilot.press("up", "down")
        assert pane.selected is None
        await pilot.press("up", "tab")
        await pilot.pause()
        assert "▸ step 8" in screen(app)  # what somebody has chosen keeps its mark
        pane.follow(stamped("asked ", step=99))  # what somebody asked for is in view
        pane.poll(ready=True)
        await pilot.pause()
        assert pane.selected is None
        assert "step 99" in screen(app)


async def test_a_click_selects_an_answer_and_its_token() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, stamped("one ", ("abc",)), stamped("two ", ("def",)))
        await pilot.click("#samples", offset=(2 + 5, 2))
        await pilot.pause()
        assert pane.selected is pane._answers[0]
        assert "'b' p=.90 · ⏎ .05 · '[/]' .001" in screen(app)
        await pilot.click("#samples", offset=(3, 4))
        assert pane.selected is pane._answers[1]
        assert "p=" not in screen(app).splitlines()[-5]


async def test_the_token_cursor_goes_from_token_to_token_and_says_what_else_it_could_be() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, stamped("", ("ab\nc",)))
        await pilot.press("right")
        assert "'a' p=1.00 · ⏎ .05" in screen(app)
        await pilot.press("right", "right")
        await pilot.pause()
        assert "⏎ p=.80 · '[/]' .001" in screen(app)
        assert "ab⏎" in screen(app)
        await pilot.press(*["right"] * 5)
        block = pane._newest
        assert block is not None
        assert block.cursor == (0, 3)
        reversed_ = [s.text for n in range(block.height) for s in block.line(n) if s.style and s.style.reverse]
        assert reversed_ == ["c"]
        await pilot.press("up")
        assert block.cursor is None


async def test_the_cursor_scrolls_a_long_answer_and_crosses_its_columns() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, stamped("", ("x\n" * 60, "y\n" * 5), num_samples=2))
        await pilot.press("f", "up", "left")
        block = pane._newest
        assert block is not None
        assert block.cursor == (1, 9)
        await pilot.press(*["left"] * 10)
        assert block.cursor == (0, 119)
        await pilot.pause()
        assert pane.scroll_offset.y + pane.size.height > block.line_of((0, 119)) >= pane.scroll_offset.y


async def test_the_stamp_of_a_tall_answer_stays_in_the_first_row_and_hides_no_line_from_a_reader() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        generation = stamped("", ("".join(f"line {n}\n" for n in range(60)),), done=False)
        pane = await filled(pilot, stamped("short ", step=1), generation)
        top = pane.region.y + 1
        assert "● step 1,000" in screen(app).splitlines()[top]  # while it streams, with its end in view
        put(generation, "the end")
        generation.finish("length")
        pane.poll(ready=True)
        await pilot.pause()
        assert "▸ step 1,000" in screen(app).splitlines()[top]
        assert "the end" in screen(app)
        seen: set[str] = set()
        for _ in range(9):
            seen |= {line.strip("│ ┃▌▐▎█▁▂▃▄▅▆▇").split("  ")[0] for line in screen(app).splitlines()}
            await pilot.press("pageup")
            await pilot.pause()
        assert {f"line {n}" for n in range(60)} <= seen
        await pilot.press("end", "left")
        await pilot.pause()
        await pilot.click("#samples", offset=(3, 1))  # the stamp, not the token below it
        assert pane.selected is pane._answers[1]
        assert "p=" not in screen(app)


async def test_remembered_answers_have_no_tokens_to_look_at() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, stamped(known=False))
        await pilot.press("p", "right")
        assert UNKNOWN_TOKENS[:30] in screen(app)
        block = pane._newest
        assert block is not None
        assert {s.style.color.name for s in block.line(2) if s.style and s.style.color} == {tint.COLOURS[0]}
        await pilot.press("up")
        assert "p ≥.7 ≥.3 ≥.1 <.1" in screen(app)


async def test_versus_and_save_name_the_selected_answer_and_two_together(kept: list[list[Generation]]) -> None:
    session = ScriptedSession(step=5000, trains=False)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, stamped("old"), stamped("new"))
        await pilot.press("up", "S", "v")
        await pilot.pause()
        assert [generation.prompt for generation in session.generations] == ["old"]
        block = pane._newest
        assert block is not None
        assert block.old is pane._answers[0]
        await pilot.press("S")
        await pilot.pause(0.1)
        old = pane._answers[0].generation
        assert kept == [[old], [old, session.generations[0]]]


async def test_versus_streams_beside_the_old_answer() -> None:
    session = ScriptedSession(step=5000, trains=False)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, stamped("old ", ("answer",)))
        await pilot.press("f", "v")
        await pilot.pause()
        [generation] = session.generations
        assert (generation.prompt, generation.config.seed) == ("old ", 7)
        assert "then and now" in screen(app)
        session.stream(generation, 10)
        app.main.poll()
        await pilot.pause()
        line = next(line for line in screen(app).splitlines() if "the people" in line)
        assert "answer" in line
        assert [answer.generation for answer in pane._answers][-1] is generation
        session.stream(generation, 1000)
        app.main.poll()
        assert pane.active == []


async def test_while_an_answer_grows_only_its_last_rows_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        generation = stamped("", ("word " * 25,), done=False)
        pane = await filled(pilot, generation)
        painted: list[Region] = []
        monkeypatch.setattr(pane, "refresh", lambda *regions, **how: painted.extend(regions or [pane.region]))
        put(generation, "x")
        pane.poll(ready=True)
        assert [region.height for region in painted] == [1]
        painted.clear()
        pane.poll(ready=True)
        assert painted == []


async def test_the_pane_stays_bounded_and_so_do_its_answers() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await filled(pilot, *(stamped(step=n) for n in range(transcript.MAX_ANSWERS + 5)))
        assert len(pane._answers) == transcript.MAX_ANSWERS
        assert pane._answers[0].generation.stamp == Stamp(step=5, val_loss=1.98, val_step=0, seed=7)
        await pilot.press("up", "home")
        pane.follow(stamped("", ("y\n" * (MAX_LINES + 10),)))
        pane.poll(ready=True)
        await pilot.pause()
        assert len(pane._answers) == 1
        assert pane.selected is None
        await pilot.press("up", "left", "right", "pageup", "v")  # nothing refers to what was let go


@pytest.mark.parametrize("size", [(3, 2), (40, 10), (200, 50)])
async def test_every_key_at_every_size(size: tuple[int, int]) -> None:
    app = app_of()
    async with app.run_test(size=size) as pilot:
        pane = await filled(
            pilot,
            stamped("漢字\t", ("a\u0301\u0301\u0301\u0301\x1b[2J漢" * 20,)),
            stamped(texts=("one", "", "three"), temperatures=(0.1, 1.0, 2.0)),
        )
        await pilot.press("p", "up", *["right"] * 4, "left", "p", "pagedown", "pageup", "home", "end", "v", "S", "down")
        for other in ((80, 24), size):
            await pilot.resize_terminal(*other)
            await pilot.pause()
        assert pane.virtual_size.width <= size[0]
        assert "\x1b" not in screen(app)


# --- the past ---


def remembered(**data: object) -> Event:
    values = {"prompt": "To be", "settings": {}, "finish_reason": "length", "seed": 7}
    return Event(kind="sample", step=300, time=time.time(), message="sampled", data=values | data)


def test_all_texts_of_a_remembered_answer_come_back() -> None:
    heats = {"temperatures": [0.5, 1.0]}
    [several, one, shown] = past_answers(
        [
            remembered(answers=["cold", "hot"], settings=heats),
            remembered(answer="hot", sample=1, settings=heats),
            remembered(answer="x", shown="ROMEO: hi", settings={"num_samples": 4}),
        ]
    )
    assert [several.text(n) for n in (0, 1)] == ["cold", "hot"]
    assert several.config.rows == (0.5, 1.0)
    assert one.config.rows == (1.0,)
    assert (shown.shown, shown.config.rows) == ("ROMEO: hi", (0.8,))


@pytest.mark.parametrize("data", [{"answers": "text"}, {"answers": [1]}, {"answer": "x", "sample": "no"}])
def test_what_cannot_be_understood_is_skipped(data: dict[str, object]) -> None:
    assert past_answers([remembered(**data)]) == []
