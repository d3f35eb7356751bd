"""The terminal: what it can show, and care of its file descriptors while the app draws on it."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from minigpt_core.errors import UserError
from minigpt_tui.preferences import Color, Preferences, Theme

ASKED = "asked for"
DUMB = ("", "dumb", "unknown")
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
TRUECOLOR_TERMS = ("alacritty", "foot", "ghostty", "kitty", "wezterm", "-direct")
UTF8 = ("utf-8", "utf8")
COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python itself sets LC_CTYPE to where the locale is C (PEP 538)."""


@dataclass(frozen=True)
class Terminal:
    """What was found, each with its reason in plain words, and what the user prefers.

    Attributes:
        interactive: whether a full-screen app may open.
        why_not_interactive: the reason if not, to follow "since".
        ascii: draw with ASCII characters only.
        mouse: take the mouse.
        low_bandwidth: repaint less often.
        keys: the user's own keys by binding id, in Textual's names.
    """

    interactive: bool
    why_not_interactive: str
    color: Color
    color_reason: str
    ascii: bool
    ascii_reason: str
    theme: Theme = "dark"
    mouse: bool = True
    low_bandwidth: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)


def inspect(likes: Preferences | None = None) -> Terminal:
    """Look at this process's terminal and environment; what the user prefers goes before what is found."""
    is_tty = {name: _is_tty(number) for number, name in enumerate(("standard input", "standard output"))}
    return decide(os.environ, is_tty, likes or Preferences())


def decide(env: Mapping[str, str], is_tty: Mapping[str, bool], likes: Preferences) -> Terminal:
    """`inspect`, as a pure function of what was found."""
    term = env.get("TERM", "")
    why_not = next((f"{name} is not a terminal" for name, tty in is_tty.items() if not tty), "")
    if not why_not and term in DUMB:
        why_not = f"TERM={term} cannot draw a screen" if term else "TERM is not set"
    depth, color_reason = _color(env) if likes.color in (None, "auto") else (cast(Color, likes.color), ASKED)
    plain, ascii_reason = _ascii(env) if likes.ascii is None else (likes.ascii, ASKED)
    return Terminal(
        interactive=not why_not,
        why_not_interactive=why_not,
        color=depth,
        color_reason=color_reason,
        ascii=plain,
        ascii_reason=ascii_reason,
        theme=cast(Theme, likes.theme or "dark"),
        mouse=likes.mouse is not False,
        low_bandwidth=bool(likes.low_bandwidth),
        keys=likes.keys,
    )


def _color(env: Mapping[str, str]) -> tuple[Color, str]:
    term, colorterm = env.get("TERM", ""), env.get("COLORTERM", "").lower()
    if env.get("NO_COLOR"):
        return "none", "NO_COLOR is set"
    if env.get("STY") and not env.get("TMUX"):  # COLORTERM is the outer terminal's: GNU screen 4 knows no truecolor
        return ("256", f"GNU screen, TERM={term}") if "256" in term else ("16", f"GNU screen, TERM={term}")
    if colorterm in ("truecolor", "24bit"):
        return "truecolor", f"COLORTERM={colorterm}"
    if any(name in term for name in TRUECOLOR_TERMS):
        return "truecolor", f"TERM={term}"
    if "256" in term:
        return "256", f"TERM={term}, and SSH does not forward COLORTERM"
    if (
        env.get("TMUX") and term not in DUMB
    ):  # it reads every colour itself and passes on what the terminal outside can show
        return "256", f"tmux, whatever TERM={term} promises"
    return ("none", f"TERM={term or '(not set)'}") if term in DUMB else ("16", f"TERM={term} promises no more")


