"""A block for one position of one text on a CPU, in NumPy: every product is one of a matrix with a vector.

At this size a token's time is that of reading the weights and of calling a few dozen small operations. NumPy's library
reads a matrix through 1.5 to 2 times as fast as torch's for a single row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from minigpt_core.attention import KVCache, rotations
from minigpt_core.config import ModelConfig
from minigpt_core.model import Block

Vector = np.ndarray
"""(n,) float32"""


class VectorLayer:
    """`DecoderLayer` for a single text: the same results over the same cache.

    Args:
        block: in evaluation mode, fp32, on the CPU.
        cache: the layer's, of one text.
    """

    def __init__(self, block: Block, cache: KVCache, config: ModelConfig) -> None:
        attention, mlp = block.attention, block.mlp
        self.norm1, self.norm2 = norm(block.norm1), norm(block.norm2)
        self.join: Callable[[Vector, Vector], Vector] = np.add if config.residual else lambda x, y: y
        self.qkv, self.proj = product(attention.qkv), product(attention.proj)
        self.up, self.activation, self.down = product(mlp.up), mlp.activation.forward, product(mlp.proj)
        self.shape = (3, config.num_heads, config.head_dim)
        self.scale = config.head_dim**-0.5
        self.qk_norm = norm_heads(attention.qk_norm)
        self.place = place(config)
        self.q_slot, self.k_slot = attention.q_slot, attention.k_slot
        self.cache, self.keys, self.values = cache, cache.k.numpy()[0], cache.v.numpy()[0]  # (H, seq_len, D) each

    def __call__(self, x: Tensor) -> Tensor:
        y = x.numpy()[0]  # (1, C) -> (C,)
        y = self.join(y, self.proj(self.attend(self.qkv(self.norm1(y)))))  # (C,)
        hidden = self.activation(torch.from_numpy(self.up(self.norm2(y))))  # (C,) -> (F,)
        y = self.join(y, self.down(hidden.numpy()))  # (F,) -> (C,)
        return torch.from_numpy(y).unsqueeze(0)  # (1, C)

    def attend(self, qkv: Vector) -> Vector:
        """Attention of one position to all before it and itself; (3C,) -> (C,)."""
        here = self.cache.length
        self.cache.length = S = here + 1
        qkv = qkv.reshape(self.shape)  # (3, H, D)
        qk = self.place(self.qk_norm(qkv[:2]), here)  # (2, H, D)
        self.keys[:, here], self.values[:, here] = qk[self.k_slot], qkv[2]  # (H, D) each
        weights = self.keys[:, :S] @ qk[self.q_slot, :, :, None]  # (H, S, D) x (H, D, 1) -> (H, S, 1)
        weights *= self.scale
        weights -= np.maximum.reduce(weights, 1, keepdims=True)
        np.exp(weights, weights)
        y = weights.transpose(0, 2, 1) @ self.values[:, :S]  # (H, 1, S) x (H, S, D) -> (H, 1, D)
        y /= np.add.reduce(weights, 1, keepdims=True)  # (H, 1, D): the softmax, divided once it is short
        return y.reshape(-1)  # (C,)


def norm(module: nn.Module) -> Callable[[Vector], Vector]:
    """Layer normalisation as the module has it, (C,) -> (C,). A product of vectors is the mean: `np.mean` is slow."""
    if not isinstance(module, nn.LayerNorm):
        return lambda x: x
    (C,), epsilon = module.normalized_shape, module.eps
    mean = np.full(C, 1 / C, np.float32)  # (C,)
    gain = None if module.weight is None else module.weight.detach().numpy()  # (C,)
    bias = None if module.bias is None else module.bias.detach().numpy()  # (C,)

    def normalised(x: Vector) -> Vector:
        x = x - x.dot(mean)  # (C,)
        x *= (float(x.dot(x)) / C + epsilon) ** -0.5
        if gain is not None:
            x *= gain
        if bias is not None:
            x += bias
        return x

    return normalised


def norm_heads(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The same for each head's query and key, without gains; (2, H, D) -> (2, H, D)."""
    if not isinstance(module, nn.LayerNorm):
        return lambda x: x
    (D,), epsilon = module.normalized_shape, module.eps
    mean = np.full((D, 1), 1 / D, np.float32)  # (D, 1)

    def normalised(x: np.ndarray) -> np.ndarray:
        x = x - x @ mean  # (2, H, D) - (2, H, 1)
        x /= np.sqrt((x * x) @ mean + np.float32(epsilon))  # (2, H, D) / (2, H, 1)
        return x

    return normalised


def product(layer: nn.Linear) -> Callable[[Vector], Vector]:
    """(in,) -> (out,). Weights that do not fit the cache come twice as fast in long rows: the longer side lies last."""
    weight = layer.weight.detach().numpy()  # (out, in)
    multiply = np.ascontiguousarray(weight.T).T.dot if len(weight) > weight.shape[1] else weight.dot
    if layer.bias is None:
        return multiply
    bias = layer.bias.detach().numpy()  # (out,)

    def affine(x: Vector) -> Vector:
        y: Vector = multiply(x)  # (out,)
        y += bias
        return y

    return affine


def head(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """(1, in) -> (1, out): such a product between what torch does before and after the blocks."""
    logits = product(layer)
    return lambda x: torch.from_numpy(logits(x.numpy()[0])).unsqueeze(0)


def place(config: ModelConfig) -> Callable[[np.ndarray, int], np.ndarray]:
    """(x, position) -> x, both (2, H, D): what tells a query and a key where they are; see `attention.rotate`."""
    if config.positions != "rotary":
        return lambda x, position: x
    D = config.head_dim
    factors = rotations(config.seq_len, D, torch.device("cpu"))  # (seq_len, 1, 1, D) each
    cos, sin = (x.view(-1, D).numpy() for x in factors)  # (seq_len, D) each
    partners = np.roll(np.arange(D), D // 2)  # (D,)
    return lambda x, position: x * cos[position] + x.take(partners, -1) * sin[position]
