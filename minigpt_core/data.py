"""Encoded text on its way into the model: the two splits on the training device, and windows cut from them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minigpt_core.corpus import encode, split
from minigpt_core.tokenizer import Tokenizer

MOST_COPIED = 2**28
"""Bytes of a split that go to the device; windows of a longer one are cut from it where it is, mapped from its file."""


class TokenWindows:
    """One split, read as a ring of tokens: resident on the device, or where it is, if it is too long to copy.

    Args:
        tokens: (n,) the encoded split; what is longer than `MOST_COPIED` may be mapped from a file.
    """

    def __init__(self, tokens: np.ndarray, seq_len: int, device: str) -> None:
        self.window = torch.arange(seq_len + 1, device=device)  # (T + 1,)
        self.device = self.window.device
        self.pinned = self.device.type == "cuda"
        self.mapped = tokens if tokens.nbytes > MOST_COPIED else None
        if self.mapped is not None:
            return
        ring = np.concatenate([tokens, tokens[: seq_len + 1]])  # (n + T + 1,): a window over the seam needs no modulo
        narrow = ring if ring.dtype == np.uint8 else ring.astype(np.int32)  # torch cannot index uint16 everywhere
        self.tokens = torch.from_numpy(narrow).to(device)

    def __call__(self, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the windows that begin at `starts`, (B, T) int64 each; targets are shifted by one."""
        if self.mapped is None:
            tokens = self.tokens[self._moved(starts)[:, None] + self.window].long()  # (B, T + 1)
        else:
            places = (starts[:, None] + np.arange(len(self.window))) % len(self.mapped)
            tokens = self._moved(self.mapped[places].astype(np.int64))
        return tokens[:, :-1], tokens[:, 1:]

    def _moved(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.pinned:  # a pinned copy does not make the CPU wait for the GPU
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def split_text(tokenizer: Tokenizer, text: str, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Encode a text and split it 90/10: (train, val)."""
    return split(encode(tokenizer, text), seq_len)
