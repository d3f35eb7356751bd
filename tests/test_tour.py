"""The guided tours: each chapter opens when its time has come in the run and not before; the reader keeps the keys."""

import math
import os
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from textual import events
from textual.pilot import Pilot

from minigpt_core.frame import HeadHistory
from minigpt_core.heads import SCORES
from minigpt_core.ladder import RUNGS
from minigpt_core.status import Event, Status
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.facts import SHARES, Facts, Head, Watcher, Wrote
from minigpt_tui.guide import Chapter, Guide, Lesson
from minigpt_tui.screens.main import PANES
from minigpt_tui.screens.tour import TourScreen
from minigpt_tui.tour import FIRST, HEADS, LESSONS
from minigpt_tui.widgets.lesson import chapter_text
from tests.scripted_session import LADDER, ScriptedSession, Terminal
from tests.terminal import Terminal as RealTerminal

CHAPTERS = [(lesson, chapter) for lesson in LESSONS.values() for chapter in lesson.chapters]
NAMES = [f"{lesson.name}-{n}" for lesson in LESSONS.values() for n, _ in enumerate(lesson.chapters)]
LEVELS = {rung.name: rung.loss for rung in LADDER.rungs}
V = 65
ESCAPE = "\x1b"


class TourSession(ScriptedSession):
    """Passes rungs and records frames when it is told to; the model writes `own`."""

    def __init__(self, step: int = 5, total: int = 2400, own: str = "e ta onih", **status: object) -> None:
        super().__init__(step, total, **status)
        self.text = own
        self.known = True
        """Whether the ladder is."""

    def passes(self, *rungs: str) -> None:
        for rung in rungs:
            self._events.append(Event(kind="rung", step=self.step, time=0.0, message="", data={"rung": rung}))

    def is_born(self, role: str) -> None:
        data = {"layer": 1, "head": 2, "role": role, "score": 0.7}
        self._events.append(Event(kind="birth", step=self.step, time=0.0, message="", data=data))

    def ladder(self):
        return super().ladder() if self.known else None

    def generate(self, prompt, config):
        if prompt:
            return super().generate(prompt, config)
        generation = super().generate("\0", config)  # streamed here rather than answered at once
        self.generations.remove(generation)
        self.own.append(generation)
        self.stream(generation, len(self.text), self.text)
        return generation


