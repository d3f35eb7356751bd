"""Encoded text on its way into the model: the two splits on the training device, and windows cut from them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minigpt_core.corpus import split, token_dtype
from minigpt_core.tokenizer import Tokenizer


def encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The whole text as tokens in the smallest dtype that holds the vocabulary: (n,) uint8, uint16 or uint32."""
    return tokenizer.encode(text).astype(token_dtype(tokenizer.vocab_size))


class TokenWindows:
    """One split, resident on the device, read as a ring of tokens.

    Args:
        tokens: (n,) the encoded split.
    """

    def __init__(self, tokens: np.ndarray, seq_len: int, device: str) -> None:
        narrow = tokens if tokens.dtype == np.uint8 else tokens.astype(np.int32)  # torch cannot index uint16 everywhere
        self.tokens = torch.from_numpy(np.array(narrow)).to(device)  # (n,)
        self.window = torch.arange(seq_len + 1, device=device)  # (T + 1,)
        self.pinned = torch.device(device).type == "cuda"

    def __call__(self, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the windows that begin at `starts`, (B, T) int64 each; targets are shifted by one."""
        first = torch.from_numpy(starts)  # (B,)
        if self.pinned:  # a pinned copy does not make the CPU wait for the GPU
            first = first.pin_memory()
        first = first.to(self.tokens.device, non_blocking=True)
        index = (first[:, None] + self.window) % self.tokens.numel()  # (B, T + 1)
        tokens = self.tokens[index].long()  # (B, T + 1)
        return tokens[:, :-1], tokens[:, 1:]


def split_text(tokenizer: Tokenizer, text: str, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Encode a text and split it 90/10: (train, val)."""
    return split(encode(tokenizer, text), seq_len)
