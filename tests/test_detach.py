"""A run outlives the terminal that it was started from, to the bit, and can be come back to."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from minigpt_core.errors import UserError
from minigpt_core.lock import holder, is_locked
from minigpt_core.rundir import RunDir, list_runs
from minigpt_core.status import Status
from minigpt_core.tail import read_metrics
from minigpt_tui import detach, launch
from minigpt_tui import terminal as term
from minigpt_tui.detach import READY
from tests.terminal import Terminal
from tests.test_pty import SMALL, app, assert_intact, events, said, step, steps_logged, train, wait_step

PROGRAM = [sys.executable, "-m", "minigpt_tui"]
LENGTH = ["--steps", "500", "--eval-every", "100", "--data", "text.txt", *SMALL]
NO_SIGNAL = """
import asyncio, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
import minigpt_tui.base as base
base.SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""
SLOW_TO_GO_ON = """
import time
import minigpt_tui.headless as headless
go_on = headless.go_on
headless.go_on = lambda session: (time.sleep(1.5), go_on(session))[1]
"""
SLOW_TO_LEAVE = """
import time
from minigpt_tui.link.server import LinkServer
leave = LinkServer.__exit__
LinkServer.__exit__ = lambda self, *error: (leave(self, *error), time.sleep(1.5))[0]
"""
SCREEN_LEFT = b"\x1b[?1049l"


