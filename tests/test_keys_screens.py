"""Every key of the screens beside the main one: what it changes, or what it opens or closes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from textual.pilot import Pilot

from minigpt_core.heads import SCORES
from minigpt_core.summary import RunSummary
from minigpt_tui.browser import BrowserApp
from minigpt_tui.lab.app import LabApp
from minigpt_tui.screens.browse import Choice
from minigpt_tui.screens.compare import TITLES
from minigpt_tui.widgets.gallery import ranking
from tests.keyboard import MAIN, NEWEST, Case, Stage, begun, failures, focus, front, text
from tests.scripted_session import Terminal, head_scores
from tests.test_experiment_screen import DONE, FakeLab
from tests.test_library import write_run
from tests.test_runs_screen import FakeLibrary, run


async def opened(pilot: Pilot[Any], opens: Callable[[Any], None]) -> None:
    """What an action of the main screen opens over it."""
    await begun(pilot)
    opens(pilot.app.main)  # type: ignore[attr-defined]
    await pilot.pause(0)


def back(app: Any) -> tuple[str, bool]:
    """The screen on top, and whether the app is being left."""
    return front(app), app.session.closed


BACK = ("MainScreen", False)
HELP = [Case("help.close", back, BACK)]


async def test_keys_of_the_help_screen() -> None:
    begin = partial(opened, opens=lambda main: main.app.action_help())
    assert await failures(MAIN._replace(begin=begin), HELP) == []


# --- the gallery ---


def order(app: Any) -> list[tuple[int, int]]:
    """The heads from the first row on."""
    return list(app.screen.table._order)


def by(score: str, reverse: bool = False) -> list[tuple[int, int]]:
    return ranking(head_scores(NEWEST)[SCORES.index(score)], reverse)


def row(app: Any) -> int:
    """The one of the chosen head."""
    return order(app).index(app.screen.table.selected)


LAYERWISE = list(np.ndindex(4, 4))
GALLERY = [
    Case("gallery.by-previous", order, by("previous")),
    Case("gallery.by-previous", order, by("previous", reverse=True), "p"),
    Case("gallery.by-induction", order, by("induction", reverse=True)),
    Case("gallery.by-induction", order, by("induction"), "p"),
    Case("gallery.by-sink", order, by("sink")),
    Case("gallery.by-entropy", order, by("entropy")),
    Case("gallery.by-layer", order, LAYERWISE),
    Case("gallery.by-layer", order, LAYERWISE[::-1], "l"),
    Case("gallery.up", row, 1, "home down down"),
    Case("gallery.down", row, 1, "home"),
    Case("gallery.page-up", lambda app: row(app) < 13, True, "end"),
    Case("gallery.page-down", lambda app: row(app) > 2, True, "home"),
    Case("gallery.first", row, 0, "end"),
    Case("gallery.last", row, 15, "home"),
    Case(
        "gallery.choose",
        lambda app: (app.main.attention.head, focus(app)),
        (by("induction")[1], "attention"),
        "home down",
    ),
    Case("gallery.close", back, BACK),
]


async def test_keys_of_the_gallery() -> None:
    begin = partial(opened, opens=lambda main: main.action_gallery())
    assert await failures(MAIN._replace(begin=begin), GALLERY) == []


# --- other runs over the loss chart ---


async def runs_opened(pilot: Pilot[Any]) -> None:
    pilot.app.session.library = FakeLibrary()  # type: ignore[attr-defined]
    await opened(pilot, lambda main: main.action_runs())


OVERLAYS = [
    Case("runs.overlay", lambda app: list(app.screen.marked), ["tidy"], "down"),
    Case("runs.overlay", lambda app: list(app.screen.marked), [], "space"),
    Case("runs.close", back, BACK),
]


async def test_keys_of_the_choice_of_overlays() -> None:
    assert await failures(MAIN._replace(begin=runs_opened), OVERLAYS) == []


# --- the browser ---

RUNS = tuple(run(f"run-{n:02}", "stopped") for n in reversed(range(40)))


def browser(runs: tuple[RunSummary, ...] = RUNS) -> BrowserApp:
    return BrowserApp(FakeLibrary(runs), Terminal())  # type: ignore[arg-type]


async def listed(pilot: Pilot[Any]) -> None:
    """All runs, none of them marked, the cursor on the first."""
    app: Any = pilot.app
    while app.screen is not app.list:
        await app.pop_screen()
    app.list.marked.clear()
    app.list.line.clear()
    app.list._order = "changed"
    app.list.table.focus()
    app.list.poll()
    app.list.table.edge(0)
    await pilot.pause(0)


def cursor(app: Any) -> int:
    return app.list.table._cursor


def pages(app: Any) -> float:
    """How far the cursor is from the first run."""
    return cursor(app) / app.list.table._page


def marked(app: Any) -> list[str]:
    return list(app.list.marked)


BROWSER = [
    Case("runs.up", cursor, 1, "down down"),
    Case("runs.down", cursor, 1),
    Case("runs.page-up", pages, 1.0, "pagedown pagedown"),
    Case("runs.page-down", pages, 1.0),
    Case("runs.first", cursor, 0, "down"),
    Case("runs.last", cursor, len(RUNS) - 1),
    Case("runs.filter", focus, "runs-line"),
    Case("runs.sort", lambda app: app.list.table._runs[0].name, "run-00"),
    Case("runs.delete", front, "ConfirmScreen"),
    Case("runs.open", front, "CompareScreen", "space space"),
    Case("runs.mark", marked, ["run-39"]),
    Case("runs.compare", front, "CompareScreen", "space space"),
    Case("runs.back", marked, [], "space"),
    Case("runs.back", lambda app: app.list.line.words, "", "slash 3 enter"),
]


async def test_keys_of_the_browser() -> None:
    assert await failures(Stage(browser, listed, size=(80, 16), shared=True), BROWSER) == []


CHOOSING = [
    Case("runs.open", lambda app: app.choice, Choice("open", "run-39")),
    Case("runs.resume", lambda app: app.choice, Choice("resume", "run-39")),
    Case("runs.leave", lambda app: (app._library.closed, app.choice), (True, None)),
]


async def test_keys_that_leave_the_browser() -> None:
    assert await failures(Stage(browser, size=(80, 16)), CHOOSING) == []


def on_disk(app: Any) -> tuple[str, bool]:
    """The screen on top, and whether the first run is still there."""
    return front(app), app._library.runs[0].path.exists()


CONFIRMING = [
    Case("runs.confirm", on_disk, ("BrowseScreen", False), "d"),
    Case("runs.keep", on_disk, ("BrowseScreen", True), "d"),
]


async def test_keys_of_the_question_before_deleting(tmp_path: Path) -> None:
    numbers = count()

    def make() -> BrowserApp:
        path = write_run(tmp_path, f"run-{next(numbers)}", steps=2).path
        return browser((msgspec.structs.replace(RUNS[0], name=path.name, path=path),))

    assert await failures(Stage(make, size=(80, 16)), CONFIRMING) == []


async def compared(pilot: Pilot[Any]) -> None:
    """Two runs, on so few rows that what came out of them has to scroll."""
    app: Any = pilot.app
    await listed(pilot)
    app.list.marked = {"run-39": None, "run-38": None}
    app.list.action_compare()
    await pilot.pause(0)
    app.screen.poll()


COMPARING = [
    Case("runs.settings-up", lambda app: app.screen.settings._top, 0, "down"),
    Case("runs.settings-down", lambda app: app.screen.settings._top, 1),
    Case("runs.metric", lambda app: app.screen.chart.title, TITLES["val_loss"]),
    Case("runs.metric", lambda app: app.screen.chart.title, TITLES["smoothed"], "v"),
    Case("runs.log", lambda app: "log scale" in text(app.screen.chart), True),
    Case("runs.list", front, "BrowseScreen"),
]


async def test_keys_of_the_comparison() -> None:
    assert await failures(Stage(browser, compared, size=(80, 12), shared=True), COMPARING) == []


# --- the experiment ---


def variant(app: Any) -> int:
    return app.experiment.table.selected


LAB = [
    Case("lab.up", variant, 1, "down down"),
    Case("lab.down", variant, 1),
    Case("lab.first", variant, 0, "end"),
    Case("lab.last", variant, len(DONE.standings) - 1),
    Case("lab.differences", lambda app: "minus the baseline's" in text(app.experiment.chart), True),
    Case("lab.differences", lambda app: "minus the baseline's" in text(app.experiment.chart), False, "d"),
    Case("lab.log", lambda app: "log scale" in text(app.experiment.chart), True),
    Case("lab.about", lambda app: app.experiment.chart.display, False),
    Case("lab.chart", lambda app: app.experiment.chart.display, True, "enter"),
    Case("lab.leave", lambda app: app._lab.calls, ["start", "stop"]),
]


async def test_keys_of_the_experiment() -> None:
    assert await failures(Stage(lambda: LabApp(FakeLab(DONE), Terminal()), size=(80, 30)), LAB) == []


CASES = [*HELP, *GALLERY, *OVERLAYS, *BROWSER, *CHOOSING, *CONFIRMING, *COMPARING, *LAB]
