"""The list of runs: as start screen, over the app, and once in a pseudo-terminal with a run that was trained."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from minigpt_core.library import Library
from minigpt_core.lock import RunLock
from minigpt_core.summary import RunSummary
from minigpt_tui.base import Look, TerminalApp
from minigpt_tui.browser import BrowserApp
from minigpt_tui.screens.browse import BrowseScreen, Choice
from minigpt_tui.screens.compare import CompareScreen
from minigpt_tui.screens.runs import LOOKING, ConfirmScreen, RunsScreen
from minigpt_tui.widgets.run_settings import differing, shortened
from minigpt_tui.widgets.run_table import COLUMNS, arranged, fitting
from tests.scripted_session import Terminal
from tests.terminal import Terminal as PseudoTerminal
from tests.test_library import row, write_run

SIZES = [(200, 50), (120, 35), (80, 24), (60, 16), (40, 10), (20, 5), (3, 2)]
PROGRAM = [sys.executable, "-m", "minigpt_tui.cli"]


def run(name: str, state: str = "done", val: float | None = 2.0, **fields: Any) -> RunSummary:
    last = None if state in ("empty", "broken", "unread") else row(1234)
    facts = {
        "total_steps": 5000,
        "val_loss": val,
        "best_val_loss": val,
        "modified": time.time() - 100,
        "n_params": 809_856,
        "n_bytes": 20 * 2**20,
        "corpus": "sentences",
        "has_checkpoint": state not in ("empty", "unread"),
        "curve": tuple(4 - i / 16 for i in range(32)) if last else (),
        "settings": {"n_layers": "4", "num_heads": "4", "learning_rate": "0.003"},
    }
    return RunSummary(name=name, path=Path("runs") / name, state=state, last=last, **(facts | fields))


RUNS = (
    run("20261122-194500-shakespeare", "training", 1.9, corpus="shakespeare"),
    run("tidy", "done", 2.5),
    run("Été 1", "stopped", 1.7),
    run("fresh", "empty", None),
    run("torn", "broken", None, problem="'runs/torn/config.json' is damaged: not JSON", has_checkpoint=False),
    run("later", "unread", None),
    run("\x1b]52;c;evil\x07[/b]", "done", 3.0),
)


class FakeLibrary:
    """What the screens ask of a library, and nothing else."""

    def __init__(self, runs: tuple[RunSummary, ...] = RUNS, ready: bool = True, problem: str = "") -> None:
        self.parent, self.runs, self.ready, self.problem = Path("runs"), runs, ready, problem
        self.refreshed = 0
        self.closed = False

    def summaries(self) -> tuple[RunSummary, ...]:
        return self.runs

    def refresh(self) -> None:
        self.refreshed += 1

    def overlay(self, name: str) -> Any:
        from minigpt_core.series import Series

        series = Series()
        for step in range(1, 60):
            series.append(row(step, 4 - step / 30))
        source = type("Source", (), {"series": staticmethod(series.envelope)})
        return source if any(each.name == name and each.last for each in self.runs) else None

    def close(self) -> None:
        self.closed = True


class Host(TerminalApp):
    """An app with the list over its own screen."""

    def __init__(self, terminal: Look, library: FakeLibrary, marked: tuple[str, ...] = ()) -> None:
        super().__init__(terminal)
        self.picker = RunsScreen(library, "tidy", marked)
        self.result: tuple[str, ...] | None = None

    def on_mount(self) -> None:
        self.push_screen(self.picker, lambda names: setattr(self, "result", names))

    def begin_leaving(self) -> None:
        pass

    def has_ended(self) -> bool:
        return True


def browser(library: Any = None, **terminal: Any) -> BrowserApp:
    return BrowserApp(library or FakeLibrary(), Terminal(**terminal))


def rows(app: TerminalApp) -> list[str]:
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def text(app: TerminalApp) -> str:
    return "\n".join(rows(app))


def said(app: BrowserApp) -> str:
    return app.list.line._rows[0].text.strip() if app.list.line._rows else ""


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def until(pilot: Pilot[None], condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, text(pilot.app)  # type: ignore[arg-type]
        await pilot.pause(0.02)


def select(app: BrowserApp, name: str) -> None:
    table = app.list.table
    table._go(next(i for i, each in enumerate(table._runs) if each.name == name))


# --- pure parts ---


def names(runs: Any) -> list[str]:
    return [each.name for each in runs]


def test_words_find_names_states_and_texts_in_any_case():
    assert names(arranged(RUNS, "SHAKE", "changed")) == ["20261122-194500-shakespeare"]
    assert names(arranged(RUNS, "  été  stop", "changed")) == ["Été 1"]
    assert names(arranged(RUNS, "sentences done", "changed"))[0] == "tidy"
    assert arranged(RUNS, "no such thing", "changed") == []


def test_orders():
    runs = (
        run("b", val=None),
        run("C", val=1.0),
        run("a", val=float("nan")),
        run("z", "training"),
        run("y", "training"),
    )
    assert names(arranged(runs, "", "changed")) == ["y", "z", "b", "C", "a"]
    assert names(arranged(runs, "", "name")) == ["a", "b", "C", "y", "z"]
    assert names(arranged(runs, "", "val")) == ["C", "z", "y", "b", "a"]


@pytest.mark.parametrize("longest", [1, 14, 28, 60])
def test_columns_leave_whole_and_the_less_important_first(longest: int) -> None:
    order = [column.heading for column in sorted(COLUMNS, key=lambda column: column.rank)]
    counts = []
    for width in range(1, 260):
        shown, name = fitting(width, longest)
        assert not shown or 3 + name + sum(2 + column.width for column in shown) <= width
        assert name == longest or {column.rank for column in shown} <= {0, 1} or name >= 28
        assert {column.heading for column in shown} == set(order[: len(shown)])
        counts.append(len(shown))
    assert counts == sorted(counts)
    assert counts[-1] == len(COLUMNS)


def test_settings_that_differ_and_names_that_keep_their_ends():
    a, b = run("a"), run("b", settings={"n_layers": "4", "num_heads": "8", "seed": "2"})
    assert differing([a, b]) == [("num heads", ["4", "8"]), ("learning rate", ["0.003", "—"]), ("seed", ["—", "2"])]
    assert shortened("20261122-194500-shakespeare", 12) == "20261…speare"
    assert shortened("short", 12) == "short"


# --- the look ---


@pytest.mark.parametrize("library", [FakeLibrary(), FakeLibrary(())], ids=["runs", "none"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_size_keeps_inside(size: tuple[int, int], library: FakeLibrary) -> None:
    app = browser(library)
    async with app.run_test(size=size) as pilot:
        await press(
            pilot, "space", "space", "o", "v", "y", "down", "escape", "d", "n", "slash", "t", "escape", "end", "s"
        )
        assert len(rows(app)) == size[1]
        assert all(len(line) <= size[0] for line in rows(app))


@pytest.mark.parametrize(
    "look", [{"ascii": True}, {"color": "none"}, {"color": "16"}, {"color": "none", "ascii": True}]
)
async def test_marks_and_cursor_are_seen_without_colours(look: dict[str, Any]) -> None:
    app = browser(**look)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "space")
        cursor, mark = (">", "*") if look.get("ascii") else ("▸", "●")
        marked, here = (next(line for line in rows(app) if each in line) for each in ("shakespeare", "tidy"))
        assert mark in marked
        assert cursor in here
        assert text(app).isascii() == bool(look.get("ascii"))


async def test_a_run_is_a_row_of_what_matters_and_nothing_moves_when_it_arrives() -> None:
    library = FakeLibrary(tuple(run(each.name, "unread", None, modified=each.modified) for each in RUNS))
    app = browser(library)
    async with app.run_test(size=(120, 35)) as pilot:
        heading = next(line for line in rows(app) if "changed" in line)
        library.runs = RUNS
        app.list.poll()
        await pilot.pause()
        assert heading in rows(app)
        line = next(line for line in rows(app) if "Été 1" in line)
        for cell in ("stopped", "█", "1,234/5.0k", "1.700", "1m 02s", "21.0MB", "1m"):
            assert cell in line
        assert "\x1b" not in text(app)
        assert "7 runs" in rows(app)[0]
        select(app, "torn")
        await pilot.pause()
        assert "config.json' is damaged" in text(app)


async def test_an_empty_folder_says_how_to_begin() -> None:
    library = FakeLibrary((), ready=False)
    app = browser(library)
    async with app.run_test(size=(80, 24)) as pilot:
        assert LOOKING in text(app)
        library.ready = True
        app.list.poll()
        await pilot.pause()
        assert BrowseScreen.EMPTY in text(app)
        library.problem = "cannot list the runs in runs: Permission denied"
        app.list.poll()
        await pilot.pause()
        assert library.problem in text(app)
        for key in ("enter", "r", "space", "o", "d"):
            await press(pilot, key)
        assert app.is_running


# --- the keys of the browser ---


async def test_moving_sorting_and_filtering_keep_the_cursor_on_its_run() -> None:
    app = browser()
    table = app.list.table
    async with app.run_test(size=(80, 10)) as pilot:
        await press(pilot, "down", "j", "up")
        assert table.run is not None
        assert table.run.name == "tidy"
        await press(pilot, "s")
        assert table.run.name == "tidy"
        assert "by name" in text(app)
        await press(pilot, "s", "home")
        assert table.run.name == "Été 1"  # the lowest loss
        await press(pilot, "end", "k")
        last = table.run.name
        await press(pilot, "pageup")
        assert table.run.name != last
        await press(pilot, "pagedown", "home", "s")
        assert "by changed" in text(app)
        await press(pilot, "slash", *"done", "down")
        assert "2 of 7 runs" in rows(app)[0]
        assert table.run.name == RUNS[-1].name  # the arrows work while one types
        await press(pilot, "backspace", "enter")
        assert app.focused is table
        assert "/ don" in text(app)
        await press(pilot, "escape")
        assert "7 runs" in rows(app)[0]
        await press(pilot, "slash", "q", "escape")  # a letter, not a command
        assert app.is_running
        assert app.list.line.words == ""


@pytest.mark.parametrize(
    ("name", "key", "choice", "why"),
    [
        ("tidy", "enter", Choice("open", "tidy"), ""),
        ("Été 1", "r", Choice("resume", "Été 1"), ""),
        ("Été 1", "enter", Choice("open", "Été 1"), ""),
        ("tidy", "r", None, "is done; to train on"),
        ("20261122-194500-shakespeare", "enter", None, "is training"),
        ("20261122-194500-shakespeare", "r", None, "is training already"),
        ("20261122-194500-shakespeare", "d", None, "is training: it cannot be deleted"),
        ("fresh", "enter", None, "has no checkpoint to talk to"),
        ("fresh", "r", None, "has no checkpoint to resume from"),
        ("torn", "enter", None, "config.json' is damaged"),
        ("torn", "r", None, "config.json' is damaged"),
        ("later", "enter", None, "still being read"),
        ("fresh", "space", None, "has no losses to draw"),
        ("tidy", "o", None, "space marks the runs to compare"),
    ],
)
async def test_what_can_be_done_is_done_and_what_cannot_is_said(
    name: str, key: str, choice: Choice | None, why: str
) -> None:
    app = browser()
    async with app.run_test(size=(120, 24)) as pilot:
        select(app, name)
        await press(pilot, key)
        if choice is None:
            assert app.is_running
            assert why in text(app)
        assert app.choice == choice
    assert app.list._library.closed == (choice is not None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_leaving_chooses_nothing(key: str) -> None:
    app = browser()
    async with app.run_test() as pilot:
        await press(pilot, key)
    assert app.choice is None
    assert app.return_code == 0


async def test_marked_runs_are_compared_over_one_another() -> None:
    app = browser()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "space")
        assert list(app.list.marked) == ["20261122-194500-shakespeare"]
        assert app.list.table.run is not None
        assert app.list.table.run.name == "tidy"
        await press(pilot, "o")  # one mark and the cursor are two
        assert isinstance(app.screen, CompareScreen)
        await press(pilot, "o", "space", "enter")
        assert isinstance(app.screen, CompareScreen)
        await until(pilot, lambda: any("\u2801" <= character <= "\u28ff" for character in text(app)))
        shown = text(app)
        assert "smoothed training loss" in shown
        assert "1.9000" in shown
        assert "2.5000" in shown
        assert "all settings are the same" in shown
        await press(pilot, "v")
        assert "no losses yet" in text(app)
        await press(pilot, "v", "y")
        assert "log scale" in rows(app)[0]
        await press(pilot, "escape")
        assert app.screen is app.list
        await press(pilot, "home", "space", "escape")
        assert not app.list.marked


async def test_settings_scroll_where_they_do_not_fit() -> None:
    several = tuple(run(f"r{i}", settings={f"setting_{j}": str(i) for j in range(8)}) for i in range(2))
    app = browser(FakeLibrary(several))
    async with app.run_test(size=(40, 12)) as pilot:
        await press(pilot, "space", "space", "o")
        await pilot.pause()
        assert "more rows" in text(app)
        before = rows(app)
        await press(pilot, "down", "j")
        assert rows(app) != before
        await press(pilot, "up", "k")
        assert rows(app) == before


async def test_the_mouse_chooses_scrolls_and_opens() -> None:
    app = browser()
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.list.table
        await pilot.click(table, offset=(5, 3))
        assert table.run is not None
        assert table.run.name == "Été 1"
        table.on_mouse_scroll_down()
        assert table.run.name == "fresh"
        table.on_mouse_scroll_up()
        await pilot.click(table, offset=(5, 2), times=2)
        await pilot.pause()
    assert app.choice == Choice("open", "tidy")


# --- deleting ---


async def test_only_a_typed_y_deletes(tmp_path: Path) -> None:
    write_run(tmp_path, "first", done=100)
    write_run(tmp_path, "second")
    library = Library(tmp_path)
    app = browser(library)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "stopped" in text(app) and "done" in text(app))
        select(app, "second")
        for key in ("n", "escape", "enter", "q"):
            await press(pilot, "d")
            assert isinstance(app.screen, ConfirmScreen)
            asked = text(app)
            assert all(part in asked for part in ("second", "100 steps", "kB", "y deletes it"))
            await press(pilot, key)
            assert "kept second" in text(app)
        assert (tmp_path / "second").is_dir()
        await press(pilot, "d", "y")
        await until(pilot, lambda: "deleted second" in text(app) and "  1 run" in rows(app)[0])
        assert not (tmp_path / "second").exists()
        assert (tmp_path / "first").is_dir()


async def test_a_run_that_begins_to_train_meanwhile_stays(tmp_path: Path) -> None:
    resumed = write_run(tmp_path, "run")
    app = browser(Library(tmp_path))
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: "stopped" in text(app))
        await press(pilot, "d")
        lock = RunLock(resumed)
        await press(pilot, "y")
        await until(pilot, lambda: "is being trained already" in text(app))
        lock.release()
    assert resumed.is_run


# --- over the app ---


async def test_the_picker_gives_back_what_is_to_be_overlaid() -> None:
    app = Host(Terminal(), FakeLibrary(), ("Été 1", "gone"))
    async with app.run_test(size=(80, 24)) as pilot:
        assert list(app.picker.marked) == ["Été 1"]
        assert "resume" not in text(app)
        assert "tidy" not in text(app)
        await press(pilot, "enter")
        await press(pilot, "r", "end", "space", "home", "down", "space")
        assert "2 marked" in rows(app)[0]
        await press(pilot, "slash", "x", "enter", "escape")
        assert app.result is None  # the first escape drops the filter
        await press(pilot, "escape")
    assert app.result == ("20261122-194500-shakespeare", RUNS[-1].name)


@pytest.mark.parametrize("key", ["b", "o", "q", "escape"])
async def test_the_keys_that_opened_the_picker_close_it(key: str) -> None:
    app = Host(Terminal(), FakeLibrary())
    async with app.run_test() as pilot:
        await press(pilot, key)
        assert app.result == ()


def test_the_list_needs_no_torch() -> None:
    code = "import sys, minigpt_tui.browser; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- for real ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(text[:3000], encoding="utf-8")
    sizes = ["--n-layers", "1", "--num-heads", "2", "--embed-dim", "16", "--seq-len", "16", "--batch-size", "4"]
    words = ["train", "--data", "text.txt", "--steps", "20", *sizes, "--device", "cpu", "--threads", "1", "--headless"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*PROGRAM, *words, "--name", "small"], cwd=folder, env=env, check=True, capture_output=True)
    return folder


def test_from_the_list_into_a_conversation(trained: Path) -> None:
    with PseudoTerminal([*PROGRAM, "runs", "--tui"], cwd=trained) as terminal:
        terminal.wait_for("small")
        terminal.wait_for("done")
        terminal.send("\r")
        terminal.wait_for("prompt")
        terminal.wait_for("done", 60)
        terminal.send("q")
        assert terminal.wait_exit() == 0


def test_without_a_terminal_it_says_what_to_do(trained: Path) -> None:
    done = subprocess.run([*PROGRAM, "runs", "--tui"], cwd=trained, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "leave it out for a plain list" in done.stderr
    assert done.stderr.count("\n") == 1
