"""What a terminal can show, decided on environments made up here; and, in a real pseudo-terminal, who may draw."""

import sys
from pathlib import Path

import pexpect
import pytest

from minigpt_core.errors import UsageError
from minigpt_tui.preferences import Preferences
from minigpt_tui.terminal import decide

TTY = {"standard input": True, "standard output": True}


def found(color=None, ascii=None, is_tty=TTY, **env):
    likes = Preferences(color=color, ascii=ascii)
    return decide({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"} | env, is_tty, likes)


@pytest.mark.parametrize(
    ("env", "depth"),
    [
        ({}, "256"),
        ({"COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "xterm-kitty"}, "truecolor"),
        ({"TERM": "linux"}, "16"),
        ({"TERM": "dumb"}, "none"),
        ({"NO_COLOR": "1", "COLORTERM": "truecolor"}, "none"),
        ({"NO_COLOR": ""}, "256"),
        ({"TERM": "screen"}, "16"),
        ({"TERM": "screen-256color"}, "256"),
        ({"TERM": "screen", "TMUX": "/tmp/tmux-0/default,1,0"}, "256"),
        ({"TERM": "tmux-256color", "TMUX": "x", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "screen", "STY": "1.pts", "COLORTERM": "truecolor"}, "16"),  # GNU screen 4 knows none
        ({"TERM": "screen.xterm-256color", "STY": "1.pts", "COLORTERM": "truecolor"}, "256"),
        ({"TERM": "dumb", "TMUX": "x"}, "none"),
    ],
)
def test_colour_depth(env, depth):
    terminal = found(**env)
    assert terminal.color == depth
    assert terminal.color_reason
    assert found(color="16", **env).color == "16"


def test_an_unknown_colour_depth_is_refused():
    with pytest.raises(UsageError, match="did you mean 'truecolor'"):
        found(color="truecolour")


@pytest.mark.parametrize(
    ("env", "plain"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python leaves it
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, False),  # Python never sets that: the user did
        ({"LC_CTYPE": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": ""}, False),
        ({"TERM": "linux"}, True),  # a console font has neither braille nor eighths of a block
    ],
)
def test_what_shows_no_other_characters_selects_ascii(env, plain):
    terminal = found(**env)
    assert terminal.ascii == plain
    assert terminal.ascii_reason
    assert found(ascii=True, **env).ascii
    assert not found(ascii=False, **env).ascii


def test_what_cannot_show_an_app_is_named():
    assert found().interactive
    assert "TERM=dumb" in found(TERM="dumb").why_not_interactive
    assert "TERM is not set" in found(TERM="").why_not_interactive
    assert "standard output" in found(is_tty=TTY | {"standard output": False}).why_not_interactive


PROGRAM = """
import ctypes, os, sys
from pathlib import Path
from textual.app import App
from textual.widgets import Static
from minigpt_tui.terminal import protect_screen

class Tiny(App):
    def compose(self):
        yield Static("DRAWN BY THE APP")
    def on_mount(self):
        os.write(2, b"NATIVE NOISE\\n")
        ctypes.CDLL(None).puts(b"C NOISE")
        print("PYTHON NOISE", file=sys.stderr)
        self.set_timer(0.5, self.exit)

with protect_screen(Path(sys.argv[1])):
    Tiny().run()
print("AFTER")
"""


@pytest.mark.parametrize("redirect", ["", "2>/dev/null"])
def test_only_the_app_draws_on_the_screen(tmp_path, redirect):
    log, program = tmp_path / "train.log", tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = f"exec '{sys.executable}' '{program}' '{log}' {redirect}"
    child = pexpect.spawn(
        "/bin/sh", ["-c", command], env={"TERM": "xterm-256color", "PATH": "/usr/bin:/bin"}, timeout=30
    )
    child.expect(pexpect.EOF)
    shown = child.before.decode()
    assert "DRAWN BY THE APP" in shown
    assert "NOISE" not in shown
    assert "\x1b[?1049l" in shown  # the alternate screen is left
    assert shown.rstrip().endswith("AFTER")
    assert "NATIVE NOISE" in log.read_text()
    assert "C NOISE" in log.read_text()


def test_a_full_disk_under_the_log_does_not_cost_the_terminal(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "from minigpt_tui.terminal import protect_screen\n"
        "with protect_screen(Path('/dev/full')):\n"
        "    print('lost', end='')\n"
        "print('AFTER')\n"
    )
    # Fails as the block ends, not in print; an environment of its own, since PYTHONUNBUFFERED would hide that.
    child = pexpect.spawn(sys.executable, [str(program)], env={"PATH": "/usr/bin:/bin"}, timeout=30)
    child.expect(pexpect.EOF)
    assert b"AFTER" in child.before
