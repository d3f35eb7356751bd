"""The user's own keys at work, and the help and the hints that say which they are."""

from __future__ import annotations

import pytest
from textual import events
from textual.containers import VerticalScroll

from minigpt_core.status import Pause, Resume
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.keymap import bindings_of, catalogue, checked, label, spelled
from minigpt_tui.screens.help import HelpScreen, groups
from minigpt_tui.widgets import hints
from tests.scripted_session import ScriptedSession, Terminal


def app_of(session: ScriptedSession | None = None, **terminal: object) -> MiniGPTApp:
    return MiniGPTApp(session or ScriptedSession(), Terminal(**terminal))  # type: ignore[arg-type]


def rows(app: MiniGPTApp) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


OWN = checked({"run.pause": "f2", "talk.prompt": "ctrl+o,:", "app.help": "f1"})


async def test_own_keys_work_in_place_of_the_old_ones_and_are_shown() -> None:
    session = ScriptedSession()
    app = app_of(session, keys=OWN)
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.press("space")
        assert session.commands == []
        await pilot.press("f2")
        assert session.commands == [Pause()]
        app.main.poll()
        await pilot.pause()
        assert "f2 resume" in rows(app)[-1]
        assert "^o prompt" in rows(app)[-1]
        await pilot.press("question_mark")
        assert not isinstance(app.screen, HelpScreen)
        await pilot.press("f1")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        keys = {does: key for group in app.screen._shown for key, does in group.keys}
        assert keys["pause, resume"] == "f2"
        assert keys["write a prompt"] == "^o :"


async def test_text_that_follows_the_own_prompt_key_in_one_burst_is_text() -> None:
    session = ScriptedSession()
    app = app_of(session, keys=OWN)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in ("colon", "q", "s", "enter"):
            app.post_message(events.Key(key, ":" if key == "colon" else key if len(key) == 1 else None))
        await pilot.pause(0.2)
        assert session.commands == []
        assert [generation.prompt for generation in session.generations] == ["qs"]


async def test_a_hint_can_be_clicked() -> None:
    session = ScriptedSession()
    app = app_of(session)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.click("#hints", offset=(rows(app)[-1].index("pause"), 0))
        app.main.poll()
        await pilot.click("#hints", offset=(rows(app)[-1].index("resume"), 0))
        assert session.commands == [Pause(), Resume()]


def test_hints_speak_of_bindings_that_there_are() -> None:
    shown = [*hints.PROMPT, *hints.TIMELINE, *hints.GREETING]
    shown += [hint for pane in ("loss", "attention", "samples", "lens", "") for hint in hints.hints(pane, True, True)]
    said = {found for hint in shown for found in hints.BINDING_ID.findall(hint.key)}
    assert said <= catalogue().keys()


@pytest.mark.parametrize(("key", "group"), [("1", "loss"), ("2", "attention"), ("5", "logit lens")])
async def test_help_begins_with_the_focused_pane(key: str, group: str) -> None:
    app = app_of()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(key, "question_mark")
        await pilot.pause()
        text = "\n".join(rows(app))
        assert f"▸ {group}" in text
        assert isinstance(app.screen, HelpScreen)
        assert app.screen._shown[0].topic.title == group
        assert [shown.focused for shown in app.screen._shown].count(True) == 1


async def test_help_says_every_key_of_the_screen_and_steering_only_where_there_is_something_to_steer() -> None:
    app = app_of()
    async with app.run_test(size=(120, 40)):
        said = {(key, does) for group in groups(app.main, trains=True) for key, does in group.keys}
        for node in (app, app.main, app.main.chart, app.main.attention, app.main.timeline):
            for binding in bindings_of(type(node)):
                entry = catalogue()[binding.id or ""]
                assert (" ".join(map(label, entry.keys)), entry.description) in said
        finished = {does for group in groups(app.main, trains=False) for _, does in group.keys}
        assert "save a checkpoint" not in finished
        assert "look back in time, and live again" in finished


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40), (200, 50), (400, 120)])
async def test_help_fits_every_size_and_scrolls_to_its_end(size: tuple[int, int]) -> None:
    app = app_of()
    async with app.run_test(size=size) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        box = app.screen.query_one(VerticalScroll)
        assert box.max_scroll_x == 0
        assert box.region.right <= size[0]
        assert box.region.bottom <= size[1]
        await pilot.press("end")
        await pilot.pause(0.1)
        last = app.screen._shown[-1]  # type: ignore[attr-defined]
        word = (last.topic.about or last.keys[-1][1]).split()[-1]
        assert word in "\n".join(rows(app))
        await pilot.press("escape")
        assert app.screen is app.main


async def test_the_first_time_three_keys_are_named_until_one_is_pressed() -> None:
    app = app_of(keys={"talk.prompt": "p"})
    app.main.key_hints.greet()
    async with app.run_test(size=(80, 24)) as pilot:
        app.main.poll()
        await pilot.pause()
        assert rows(app)[-1].split() == ["p", "talk", "to", "it", "?", "all", "keys", "q", "saves", "and", "quits"]
        await pilot.press("2")
        await pilot.pause()
        assert "talk to it" not in rows(app)[-1]
        assert "pause" in rows(app)[-1]


async def test_the_greeting_leaves_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "GREETING_SECONDS", 0.05)
    app = app_of()
    app.main.key_hints.greet()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause(0.2)
        assert "talk to it" not in rows(app)[-1]


async def test_in_ascii_keys_are_words_and_not_other_keys() -> None:
    app = app_of(ascii=True)
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.press("i")
        await pilot.pause()
        assert "enter send" in rows(app)[-1]
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        shown = "\n".join(rows(app))
        assert "left" in shown
        assert "enter" in shown
    assert spelled("←→ frame") == "left right frame"
