"""Causal multi-head self-attention, written out, with its fused twin and the key/value cache.

Shapes use B batch, T queries, S keys (S = T without a cache), C embed_dim, H num_heads, D = C / H.
Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1 and section 3.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt_core.config import ModelConfig

Place = Callable[[Tensor, int], Tensor]
"""(x, start) -> x, both (B, T, 2, H, D): what tells queries and keys where they are."""
Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""(q, k, v, dropout) -> y, all (B, H, ., D)."""


def causal_mask(n_queries: int, n_keys: int, device: torch.device) -> Tensor:
    """(T, S) bool, True where a query may look: at itself and before. The queries are the last T of S positions."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril_(n_keys - n_queries)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q kᵀ / √D) over the keys each query may see; every row sums to 1."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, H, T, D) x (B, H, D, S) -> (B, H, T, S)
    mask = causal_mask(q.size(-2), k.size(-2), q.device)  # (T, S)
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)  # (B, H, T, S)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Attention as the paper writes it: the (T, S) matrix exists and can be looked at."""
    weights = F.dropout(attention_weights(q, k), dropout)  # (B, H, T, S)
    return weights.to(v.dtype) @ v  # (B, H, T, S) x (B, H, S, D) -> (B, H, T, D)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """The same result from PyTorch's fused kernel, which never forms the matrix (FlashAttention, arXiv 2205.14135)."""
    T, S = q.size(-2), k.size(-2)
    if T in (S, 1):  # a whole text, or one new token that may see everything: the kernel needs no mask tensor
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=T == S)  # (B, H, T, D)
    mask = causal_mask(T, S, q.device)  # (T, S)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)  # (B, H, T, D)


ATTENTION: dict[str, Attend] = {"explicit": explicit_attention, "fused": fused_attention}


@lru_cache(8)
def rotations(seq_len: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factors of a head's dimensions and of their partners, for every position: (seq_len, 1, 1, D) each.

    Dimensions i and i + D/2 span a plane that turns by the position's angle: x cos ∓ partner sin.
    Source: Su et al. 2021, "RoFormer", arXiv 2104.09864, equation 34.
    """
    with torch.inference_mode(False):  # whoever asks first, training may use them too
        frequencies = 10_000 ** (-torch.arange(0, head_dim, 2, device=device) / head_dim)  # (D/2,)
        angles = torch.outer(torch.arange(seq_len, device=device), frequencies)[:, None, None]  # (seq_len, 1, 1, D/2)
        cos, sin = angles.cos(), angles.sin()  # (seq_len, 1, 1, D/2) each
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotate(x: Tensor, start: int, seq_len: int) -> Tensor:
    """Turn each position's queries and keys by its angles: their products then depend on distances only.

    Args:
        x: (B, T, 2, H, D), the positions from `start` on.
    """
    cos, sin = rotations(seq_len, x.size(-1), x.device)  # (seq_len, 1, 1, D) each
    cos, sin = cos[start : start + x.size(1)].to(x.dtype), sin[start : start + x.size(1)].to(x.dtype)  # (T, 1, 1, D)
    partners = x.roll(x.size(-1) // 2, dims=-1)  # (B, T, 2, H, D)
    return torch.addcmul(x * cos, partners, sin)  # (B, T, 2, H, D)


def unrotated(x: Tensor, start: int) -> Tensor:
    """Where positions are learned, or there are none."""
    return x


class KVCache:
    """Keys and values of one layer for the positions already read, in buffers allocated once.

    Args:
        config: the model's.
        batch_size: B, the number of texts decoded together.
    """

    def __init__(self, config: ModelConfig, batch_size: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (batch_size, config.num_heads, config.seq_len, config.head_dim)  # (B, H, seq_len, D)
        self.k = torch.empty(shape, device=device, dtype=dtype)
        self.v = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store T new positions, (B, H, T, D) each; return all S positions known now, (B, H, S, D) each."""
        start, self.length = self.length, self.length + k.size(2)
        self.k.narrow(2, start, k.size(2)).copy_(k)  # `narrow` costs half of what slicing does
        self.v.narrow(2, start, k.size(2)).copy_(v)
        return self.k.narrow(2, 0, self.length), self.v.narrow(2, 0, self.length)


class CausalSelfAttention(nn.Module):
    """Several attention heads side by side, each in its own D dimensions, merged by a projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        # query, key and value in one matrix product
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.biases)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim, bias=config.biases)
        self.qk_norm = nn.LayerNorm(self.head_dim, elementwise_affine=False) if config.qk_norm else nn.Identity()
        self.place: Place = partial(rotate, seq_len=config.seq_len) if config.positions == "rotary" else unrotated
        self.dropout = nn.Dropout(config.dropout)
        self.q_slot, self.k_slot = (1, 0) if config.swap_qk else (0, 1)
        self.attend: Attend = explicit_attention

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.num_heads, self.head_dim)  # (B, T, C) -> (B, T, 3, H, D)
        qk, v = qkv.split((2, 1), 2)  # (B, T, 2, H, D) and (B, T, 1, H, D)
        qk = self.place(self.qk_norm(qk), cache.length if cache is not None else 0)  # (B, T, 2, H, D)
        qk, v = qk.permute(2, 0, 3, 1, 4), v.squeeze(2).transpose(1, 2)  # (2, B, H, T, D) and (B, H, T, D)
        q, k = qk[self.q_slot], qk[self.k_slot]  # (B, H, T, D) each
        if cache is not None:
            k, v = cache.append(k, v)  # (B, H, S, D) each
        y = self.attend(q, k, v, self.dropout.p if self.training else 0.0)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again: (B, T, C)
        return self.dropout(self.proj(y))  # (B, T, C)
