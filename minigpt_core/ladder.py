"""The n-gram ladder: how far counting alone gets on a text, and when the model gets further.

Each rung is the loss of a model that looks at the last n − 1 tokens only and counts what followed them. Estimated by
add-k smoothing (Jurafsky & Martin, Speech and Language Processing, 3rd ed. draft, chapter 3, "Add-k smoothing"):

    P(c | context) = (n(context, c) + k) / (n(context) + k·V)

The tokens are the model's own, and losses are in nats a token, to be drawn on the same axis as the model's. Memory is
a few times that of the tokens counted, however large the vocabulary: only n-grams that occur are kept. With tens of
thousands of tokens hardly any longer n-gram comes back, so the upper rungs are easy ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import msgspec
import numpy as np

from minigpt_core.atomic import write_atomic
from minigpt_core.errors import UserError
from minigpt_core.reading import read_bytes
from minigpt_core.rundir import RunDir
from minigpt_core.series import Smoother
from minigpt_core.status import Event, MetricsRow

RUNGS = ("uniform", "unigram", "bigram", "3-gram", "4-gram", "5-gram")
"""`RUNGS[n]` is the n-gram model; n = 0 counts nothing and knows the vocabulary only."""

ADDED = 0.05
"""k: what is added to every count. Larger flattens long contexts, few of whose followers were ever seen."""

TRAIN_TOKENS = 2 * 2**20
VAL_TOKENS = 2**20
"""Most tokens that the ladder is fitted on and measured on, from the start of each part."""

MAX_BYTES = 2**16
"""Of the file; six rungs are 400."""

MIN_ROWS = 20
"""Rows that the smoothed training loss must have taken in before it counts. A row may be one batch of a few hundred
tokens, whose loss is a twentieth of a nat off; the mean of 20 is a hundredth off, and rungs are further apart."""


class Rung(msgspec.Struct, frozen=True):
    name: str
    loss: float
    """Nats a token, over the validation part."""


class Ladder(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag=1):
    """The rungs in the order of `RUNGS`. On a short text a longer context may do worse, so losses need not fall."""

    rungs: tuple[Rung, ...]
    train_tokens: int
    """Tokens it was fitted on."""
    val_tokens: int
    """Tokens it was measured on."""


# --- fitting ---


def fit_ladder(train: np.ndarray, val: np.ndarray, vocab_size: int) -> Ladder:
    """Count the n-grams of the training part, and measure the loss of predicting the validation part by them.

    An n-gram's loss is the mean over all positions of `val` with n − 1 tokens before them in `val`, so the first
    n − 1 are left out. No n-gram spans the two parts. Long parts are cut to `TRAIN_TOKENS` and `VAL_TOKENS`.

    Almost all the time goes by in NumPy calls that let other threads run, so this may work beside a training.

    Args:
        train, val: (n,) token ids, each in 0 ... vocab_size - 1, of any integer type up to uint32 or int64.

    Raises:
        UserError: a part is shorter than the longest n-gram.
    """
    longest = len(RUNGS) - 1
    train, val = train[:TRAIN_TOKENS], val[:VAL_TOKENS]
    if (shortest := min(len(train), len(val))) < longest:
        raise UserError(f"a part of the text has {shortest} tokens: too few for the {RUNGS[-1]} of the n-gram ladder")

    cut = len(train)
    tokens = np.concatenate([train, val])  # together, so that an n-gram has the same id in both
    losses = [math.log(vocab_size)]
    # grams[i] is the id, 0 ... kinds - 1, of the n-gram that starts at token i. There is one 0-gram, the empty one.
    grams, kinds = np.zeros(len(tokens) + 1, np.int64), 1
    for n in range(1, longest + 1):
        contexts, context_kinds = grams[:-1], kinds
        grams, kinds = contexts * vocab_size + tokens[n - 1 :], context_kinds * vocab_size
        if kinds > len(tokens):  # more ids than can occur: number those that do, or soon they would not fit in 64 bits
            found, grams = np.unique(grams, return_inverse=True)
            kinds = len(found)
        last = cut - n + 1  # n-grams that start from here on end outside `train`
        n_gram = np.bincount(grams[:last], minlength=kinds)[grams[cut:]]
        n_context = np.bincount(contexts[:last], minlength=context_kinds)[contexts[cut:]]
        losses.append(float(np.mean(np.log(n_context + ADDED * vocab_size) - np.log(n_gram + ADDED))))
    rungs = tuple(Rung(name, loss) for name, loss in zip(RUNGS, losses, strict=True))
    return Ladder(rungs=rungs, train_tokens=len(train), val_tokens=len(val))


# --- kept with the run ---


def write_ladder(run: RunDir, ladder: Ladder) -> None:
    """Keep the ladder with the run.

    Raises:
        UserError: the disk refuses.
    """
    path = run.ladder
    try:
        write_atomic(path, msgspec.json.format(msgspec.json.encode(ladder), indent=2))
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from None


def load_ladder(run: RunDir) -> Ladder | None:
    """The ladder kept with the run; None where there is none that can be read, so that it is fitted again."""
    try:
        ladder = msgspec.json.decode(read_bytes(run.ladder, MAX_BYTES), type=Ladder)
    except (UserError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return ladder if tuple(rung.name for rung in ladder.rungs) == RUNGS else None


# --- climbing ---


class Crossing(msgspec.Struct, frozen=True):
    """The model got below a rung's loss."""

    rung: Rung
    step: int
    """Of the first metrics row that shows it."""

    @property
    def message(self) -> str:
        return f"passed {self.rung.name} ({self.rung.loss:.3f} nats) at step {self.step}"

    def event(self) -> Event:
        return Event(kind="rung", step=self.step, time=time.time(), message=self.message, data={"rung": self.rung.name})


