"""Looking back: recorded frames, read in a thread of their own so that nobody who scrubs waits for a disk."""

from __future__ import annotations

import threading

import numpy as np

from minigpt_core.errors import UserError
from minigpt_core.frame import Frame, HeadHistory, RecordedSample
from minigpt_core.recording import Recording
from minigpt_core.rundir import RunDir
from minigpt_core.stored import read_tokenizer
from minigpt_core.tokenizer import Tokenizer

REFRESH_SECONDS = 1.0
"""Between two looks for new frames, while somebody asks."""


class Replay:
    """Only one frame is in memory, whatever the length of the run.

    Attributes:
        failure: why the recording cannot be read, in a line.
    """

    def __init__(self, run: RunDir) -> None:
        self._run_dir, self._recording = run, Recording(run)
        self._tokenizer: Tokenizer | None = None
        self.failure: str | None = None
        self._wanted: int | None = None
        self._frame: Frame | None = None
        self._sample: RecordedSample | None = None
        self._steps = np.empty(0, dtype=np.int64)
        self._heads: HeadHistory | None = None
        self._wants_heads = False
        self._news = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)

    # --- any thread ---

    def start(self) -> None:
        self._thread.start()

    @property
    def looking_back(self) -> bool:
        return self._wanted is not None

    def look_back(self, step: int | None) -> None:
        """Read the frame nearest to this step next; None lets go of what was read."""
        self._wanted = step
        self._news.set()

    def frame(self) -> Frame | None:
        """The frame read last; None while there is none."""
        return self._frame

    def sample(self) -> RecordedSample | None:
        return self._sample

    def steps(self) -> np.ndarray:
        """(n,) the recorded steps as of about a second ago."""
        return self._steps

    def head_history(self) -> HeadHistory | None:
        """All scores as of about a second ago; asking for the first time begins the reading."""
        self._wants_heads = True
        return self._heads

    def close(self) -> None:
        self._closed.set()
        self._news.set()

    def join(self, timeout: float | None = None) -> bool:
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- the thread ---

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if not self._read_wanted():
                    self._refresh()
                self.failure = None
            except UserError as error:
                self.failure = str(error)
            self._news.wait(REFRESH_SECONDS)
            self._news.clear()
        self._recording.close()

    def _read_wanted(self) -> bool:
        """Read what was asked for, if it is not what was read last; whether there was anything to do."""
        wanted = self._wanted
        if wanted is None:
            self._frame = self._sample = None
            return False
        step = self._recording.nearest(wanted)
        if step is None or (self._frame is not None and self._frame.stamp.step == step):
            return False
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self._run_dir)
        frame = self._recording.frame(step, self._tokenizer.token_labels)
        if frame is not None:
            self._frame, self._sample = frame, self._recording.sample(step)
        return True

    def _refresh(self) -> None:
        steps = self._recording.steps()
        if self._wants_heads and (self._heads is None or not np.array_equal(steps, self._heads.steps)):
            self._heads = self._recording.head_history()
        self._steps = steps
