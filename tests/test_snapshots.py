"""The look at the sizes it was designed for; look at a change before accepting it with `--snapshot-update`."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from minigpt_tui.app import MiniGPTApp
from minigpt_tui.preferences import Theme
from tests.scripted_session import ScriptedSession, Terminal


@pytest.mark.parametrize(
    ("size", "theme"),
    [((40, 10), "dark"), ((80, 24), "dark"), ((120, 40), "dark"), ((200, 50), "dark"), ((120, 40), "light")],
)
def test_the_look(
    snap_compare: Callable[..., bool], size: tuple[int, int], theme: Theme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    session = ScriptedSession()
    session.gpu = True
    app = MiniGPTApp(session, Terminal(theme=theme))

    async def one_answer(pilot: Pilot[None]) -> None:
        while not session.started:
            await pilot.pause(0.01)
        app.main._ask("To be", app.main._settings)
        session.stream(session.generations[0], 60)
        app.main.poll()
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=one_answer)
