"""The experiment screen on a lab of its own, and once on real experiments in this process."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from minigpt_core.lab.design import Design
from minigpt_core.lab.experiment import Experiment
from minigpt_core.lab.overlay import Mean
from minigpt_core.lab.paired import BASELINE, TRANSPOSED, Interval, Row, difference
from minigpt_core.tail import read_metrics
from minigpt_tui.lab.app import LabApp
from minigpt_tui.lab.local import LocalLab
from minigpt_tui.lab.session import Standing, View
from minigpt_tui.widgets.overlay_chart import COLOURS
from tests.conftest import TINY
from tests.scripted_session import Terminal
from tests.terminal import Terminal as PseudoTerminal

SIZES = [(80, 24), (120, 35), (200, 50), (60, 16), (40, 12), (20, 5), (3, 2)]
ABOUT = (
    "The largest damage. Each part now replaces the stream instead of adding to it: what the attention does not pass "
    "on is lost."
)


def standing(variant: str, loss: float, ended: int = 3, runs: int = 3, diverged: tuple[int, ...] = ()) -> Standing:
    steps = np.arange(0, 1001, 100)
    mean = loss + 2.5 * np.exp(-steps / 200)
    difference = None if variant == "baseline" else Interval(loss - 1.9, 0.0123, 3)
    row = Row(
        variant=variant,
        learning_rate=1e-3,
        n_params=809_856,
        seeds=ended,
        val_loss=loss,
        train_loss=loss - 0.05,
        difference=difference,
        diverged=diverged,
    )
    sources = ("Dong, Cordonnier & Loukas 2021, Attention is not all you need, arXiv 2103.03404",)
    curve = Mean(steps, mean, mean, mean)
    above = Mean(steps, *[np.full(len(steps), loss - 1.9)] * 3)
    return Standing(variant, row, ended, runs, curve, above, (f"{variant}: {ABOUT}", *sources))


def waiting(variant: str) -> Standing:
    nothing = Mean(*[np.array([])] * 4)
    return Standing(variant, None, 0, 3, nothing, nothing, (f"{variant}: {ABOUT}",))


DONE = View(
    "lab",
    phase="done",
    spread="Baseline: 1.9000, standard deviation over 3 seeds 0.0080.",
    standings=(
        standing("baseline", 1.9),
        standing("no-residual", 2.9),
        standing("single-head", 1.95),
        standing("no-layernorm", 2.1, diverged=(2,)),
        standing("swap-qk", 1.9),
        standing("no-positions", 1.93),
    ),
    ended=18,
    runs=18,
    share=1.0,
)
HALF = dataclasses.replace(
    DONE,
    phase="training",
    standings=(standing("baseline", 1.9, ended=2), standing("no-residual", 2.9, ended=1), waiting("single-head")),
    ended=3,
    runs=9,
    share=0.4,
    running=("no-residual-seed2 step 340/1,000 loss 2.311",),
    eta=725.0,
)


class FakeLab:
    """What the screen asks of a lab, and nothing else."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.calls: list[str] = []
        self.joined = True

    def start(self) -> None:
        self.calls.append("start")

    def look(self) -> View:
        return self.view

    def stop(self) -> None:
        self.calls.append("stop")
        if self.view.phase == "training":
            self.view = dataclasses.replace(self.view, phase="stopping")

    def join(self, timeout: float | None = None) -> bool:
        return self.joined


def app_of(lab: FakeLab, **terminal: object) -> LabApp:
    return LabApp(lab, Terminal(**terminal))  # type: ignore[arg-type]


def rows(app: LabApp) -> list[str]:
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def text(app: LabApp) -> str:
    return "\n".join(rows(app))


def braille(app: LabApp) -> int:
    return sum("\u2801" <= character <= "\u28ff" for character in text(app))


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


