"""A real pseudo-terminal with a screen: what a person would see, and the keys they would press."""

from __future__ import annotations

import contextlib
import os
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pexpect
import pyte

ENVIRONMENT = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}


class Terminal:
    """A program in a pseudo-terminal whose output goes to a `pyte` screen and is kept as bytes, too."""

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        clean = {
            k: v for k, v in os.environ.items() if k not in ("COLORTERM", "NO_COLOR", "LC_ALL", "LC_CTYPE", "TMUX")
        }
        self.folder = Path(cwd or ".")
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.bytes = b""
        self.child = pexpect.spawn(
            command[0],
            list(command[1:]),
            dimensions=(rows, columns),
            env={**clean, **ENVIRONMENT, **(env or {})},
            cwd=None if cwd is None else os.fspath(cwd),
            timeout=30,
        )
        self.child.delaybeforesend = None  # a person's key waits for nothing either
        self.attributes_before = self.attributes_after = self.attributes()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)

    # --- looking ---

    def pump(self, seconds: float = 0.0) -> None:
        """Take in what the program writes for this long; at least what is there already."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                data = self.child.read_nonblocking(65536, timeout=max(0.0, min(0.02, deadline - time.monotonic())))
            except pexpect.TIMEOUT:
                data = b""
            except pexpect.EOF:
                return
            self.bytes += data
            with contextlib.suppress(Exception):  # pyte does not know every sequence
                self._stream.feed(data)
            if not data and time.monotonic() >= deadline:
                return

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def line(self, number: int) -> str:
        return self.screen.display[number]

    def wait(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Until `condition` holds, or fail with the screen as it is."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; the screen:\n{self.text()}")
            if not self.child.isalive():
                self.pump()
                if condition():
                    return
                raise AssertionError(f"the program has ended; the screen:\n{self.text()}")
            self.pump(0.01)

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        self.wait(lambda: text in self.text(), seconds)

    def attributes(self) -> list[object]:
        """How the terminal treats the keyboard: echo, line editing, signals."""
        return termios.tcgetattr(self.child.child_fd)

    # --- acting ---

    def send(self, *keys: str) -> None:
        for key in keys:
            self.child.send(key)
            self.pump(0.2 if key == "\x1b" else 0.0)  # an escape alone is told from a sequence by the pause after it

    def resize(self, columns: int, rows: int) -> None:
        self.child.setwinsize(rows, columns)
        self.screen.resize(rows, columns)

    def wait_exit(self, seconds: float = 30.0) -> int:
        """The exit code; a signal's is negative."""
        deadline = time.monotonic() + seconds
        while self.child.isalive():
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {seconds} s; the screen:\n{self.text()}")
            self.pump(0.02)
        self.pump()
        self.attributes_after = self.attributes()
        return self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus
