"""Which tokens each training step sees: a pure function of (seed, step), so a resumed run goes on exactly.

The training tokens are read as a ring. Each epoch cuts the ring into blocks of `seq_len` at an offset of its own and
visits them in an order of its own: every token is an input once an epoch, in ever new company.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from minigpt_core.errors import UsageError

EVAL_TOKENS = 65_536
"""Most tokens of a periodic evaluation."""
FINAL_TOKENS = 2**20
"""Most tokens of the evaluation at a run's end: seconds on a CPU, and the loss to about 0.002 nats."""


class Batches:
    """Where each step's samples start in a ring of `n_tokens` tokens.

    Epoch e has `blocks` = n_tokens // seq_len blocks, starting at (offset_e + perm_e[b] * seq_len) mod n_tokens.
    Sample i of step s is number s * batch_size + i of the endless sequence of epochs: a batch may cross epochs, and
    may be larger than one. The n_tokens % seq_len tokens that fill no block sit out, others each epoch.

    Not for several threads at once: it remembers the epochs it is in.

    Raises:
        UsageError: a size below 1, or fewer tokens than one block.
    """

    def __init__(self, n_tokens: int, seq_len: int, batch_size: int, seed: int) -> None:
        for name, size in (("seq_len", seq_len), ("batch_size", batch_size)):
            if size < 1:
                raise UsageError(f"{name}={size}: must be at least 1")
        if n_tokens < seq_len:
            raise UsageError(f"seq_len={seq_len} is longer than the text of {n_tokens} tokens")
        self.n_tokens = n_tokens
        self.seq_len = seq_len
        self.batch_size = batch_size
        self.seed = seed
        self.blocks = n_tokens // seq_len
        self._epochs: dict[int, np.ndarray] = {}

    @property
    def steps_per_epoch(self) -> float:
        return self.blocks / self.batch_size

    def epoch(self, step: int) -> float:
        """Epochs completed after `step` steps."""
        return step * self.batch_size / self.blocks

    def steps(self, epochs: float) -> int:
        """The fewest steps that complete `epochs`."""
        # As the decimal it is written as: in binary, 1.1 epochs of 50 blocks are a little more than 55 blocks.
        return math.ceil(Fraction(str(epochs)) * self.blocks / self.batch_size)

    def starts(self, step: int) -> np.ndarray:
        """(batch_size,) int64: where the samples of `step` (from 0) start; inputs and targets are as in `gather`."""
        first = step * self.batch_size
        epoch, block = divmod(first, self.blocks)
        parts = []
        missing = self.batch_size
        while missing:
            part = self._epoch_starts(epoch)[block : block + missing]
            parts.append(part)
            missing -= len(part)
            epoch, block = epoch + 1, 0
        return np.concatenate(parts)

    def _epoch_starts(self, epoch: int) -> np.ndarray:
        """(blocks,) int64: every block of an epoch, in the order it is visited. The last two epochs are kept."""
        if epoch not in self._epochs:
            while len(self._epochs) >= 2:
                del self._epochs[next(iter(self._epochs))]
            rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64)))
            offset = rng.integers(self.seq_len)
            self._epochs[epoch] = (offset + rng.permutation(self.blocks) * self.seq_len) % self.n_tokens
        return self._epochs[epoch]


def gather(tokens: np.ndarray, starts: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets), each (len(starts), seq_len) int64, of samples of the ring `tokens`.

    A target is the token after its input: inputs "hell", targets "ello". The trainer does the same on its device;
    this is the definition it is tested against.
    """
    windows = tokens[(starts[:, None] + np.arange(seq_len + 1)) % len(tokens)].astype(np.int64)  # (B, seq_len + 1)
    return windows[:, :-1], windows[:, 1:]


def eval_starts(n_tokens: int, seq_len: int, max_tokens: int | None = EVAL_TOKENS) -> np.ndarray:
    """(n,) int64, ascending: windows of `seq_len` inputs that do not overlap, always the same.

    All consecutive windows of the split if they hold at most `max_tokens` tokens or `max_tokens` is None, else as many
    of them as `max_tokens` holds (at least one), spread evenly over the split. A window needs one token more for its
    last target, and what remains at the end of the split, shorter than a window, is left out.

    Raises:
        UsageError: not even one window fits.
    """
    n_windows = (n_tokens - 1) // seq_len
    if n_windows < 1:
        raise UsageError(f"seq_len={seq_len} needs {seq_len + 1} tokens to evaluate on; there are {n_tokens}")
    n = n_windows if max_tokens is None else min(n_windows, max(1, max_tokens // seq_len))
    # The middle one of each of n equal stretches: where n = n_windows, that is every window.
    return (2 * np.arange(n) + 1) * n_windows // (2 * n) * seq_len