class Clock:
    """A clock that a test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def app_of(session: TourSession, lesson: Lesson = FIRST, clock: Clock | None = None, **terminal: object) -> MiniGPTApp:
    main = partial(TourScreen, lesson=lesson, vocab_size=V, clock=clock or Clock())
    return MiniGPTApp(session, Terminal(**terminal), main)  # type: ignore[arg-type]


def screen(app: MiniGPTApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def opened(app: MiniGPTApp) -> str:
    return app.main.guide.chapter.title


async def polled(pilot: Pilot[None]) -> str:
    pilot.app.main.poll()
    pilot.app.main.poll_lesson()
    await pilot.pause()
    return screen(pilot.app)


# --- the texts ---

UNKNOWN = Facts(status=Status(), vocab_size=V, rungs=LEVELS)
LATE = Facts(
    status=Status(
        step=123_456, total_steps=123_456, train_loss=1.234, val_loss=1.234, val_step=123_456, n_params=12_345_678
    ),
    vocab_size=999,
    rungs=LEVELS,
    passed=dict.fromkeys(RUNGS, 123_456),
    previous=Head(1, 3, 0.87),
    induction=Head(1, 3, 0.87),
    births={"previous": 123_456, "induction": 123_456},
    frames=12_345,
    first=Wrote(123_456, "x" * 500),
    last=Wrote(123_456, "x" * 500),
)
"""As long as values get."""


@pytest.mark.parametrize(("lesson", "chapter"), CHAPTERS, ids=NAMES)
def test_a_text_knows_its_facts_and_fits_its_panel(lesson: Lesson, chapter: Chapter) -> None:
    assert chapter.pane in PANES
    for facts in (UNKNOWN, LATE):
        for columns in (76, 110):
            values = facts.quotes(Wrote(123_456, "y" * 500), columns)
            assert "{" not in chapter.waiting.format_map(values)
            text = chapter_text(chapter.text, values)
            assert "{" not in text.plain
            assert "`" not in text.plain
            assert len(text.wrap(columns)) <= 6, chapter.title


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=list(LESSONS))
def test_a_lesson_takes_about_three_minutes_to_read(lesson: Lesson) -> None:
    assert 60 <= sum(chapter.seconds for chapter in lesson.chapters) <= 200
    for before, chapter in zip(lesson.chapters, lesson.chapters[1:], strict=False):
        assert chapter.waiting or chapter.holds(UNKNOWN), f"{before.title}: what is waited for?"


def test_the_commands_that_texts_name_exist() -> None:
    text = "\n".join(chapter.text for _, chapter in CHAPTERS)
    commands = {command.split()[1] for command in re.findall(r"`(minigpt-tui [^`]*)`", text)}
    helped = subprocess.run(
        [sys.executable, "-m", "minigpt_tui.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert commands
    for command in commands:
        assert re.search(rf"│ {command} ", helped), command


# --- whose time has come ---


def test_facts_are_what_the_run_says() -> None:
    session = TourSession(step=800)
    watcher = Watcher(session, V)
    session.passes("uniform", "unigram")
    session.is_born("induction")
    facts = watcher.facts()
    assert facts.passed == {"uniform": 800, "unigram": 800}
    assert facts.births == {"induction": 800}
    assert facts.exact
    assert facts.level("unigram") == "3.35"
    scores = session.head_history().scores[-1][SCORES.index("previous")]
    assert facts.previous is not None
    assert facts.previous.score == scores.max() == scores[facts.previous.layer, facts.previous.head]
    assert facts.frames == 8


def test_without_a_ladder_estimates_are_compared_and_called_so() -> None:
    session = TourSession(step=1)
    session.known = False
    watcher = Watcher(session, V)
    session.overrides = {"smoothed_loss": math.log(V)}
    facts = watcher.facts()
    assert not facts.passed
    assert facts.level("uniform") == "4.17"
    assert facts.level("unigram").startswith("about ")
    session.overrides = {"smoothed_loss": SHARES["bigram"] * math.log(V) - 0.01}
    assert set(watcher.facts().passed) == {"uniform", "unigram", "bigram"}


def test_a_head_without_numbers_is_none() -> None:
    session = TourSession(step=800)
    scores = np.full((1, 4, 2, 2), np.nan, np.float32)
    session.head_history = lambda: HeadHistory(np.array([3]), scores)  # type: ignore[method-assign]
    assert Watcher(session, V).facts().previous == Head(0, 0, 0.0)
    session.head_history = lambda: None  # type: ignore[method-assign]
    assert Watcher(session, V).facts().previous is None


@pytest.mark.parametrize("role", ["previous", "induction"])
def test_the_heads_lesson_waits_for_its_heads(role: str) -> None:
    named = [chapter for chapter in HEADS.chapters if f"{{{role}_born}}" in chapter.text]
    assert named
    for chapter in named:
        assert not chapter.holds(UNKNOWN)
        assert not chapter.holds(Facts(Status(), V, LEVELS, **{role: Head(0, 0, 0.49)}))  # type: ignore[arg-type]
        assert chapter.holds(Facts(Status(), V, LEVELS, **{role: Head(0, 0, 0.5)}))  # type: ignore[arg-type]
        assert chapter.holds(Facts(Status(), V, LEVELS, births={role: 3}))


def pages(*holds: bool) -> list[Chapter]:
    return [
        Chapter(str(n), "word " * 40, "loss", lambda facts, held=held: held or facts.frames > 9)
        for n, held in enumerate(holds)
    ]


def test_a_page_turns_when_it_has_been_read_and_the_next_ones_time_has_come() -> None:
    guide = Guide(pages(True, True, False), now=100.0)
    assert guide.update(UNKNOWN) == [0, 1]
    assert not guide.turn(109.9)  # 40 words are 10 seconds
    assert guide.turn(110.0)
    assert not guide.turn(1000.0)  # its time has not come
    assert not guide.forward(1000.0)
    assert guide.update(LATE) == [2]
    assert guide.turn(1000.0)
    assert guide.index == 2
    assert not guide.ready
    assert not guide.turn(2000.0)


def test_going_back_turns_no_pages_by_itself() -> None:
    guide = Guide(pages(True, True, True))
    guide.update(UNKNOWN)
    assert guide.forward(0.0)
    assert guide.back(0.0)
    assert not guide.back(0.0)
    assert not guide.turn(1000.0)
    assert guide.forward(1000.0)
    assert not guide.turn(1009.0)  # read anew
    assert guide.turn(1010.0)


def test_what_has_held_once_stays_and_what_never_came_is_said() -> None:
    guide = Guide(pages(True, False, False))
    guide.update(LATE)
    guide.update(UNKNOWN)
    assert guide.forward(0.0)
    guide = Guide(pages(True, False))
    guide.update(UNKNOWN)
    assert not guide.forward(0.0)
    guide.update(Facts(Status(phase="done"), V, LEVELS))
    assert not guide.missed
    assert guide.forward(0.0)
    assert guide.missed


# --- on the screen ---


async def test_chapters_come_with_the_run_and_not_before() -> None:
    session, clock = TourSession(), Clock()
    app = app_of(session, clock=clock)
    async with app.run_test(size=(80, 24)) as pilot:
        shown = await polled(pilot)
        assert "tour 1/10 · A model that guesses" in shown
        assert "ln 65 = 4.17" in shown
        assert "waiting for a loss below 3.35" in shown
        clock.now += 1000
        await polled(pilot)
        await pilot.press("enter")
        assert opened(app) == "A model that guesses"
        session.passes("unigram")
        shown = await polled(pilot)  # long read: it turns by itself
        assert "tour 2/10 · Which letters are common" in shown
        assert "At step 5 the loss fell below 3.35" in shown
        assert "e ta onih" in shown
        session.advance(300)
        session.passes("bigram")
        clock.now += 1
        shown = await polled(pilot)
        assert opened(app) == "Which letters are common"  # not read yet
        assert "Enter next: Which letter follows which" in shown
        await pilot.press("enter")
        assert "At step 305 it fell below 2.48" in await polled(pilot)
        await pilot.press("full_stop")
        assert "layer 0 head 0, looks there most" in await polled(pilot)
        assert not app.main.guide.ready
        assert "waiting for a loss below 2.05" in screen(app)


async def test_each_chapter_shows_the_pane_it_speaks_of() -> None:
    session = TourSession(step=1234)
    session.passes(*RUNGS)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        for chapter in FIRST.chapters:
            await polled(pilot)
            assert opened(app) == chapter.title
            assert app.main.query_one(f"#{chapter.pane}").display
            assert app.main.query_one(f"#{chapter.pane}").region.height >= 5
            assert app.focused is app.main.lesson
            await pilot.press("enter")
        assert "the lesson ends here" in await polled(pilot)


async def test_what_it_wrote_then_stays_beside_what_it_writes_now() -> None:
    session = TourSession(step=1)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await polled(pilot)
        session.advance(60)
        session.text = "noise"
        session.passes("unigram")
        await polled(pilot)
        session.advance(1000)
        session.text = "the words"
        session.passes("bigram", "3-gram")
        await polled(pilot)
        await polled(pilot)
        await pilot.press("enter")
        assert "At step 61 it" in await polled(pilot)
        assert "noise" in app.main.lesson._text.visual.plain
        await pilot.press("enter", "enter", "enter")
        shown = await polled(pilot)
        assert "then, step 1: e ta onih" in shown
        assert "now, step 1,061: the words" in shown


async def test_back_close_and_open_again() -> None:
    session = TourSession(step=1234)
    session.passes(*RUNGS)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await polled(pilot)
        await pilot.press("enter", "enter", "backspace")
        assert opened(app) == "Which letters are common"
        await pilot.press("escape")
        shown = await polled(pilot)
        assert "tour" not in shown
        assert "L brings it back" in shown
        assert "stats" in shown  # the app as it is without a lesson
        assert app.focused is not None
        assert app.focused.id == "samples"
        await pilot.press("enter", "backspace")
        await pilot.press("L")
        assert "tour 2/10" in await polled(pilot)
        assert app.focused is app.main.lesson
        await pilot.press("backspace", "backspace", "backspace")
        assert opened(app) == "A model that guesses"
        assert "bksp back" not in await polled(pilot)


async def test_no_page_turns_while_the_reader_is_elsewhere() -> None:
    session, clock = TourSession(step=1234), Clock()
    session.passes(*RUNGS)
    app = app_of(session, clock=clock)
    async with app.run_test(size=(80, 24)) as pilot:
        for away, back in ((["i", *"Hi"], "escape"), (["2"], "L"), (["g"], "escape"), (["t"], "escape")):
            before = opened(app)
            await pilot.press(*away)
            clock.now += 1000
            await polled(pilot)
            assert opened(app) == before
            await pilot.press(back)
            await pilot.pause()
            assert app.focused is app.main.lesson, away
            clock.now += 1000
            await polled(pilot)
            assert opened(app) != before


async def test_keys_in_one_burst_are_still_a_prompt() -> None:
    session = TourSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await polled(pilot)
        for key in ("i", "q", "full_stop", "L", "enter"):
            app.post_message(events.Key(key, {"full_stop": "."}.get(key, key if len(key) == 1 else None)))
        await pilot.pause(0.2)
        assert [generation.prompt for generation in session.generations] == ["q.L"]
        assert opened(app) == "A model that guesses"


async def test_nothing_is_written_by_itself_while_somebody_talks() -> None:
    session = TourSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await polled(pilot)
        await pilot.press("i", *"Hello", "enter")
        own = len(session.own)
        session.passes("unigram")
        await polled(pilot)
        assert len(session.own) == own


async def test_a_run_that_ends_early_says_what_it_did_not_reach() -> None:
    session = TourSession(step=40, total=40)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await polled(pilot)
        await pilot.press("enter")
        shown = await polled(pilot)
        assert "Not in this run, which ended at step 40" in shown
        for _ in FIRST.chapters:
            await pilot.press("enter")
        await polled(pilot)
        assert opened(app) == "What next"


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=list(LESSONS))
@pytest.mark.parametrize("size", [(200, 50), (120, 35), (80, 24), (60, 16), (40, 12), (20, 5), (3, 2)])
async def test_every_size_can_be_read_to_the_end(lesson: Lesson, size: tuple[int, int]) -> None:
    session = TourSession(step=1234)
    session.passes(*RUNGS)
    session.is_born("previous")
    session.is_born("induction")
    app = app_of(session, lesson)
    async with app.run_test(size=size) as pilot:
        for n in range(len(lesson.chapters)):
            shown = await polled(pilot)
            panel = app.main.lesson
            assert app.focused is panel
            if size[0] >= 20:
                assert panel.region.height
                assert panel.region in app.screen.region
            if size[0] >= 80:
                assert f"tour {n + 1}/" in shown
                assert panel.max_scroll_y == 0  # all of it is in view
                assert app.main.query_one(f"#{lesson.chapters[n].pane}").region.height >= 5
            await pilot.press("enter")
        assert len(screen(app).splitlines()) == size[1]


async def test_a_small_terminal_swaps_the_lesson_for_panes() -> None:
    session = TourSession(step=1234)
    session.passes(*RUNGS)
    app = app_of(session)
    async with app.run_test(size=(40, 12)) as pilot:
        await polled(pilot)
        assert "A language model reads" in screen(app)
        top = app.main.lesson.max_scroll_y
        assert top > 0
        await pilot.press(*["down"] * top)
        assert "it falls: now" in await polled(pilot)
        await pilot.press("2")
        shown = await polled(pilot)
        assert "2 attention" in shown
        assert "A language model" not in shown
        await pilot.press("L")
        assert "it falls: now" in await polled(pilot)  # where one had read to
        await pilot.press("i", *"Hey", "enter")
        assert [generation.prompt for generation in session.generations] == ["Hey"]
        await pilot.press("escape", "escape", "L", "f")
        assert not app.main.lesson.display
        assert app.focused is not None
        assert app.focused.display
        await pilot.press("f")
        assert app.focused is app.main.lesson
        assert app.main.lesson.display


async def test_resizes_keep_the_lesson_and_its_focus() -> None:
    session = TourSession(step=1234)
    session.passes(*RUNGS)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await polled(pilot)
        for size in ((40, 12), (200, 50), (20, 5), (120, 35), (60, 16), (80, 24)):
            await pilot.resize_terminal(*size)
            shown = await polled(pilot)
            assert app.focused is app.main.lesson
        assert "tour 1/10" in shown
        assert "1 loss" in shown


HOSTILE = "\x1b]52;c;aGk=\x07\x1b[2J[/x] {V} {0} `q` \u202eabc\nnext\x9b31m"


async def test_hostile_text_is_only_text() -> None:
    session = TourSession(step=1234, own=HOSTILE, name=HOSTILE)
    session.passes(*RUNGS)
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        for _ in FIRST.chapters:
            shown = await polled(pilot)
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
            if opened(app) == "Words":
                assert "[/x] {V} {0} `q`" in shown.split("now, step")[1]
            await pilot.press("enter")


@pytest.mark.parametrize("terminal", [{"ascii": True}, {"color": "none"}, {"color": "16"}])
async def test_every_look_draws_it(terminal: dict[str, object]) -> None:
    session = TourSession(step=1234)
    app = app_of(session, **terminal)
    async with app.run_test(size=(80, 24)) as pilot:
        assert "A model that guesses" in await polled(pilot)


# --- the command ---


def tour(folder: os.PathLike[str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minigpt_tui.cli", "tour", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["haeds"], 2, "unknown lesson 'haeds'; did you mean 'heads'? known: first, heads"),
        ([], 1, "a tour needs a terminal, but standard input is not a terminal; use: minigpt-tui train"),
        (["--color", "pink"], 2, "unknown colour depth 'pink'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: os.PathLike[str], words: list[str], code: int, said: str) -> None:
    result = tour(tmp_path, *words)
    assert result.returncode == code
    assert re.fullmatch(rf"minigpt-tui: {re.escape(said)}[^\n]*\n", result.stderr)
    assert not list(os.scandir(tmp_path))


@pytest.mark.parametrize(("lesson", "title"), [("first", "A model that guesses"), ("heads", "A text that repeats")])
def test_a_tour_in_a_real_terminal(tmp_path: os.PathLike[str], lesson: str, title: str) -> None:
    """Trains for real, for a few steps, and can be read to its end, left and found again."""
    program = [sys.executable, "-c", "from minigpt_tui.cli import main; main()"]
    command = [*program, "tour", lesson, "--steps", "12", "--name", "lesson"]
    env = {"OMP_NUM_THREADS": "1"}
    with RealTerminal(command, env=env, cwd=tmp_path) as terminal:
        terminal.wait_for(title)
        terminal.wait(lambda: "✓ done" in terminal.line(0), 120)
        for _ in LESSONS[lesson].chapters:
            terminal.send("\r")
            terminal.pump(0.1)
        terminal.wait_for("What next")
        terminal.send("\x7f")
        terminal.wait_for(f"tour {len(LESSONS[lesson].chapters) - 1}/")
        terminal.send(ESCAPE)
        terminal.wait_for("L brings it back")
        terminal.send("q")
        assert terminal.wait_exit() == 0
    run = os.path.join(tmp_path, "runs", "lesson")
    assert os.path.isfile(os.path.join(run, "model_checkpoint.pt"))
