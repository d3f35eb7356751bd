"""One answer on its way from a sampler thread to whoever asked: pieces of text, a stamp, a way to stop."""

from __future__ import annotations

import threading
from collections import deque
from typing import Literal, TypedDict

from minigpt_core.config import SampleConfig
from minigpt_core.status import Choice, Piece, Stamp

FinishReason = Literal["length", "stop", "cancelled", "failed"]


class SampleSettings(TypedDict, total=False):
    """The fields of `SampleConfig`, each of them optional: for functions that take them as keywords."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    num_samples: int
    temperatures: tuple[float, ...]


class Generation:
    """A request and the answer to it. The sampler writes, the viewer polls; neither ever waits for the other.

    The buffer needs no bound of its own: a request says how many tokens it may bring.
    """

    def __init__(self, prompt: str, config: SampleConfig) -> None:
        self.prompt = prompt
        self.config = config
        self.shown: str | None = None
        """What a transcript shows in place of the prompt; in a conversation, the turn that is new."""
        self.stamp: Stamp | None = None
        """Set before the first piece."""
        self.warnings: tuple[str, ...] = ()
        self.finish_reason: FinishReason | None = None
        self.error: str | None = None
        self.n_tokens = 0
        self._pieces: deque[Piece] = deque()
        self.choices: list[list[Choice]] = [[] for _ in config.rows]
        """For each sample its tokens so far. Their texts, joined, begin with `text`, which ends before a stop text."""
        self._texts = [""] * len(config.rows)
        self._cancelled = threading.Event()
        self._done = threading.Event()

    # --- the viewer's side ---

    def take(self) -> list[Piece]:
        """All pieces that arrived since the last call, in order."""
        pieces = []
        while self._pieces:
            pieces.append(self._pieces.popleft())
        return pieces

    def text(self, sample: int = 0) -> str:
        """All of one sample so far."""
        return self._texts[sample]

    @property
    def done(self) -> bool:
        """True once nothing more will be put; `take` may still hold the last pieces."""
        return self._done.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the answer is complete (for scripts and tests; screens poll)."""
        return self._done.wait(timeout)

    # --- the sampler's side ---

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def put(self, sample: int, text: str, choice: Choice | None = None) -> None:
        """What one token brought."""
        self.n_tokens += 1
        self._texts[sample] += text
        if choice is not None:
            self.choices[sample].append(choice)
        if text or choice is not None:
            self._pieces.append(Piece(sample, text, choice))

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """The first call decides; the sampler may meet an answer that has been ended already."""
        if not self.done:
            self.finish_reason, self.error = reason, error
            self._done.set()
