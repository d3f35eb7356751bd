"""How the app ends when it is told to, or when its terminal or its trainer fails: by signals, in a real terminal."""

import re
import signal
import sys

import pytest

from tests.terminal import Terminal
from tests.test_pty import ENDLESS, SMALL, assert_intact, said, wait_step


@pytest.fixture
def folder(tmp_path, text):
    (tmp_path / "text.txt").write_text(text)
    return tmp_path


def prelude(code):
    """The program after some code that sets a trap."""
    return [sys.executable, "-c", f"{code}\nfrom minigpt_tui.cli import main; main()"]


def words(*more):
    return ["train", "--data", "text.txt", "--name", "run", *SMALL, *ENDLESS, *more]


SLOW_SAVE = """
import time
import minigpt_core.checkpoint as checkpoint
import minigpt_core.trainer as trainer
stop = trainer.Trainer.stop
trainer.Trainer.stop = lambda self: (stop(self), time.sleep(60))
"""


def test_a_second_interrupt_leaves_at_once_with_what_was_saved_last(folder):
    with Terminal([*prelude(SLOW_SAVE), *words("--save-every", "5")], cwd=folder) as terminal:
        wait_step(terminal, 12)
        terminal.child.kill(signal.SIGINT)
        terminal.wait_for("again: leave at once", 10)
        terminal.pump(0.5)
        assert terminal.child.isalive()
        terminal.child.kill(signal.SIGINT)
        assert terminal.wait_exit(10) == 130
        assert_intact(terminal)
    assert (folder / "runs/run/model_checkpoint.pt").exists()


NATIVE = """
import ctypes, os, threading
def shout():
    for _ in range(3):  # at once, long before anybody leaves
        os.write(2, b"native stderr\\n")
        ctypes.CDLL(None).puts(b"native stdout")
        ctypes.CDLL(None).fflush(None)
import minigpt_core.plan as plan
build = plan.Plan.build
plan.Plan.build = lambda *a: (threading.Thread(target=shout, daemon=True).start(), build(*a))[1]
"""
HIDDEN = "a password nobody may see"
TRAINER_FAILS = f"""
import minigpt_core.trainer as trainer
step = trainer.Trainer.step
def failing(self):
    secret = "{HIDDEN}"
    if self.state.step == 5:
        raise RuntimeError("the trap in the trainer\\nhas two lines")
    step(self)
trainer.Trainer.step = failing
"""
APP_FAILS = f"""
import minigpt_tui.screens.main as main
def failing(self):
    secret = "{HIDDEN}"
    if self._session.status().step > 5:
        raise RuntimeError("the trap in the app")
main.MainScreen._poll_reading = failing
"""


def test_a_trainers_error_is_one_line_and_its_traceback_and_what_native_code_prints_are_in_the_log(folder):
    with Terminal([*prelude(NATIVE + TRAINER_FAILS), *words()], cwd=folder) as terminal:
        terminal.wait_for("the trap in the trainer")
        terminal.pump(0.3)
        assert "✗ failed" in terminal.line(0)
        assert b"native" not in terminal.bytes
        terminal.send("q")
        assert terminal.wait_exit() == 1
        assert_intact(terminal)
    assert said(terminal) == "minigpt-tui: RuntimeError: the trap in the trainer (the traceback is in train.log)"
    assert HIDDEN.encode() not in terminal.bytes
    assert b"Traceback" not in terminal.bytes
    log = (folder / "runs/run/train.log").read_text()
    assert "RuntimeError: the trap in the trainer" in log
    assert "native stderr" in log
    assert "native stdout" in log


def test_an_error_in_the_app_leaves_the_terminal_intact_and_the_run_saved(folder):
    with Terminal([*prelude(APP_FAILS), *words()], cwd=folder) as terminal:
        assert terminal.wait_exit() == 1
        assert_intact(terminal)
    assert re.fullmatch(r"minigpt-tui: the app failed; the traceback is in '.*train.log', .*", said(terminal))
    assert HIDDEN.encode() not in terminal.bytes
    assert "the trap in the app" in (folder / "runs/run/train.log").read_text()
    assert (folder / "runs/run/model_checkpoint.pt").exists()