class Crossings:
    """Tells which rungs a run passes, each once, and at which step; for one thread.

    Compared is a loss on text that the model has not seen. In the first pass through the training part that is the
    smoothed training loss, since each of its batches is new then, unless the newest validation loss is higher: the
    rungs are measured on the validation part, which may be the harder text. From then on it is the validation loss.
    Smoothing lags behind a falling loss, which makes a step late rather than early.

    Rows may come before the ladder does; what they showed is told when it is set.

    Args:
        announced: names of rungs not to tell again, for a run that is resumed.
    """

    def __init__(self, announced: Iterable[str] = ()) -> None:
        self._announced = set(announced)
        self._ladder: Ladder | None = None
        self._smoother = Smoother()
        self._rows = 0
        """Training losses taken in."""
        self._val_loss = -math.inf
        """The newest one; before the first there is none to be above the training loss."""
        self._lows: list[tuple[int, float]] = []
        """(step, loss) of each loss below all before it, until the ladder is known: only these can pass a rung."""

    def feed(self, row: MetricsRow) -> list[Crossing]:
        """The rungs that the next row passes, easiest first."""
        loss = self._unseen_loss(row)
        if loss is None or math.isnan(loss):
            return []
        if self._ladder is not None:
            return self._passed(self._ladder, row.step, loss)
        if not self._lows or loss < self._lows[-1][1]:
            self._lows.append((row.step, loss))
        return []

    def set_ladder(self, ladder: Ladder) -> list[Crossing]:
        """From now on compare with `ladder`. Returns the rungs that the rows so far have passed, in order of steps."""
        self._ladder = ladder
        lows, self._lows = self._lows, []
        return [crossing for step, loss in lows for crossing in self._passed(ladder, step, loss)]

    def _unseen_loss(self, row: MetricsRow) -> float | None:
        """The loss that counts after this row; None if it shows none."""
        if row.val_loss is not None:
            self._val_loss = row.val_loss
        if row.epoch > 1:
            return row.val_loss
        if math.isfinite(row.train_loss):
            self._smoother.update(row.train_loss)
            self._rows += 1
        if self._rows < MIN_ROWS or self._smoother.value is None:
            return None
        return max(self._smoother.value, self._val_loss)

    def _passed(self, ladder: Ladder, step: int, loss: float) -> list[Crossing]:
        rungs = [rung for rung in ladder.rungs if loss < rung.loss and rung.name not in self._announced]
        self._announced.update(rung.name for rung in rungs)
        return [Crossing(rung, step) for rung in sorted(rungs, key=lambda rung: -rung.loss)]
