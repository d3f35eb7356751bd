"""Where a replica's weights come from: a run that trains in this process (`Engine`), or a checkpoint on disk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from minigpt_core.corpus import split
from minigpt_core.rundir import RunDir
from minigpt_core.status import Stamp
from minigpt_core.stored import stored_tokens
from minigpt_core.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minigpt_core.model import GPT


class WeightSource(Protocol):
    """Gives copies of weights, once there are any."""

    @property
    def step(self) -> int:
        """Whose step the weights are at this moment."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    def device(self) -> str:
        """Wait until there are weights; where a replica of them computes.

        Raises:
            UserError: there will be no weights; the message says why.
        """

    def replica(self) -> GPT:
        """A model of the weights' shape, on that device, to copy them into."""

    def snapshot(self, into: GPT) -> Stamp:
        """Copy the weights of this moment and say which step's they are."""

    @property
    def seq_len(self) -> int | None:
        """The model's context in tokens; None while there are no weights."""

    def validation(self, n: int, first: int = 0) -> np.ndarray:
        """(n,) tokens of the validation split, fewer at its end: what to look at when nobody chose a text."""


class StoredWeights:
    """The weights of a checkpoint, loaded by the thread that asks first.

    Attributes:
        state: progress at the checkpoint (`TrainState` as a dict), once loaded.
    """

    def __init__(self, run: RunDir, path: Path) -> None:
        self.run, self.path = run, path
        self.state: dict = {}
        self._lock = threading.Lock()
        self._model: GPT | None = None

    @property
    def step(self) -> int:
        return self.state.get("step", 0)

    def load(self) -> GPT:
        from minigpt_core.checkpoint import load, load_model
        from minigpt_core.tokenizer import load_tokenizer

        with self._lock:
            if self._model is None:
                saved = load(self.path)
                self.tokenizer = load_tokenizer(saved["tokenizer"])
                self.state = saved["state"]
                self._model = load_model(saved)
            return self._model

    def device(self) -> str:
        self.load()
        return "cpu"

    def replica(self) -> GPT:
        from minigpt_core.model import GPT

        return GPT.empty(self.load().config)

    def snapshot(self, into: GPT) -> Stamp:
        into.copy_weights(self.load())
        return Stamp(step=self.step, val_loss=self.state["val_loss"], val_step=self.state["val_step"])

    @property
    def seq_len(self) -> int | None:
        return self._model.config.seq_len if self._model is not None else None

    def validation(self, n: int, first: int = 0) -> np.ndarray:
        tokens = stored_tokens(self.run)
        if tokens is None:
            return self.tokenizer.encode("The quick brown fox jumps over the lazy dog.")[first : first + n]
        return np.array(split(tokens, 1)[1][first : first + n])
