"""What is not loaded before somebody sees something: the rule that keeps the start quick, tested without a clock."""

import subprocess
import sys

import pytest

PROGRAM = [sys.executable, "-c"]

HELP = """
import sys
from minigpt_tui import cli
sys.argv = ["minigpt-tui", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as left:
    assert not left.code
heavy = {"torch", "numpy", "textual", "matplotlib", "pydantic", "rich.markdown"} & set(sys.modules)
assert not heavy, heavy
"""

FIRST_FRAME = """
import asyncio, os, sys
from minigpt_tui import cli, launch
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.preferences import Preferences

seen = []

def draw(session, *_):
    session.start = lambda: seen.append(set(sys.modules))  # what the first frame on the screen begins
    async def open_and_look():
        app = MiniGPTApp(session, launch.term.inspect())
        async with app.run_test(size=(120, 35)) as pilot:
            while not seen:
                await pilot.pause(0.01)
            assert "samples" in app.export_screenshot()
    asyncio.run(open_and_look())
    return launch.Left(None, outlived=False, detached=False)

launch.draw = draw
launch.term.decide = lambda *_, decide=launch.term.decide: decide(os.environ, {}, Preferences())
sys.argv = ["minigpt-tui", "train", "--name", "run", "--steps", "3"]
try:
    cli.main()
except SystemExit as left:
    assert not left.code
heavy = {"torch", "matplotlib", "jinja2", "pydantic", "rich.markdown", "typer.rich_utils", "markdown_it"} & seen[0]
heavy |= {"websockets"} & seen[0]
assert not heavy, heavy
later = {f"minigpt_tui.screens.{name}" for name in ("gallery", "runs", "compare", "experiment", "tour")} & seen[0]
assert not later, later
"""

FIRST_STEP = """
import sys
from minigpt_core.engine import Engine
from minigpt_core.plan import Request, prepare
from minigpt_core.status import Stop
engine = Engine(prepare(Request(train={"steps": 10**6, "device": "cpu", "threads": 1})))
engine.start()
while engine.status().step < 2 or engine.prober.frame() is None:
    assert not engine.join(0.01), engine.status().message
heavy = {"torch._dynamo", "torch._inductor", "sympy", "matplotlib", "jinja2"} & set(sys.modules)
assert not heavy, heavy
engine.send(Stop())
engine.join()
engine.prober.close()
engine.prober.join()
"""


def check(program, folder, *words):
    result = subprocess.run([*PROGRAM, program, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_neither_torch_nor_the_app(tmp_path, words):
    check(HELP, tmp_path, *words)


def test_the_first_frame_comes_before_torch_and_before_what_is_opened_later(tmp_path):
    check(FIRST_FRAME, tmp_path)


def test_the_first_steps_and_looks_need_no_compiler(tmp_path):
    """Loading torch's takes as long as loading torch."""
    check(FIRST_STEP, tmp_path)
