"""Who speaks in a run's text, for conversations with the model; read in the background when first asked for."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from minigpt_core.dialogue import speakers
from minigpt_core.errors import UserError
from minigpt_core.hardware import give_way
from minigpt_core.rundir import RunDir
from minigpt_core.stored import read_tokenizer, stored_tokens

MAX_TOKENS = 4_000_000
"""So much of a long text tells who speaks in it."""
MAX_NAMES = 200


class Cast:
    """The speakers of a run's text.

    Args:
        tokens: (n,) the encoded text, if it is at hand; else it is read from the run's directory.
    """

    def __init__(self, run: RunDir, tokens: np.ndarray | None = None) -> None:
        self._run, self._tokens = run, tokens
        self._names: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._find, name="cast", daemon=True)
        self._asked = False

    def names(self) -> tuple[str, ...]:
        """Most frequent first; none while they are not known, or where nobody speaks."""
        if not self._asked:
            self._asked = True
            self._thread.start()
        return self._names

    def _find(self) -> None:
        give_way()
        with contextlib.suppress(UserError):  # a run without its text has nobody to offer
            tokens = stored_tokens(self._run) if self._tokens is None else self._tokens
            if tokens is not None:
                text = read_tokenizer(self._run).decode(np.asarray(tokens[:MAX_TOKENS]))
                self._names = speakers(text, MAX_NAMES)
