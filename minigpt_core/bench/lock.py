"""Only one timing at a time on a machine: two would measure each other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from minigpt_core.errors import UserError

NAME = "minigpt-tui-bench.lock"


class TimingLock:
    """Held inside a `with`; whoever comes second waits. The system lets go of it when the process dies, however.

    The file stays: deleting it would let two processes lock two files of the same name.

    Args:
        waiting: told once, in a line, if somebody else measures.

    Raises:
        UserError: the lock file is another user's, or cannot be made.
    """

    def __init__(self, waiting: Callable[[str], None], path: Path | None = None) -> None:
        self.path = path or Path(tempfile.gettempdir(), NAME)
        self._waiting = waiting
        self._descriptor = -1

    def __enter__(self) -> TimingLock:
        try:
            # O_NOFOLLOW: the folder may be everybody's, and the name is known.
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UserError(
                f"cannot open the benchmarks' lock {str(self.path)!r}: {error.strerror}; "
                "if it is another user's and nobody measures, have it removed, or set TMPDIR"
            ) from None
        try:
            self._lock()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            who = f"process {holder}" if holder.isdigit() else "another process"
            self._waiting(f"waiting until {who} has finished its benchmark")
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
