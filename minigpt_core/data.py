"""Encoded text on its way into the model: the two splits on the training device, and windows cut from them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minigpt_core.corpus import encode, split
from minigpt_core.tokenizer import Tokenizer


class TokenWindows:
    """One split, resident on the device, read as a ring of tokens.

    Args:
        tokens: (n,) the encoded split.
    """

    def __init__(self, tokens: np.ndarray, seq_len: int, device: str) -> None:
        ring = np.concatenate([tokens, tokens[: seq_len + 1]])  # (n + T + 1,): a window over the seam needs no modulo
        narrow = ring if ring.dtype == np.uint8 else ring.astype(np.int32)  # torch cannot index uint16 everywhere
        self.tokens = torch.from_numpy(narrow).to(device)
        self.window = torch.arange(seq_len + 1, device=device)  # (T + 1,)
        self.pinned = torch.device(device).type == "cuda"

    def __call__(self, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the windows that begin at `starts`, (B, T) int64 each; targets are shifted by one."""
        first = torch.from_numpy(starts)  # (B,)
        if self.pinned:  # a pinned copy does not make the CPU wait for the GPU
            first = first.pin_memory()
        first = first.to(self.tokens.device, non_blocking=True)
        tokens = self.tokens[first[:, None] + self.window].long()  # (B, T + 1)
        return tokens[:, :-1], tokens[:, 1:]


def split_text(tokenizer: Tokenizer, text: str, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Encode a text and split it 90/10: (train, val)."""
    return split(encode(tokenizer, text), seq_len)
