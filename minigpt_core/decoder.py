"""Decoding: one new token of each text through the model, with nothing around the products that one row does not need.

`GPT.forward` reads a prompt (prefill) and serves training; here a layer costs two dozen small operations and no module
calls, and on a CPU they are left to NumPy (`numpy_layer.py`). The results are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt_core import numpy_layer
from minigpt_core.attention import KVCache
from minigpt_core.model import GPT, Block, Cache, TokenMix

Rowwise = Callable[[Tensor], Tensor]
Layer = Callable[[Tensor], Tensor]
"""x -> x, both (B, C): a block, for the position after those in its cache, to which it is added."""


class Decoder:
    """Takes the tokens after a prompt, one at a time; made anew when the model's weights have changed.

    Args:
        model: in evaluation mode; it is not changed.
        cache: what the B texts hold so far; each token is added to it.
    """

    def __init__(self, model: GPT, cache: Cache) -> None:
        self.cache = cache
        self.embedding = model.token_embedding.weight  # (V, C)
        self.mix = model.mix.forward if isinstance(model.mix, TokenMix) else None
        places = model.position_embedding
        self.positions = places.weight if isinstance(places, nn.Embedding) else None  # (seq_len, C)
        in_numpy = self.embedding.device.type == "cpu" and self.embedding.dtype == torch.float32
        layer = partial(numpy_layer.NumpyLayer, config=model.config) if in_numpy else DecoderLayer
        self.layers: list[Layer] = [layer(*pair) for pair in zip(model.layers, cache.layers, strict=True)]
        self.final_norm = norm(model.final_norm)
        self.head = numpy_layer.head(model.head, cache.batch_size) if in_numpy else product(model.head)

    def __call__(self, token: Tensor) -> Tensor:
        """Logits of the token after this one; equal to `model(token[:, None], cache)[:, 0]`.

        Args:
            token: (B,) int64; the cache has room for it.

        Returns:
            (B, vocab_size)
        """
        x = self.embedding.index_select(0, token)  # (B,) -> (B, C)
        if self.mix is not None:
            x = self.mix(x.unsqueeze(1), self.cache).squeeze(1)  # (B, C)
        if self.positions is not None:
            x = x + self.positions[self.cache.length]  # (B, C) + (C,)
        for layer in self.layers:
            x = layer(x)  # (B, C)
        return self.head(self.final_norm(x))  # (B, C) -> (B, V)


class DecoderLayer:
    """One block, for one position of each text."""

    def __init__(self, block: Block, cache: KVCache) -> None:
        attention, mlp = block.attention, block.mlp
        self.norm1, self.norm2, self.join = norm(block.norm1), norm(block.norm2), block.join
        self.qkv, self.proj = product(attention.qkv), product(attention.proj)
        self.up, self.activation, self.down = product(mlp.up), mlp.activation.forward, product(mlp.proj)
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.qk_norm, self.place = norm(attention.qk_norm), attention.place
        self.q_slot, self.k_slot = attention.q_slot, attention.k_slot
        self.cache = cache

    def __call__(self, x: Tensor) -> Tensor:
        x = self.join(x, self.proj(self.attend(self.qkv(self.norm1(x)))))  # (B, C)
        return self.join(x, self.down(self.activation(self.up(self.norm2(x)))))  # (B, C) -> (B, F) -> (B, C)

    def attend(self, qkv: Tensor) -> Tensor:
        """Attention of one position to all before it; (B, 3C) -> (B, C)."""
        B, H, D = qkv.size(0), self.num_heads, self.head_dim
        qkv = qkv.view(B, 3, H, 1, D)  # a single position: no need to bring the heads before it
        qk = self.place(self.qk_norm(qkv.narrow(1, 0, 2).view(B, 1, 2, H, D)), self.cache.length).view(B, 2, H, 1, D)
        q, k = qk.select(1, self.q_slot), qk.select(1, self.k_slot)  # (B, H, 1, D) each
        k, v = self.cache.append(k, qkv.select(1, 2))  # (B, H, S, D) each
        return F.scaled_dot_product_attention(q, k, v).flatten(1)  # (B, H, 1, D) -> (B, C)


def norm(module: nn.Module) -> Rowwise:
    """The module as a function, past the machinery around a module's call."""
    if not isinstance(module, nn.LayerNorm):
        return module.forward
    shape, weight, bias, epsilon = module.normalized_shape, module.weight, module.bias, module.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, epsilon)


def product(layer: nn.Linear) -> Rowwise:
    """(B, in) -> (B, out)"""
    columns, bias = layer.weight.t(), layer.bias  # (in, out), (out,)
    if bias is None:
        return lambda x: x @ columns
    return lambda x: torch.addmm(bias, x, columns)
