"""The program under test in a pseudo-terminal of its own, whose output a thread takes away as it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from minigpt_core.bench.workbench import Program
from minigpt_core.errors import UserError
from minigpt_core.rundir import RunDir
from minigpt_core.status import MetricsRow
from minigpt_core.tail import Tail

COLUMNS, ROWS = 120, 35
POLL_SECONDS = 0.002
GRACE_SECONDS = 30.0
"""How long the program may take to save and leave."""


class Screen:
    """A running program; leaving the `with` ends it, however it was left.

    Args:
        words: the program's arguments.
    """

    def __init__(self, program: Program, *words: str) -> None:
        self._program = program
        self._output = bytearray()
        self._grown = threading.Condition()
        self._terminal, far_end = os.openpty()
        try:
            termios.tcsetwinsize(far_end, (ROWS, COLUMNS))
            self.started = time.perf_counter()
            self._process = subprocess.Popen(
                [*program.command, *words],
                stdin=far_end,
                stdout=far_end,
                stderr=far_end,
                env={**os.environ, **program.environment},
                start_new_session=True,  # a Ctrl-C is ours to pass on
            )
        except BaseException:
            os.close(self._terminal)
            raise
        finally:
            os.close(far_end)
        self._reader = threading.Thread(target=self._drain, name="screen", daemon=True)
        self._reader.start()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads its session: whatever it started goes too
        self._process.wait()
        self._reader.join()
        os.close(self._terminal)

    def wait_for(self, mark: bytes, timeout: float = 60.0) -> float:
        """Seconds from the start until `mark` was among the output.

        Raises:
            UserError: it did not come.
        """
        with self._grown:
            while mark not in self._output:
                if not self._grown.wait(timeout):
                    raise UserError(f"the program did not show {mark.decode(errors='replace')!r}: {self.last_words()}")
                if self._process.poll() is not None and mark not in self._output:
                    raise UserError(f"the program ended early: {self.last_words()}")
            return time.perf_counter() - self.started

    def wait_until(self, condition: Callable[[], bool], timeout: float = 300.0) -> float:
        """Seconds from the start until `condition` held, which is asked every few milliseconds.

        Raises:
            UserError: the program ended before, or took too long.
        """
        while not condition():
            if self._process.poll() is not None:
                raise UserError(f"the program ended early: {self.last_words()}")
            if time.perf_counter() - self.started > timeout:
                raise UserError(f"the program took longer than {timeout:g} s: {self.last_words()}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - self.started

    def leave(self, key: bytes | None = None) -> None:
        """Ask it to end, by a key or else by a signal, and wait."""
        if key is not None:
            os.write(self._terminal, key)
        else:
            self._process.terminate()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def wait_end(self, timeout: float = 60.0) -> float:
        """Seconds from the start to the program's own end.

        Raises:
            UserError: it failed, or took too long.
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise UserError(f"the program took longer than {timeout:g} s: {self.last_words()}") from None
        taken = time.perf_counter() - self.started
        if code:
            raise UserError(f"the program failed with exit code {code}: {self.last_words()}")
        return taken

    def last_words(self) -> str:
        """The end of its output, in one line."""
        return " ".join(bytes(self._output[-300:]).decode(errors="replace").split()) or "no output"

    def _drain(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 65536)
            except OSError:  # Linux says so when the last process at the far end has gone
                data = b""
            with self._grown:
                self._output += data
                self._grown.notify_all()
            if not data:
                return


class Metrics:
    """How many steps a growing run has made, by the newest whole row of its metrics."""

    def __init__(self, folder: Path) -> None:
        self._tail = Tail(RunDir(folder / "run").metrics, MetricsRow)
        self._step = 0

    def steps(self) -> int:
        for row in self._tail.read():
            self._step = row.step
        return self._step


def folder_of_runs() -> tempfile.TemporaryDirectory[str]:
    """Where a benchmark's runs lie until it is over."""
    return tempfile.TemporaryDirectory(prefix="minigpt-tui-bench-")


def program_of(program: Program | None) -> Program:
    """Raises UserError where nobody said what to start."""
    if program is None:
        raise UserError("this benchmark starts the program, and was not told which")
    return program
