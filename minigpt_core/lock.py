"""One trainer a run: the process that trains holds a lock on the run's `control.json`, which says who it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import socket
import time

import msgspec

from minigpt_core.errors import UserError
from minigpt_core.reading import read_bytes
from minigpt_core.rundir import RunDir

PATIENCE = 0.5
"""Seconds to wait for the lock: whoever only asks whether a run is locked holds it for a moment."""
MAX_BYTES = 2**16
"""Of `control.json`; what is longer, nobody here wrote."""
LOOKS = 5
"""At a file that its holder may be writing at this moment."""


class Holder(msgspec.Struct, frozen=True, tag_field="format", tag=1):
    """Who trains a run: what `control.json` says while the run is locked."""

    host: str
    pid: int
    started: float
    """Seconds since 1970."""
    socket: str = ""
    """Where it can be attached to; empty while that is not possible."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()


class RunLock:
    """Held from construction to `release`; the system lets go of it when the process dies, however it dies.

    The file stays: deleting it would let two processes lock two files of the same name. Unlocked, it is empty.

    Raises:
        UserError: somebody trains this run already; the message says who.
    """

    def __init__(self, run: RunDir) -> None:
        try:
            self._file = open(run.control, "a+b")  # noqa: SIM115 - held open for as long as the lock
            self._acquire()
            self._own = Holder(socket.gethostname(), os.getpid(), time.time())
            self._write()
        except BlockingIOError:
            who, name = holder(run) or "another process", shlex.quote(run.name)
            raise UserError(
                f"run {run.name!r} is being trained already ({who}); "
                f"watch it with: minigpt-tui attach {name}, or end it with: minigpt-tui stop {name}"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write {str(run.control)!r}: {error.strerror}") from None

    def announce(self, path: str) -> None:
        """Say where the run can be attached to; a lock that was released has nothing to say."""
        if not self._file.closed:
            self._own = msgspec.structs.replace(self._own, socket=path)
            self._write()

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if not self._file.closed:
            self._file.truncate(0)
            self._file.close()

    def _acquire(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _write(self) -> None:
        self._file.truncate(0)
        self._file.write(msgspec.json.encode(self._own))
        self._file.flush()


def holder(run: RunDir) -> Holder | None:
    """Who trains this run at this moment; None if nobody does, or none can be told from what its file says."""
    for _ in range(LOOKS):
        if not is_locked(run):
            return None
        with contextlib.suppress(UserError, msgspec.DecodeError):
            return msgspec.json.decode(read_bytes(run.control, MAX_BYTES), type=Holder)
        time.sleep(0.01)
    return None


def is_locked(run: RunDir) -> bool:
    """Whether somebody trains this run at this moment."""
    try:
        with open(os.open(run.control, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe is not waited for
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