@pytest.mark.parametrize("view", [DONE, HALF, View("lab")], ids=["done", "half", "nothing"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_size_and_state_keeps_inside(size: tuple[int, int], view: View) -> None:
    app = app_of(FakeLab(view))
    async with app.run_test(size=size) as pilot:
        await press(pilot, "down", "y", "d", "y", "enter", "enter", "end")
        assert len(rows(app)) == size[1]
        if size[0] >= 40 and view.standings:
            assert any(row.startswith("▸━ ") for row in rows(app))


async def test_the_table_says_what_each_variant_cost_with_its_interval() -> None:
    app = app_of(FakeLab(DONE))
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.pause()
        table = [" ".join(row.split()) for row in rows(app)[2:9]]
        assert table[0] == "variant parameters val loss difference train loss gap diverged runs"
        assert table[2] == "━ no-residual 809,856 2.9000 +1.0000 ± 0.0123 2.8500 0.0500 3/3"
        assert table[4] == "━ no-layernorm 809,856 2.1000 +0.2000 ± 0.0123 2.0500 0.0500 1 3/3"
        assert "✓ done" in rows(app)[0]
        assert "18 of 18 runs" in rows(app)[0]
        assert DONE.spread in rows(app)[1]
        assert "loading" not in text(app)


async def test_under_way_it_shows_progress_and_dashes_for_what_is_not_known() -> None:
    lab = FakeLab(HALF)
    app = app_of(lab)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert lab.calls == ["start"]
        assert "▶ training" in rows(app)[0]
        assert "3 of 9 runs  ETA 12m 05s" in rows(app)[0]
        assert "no-residual-seed2 step 340/1,000 loss 2.311" in rows(app)[1]
        row = next(row for row in rows(app) if "single-head" in row)
        assert row.split()[1:] == ["single-head", "—", "—", "—", "0/3"]
        lab.view = dataclasses.replace(HALF, ended=4, standings=(*HALF.standings[:2], standing("single-head", 1.95, 1)))
        await pilot.pause(0.7)  # by its own timer
        assert "4 of 9 runs" in rows(app)[0]
        assert any("single-head" in row and "1.9500" in row for row in rows(app))


async def test_an_experiment_that_failed_says_why() -> None:
    why = "run 'lab' is being trained already (process 7 on here); stop that first"
    app = app_of(FakeLab(dataclasses.replace(HALF, phase="failed", message=why)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "✗ failed" in rows(app)[0]
        assert why in rows(app)[1]


async def test_up_and_down_choose_a_variant_and_its_paragraph() -> None:
    app = app_of(FakeLab(DONE))
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.pause()
        assert f"baseline: {ABOUT[:18]}" in text(app)
        await press(pilot, "down")
        assert f"no-residual: {ABOUT[:15]}" in text(app)
        assert "arXiv" in text(app)
        assert next(row for row in rows(app) if row.startswith("▸")).split()[1] == "no-residual"
        await press(pilot, "end", "down")
        assert app.experiment.table.selected == 5
        await press(pilot, "up")
        assert app.experiment.table.selected == 4
        await press(pilot, "home", "up")
        assert app.experiment.table.selected == 0
        y = next(y for y, row in enumerate(rows(app)) if "swap-qk" in row)
        await pilot.click(offset=(8, y))
        assert app.experiment.table.selected == 4


async def test_y_changes_the_scale_and_the_chart_knows_it() -> None:
    app = app_of(FakeLab(DONE))
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.pause()
        before = text(app)
        assert "log scale" not in before.replace("y log scale", "")
        assert braille(app) > 50
        await press(pilot, "y")
        assert "nats a token, log scale" in text(app)
        await press(pilot, "y")
        assert text(app) == before


async def test_d_shows_what_each_variant_adds_to_the_baseline_and_y_spreads_the_small_ones() -> None:
    app = app_of(FakeLab(DONE))
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "d")
        assert "validation loss minus the baseline's of the same seed" in text(app)
        axis = [row.split("┤")[0].strip() for row in rows(app) if "┤" in row]
        assert (axis[0], axis[-1]) == ("+1.0", "0.0")
        await press(pilot, "y")
        axis = [row.split("┤")[0].strip() for row in rows(app) if "┤" in row]
        assert axis == ["+1", "+0.3", "+0.1", "+0.03", "+0.01", "0"]  # linear up to about 0.02
        await press(pilot, "d", "y")
        assert "mean validation loss over the seeds" in text(app)


async def test_every_variant_has_a_colour_of_its_own_in_table_and_chart() -> None:
    apart = tuple(standing(each.variant, 1.9 + 0.4 * i) for i, each in enumerate(DONE.standings))
    app = app_of(FakeLab(dataclasses.replace(DONE, standings=apart)))
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.pause()
        looks = [app.experiment.table.look_of(i) for i in range(len(DONE.standings))]
        assert looks == [(colour, None) for colour in COLOURS[:6]]
        assert app.experiment.table.look_of(7)[1] == "h"  # colours begin again: a letter tells them apart
        drawn = {
            segment.style.color.get_truecolor().hex
            for strip in app.experiment.chart._rows
            for segment in strip
            if segment.style and segment.style.color and any("\u2801" <= c <= "\u28ff" for c in segment.text)
        }
        assert drawn >= set(COLOURS[:6])


async def test_without_colours_letters_tell_the_curves_apart() -> None:
    app = app_of(FakeLab(DONE), color="none", ascii=True)
    async with app.run_test(size=(120, 35)) as pilot:
        await press(pilot, "down")
        assert braille(app) == 0
        body = "\n".join(row[:70] for row in rows(app)[12:28])
        assert body.count("b") > 10
        assert next(row for row in rows(app) if "no-layernorm" in row).split()[0] == "d"


async def test_where_room_is_short_enter_shows_all_about_the_variant_and_escape_the_chart() -> None:
    app = app_of(FakeLab(DONE))
    async with app.run_test(size=(60, 16)) as pilot:
        await press(pilot, "down")
        assert "The largest damage" not in text(app)
        await press(pilot, "enter")
        assert "The largest damage" in text(app)
        assert "mean validation loss" not in text(app)
        await press(pilot, "escape")
        assert "mean validation loss" in text(app)
        await press(pilot, "enter", "enter")
        assert "mean validation loss" in text(app)


async def test_leaving_stops_and_saves_first_and_twice_leaves_at_once() -> None:
    for key in ("q", "ctrl+q", "ctrl+c"):
        lab = FakeLab(HALF)
        lab.joined = False
        app = app_of(lab)
        async with app.run_test(size=(80, 24)) as pilot:
            await press(pilot, key)
            assert lab.calls == ["start", "stop"]
            assert "saving the runs under way" in rows(app)[0]
            assert app.is_running
            await pilot.press(key)
        assert app.insisted
    lab = FakeLab(DONE)
    app = app_of(lab)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q")
    assert not app.insisted


# --- on real experiments ---


@pytest.fixture
def experiment(tmp_path: Path, text_file: Path) -> Callable[..., Experiment]:
    """The same small experiment each time it is called: new, then to go on with."""
    text_file.write_text(text_file.read_text()[:3000])
    train = {"steps": 12, "batch_size": 4, "eval_every": 4, "device": "cpu", "threads": 1}

    def make(**more: object) -> Experiment:
        settings = train | more
        design = Design(variants=("no-residual",), seeds=2, data=str(text_file), model=TINY, train=settings)
        return Experiment(design, "lab", str(tmp_path / "runs"))

    return make


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tested elsewhere."""
    monkeypatch.setattr("minigpt_core.lab.overlay.overlay", lambda *_: None)
    monkeypatch.setattr("minigpt_core.lab.experiment.write_difference", lambda *_: None)


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, text(pilot.app)  # type: ignore[arg-type]
        await pilot.pause(0.1)


async def test_an_experiment_trains_behind_the_screen_until_its_table_stands(
    experiment: Callable[..., Experiment], no_pictures: None
) -> None:
    lab = LocalLab(experiment())
    app = LabApp(lab, Terminal())  # type: ignore[arg-type]
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: lab.look().phase == "done" and lab.look().ended == 4)
        app.experiment.poll()
        await pilot.pause()
        assert "✓ done" in rows(app)[0]
        table = experiment().table()
        for row in table.rows:
            line = next(line for line in rows(app) if row.variant in line)
            assert f"{row.val_loss:.4f}" in line
            assert difference(row) in line
        assert {row.variant for row in table.rows} == {BASELINE, "no-residual", TRANSPOSED}
        seeds = [{m.step: m.val_loss for m in read_metrics(t.run) if m.val_loss} for t in experiment().trials[1::2]]
        curve = lab.look().standings[1].curve
        assert curve.steps.tolist() == sorted(seeds[0])
        assert curve.mean.tolist() == pytest.approx([sum(run[s] for run in seeds) / 2 for s in sorted(seeds[0])])
        baseline, variant = lab.look().standings[:2]
        assert variant.difference.mean == pytest.approx(curve.mean - baseline.curve.mean)
        assert not baseline.difference.mean.any()
        await pilot.press("q")
    assert lab.error is None


async def test_leaving_saves_and_another_sitting_goes_on(
    experiment: Callable[..., Experiment], no_pictures: None
) -> None:
    lab = LocalLab(experiment(steps=400))
    app = LabApp(lab, Terminal())  # type: ignore[arg-type]
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: any(" step " in run and "step 0/" not in run for run in lab.look().running))
        await pilot.press("q")
        await until(pilot, lambda: lab.join(0))
    assert lab.look().phase == "stopped"
    assert not app.insisted
    saved = experiment(steps=400)
    assert not saved.finished
    assert saved.trials[0].run.checkpoint.is_file()


async def test_somebody_elses_experiment_can_be_watched_but_not_run(experiment: Callable[..., Experiment]) -> None:
    begun = experiment()
    runs = begun.run()
    next(runs)
    try:
        lab = LocalLab(experiment())
        app = LabApp(lab, Terminal())  # type: ignore[arg-type]
        async with app.run_test(size=(100, 24)) as pilot:
            await until(pilot, lambda: lab.look().phase == "failed" and bool(lab.look().standings))
            app.experiment.poll()
            await pilot.pause()
            assert "'lab' is being trained already" in rows(app)[1]
            assert any("no-residual" in row and "0/2" in row for row in rows(app))
            await pilot.press("q")
    finally:
        begun.stop()
        list(runs)


def test_the_screen_needs_no_torch() -> None:
    modules = "minigpt_tui.lab.app, minigpt_tui.screens.experiment, minigpt_tui.screens.gallery"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_shows_the_screen_and_leaves_the_table_in_the_shell(
    tmp_path: Path, experiment: Callable[..., Experiment], no_pictures: None
) -> None:
    list(experiment(steps=2).run())
    main = [sys.executable, "-c", "from minigpt_tui.cli import main; main()"]
    with PseudoTerminal([*main, "ablate", "--resume", "lab", "--tui"], 80, 24, cwd=tmp_path) as terminal:
        terminal.wait_for("✓ done")
        terminal.wait_for("4 of 4 runs")
        terminal.send("q")
        assert terminal.wait_exit() == 0
        after = terminal.bytes.split(b"\x1b[?1049l")[-1].decode()
    assert "no-residual" in after
    assert "What is expected, and why" in after


STARTS_A_PROCESS = """
import asyncio, multiprocessing, time
from pathlib import Path
from types import SimpleNamespace
from minigpt_tui.lab.local import LocalLab
from tests.test_experiment_screen import DONE, FakeLab, app_of

async def main():
    LocalLab(SimpleNamespace(path=Path("lab"), jobs=2))  # made before the app runs, as the command does
    async with app_of(FakeLab(DONE)).run_test():
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0,))
        process.start()
        process.join()
        assert process.exitcode == 0

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_runs_can_be_processes_of_their_own_behind_the_screen(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(STARTS_A_PROCESS)
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, script], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_without_a_terminal_the_command_says_so(tmp_path: Path, text_file: Path) -> None:
    main = [sys.executable, "-c", "from minigpt_tui.cli import main; main()", "ablate", "--data", str(text_file)]
    done = subprocess.run(
        [*main, "--tui"], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("minigpt-tui: --tui needs a terminal, but standard input is not a terminal")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
