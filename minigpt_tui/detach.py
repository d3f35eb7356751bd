"""Training in a process that no terminal can end: begun by one that leaves.

The new process has a session of its own. One that was asked for in a shell keeps the terminal's descriptors until its
run has begun, so that what goes wrong before is read there; then it lets go of them and says so over a pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from minigpt_core.errors import UserError
from minigpt_core.rundir import RunDir
from minigpt_tui.terminal import let_go_of_terminal

READY = "MINIGPT_TUI_READY"
"""The environment variable that holds the descriptor to speak to once a run has begun."""
PROGRAM = (sys.executable, "-P", "-m", "minigpt_tui")
"""-P: the folder it is called from is no place for modules, unless it is one for this process too."""


class Started:
    """How a process that was begun fares once it is known.

    Attributes:
        run: its run's directory; None if the run never began.
        pid: the process.
        code: its exit code, if it ended; as a shell gives it.
    """

    def __init__(self, run: Path | None, pid: int, code: int | None) -> None:
        self.run, self.pid, self.code = run, pid, code


def start(arguments: list[str], log: IO[bytes] | None = None) -> Started:
    """Run this program with these arguments in a session of its own; returns once its run has begun, or never will.

    A Ctrl-C meanwhile ends it. What it says is read on the terminal, or in a log.

    Raises:
        UserError: the system has no room for another process.
    """
    try:
        reading, writing = os.pipe()
        with os.fdopen(reading) as pipe:
            try:
                process = _begin(arguments, writing, log)
            finally:
                os.close(writing)
            try:
                said = pipe.readline().rstrip("\n")
            except KeyboardInterrupt:
                process.send_signal(signal.SIGTERM)
                process.wait()
                raise
    except OSError as error:
        raise UserError(f"cannot begin another process: {error.strerror}") from None
    if said:
        process.returncode = 0  # it is on its own: nobody waits for it
        return Started(Path(said), process.pid, None)
    code = process.wait()
    return Started(None, process.pid, code if code >= 0 else 128 - code)


def _begin(arguments: list[str], writing: int, log: IO[bytes] | None) -> subprocess.Popen[bytes]:
    environment = os.environ | {READY: str(writing), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [*PROGRAM, *arguments], env=environment, pass_fds=[writing], start_new_session=True, stdout=log, stderr=log
    )


def go_on(run: RunDir, paused: bool) -> int:
    """Have a process of its own, whose number this is, go on with a run that was saved here and is unlocked.

    Raises:
        UserError: it cannot; the message says why.
    """
    words = ["train", "--resume", str(run.path.resolve()), "--headless", *(["--paused"] if paused else [])]
    try:
        log = open(run.train_log, "a+b")  # noqa: SIM115 - closed below, apart from what may fail to open
    except OSError as error:
        raise UserError(f"cannot write {str(run.train_log)!r}: {error.strerror}") from None
    with log:
        before = log.tell()
        started = start(words, log)
        if started.run is not None:
            return started.pid
        log.seek(before)
        said = log.read().decode(errors="replace").strip()
    if not said:
        raise UserError(f"the new process ended with exit code {started.code}")
    raise UserError(said.splitlines()[-1].removeprefix("minigpt-tui: "))


def tell_begun(run: RunDir) -> bool:
    """In the new process: its run has begun. Whether there was somebody to tell, who then leaves us alone."""
    writing = os.environ.pop(READY, None)
    if writing is None:
        return False
    let_go_of_terminal(run.train_log)
    with suppress(BrokenPipeError), os.fdopen(int(writing), "w", errors="surrogateescape") as pipe:
        pipe.write(f"{run.path.resolve()}\n")  # to nobody, if the starter's terminal went away meanwhile
    return True
