"""A block for one position of each text on a CPU, in NumPy.

At these sizes a token's time is that of reading the weights and of calling a few dozen small operations. NumPy's
library multiplies a matrix by a vector 1.5 to 2 times as fast as torch's, and by a few vectors up to 1.4 times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from minigpt_core.attention import KVCache, rotations
from minigpt_core.config import ModelConfig
from minigpt_core.model import Block

FEW = 6
"""Texts for which each is multiplied by the weights on its own: that reads them from the processor's cache again and
again, where a product of matrices would first copy them into the order it likes."""

Rows = np.ndarray
"""(B, n) float32"""


class NumpyLayer:
    """`DecoderLayer` with the same results over the same cache.

    Args:
        block: in evaluation mode, fp32, on the CPU.
        cache: the layer's, of B texts.
    """

    def __init__(self, block: Block, cache: KVCache, config: ModelConfig) -> None:
        attention, mlp, B = block.attention, block.mlp, len(cache.k)
        normed = norm if B > 1 else norm_one
        self.norm1, self.norm2 = normed(block.norm1), normed(block.norm2)
        self.join: Callable[[Rows, Rows], Rows] = np.add if config.residual else lambda x, y: y
        self.qkv, self.proj = product(attention.qkv, B), product(attention.proj, B)
        self.up, self.activation, self.down = product(mlp.up, B), mlp.activation.forward, product(mlp.proj, B)
        self.shape = (B, 3, config.num_heads, config.head_dim)
        self.scale = config.head_dim**-0.5
        self.qk_norm = norm(attention.qk_norm)
        self.place = place(config)
        self.q_slot, self.k_slot = attention.q_slot, attention.k_slot
        self.cache, self.keys, self.values = cache, cache.k.numpy(), cache.v.numpy()  # (B, H, seq_len, D) each

    def __call__(self, x: Tensor) -> Tensor:
        y = x.numpy()  # (B, C)
        y = self.join(y, self.proj(self.attend(self.qkv(self.norm1(y)))))  # (B, C)
        hidden = self.activation(torch.from_numpy(self.up(self.norm2(y)))).numpy()  # (B, C) -> (B, F)
        return torch.from_numpy(self.join(y, self.down(hidden)))  # (B, F) -> (B, C)

    def attend(self, qkv: Rows) -> Rows:
        """Attention of one position of each text to all before it and itself; (B, 3C) -> (B, C)."""
        here = self.cache.length
        self.cache.length = S = here + 1
        qkv = qkv.reshape(self.shape)  # (B, 3, H, D)
        qk = self.place(self.qk_norm(qkv[:, :2]), here)  # (B, 2, H, D)
        self.keys[:, :, here], self.values[:, :, here] = qk[:, self.k_slot], qkv[:, 2]  # (B, H, D) each
        weights = self.keys[:, :, :S] @ qk[:, self.q_slot, :, :, None]  # (B, H, S, D) x (B, H, D, 1) -> (B, H, S, 1)
        weights *= self.scale
        weights -= np.maximum.reduce(weights, 2, keepdims=True)
        np.exp(weights, weights)
        y = weights.transpose(0, 1, 3, 2) @ self.values[:, :, :S]  # (B, H, 1, S) x (B, H, S, D) -> (B, H, 1, D)
        y /= np.add.reduce(weights, 2, keepdims=True)  # (B, H, 1, D): the softmax, divided once it is short
        return y.reshape(len(y), -1)  # (B, C)


def norm(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Layer normalisation as the module has it, (..., n) -> (..., n). Products are the means: `np.mean` is slow."""
    if not isinstance(module, nn.LayerNorm):
        return lambda x: x
    (n,), epsilon = module.normalized_shape, np.float32(module.eps)
    mean = np.full((n, 1), 1 / n, np.float32)  # (n, 1)
    gain, bias = numbers(module.weight), numbers(module.bias)  # (n,) each

    def normalised(x: np.ndarray) -> np.ndarray:
        x = x - x @ mean  # (..., n) - (..., 1)
        x /= np.sqrt((x * x) @ mean + epsilon)  # (..., n) / (..., 1)
        return x if gain is None and bias is None else scaled(x, gain, bias)

    return normalised


def norm_one(module: nn.Module) -> Callable[[Rows], Rows]:
    """The same for a single text, whose means are numbers; (1, n) -> (1, n)."""
    if not isinstance(module, nn.LayerNorm):
        return lambda x: x
    (n,), epsilon = module.normalized_shape, module.eps
    mean = np.full(n, 1 / n, np.float32)  # (n,)
    gain, bias = numbers(module.weight), numbers(module.bias)  # (n,) each

    def normalised(x: Rows) -> Rows:
        y = x[0]  # (n,)
        y = y - y.dot(mean)  # (n,)
        y *= (float(y.dot(y)) / n + epsilon) ** -0.5
        return scaled(y, gain, bias)[None]

    return normalised


def scaled(x: np.ndarray, gain: Rows | None, bias: Rows | None) -> np.ndarray:
    """What a layer has learned about each of n numbers, applied in place; (..., n) -> (..., n)."""
    if gain is not None:
        x *= gain
    if bias is not None:
        x += bias
    return x


def numbers(parameter: Tensor | None) -> np.ndarray | None:
    return None if parameter is None else parameter.detach().numpy()


def product(layer: nn.Linear, B: int) -> Callable[[Rows], Rows]:
    """(B, in) -> (B, out), by the way that is fastest for so many rows."""
    matrix, bias = layer.weight.detach().numpy(), numbers(layer.bias)  # (out, in), (out,)
    if B > FEW or len(matrix) > matrix.shape[1]:
        # Lying as (in, out). For a vector, weights that do not fit the cache come twice as fast in long rows.
        matrix = np.ascontiguousarray(matrix.T).T  # (out, in)

    def multiplied(x: Rows) -> Rows:
        if B == 1:
            y = matrix.dot(x[0])[None]  # (1, out)
        elif B <= FEW:
            y = (matrix @ x[:, :, None])[:, :, 0]  # (out, in) x (B, in, 1) -> (B, out)
        else:
            y = x @ matrix.T  # (B, in) x (in, out) -> (B, out)
        return y if bias is None else np.add(y, bias, y)

    return multiplied


def head(layer: nn.Linear, B: int) -> Callable[[Tensor], Tensor]:
    """(B, in) -> (B, out): such a product between what torch does before and after the blocks."""
    logits = product(layer, B)
    return lambda x: torch.from_numpy(logits(x.numpy()))


def place(config: ModelConfig) -> Callable[[np.ndarray, int], np.ndarray]:
    """(x, position) -> x, both (B, 2, H, D): what tells queries and keys where they are; see `attention.rotate`."""
    if config.positions != "rotary":
        return lambda x, position: x
    D = config.head_dim
    factors = rotations(config.seq_len, D, torch.device("cpu"))  # (seq_len, 1, 1, D) each
    cos, sin = (x.view(-1, D).numpy() for x in factors)  # (seq_len, D) each
    partners = np.roll(np.arange(D), D // 2)  # (D,)
    return lambda x, position: x * cos[position] + x.take(partners, -1) * sin[position]