def _ascii(env: Mapping[str, str]) -> tuple[bool, str]:
    if env.get("TERM") == "linux":  # a console font has 256 or 512 glyphs: neither braille nor eighths of a block
        return True, "TERM=linux: console fonts lack braille and bars (--no-ascii if yours has them)"
    # POSIX order, but LC_CTYPE says nothing beside a LANG of C: Python itself may have set it.
    coerced = env.get("LANG") in ("C", "POSIX") and env.get("LC_CTYPE") in COERCED
    names = ("LC_ALL", "LANG") if coerced else ("LC_ALL", "LC_CTYPE", "LANG")
    name = next((name for name in names if env.get(name)), "LANG")
    value = env.get(name, "")
    if not value:
        return False, "no locale is set: UTF-8 assumed (--ascii if the screen shows rubbish)"
    if any(mark in value.lower() for mark in UTF8):
        return False, f"{name}={value}"
    return True, f"{name}={value} is not UTF-8"


def _is_tty(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def hung_up(descriptor: int) -> bool:
    """Whether the terminal at the other end is gone: its window was closed, its connection was lost."""
    poll = select.poll()
    poll.register(descriptor, 0)  # asks for nothing, and is told of this all the same
    return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def complain(message: str, code: int) -> int:
    """Say what went wrong in one line on standard error; gives back the exit code."""
    from minigpt_tui.safetext import safe  # not needed where nothing goes wrong

    print(f"minigpt-tui: {safe(' '.join(message.split()), newlines=False)}", file=sys.stderr)
    return code


def stop_on_signal(stop: Callable[[], None], hang_up: Callable[[], None] = lambda: None) -> list[int]:
    """Call `stop` at the first signal to end; a second one ends the program. Returns the list it is noted in.

    A terminal that goes away ends nothing: `hang_up` is called, unless the program was told to ignore it (`nohup`).
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:  # asked twice: leave at once, with what was saved last
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: hang_up())
    return received


def let_go_of_terminal(log: Path) -> None:
    """Standard input ends here, and what is said from now on goes to a log: this process outlives its terminal."""
    for flags, path, descriptors in ((os.O_RDONLY, os.devnull, (0,)), (LOG_FLAGS, str(log), (1, 2))):
        opened = os.open(path, flags, 0o666)
        for descriptor in descriptors:
            os.dup2(opened, descriptor)
        os.close(opened)


def say(line: str, stream: TextIO, log: Path) -> None:
    """Print a line on what may be a terminal; one that has gone away costs nothing, and the line goes to a log."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        let_go_of_terminal(log)


def leave_at_once(code: int) -> NoReturn:
    """A thread is still in native code, which Python's own goodbye would tear down under it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def keyboard_from_tty() -> None:
    """Standard input brought the text; from now on it is the keyboard, if this process has a terminal at all."""
    try:
        keyboard = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return  # no terminal: `inspect` will find that out and say so
    os.dup2(keyboard, 0)
    os.close(keyboard)


class _Screen(io.FileIO):
    """The screen's descriptor. A window that was closed takes in everything, so that the app can end in order."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(data)


@contextmanager
def protect_screen(log: Path) -> Iterator[None]:
    """While the app runs, only the app writes to the screen; what anything else prints goes to `log`.

    Native libraries write to descriptors 1 and 2, which are the screen. The app gets a duplicate of the screen's
    descriptor under the names Textual's driver looks for, `sys.__stderr__` and `sys.__stdout__`.

    Raises:
        UserError: the log cannot be written.
    """
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise UserError(f"cannot write {str(log)!r}: {error.strerror}") from None
    streams = sys.__stdout__, sys.__stderr__
    _flush()
    kept = os.dup(1), os.dup(2)
    screen = io.TextIOWrapper(io.BufferedWriter(_Screen(os.dup(1), "w")), encoding="utf-8", errors="replace")
    sys.__stdout__ = sys.__stderr__ = screen  # type: ignore[misc]
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        _flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            if not hung_up(descriptor):  # else the last words go to the log as well
                os.dup2(descriptor, number)
            os.close(descriptor)
        sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
        with suppress(OSError):  # the terminal may be gone
            screen.close()


def _flush() -> None:
    """Python's and C's buffers to where they were meant to go; never raises, so that what follows always happens."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # a full disk, a closed stream
                stream.flush()
    import ctypes  # takes its time, and only an app that was drawn needs it

    ctypes.CDLL(None).fflush(None)