def call(folder, *words, program=PROGRAM):
    result = subprocess.run([*program, *words], check=False, cwd=folder, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def weights(run):
    return torch.load(run / "model_checkpoint.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("detach")
    (folder / "text.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def place(folder):
    """A folder with a text and a run that nobody disturbed."""
    call(folder, "train", *LENGTH, "--name", "straight", "--headless")
    return folder


@pytest.fixture(autouse=True)
def nothing_left_training(folder):
    """A test that fails leaves no run behind that the next one would find."""
    yield
    for run in list_runs(folder / "runs"):
        if (held := holder(run)) is not None:
            psutil.Process(held.pid).kill()
            until(lambda run=run: not is_locked(run))


def rows(run):
    """What does not depend on the clock."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in ("time", "tok_s")} for line in lines]


def assert_undisturbed(place, name, whole=False):
    """So far it went as the run that nobody disturbed, to the bit; if it is `whole`, to the end."""
    straight, run = place / "runs/straight", place / "runs" / name
    there, here = rows(straight), rows(run)
    assert here == there[: len(here)]
    if whole:
        assert len(here) == len(there)
        expected, found = weights(straight), weights(run)
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def close(terminal):
    terminal.child.ptyproc.fileobj.close()


def hang_up(terminal):
    terminal.child.kill(signal.SIGHUP)


def hang_up_and_close(terminal):
    hang_up(terminal)
    terminal.wait(lambda: SCREEN_LEFT in terminal.bytes)
    terminal.pump(0.5)
    close(terminal)


@pytest.mark.parametrize(
    ("code", "leave"),
    [("", close), (NO_SIGNAL, close), ("", hang_up), (SLOW_TO_GO_ON, hang_up_and_close)],
    ids=["closed", "end of file", "signal", "signal and closed"],
)
def test_a_run_whose_terminal_goes_away_goes_on_and_can_be_come_back_to(place, request, code, leave):
    name = f"run-{request.node.callspec.id.replace(' ', '-')}"
    program = [sys.executable, "-c", f"{code}\nfrom minigpt_tui.cli import main; main()"]
    terminal = Terminal([*program, "train", *LENGTH, "--name", name], cwd=place)
    wait_step(terminal, 3)
    run, pid = RunDir(place / "runs" / name), terminal.child.pid
    call(place, "pause", name)  # a small run would be over before we are back
    leave(terminal)
    time.sleep(0.5)
    assert holder(run).pid == pid
    assert psutil.Process(pid).is_running()

    with app(place, "attach", name) as viewer:
        viewer.wait_for("paused")
        before = step(viewer)
        viewer.send("4")
        viewer.wait_for(" 0  saved model_checkpoint.pt")  # what happened before it came
        viewer.send("i")
        viewer.send("the \r")
        until(lambda: "the " in [event.get("data", {}).get("prompt") for event in events(run.path)])
        viewer.child.kill(signal.SIGKILL)  # as rude as a viewer can be
    call(place, "resume", name)
    until(lambda: steps_logged(run.path)[-1] > before)
    if whole := leave is close and not code:
        until(lambda: not is_locked(run))
    else:  # writing the pictures at a run's end takes its time
        call(place, "stop", name)
    assert_undisturbed(place, name, whole)
    assert terminal.wait_exit() == 0 if leave is hang_up else os.waitpid(pid, 0)[1] == 0
    assert "Traceback" not in run.train_log.read_text()


def test_d_gives_the_shell_back_and_another_process_trains_on(place):
    with train(place, *LENGTH, "--name", "detached") as terminal:
        wait_step(terminal, 3)
        terminal.send(" ")
        terminal.wait_for("paused")
        at = step(terminal)
        terminal.send("d")
        assert terminal.wait_exit(30) == 0
        assert_intact(terminal)
    told = re.search(r"paused as process (\d+). Come back: minigpt-tui attach detached", said(terminal))
    run = RunDir(place / "runs/detached")
    held = holder(run)
    assert held.pid == int(told[1]) != terminal.child.pid
    assert os.getsid(held.pid) == held.pid
    with app(place, "attach") as viewer:
        viewer.wait_for("paused")
        assert step(viewer) == at
        viewer.send(" ")
        wait_step(viewer, at + 1)
        viewer.send("q")
        assert viewer.wait_exit() == 0
        assert_intact(viewer)
    assert is_locked(run)
    call(place, "stop")
    until(lambda: not is_locked(run))
    assert_undisturbed(place, "detached")


def test_d_hands_a_run_over_though_the_window_is_closed_at_once(place):
    program = [sys.executable, "-c", f"{SLOW_TO_LEAVE}\nfrom minigpt_tui.cli import main; main()"]
    terminal = Terminal([*program, "train", *LENGTH, "--name", "hasty"], cwd=place)
    wait_step(terminal, 3)
    terminal.send(" ", "d")
    terminal.wait(lambda: SCREEN_LEFT in terminal.bytes)
    terminal.pump(0.5)
    close(terminal)
    assert os.waitpid(terminal.child.pid, 0)[1] == 0
    run = RunDir(place / "runs/hasty")
    assert "paused as process" in run.train_log.read_text()
    assert holder(run).pid != terminal.child.pid
    call(place, "stop", "hasty")
    until(lambda: not is_locked(run))


NO_ROOM = """
import sys, minigpt_tui.detach as detach
detach.PROGRAM = (sys.executable, "-c", "import sys; sys.exit('minigpt-tui: no room on the device')")
"""


def test_a_run_that_cannot_be_handed_over_is_taken_back_as_it_was_and_the_reason_said(place):
    program = [sys.executable, "-c", f"{NO_ROOM}\nfrom minigpt_tui.cli import main; main()"]
    with Terminal([*program, "train", *LENGTH, "--name", "kept"], cwd=place, columns=100) as terminal:
        wait_step(terminal, 3)
        terminal.send(" ")
        terminal.wait_for("paused")
        at = step(terminal)
        terminal.send("d")
        terminal.wait_for("could not detach: no room on the device")
        terminal.wait_for("space resume")
        assert read_metrics(RunDir(place / "runs/kept"))[-1].step == at
        terminal.send("q")
        assert terminal.wait_exit() == 0
        assert_intact(terminal)


def test_where_no_process_can_be_begun_nothing_is_left_open(tmp_path, monkeypatch):
    before = psutil.Process().num_fds()
    monkeypatch.setattr(detach, "PROGRAM", ("/no/such/program",))
    with pytest.raises(UserError, match="cannot begin another process: No such file"):
        detach.go_on(RunDir(tmp_path), paused=False)
    assert psutil.Process().num_fds() == before


def test_a_process_that_a_signal_ended_has_a_shells_exit_code(monkeypatch):
    monkeypatch.setattr(detach, "PROGRAM", (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    assert detach.start([]).code == 137


def test_an_interrupted_handover_tells_what_was_saved(tmp_path, monkeypatch, capsys):
    def interrupted(run, paused):
        raise KeyboardInterrupt

    run, before = RunDir(tmp_path / "run"), signal.getsignal(signal.SIGHUP)
    run.path.mkdir()
    run.checkpoint.touch()
    monkeypatch.setattr(detach, "go_on", interrupted)
    ended = Status(phase="stopped", step=12, saved_step=12)
    assert launch.hand_over(run, term.inspect(), None, ended, paused=False) == 130
    signal.signal(signal.SIGHUP, before)
    assert "saved at step 12" in capsys.readouterr().out


def test_train_detach_begins_in_a_process_of_its_own(place):
    stray = place / "token.py"  # as a user's own file may be called
    stray.write_text("raise SystemExit('not a module of this program')")
    as_installed = [sys.executable, "-P", "-m", "minigpt_tui"]
    said = call(place, "train", *LENGTH, "--name", "away", "--detach", "--paused", program=as_installed)
    stray.unlink()
    run = RunDir(place / "runs/away")
    assert said.splitlines()[0] == f"run {run.path}"
    assert "minigpt-tui attach away" in said
    assert "training" in next(line for line in call(place, "runs").splitlines() if line.startswith("away"))
    call(place, "stop", "away")
    until(lambda: not is_locked(run))
    assert "--resume runs/away" in run.train_log.read_text()


def test_what_cannot_begin_detached_says_why_in_the_shell(place):
    words = ["train", "--detach", "--data", "none"]
    result = subprocess.run([*PROGRAM, *words], check=False, cwd=place, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("minigpt-tui: no such file or corpus: 'none'")
    assert result.stderr.count("\n") == 1


def test_a_run_whose_starter_is_gone_when_it_begins_goes_on(place):
    reading, writing = os.pipe()
    os.close(reading)
    words = [*LENGTH, "--name", "orphan", "--headless"]
    child = subprocess.Popen(
        [*PROGRAM, "train", *words], cwd=place, env=os.environ | {READY: str(writing)}, pass_fds=[writing]
    )
    os.close(writing)
    run = RunDir(place / "runs/orphan")
    until(lambda: run.metrics.exists() and len(steps_logged(run.path)) > 3)
    child.terminate()
    assert child.wait(30) == 128 + signal.SIGTERM
    assert_undisturbed(place, "orphan")
