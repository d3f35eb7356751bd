"""Checkpoints written while training goes on: a step waits for the copy of the state, a thread does the rest.

What a disk refuses is tried again, ever more rarely, with the state of that later moment. A file on the disk is never
older than what a checkpoint there says of it: metrics rows first, then `best.pt`, then `model_checkpoint.pt`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from minigpt_core import checkpoint
from minigpt_core.atomic import remove_leftovers
from minigpt_core.config import interval
from minigpt_core.errors import TrainingError, UserError
from minigpt_core.host_copy import HostCopy
from minigpt_core.runlog import RunLog, log_traceback
from minigpt_core.status import Event

RETRY_SECONDS, LONGEST_RETRY = 5.0, 60.0
"""Until a save that failed is tried again; twice as long after each failure, up to the second."""


State = dict[str, Any]


class Saver:
    """Saves a run periodically, one save at a time.

    Everything but the writing itself is the trainer's thread. The run's lock is held: temporary files that lie there
    are a killed process's, and are removed.

    Args:
        every: steps between periodic saves, or minutes ("10m").
        state: asked for what to save: `Trainer.state_dict()`, and the best state so far, which becomes `best.pt` with
            the next save, so at most once a save however often a better one comes.

    Attributes:
        saved_step, saved_at: the last durable checkpoint and when it was written, in seconds since 1970.
        failure: what the disk refuses at present, in one line.
    """

    def __init__(self, log: RunLog, every: int | str, state: Callable[[], tuple[State, HostCopy | None]]) -> None:
        self._log, self._state = log, state
        self._steps, self._seconds = interval(every)
        self.saved_step: int | None = None
        self.saved_at: float | None = None
        self.failure: str | None = None
        self._error: UserError | None = None
        self._best: HostCopy | None = None
        """The one that is on the disk."""
        self._asked = False
        self._taken, self._taken_at = 0, time.monotonic()
        self._rest, self._retry_at = RETRY_SECONDS, 0.0
        self._thread = threading.Thread()
        remove_leftovers(log.run.path)

    def resumed(self, step: int) -> None:
        """The state at `step`, and its best one, are on the disk already."""
        self.saved_step = self._taken = step
        self._taken_at = time.monotonic()

    def load_best(self, step: int | None) -> State | None:
        """The state that `best.pt` holds, if it is that of this step."""
        with suppress(UserError):
            best = checkpoint.load(self._log.run.best)
            return best if best["state"]["step"] == step else None
        return None

    def look(self, step: int) -> None:
        """Between two steps: begin a save if one is due and none is under way."""
        if self._due(step):
            copy, best = self._take()
            self._thread = threading.Thread(target=self._write_telling, args=(copy, best), name="saver")
            self._thread.start()

    def save_soon(self, step: int, wait: bool = False) -> None:
        """Somebody asks for a save: begin it now, or as soon as the one under way is done.

        Args:
            wait: until it is written; for whoever has time, as a paused run.
        """
        if wait:
            self.wait()
        self._asked, self._retry_at = True, 0.0
        self.look(step)
        if wait:
            self.wait()

    def save(self) -> None:
        """Write the state of this moment; it is durable when this returns.

        Raises:
            UserError: the disk refuses; what was there before is untouched.
            TrainingError: the state has diverged.
        """
        self.wait()
        self._write(*self._take())
        if self._error:
            raise self._error

    def wait(self) -> None:
        """Until no save is under way."""
        if self._thread.ident is not None:
            self._thread.join()

    def save_best(self, best: HostCopy | None) -> None:
        """Write `best.pt` only, if it is not there yet: the state itself is not worth saving."""
        self.wait()
        self._write(None, best)

    def _due(self, step: int) -> bool:
        if self._thread.is_alive():
            return False
        if self.failure:
            return time.monotonic() >= self._retry_at
        if self._seconds is not None:
            return self._asked or time.monotonic() - self._taken_at >= self._seconds
        return self._asked or (self._steps is not None and step // self._steps > self._taken // self._steps)

    def _take(self) -> tuple[HostCopy, HostCopy | None]:
        state, best = self._state()
        self._asked, self._taken, self._taken_at = False, state["state"]["step"], time.monotonic()
        return HostCopy(state), best

    # --- writing: the saver's thread, or the trainer's while it waits ---

    def _write_telling(self, copy: HostCopy, best: HostCopy | None) -> None:
        said = self.failure
        self._write(copy, best)
        if self.failure and self.failure != said:
            message = f"{self.failure}; training goes on, and saving is tried again"
            self._log.event(Event(kind="warning", step=self._taken, time=time.time(), message=message))

    def _write(self, copy: HostCopy | None, best: HostCopy | None) -> None:
        run, self._error = self._log.run, None
        try:
            self._log.flush()
            if best is not None and best is not self._best:
                checkpoint.save(run.best, best.state())
                self._best = best
            if copy is not None:
                state = copy.state()
                checkpoint.save(run.checkpoint, state)
                self._succeeded(state["state"]["step"], run.checkpoint)
        except TrainingError as error:  # not the disk's fault, and the trainer will find out
            self._error = error
        except UserError as error:
            self._failed(error)
        except Exception as error:  # memory, say: no reason for training to end either
            log_traceback(run)
            self._failed(UserError(f"cannot save: {type(error).__name__} (the traceback is in train.log)"))

    def _succeeded(self, step: int, path: Path) -> None:
        again = "saving works again: " if self.failure else ""
        self.failure, self._rest = None, RETRY_SECONDS
        self.saved_step, self.saved_at = step, time.time()
        self._log.event(Event(kind="save", step=step, time=time.time(), message=f"{again}saved {path.name}"))

    def _failed(self, error: UserError) -> None:
        self.failure, self._error = str(error), error
        self._retry_at = time.monotonic() + self._rest
        self._rest = min(2 * self._rest, LONGEST_RETRY)
