"""One trainer a run: the process that trains holds a lock on the run's `control.json`, which says who it is."""

from __future__ import annotations

import fcntl
import os
import socket
import time

import msgspec

from minigpt_core.errors import UserError
from minigpt_core.rundir import RunDir

PATIENCE = 0.5
"""Seconds to wait for the lock: whoever only asks whether a run is locked holds it for a moment."""


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
            self._write({"format": 1, "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()})
        except BlockingIOError:
            raise UserError(f"run {run.name!r} is being trained already ({self._holder()}); stop that first") from None
        except OSError as error:
            raise UserError(f"cannot write {str(run.control)!r}: {error.strerror}") from None

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

    def _write(self, holder: dict[str, object]) -> None:
        self._file.truncate(0)
        self._file.write(msgspec.json.encode(holder))
        self._file.flush()

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            holder = msgspec.json.decode(self._file.read())
            return f"process {holder['pid']} on {holder['host']}"
        except (msgspec.DecodeError, KeyError, TypeError):
            return "by another process"


def is_locked(run: RunDir) -> bool:
    """Whether somebody trains this run at this moment."""
    try:
        with open(run.control, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
