"""The runs that lie beside one another in a folder: listed, laid over one another, deleted."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from pathlib import Path

from minigpt_core.errors import UserError
from minigpt_core.history import RunHistory
from minigpt_core.lock import RunLock
from minigpt_core.rundir import DELETED, RunDir, list_runs
from minigpt_core.status import Envelope
from minigpt_core.stored import read_config
from minigpt_core.summary import Reader, RunSummary

FOLLOW_SECONDS = 1.0


class Library:
    """Nobody who asks waits for a disk: `refresh` makes a thread look again, `summaries` tells what it has found.

    Attributes:
        ready: the folder has been listed at least once.
        problem: why it cannot be, in a line; empty if it can.
    """

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.ready = False
        self.problem = ""
        self._readers: dict[Path, Reader] = {}
        self._summaries: tuple[RunSummary, ...] = ()
        self._overlays: dict[str, Overlay] = {}
        self._asked = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def summaries(self) -> tuple[RunSummary, ...]:
        """What is known, newest first. A run that was found and not read yet has its name and the state "unread"."""
        return self._summaries

    def refresh(self) -> None:
        """Look again, in a thread; what has not changed is not read again."""
        self._asked.set()
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._follow, name="library", daemon=True)
            self._thread.start()

    def read(self) -> tuple[RunSummary, ...]:
        """Look again, now.

        Raises:
            UserError: the folder cannot be listed.
        """
        runs = list_runs(self.parent)
        self._readers = {run.path: self._readers.get(run.path) or Reader(run) for run in runs}
        readers = list(self._readers.values())
        self._summaries = tuple(reader.known for reader in readers)
        self.ready = True
        for reader in readers:
            if self._closed:
                break
            before = reader.known
            if reader.read() is not before:
                self._summaries = tuple(reader.known for reader in readers)
        return self._summaries

    def overlay(self, name: str) -> Overlay | None:
        """The metrics of a run, to be drawn over another's; None if there is no such run. The same one each time."""
        if name not in self._overlays:
            run = RunDir(self.parent / name)
            if self._closed or not run.is_run:
                return None
            self._overlays[name] = Overlay(run)
        return self._overlays[name]

    def close(self) -> None:
        """Let go of everything; returns at once."""
        self._closed = True
        self._asked.set()
        for overlay in self._overlays.values():
            overlay.close()

    def _follow(self) -> None:
        while self._asked.wait() and not self._closed:
            self._asked.clear()
            try:
                self.read()
                self.problem = ""
            except (UserError, OSError) as error:  # a file server that stumbles; the next try may succeed
                self.problem = str(error)


class Overlay:
    """Another run's metrics, loaded in a thread of its own and followed while that run trains."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._history = RunHistory(run)
        self._closed = threading.Event()
        threading.Thread(target=self._follow, name=f"overlay {run.name}", daemon=True).start()

    @property
    def last_step(self) -> int | None:
        """The step of the newest row; None while there is none."""
        return self._history.last.step if self._history.last is not None else None

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        """A metric between two steps, as a session has it; empty while it is being loaded."""
        return self._history.series.envelope(metric, lo, hi, buckets)

    def smooth(self, beta: float) -> None:
        """From now on its series "smoothed" uses this β, as a session's does."""
        self._history.series.smooth(beta)

    def close(self) -> None:
        self._closed.set()

    def _follow(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(OSError):  # a file server that stumbles; the next try may succeed
                self._history.refresh()
            self._closed.wait(FOLLOW_SECONDS)
        self._history.close()


def delete_run(run: RunDir) -> None:
    """Remove a run for good. It vanishes at once, by a rename; links are removed and never followed.

    Raises:
        UserError: it is no run, somebody trains it, or the disk refuses.
    """
    if run.path.is_symlink():
        raise UserError(f"{str(run.path)!r} is a link to a run; remove the link, or the run where it lies, by hand")
    if not _is_ours(run):
        raise UserError(f"{str(run.path)!r} holds nothing that tells it is a run; remove it by hand")
    lock = RunLock(run)
    grave = run.path.with_name(f"{DELETED}{secrets.token_hex(4)}")
    try:
        run.path.rename(grave)
        shutil.rmtree(grave)
    except OSError as error:
        rest = f"; what is left of it is {str(grave)!r}" if grave.exists() else ""
        raise UserError(f"cannot delete {str(run.path)!r}: {error.strerror or error}{rest}") from None
    finally:
        lock.release()


def _is_ours(run: RunDir) -> bool:
    """Whether a folder is a run, be it a damaged one: it has a run's configuration or at least one row of metrics."""
    if run.path.is_dir() and run.is_run:
        with contextlib.suppress(UserError):
            read_config(run)
            return True
        return Reader(run).read().last is not None
    return False
