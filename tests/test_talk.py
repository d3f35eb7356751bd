"""Talking to the model: settings in the title, history across runs, chat, commands, keeping answers."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual import events
from textual.content import Content

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.generation import Generation
from minigpt_core.status import Choice, Command, Note, Pause, Save, ScaleLearningRate, SetEvalEvery, Stamp
from minigpt_tui import prompt_history
from minigpt_tui.keep import keep
from minigpt_tui.prompt_history import PromptHistory
from minigpt_tui.screens import talk
from minigpt_tui.widgets.transcript import Transcript
from tests.scripted_session import ANSWER, ScriptedSession
from tests.test_app import app_of, refreshed, rows, screen


def title(app) -> str:
    return Content.from_markup(app.main.prompt.border_title).plain


async def send(pilot, *texts: str) -> None:
    """Each as if it had been typed at the prompt."""
    for text in texts:
        pilot.app.main.action_prompt()
        pilot.app.main.prompt.begin(text)
        await pilot.press("enter")


# --- commands ---


async def test_commands_of_the_prompt_steer_the_run() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i")
        for text in ("/pause", "/lr 0.5", "/eval 100", "/note lr halved here", "/eval often"):
            await send(pilot, text)
        await pilot.pause()
        assert session.commands == [Pause(), ScaleLearningRate(0.5), SetEvalEvery(100), Note("lr halved here")]
        assert "/eval: 'often' is not a whole number" in rows(app)[0]


@pytest.mark.parametrize(
    ("key", "text", "command"), [("slash", "pause", Pause()), ("m", "q s", Note("q s")), ("i", "/save", Save())]
)
async def test_keys_that_follow_one_into_the_prompt_at_once_are_text(key: str, text: str, command: Command) -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        for each in (key, *text, "enter"):  # one burst, as over a slow link
            name = {" ": "space", "/": "slash"}.get(each, each)
            app.post_message(events.Key(name, "/" if name == "slash" else each if len(each) == 1 else None))
        await pilot.pause(0.2)
        assert session.commands == [command]
        # Who came for one command is back where they were, who came to write stays.
        assert app.focused is (app.main.prompt if key == "i" else app.main.chart)


async def test_a_command_begun_by_a_key_does_not_cost_what_was_being_typed() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", *"half a thought", "escape", "slash")
        assert app.main.prompt.text == "/"
        await pilot.press("up")
        assert app.main.prompt.text == "half a thought"


async def test_tab_completes_commands_and_speakers_and_leaves_the_prompt_otherwise() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", "t", "tab")
        await pilot.pause()
        assert "/temp  /tokens" in rows(app)[0]
        assert app.main.prompt.text == "/temp "
        await pilot.press("tab")
        assert app.main.prompt.text == "/tokens "
        app.main.prompt.begin("/te")
        await pilot.press("tab")
        assert app.main.prompt.text == "/temp"
        await pilot.press("l", "right")  # takes what is shown faintly
        assert app.main.prompt.text == "/template "
        app.main.prompt.begin("/chat ju")
        await pilot.press("tab")
        assert app.main.prompt.text == "/chat JULIET"
        app.main.prompt.begin("a text")
        await pilot.press("tab")
        assert app.focused is not app.main.prompt


# --- settings ---


async def test_the_title_edits_the_settings() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.press("i", *"a", "ctrl+t", "up", "up", "right", "down", "left", "left", "up", "enter")
        assert title(app) == "prompt · T 1 · 100 tokens · top-k all · top-p 1 · 2 samples"
        await pilot.press("b", "enter")  # the arrows moved nothing in the text
        generation = session.generations[0]
        assert generation.prompt == "ab"
        assert (generation.config.temperature, generation.config.max_new_tokens) == (1.0, 100)
        assert len(generation.config.rows) == 2
        await pilot.press("ctrl+t", "x", "y")  # what is typed meanwhile is text
        assert app.main.prompt.text == "xy"
        assert "seed" not in title(app)


@pytest.mark.parametrize("columns", [120, 80, 40])
async def test_a_number_is_typed_in_the_title_and_the_hint_says_how(columns: int) -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(columns, 24)) as pilot:
        await pilot.press("3", "i", *"a", "ctrl+t", "left", "left")  # around the end, to the seed
        await pilot.pause()
        row = app.main.prompt.region
        assert "seed random" in rows(app)[row.y]
        assert "←→ field · type a number" in rows(app)[row.bottom - 1].replace("↑↓ change · ", "")
        await pilot.press(*"1234", "backspace", "5")
        assert "seed 1235_" in rows(app)[row.y]
        await pilot.press("enter")
        assert "field" not in rows(app)[row.bottom - 1]
        await pilot.press("b", "enter")
        assert (session.generations[0].prompt, session.generations[0].config.seed) == ("ab", 1235)
        await pilot.press("ctrl+t", *"0.65", "!")  # anything else ends it, and is text
        assert app.main.prompt.text == "!"
        assert "T 0.65" in title(app)


async def test_a_burst_of_keys_reaches_the_settings() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i")
        for key in ("ctrl+t", "left", "left", "7", "7", "enter", "a", "enter"):  # as over a slow link
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause(0.2)
        assert [(each.prompt, each.config.seed) for each in session.generations] == [("a", 77)]


async def test_a_wrong_number_says_why_keeps_the_old_one_and_the_field() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        for leave in ("enter", "right"):
            await pilot.press("i", "ctrl+t", "minus", "1", leave)
            await pilot.pause()
            assert "/temp: -1: expected a number >= 0" in rows(app)[0]
            assert "T 0.8 ·" in rows(app)[app.main.prompt.region.y]
            await pilot.press("2", "escape")
            assert "T 2 ·" in title(app)
            await send(pilot, "/temp 0.8")


async def test_without_arrows_to_draw_the_hint_is_in_words_and_without_a_title_above() -> None:
    app = app_of(ScriptedSession(), ascii=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", "ctrl+t")
        await pilot.pause()
        assert "left/right field" in rows(app)[app.main.prompt.region.bottom - 1]
        await pilot.resize_terminal(80, 8)
        await pilot.press("3", "i", "ctrl+t", *"0.5")
        await pilot.pause()
        assert "T 0.5_ . left/right field" in rows(app)[0]
        await pilot.press("enter")
        await pilot.pause()
        assert "next answers: T 0.5" in rows(app)[0]


async def test_a_click_on_the_title_chooses_a_field() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(120, 35)) as pilot:
        row = app.main.prompt.region.y
        await pilot.click(offset=(rows(app)[row].index("tokens"), row))
        await pilot.press("up", "escape")
        assert "400 tokens" in title(app)
        assert app.focused is app.main.prompt


@pytest.mark.parametrize("columns", [200, 80, 40, 20])
async def test_settings_leave_a_narrow_title_whole(columns: int) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(columns, 24)) as pilot:
        await pilot.press("3", "i")
        await send(pilot, "/temp 0.5 0.8 1.2")
        await refreshed(pilot)
        await pilot.pause()
        assert "…" not in rows(app)[app.main.prompt.region.y]
        assert ("top-p" in title(app)) == (columns >= 80)
        assert ("T 0.5 0.8 1.2" in title(app)) == (columns >= 40)


async def test_several_temperatures_are_asked_for_at_once() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await send(pilot, "/temp 0.5 1.2", "To be")
        assert session.generations[0].config.rows == (0.5, 1.2)


# --- chat ---


async def test_chat_talks_to_a_speaker_and_off_ends_it() -> None:
    session = ScriptedSession()
    session.excerpt = lambda number: "x" * 500  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await send(pilot, "/chat romeo as juliet", "Hist!")
        first = session.generations[0]
        assert title(app).startswith("JULIET → ROMEO")
        assert first.prompt == first.shown == "JULIET:\nHist!\n\nROMEO:\n"
        assert first.config.stop == ("\n\n",)
        session.stream(first, 12)
        await send(pilot, "My dear?")
        second = session.generations[1]
        assert first.cancelled  # interrupted
        assert second.shown == "JULIET:\nMy dear?\n\nROMEO:\n"
        assert second.prompt == first.prompt + ANSWER[:12] + "\n\n" + second.shown
        await send(pilot, "/chat off", "text")
        assert session.generations[2].prompt == "text"
        assert session.generations[2].config.stop == ()


async def test_asking_again_replaces_the_reply_in_the_conversation() -> None:
    session = ScriptedSession()
    session.excerpt = lambda number: "x" * 500  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await send(pilot, "/chat ROMEO", "Hist!")
        session.stream(session.generations[0], 5)
        await pilot.press("escape", "escape", "R")
        again = session.generations[1]
        assert (again.prompt, again.shown) == (session.generations[0].prompt, session.generations[0].shown)
        assert again.config.stop == ("\n\n",)
        session.stream(again, 20)
        await send(pilot, "So.")
        assert ANSWER[:20] + "\n\n" in session.generations[2].prompt


async def test_turns_that_the_context_cannot_hold_are_left_out() -> None:
    session = ScriptedSession()
    session.excerpt = lambda number: "x" * 30  # type: ignore[method-assign]
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await send(pilot, "/chat ROMEO as JULIET", "Hist!")
        session.stream(session.generations[0], 5)
        await send(pilot, "My dear?")
        assert session.generations[1].prompt == "JULIET:\nMy dear?\n\nROMEO:\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/chat romeo as I", "you are I (nobody in this text), ROMEO replies"),
        ("/chat off", "no more chat"),
        ("/chat ROMEO", "you are JULIET, ROMEO replies"),
        (r"/template {name}: {text}", "no {reply}"),
        (r"/template {name}: {text}\n{reply}: ", r"'{name}: {text}\n{reply}: '"),
    ],
)
async def test_chat_commands_say_what_they_did(command: str, said: str) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.press("i")
        app.main.prompt.begin(command)
        await pilot.press("enter")
        await pilot.pause()
        assert said in rows(app)[0]


async def test_nobody_begins_to_talk_to_somebody_unknown() -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await send(pilot, "/chat Romeoo")
        await pilot.pause()
        assert "Romeoo does not speak in this text; did you mean ROMEO?" in rows(app)[0]
        assert title(app).startswith("prompt")
        await send(pilot, "/chat juliet", "/chat Romeoo")
        assert title(app).startswith("ROMEO → JULIET")


@pytest.mark.parametrize("pane", ["1", "3", "4"])
@pytest.mark.parametrize("size", [(80, 24), (40, 14)])
async def test_help_opens_at_its_start_and_is_scrolled_from_the_prompt(size: tuple[int, int], pane: str) -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=size) as pilot:
        await pilot.press(pane, "i", "pageup")
        assert app.main.transcript.following  # nothing is out of view
        await send(pilot, *["/chat"] * 6, "/help")
        await pilot.pause(0.1)
        assert "pgup and pgdn scroll" in screen(app)
        assert "/note" not in screen(app)
        pages = 0
        while not app.main.transcript.following:
            await pilot.press("pagedown")
            pages += 1
            assert pages < 30
        assert "/note" in screen(app)
        assert app.focused is app.main.prompt
        assert app.main.transcript.following
        await pilot.press("pageup")
        assert "/note" not in screen(app)
        await send(pilot, "To be")  # what is asked for comes into view
        session.stream(session.generations[0], 500)
        await refreshed(pilot)
        await pilot.pause(0.1)
        assert app.main.transcript.following


async def test_confirmations_are_true_while_paused() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        for paused, said in ((False, "saving at the next step"), (True, "saving now")):
            session.paused = paused
            await refreshed(pilot)
            app.main.leave_prompt()
            await pilot.press("s")
            assert said in rows(app)[0]
            await send(pilot, "/save")
            await pilot.pause()
            assert said in rows(app)[0]
        await send(pilot, "/pause")
        await pilot.pause()
        assert "already paused" in rows(app)[0]


async def test_a_template_of_ones_own_and_the_list_of_speakers() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.press("i")
        app.main.prompt.begin(r"/template {name}: {text}\n{reply}: ")
        await pilot.press("enter")
        await send(pilot, "/chat A as Q", "Why?")
        assert session.generations[0].prompt == "Q: Why?\nA: "
        assert session.generations[0].config.stop == ("\n",)
        await send(pilot, "/chat")
        await pilot.pause()
        assert "ROMEO, JULIET, First Citizen" in screen(app)


# --- side by side, by itself ---


async def test_versus_asks_the_weights_of_now_with_the_old_seed_and_settings() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await send(pilot, "/temp 0.5", "To be")
        session.stream(session.generations[0], 500)
        await refreshed(pilot)
        await send(pilot, "/temp 1.5")
        app.main.transcript.post_message(Transcript.Versus(app.main.transcript.last_asked))
        await pilot.pause()
        new = session.generations[1]
        assert (new.prompt, new.config.temperature, new.config.seed) == ("To be", 0.5, 7)


async def test_the_model_writes_by_itself_as_often_as_the_status_says() -> None:
    session = ScriptedSession(step=1000)
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await refreshed(pilot)
        written = len(session.own)
        session.advance(100)
        await refreshed(pilot)
        assert len(session.own) == written  # no evaluation yet
        session.sample_every = 50
        await refreshed(pilot)
        assert len(session.own) == written + 1
        session.advance(30)
        await refreshed(pilot)
        assert len(session.own) == written + 1
        session.advance(30)
        await refreshed(pilot)
        assert len(session.own) == written + 2


# --- keeping ---


def answer_of(prompt: str = "To be", text: str = ", or not", **config: object) -> Generation:
    generation = Generation(prompt, SampleConfig(**config))  # type: ignore[arg-type]
    generation.stamp = Stamp(step=1234, val_loss=1.98, val_step=1000, seed=7)
    generation.put(0, text, Choice(text, 0.5, ()))
    return generation


def test_a_kept_answer_says_where_it_came_from_and_never_replaces_another(tmp_path: Path) -> None:
    first = keep([answer_of(seed=7)], tmp_path, "run")
    second = keep([answer_of(text="!")], tmp_path, "run")
    assert [path.name for path in (first, second)] == ["step-1234-seed-7.txt", "step-1234-seed-7-2.txt"]
    content = first.read_text()
    assert content.endswith("\nTo be, or not\n")
    assert "run run, step 1,234, validation loss 1.9800 at step 1,000" in content
    assert "seed 7, T 0.8 · 200 tokens" in content
    assert content.count("seed") == 1
    assert second.read_text().endswith("\nTo be!\n")


def test_a_kept_answer_holds_every_sample_and_a_chats_turn_alone(tmp_path: Path) -> None:
    generation = answer_of("all of it", temperatures=(0.5, 1.0))
    generation.shown = "the turn"
    generation.put(1, " two")
    content = keep([generation], tmp_path, "run").read_text()
    assert "# sample 1, temperature 0.5\nthe turn, or not\n" in content
    assert "# sample 2, temperature 1\nthe turn two\n" in content


def test_two_answers_are_kept_together_each_under_its_weights(tmp_path: Path) -> None:
    old, new = answer_of(seed=7), answer_of(text=": that", seed=7)
    new.stamp = Stamp(step=2000, val_loss=None, val_step=None, seed=7)
    path = keep([old, new], tmp_path, "run")
    assert path.name == "step-1234-and-2000-seed-7.txt"
    content = path.read_text()
    assert content.count("seed") == 1
    assert "# then: step 1,234, validation loss 1.9800 at step 1,000\n\nTo be, or not\n" in content
    assert content.endswith("\n# now: step 2,000\n\nTo be: that\n")
    unanswered = Generation("To be", SampleConfig())
    assert keep([old, unanswered], tmp_path, "run").name == "step-1234-seed-7.txt"


def test_what_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("a file in the way")
    with pytest.raises(UserError, match="cannot save the answer in"):
        keep([answer_of()], tmp_path, "run")
    with pytest.raises(UserError, match="no answer"):
        keep([Generation("x", SampleConfig())], tmp_path, "run")


async def test_an_answer_of_a_run_on_another_machine_is_kept_in_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = ScriptedSession(run_dir=str(tmp_path / "theirs"), name="afar")
    session.near = False
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await send(pilot, "To be")
        session.stream(session.generations[0], 500)
        await refreshed(pilot)
        app.main.transcript.post_message(Transcript.SaveWanted([app.main.transcript.last_asked]))
        await until(pilot, lambda: "step-1234-seed-7.txt" in rows(app)[0])
    assert "# run afar, step" in (tmp_path / "answers" / "step-1234-seed-7.txt").read_text()


async def test_saving_says_the_path_or_why_not(tmp_path: Path) -> None:
    session = ScriptedSession(run_dir=str(tmp_path))
    app = app_of(session)
    async with app.run_test(size=(200, 50)) as pilot:
        await send(pilot, "To be")
        session.stream(session.generations[0], 500)
        await refreshed(pilot)
        for there in (True, False):
            app.main._status = session.status()
            app.main.transcript.post_message(Transcript.SaveWanted([app.main.transcript.last_asked]))
            await pilot.pause()
            await until(pilot, lambda there=there: ("saved " if there else "cannot save") in rows(app)[0])
            session.overrides["run_dir"] = str(tmp_path / "gone")
        assert [path.name for path in (tmp_path / "answers").iterdir()] == ["step-1234-seed-7.txt"]


async def until(pilot, condition) -> None:
    for _ in range(100):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError("not within two seconds")


async def test_copying_says_how_much_was_sent_and_refuses_what_no_clipboard_takes(monkeypatch) -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(120, 35)) as pilot:
        await send(pilot, "To be")
        session.stream(session.generations[0], 500)
        await refreshed(pilot)
        await pilot.press("escape", "c")
        await pilot.pause()
        assert f"sent {len(ANSWER)} bytes" in rows(app)[0]
        assert app.clipboard == ANSWER
        monkeypatch.setattr(talk, "MAX_COPY", len(ANSWER) - 1)
        app.copy_to_clipboard("before")
        await pilot.press("c")
        await pilot.pause()
        assert "S in the samples pane saves a file" in rows(app)[0]
        assert app.clipboard == "before"


# --- history ---


def test_history_comes_back_in_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "state" / "prompts.jsonl"
    first = PromptHistory(file)
    first.start()
    for prompt in ("a", "b\nc", "b\nc", "é\ud800"[:1]):
        first.add(prompt)
    first.close(10)
    second = PromptHistory(file)
    second.add("new")  # before the file is read
    second.start()
    second.close(10)
    assert [second.back(n) for n in range(1, len(second) + 1)] == ["new", "é", "b\nc", "a"]
    assert file.stat().st_mode & 0o077 == 0
    assert len(file.read_text().splitlines()) == 4


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b'"half', b'{"a": 1}\n[]\n3\n"good"\n', b"\x00" * 100])
def test_a_damaged_history_gives_what_can_be_read(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    history = PromptHistory(file)
    history.start()
    history.add("new")
    history.close(10)
    assert [history.back(n) for n in range(1, len(history) + 1)] == ["new"] + ["good"] * (b"good" in content)


def test_a_history_that_cannot_be_written_is_kept_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history = PromptHistory(tmp_path / "file" / "prompts.jsonl")  # a file where a folder should be
    history.start()
    history.add("a")
    history.close(10)
    assert history.back(1) == "a"


def test_a_long_history_keeps_its_newest_prompts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    for n in range(60):
        prompt_history.append(file, f"{n} " + "x" * 10_000)
        assert file.stat().st_size <= prompt_history.MAX_BYTES + prompt_history.MAX_PROMPT
    prompts = prompt_history.read(file.read_bytes())
    assert [int(prompt.split()[0]) for prompt in prompts] == list(range(60 - len(prompts), 60))
    assert len(prompts) > 10
    prompt_history.append(file, "y" * prompt_history.MAX_PROMPT)
    assert prompt_history.read(file.read_bytes()) == prompts
    assert list(tmp_path.iterdir()) == [file]
    assert file.stat().st_mode & 0o077 == 0


def write_many(file: Path, who: int) -> None:
    for n in range(150):
        prompt_history.append(file, f"{who}:{n} " + "x" * 1500)


def test_several_processes_may_append_and_shorten_at_once(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=write_many, args=(file, who)) for who in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(30)
        assert other.exitcode == 0
    found = [prompt.split()[0].split(":") for prompt in prompt_history.read(file.read_bytes())]
    assert len(file.read_bytes().splitlines()) == len(found)  # no line was torn
    for who in range(3):
        mine = [int(n) for other, n in found if int(other) == who]
        assert mine == list(range(150 - len(mine), 150))  # in order, and none but the oldest is missing


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=20))
def test_any_prompts_come_back(tmp_path_factory: pytest.TempPathFactory, prompts: list[str]) -> None:
    file = tmp_path_factory.mktemp("history") / "prompts.jsonl"
    for prompt in prompts:
        prompt_history.append(file, prompt)
    assert prompts == (prompt_history.read(file.read_bytes()) if prompts else [])


async def test_the_prompt_shows_earlier_runs_prompts_and_a_slow_disk_delays_no_key(tmp_path: Path) -> None:
    slow = threading.Event()

    class Slow(PromptHistory):
        def _run(self) -> None:
            slow.wait(20)
            super()._run()

    file = tmp_path / "prompts.jsonl"
    prompt_history.append(file, "earlier")
    app = app_of(ScriptedSession())
    app.main.prompt.prompts = Slow(file)
    async with app.run_test(size=(80, 24)) as pilot:
        await send(pilot, "now")
        await pilot.press("up")
        assert app.main.prompt.text == "now"
        slow.set()
        await until(pilot, lambda: len(app.main.prompt.prompts) == 2)
        await pilot.press("up")
        assert app.main.prompt.text == "earlier"
    assert prompt_history.read(file.read_bytes()) == ["earlier", "now"]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
async def test_an_empty_prompt_survives_a_window_of_a_few_cells(width: int) -> None:
    app = app_of(ScriptedSession())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        await pilot.resize_terminal(width, 12)
        await pilot.pause()
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "type a prompt" in "\n".join(rows(app))
