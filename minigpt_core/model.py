"""A GPT: embeddings, blocks of attention and feed-forward around a residual stream, a head for the next token.

The details are GPT-2's (Radford et al. 2019): LayerNorm before each part and once at the end, tanh GELU, biases, a head
tied to the embedding. What an ablation takes away is taken away in `__init__`, so `forward` reads the same always.
"""

from __future__ import annotations

import math
from itertools import repeat
from typing import cast

import torch
from torch import Tensor, nn

from minigpt_core.attention import ATTENTION, CausalSelfAttention, KVCache
from minigpt_core.config import ModelConfig

NORM_EPSILON = 1e-5


def make_norm(config: ModelConfig) -> nn.Module:
    return nn.LayerNorm(config.embed_dim, eps=NORM_EPSILON) if config.norm == "layernorm" else nn.Identity()


def add(x: Tensor, y: Tensor) -> Tensor:
    """The residual connection: the stream keeps what it had."""
    return x + y


def overwrite(x: Tensor, y: Tensor) -> Tensor:
    """The ablated one: each part replaces the stream."""
    return y


class NoPositions(nn.Module):
    """Stands where the position embedding would: adds nothing."""

    def forward(self, positions: Tensor) -> float:
        return 0.0


class MLP(nn.Module):
    """Feed-forward: each position on its own, through a layer `ff_mult` times as wide."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.ff_mult * config.embed_dim  # F
        self.up = nn.Linear(config.embed_dim, hidden)
        self.gelu = nn.GELU(approximate="tanh")
        self.proj = nn.Linear(hidden, config.embed_dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.up(x))  # (B, T, C) -> (B, T, F)
        return self.dropout(self.proj(x))  # (B, T, F) -> (B, T, C)


class Block(nn.Module):
    """One layer: attention moves information between positions, the MLP works on each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm1, self.attention = make_norm(config), CausalSelfAttention(config)
        self.norm2, self.mlp = make_norm(config), MLP(config)
        self.join = add if config.residual else overwrite

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        x = self.join(x, self.attention(self.norm1(x), cache))  # (B, T, C)
        return self.join(x, self.mlp(self.norm2(x)))  # (B, T, C)


class GPT(nn.Module):
    """The whole model: `model(tokens)` are the logits of the next token at every position.

    Initialisation (GPT-2's; drawn from torch's global generator, so `torch.manual_seed` before it decides all):

    | parameter                                        | distribution                       |
    |--------------------------------------------------|------------------------------------|
    | token and position embeddings, head (tied)       | N(0, 0.02)                         |
    | linear weights                                   | N(0, 0.02)                         |
    | linear weights that write to the residual stream | N(0, 0.02 / sqrt(2 · n_layers))    |
    | biases                                           | 0                                  |
    | LayerNorm                                        | gain 1, bias 0                     |

    `no-residual` keeps 0.02 everywhere: the smaller scale only makes up for a sum that is not there.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.embed_dim)
        learned = config.positions == "learned"
        self.position_embedding = nn.Embedding(config.seq_len, config.embed_dim) if learned else NoPositions()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.head = nn.Linear(config.embed_dim, config.vocab_size, bias=False)
        self._tie_head()
        self._initialise()

    def forward(self, tokens: Tensor, cache: list[KVCache] | None = None) -> Tensor:
        """Logits of the next token.

        Args:
            tokens: (B, T) int64; with a cache, the T tokens that follow those it holds.
            cache: one `KVCache` a layer (see `new_cache`).

        Returns:
            (B, T, vocab_size)

        Raises:
            ValueError: more tokens than the context holds (on a GPU the look-up itself would take the process down).
        """
        start = cache[0].length if cache else 0
        if start + tokens.size(1) > self.config.seq_len:
            raise ValueError(f"{start + tokens.size(1)} tokens do not fit a context of {self.config.seq_len}")
        positions = torch.arange(start, start + tokens.size(1), device=tokens.device)  # (T,)
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # (B, T, C) + (T, C) -> (B, T, C)
        x = self.dropout(x)  # (B, T, C): the residual stream begins
        for block, layer_cache in zip(self.blocks, cache or repeat(None), strict=False):
            x = block(x, layer_cache)  # (B, T, C)
        return self.head(self.final_norm(x))  # (B, T, C) -> (B, T, vocab_size)

    # --- building ---

    def _tie_head(self) -> None:
        if self.config.tied_head:
            self.head.weight = self.token_embedding.weight

    @torch.no_grad()
    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(0.0, 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        if self.config.residual:
            for block in self.layers:
                for writer in (block.attention.proj, block.mlp.proj):
                    writer.weight.normal_(0.0, 0.02 / math.sqrt(2 * self.config.n_layers))

    @classmethod
    def empty(cls, config: ModelConfig, device: torch.device | str = "cpu") -> GPT:
        """A model in evaluation mode whose weights are uninitialised memory, to be copied into.

        Built on the meta device, so it draws nothing from any random generator: looking changes nothing.
        """
        with torch.device("meta"):
            model = cls(config)
        model = model.to_empty(device=device)
        model._tie_head()  # moving from meta makes every parameter anew and so unties them
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def copy_weights(self, source: GPT) -> None:
        """Take over the weights of a model of the same configuration, in one go, into the memory that is there."""
        torch._foreach_copy_(list(self.parameters()), list(source.parameters()), non_blocking=True)

    # --- using ---

    @property
    def layers(self) -> list[Block]:
        """The blocks, typed as what they are."""
        return cast(list[Block], list(self.blocks))

    def use_attention(self, path: str) -> GPT:
        """Choose the attention path for all layers: "explicit" or "fused"."""
        for block in self.layers:
            block.attention.attend = ATTENTION[path]
        return self

    def new_cache(self, batch_size: int) -> list[KVCache]:
        """An empty key/value cache for `batch_size` texts, one entry a layer."""
        weight = self.token_embedding.weight
        return [KVCache(self.config, batch_size, weight.device, weight.dtype) for _ in self.blocks]

    def num_parameters(self) -> int:
        """Distinct parameters; a tied head counts once."""
        return sum(p.numel() for p in self.parameters())
