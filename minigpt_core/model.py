"""A GPT: embeddings, blocks of attention and feed-forward around a residual stream, a head for the next token.

Preset `classic` is GPT-2 (Radford et al. 2019): LayerNorm before each part and once at the end, tanh GELU, biases, a
head tied to the embedding. Preset `modern` differs where measurement said so. What a preset or an ablation changes is
changed in `__init__`, so `forward` reads the same always.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt_core.attention import ATTENTION, CausalSelfAttention, KVCache
from minigpt_core.config import ModelConfig
from minigpt_core.errors import UsageError

NORM_EPSILON = 1e-5


def make_norm(config: ModelConfig) -> nn.Module:
    if config.norm == "none":
        return nn.Identity()
    return nn.LayerNorm(config.embed_dim, eps=NORM_EPSILON, elementwise_affine=config.biases)


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


class Cache:
    """What a model remembers of the tokens it has read: keys and values of every layer, and the last embeddings.

    Args:
        batch_size: B, the number of texts decoded together.
    """

    def __init__(self, config: ModelConfig, batch_size: int, device: torch.device, dtype: torch.dtype) -> None:
        self.batch_size = batch_size
        self.layers = [KVCache(config, batch_size, device, dtype) for _ in range(config.n_layers)]
        self._begin = torch.zeros(batch_size, config.token_mix - 1, config.embed_dim, device=device, dtype=dtype)
        self.recent = self._begin  # (B, n-1, C)

    @property
    def length(self) -> int:
        """Tokens read so far."""
        return self.layers[0].length

    def clear(self) -> None:
        """Forget all of it."""
        self.recent = self._begin
        for layer in self.layers:
            layer.length = 0


class TokenMix(nn.Module):
    """Each embedding mixed with those of the n-1 tokens before it: a causal convolution, one weight a dimension.

    It hands every position its predecessors at once, for which attention needs a layer and many steps to learn.
    Source: the "short convolutions" of Primer (arXiv 2109.08668) and H3 (arXiv 2212.14052), here once, at the bottom.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.token_mix, config.embed_dim))  # (n, C), the token itself first

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        n, T = len(self.weight), x.size(1)
        if cache is None:
            known = F.pad(x, (0, 0, n - 1, 0))  # (B, n-1+T, C)
        else:
            known = torch.cat([cache.recent, x], 1)  # (B, n-1+T, C)
            cache.recent = known[:, T:]  # (B, n-1, C)
        y = x * self.weight[0]  # (B, T, C)
        for back in range(1, n):
            y = y + known[:, n - 1 - back : n - 1 - back + T] * self.weight[back]  # (B, T, C)
        return y


class NoMix(nn.Module):
    """Stands where the mix would: every embedding on its own."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        return x


class SquaredReLU(nn.Module):
    """max(x, 0)², as Primer found it by search (arXiv 2109.08668)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": partial(nn.GELU, approximate="tanh"),
    "gelu_erf": nn.GELU,
    "relu2": SquaredReLU,
}


class MLP(nn.Module):
    """Feed-forward: each position on its own, through a layer `ff_mult` times as wide."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.ff_mult * config.embed_dim  # F
        self.up = nn.Linear(config.embed_dim, hidden, bias=config.biases)
        self.activation = ACTIVATIONS[config.activation]()
        self.proj = nn.Linear(hidden, config.embed_dim, bias=config.biases)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.up(x))  # (B, T, C) -> (B, T, F)
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


def embedding(n: int, dim: int) -> nn.Embedding:
    """One that draws no weights of its own, which on the meta device would load all of `torch._dynamo`: 1.7 s."""
    return nn.Embedding.from_pretrained(torch.empty(n, dim), freeze=False)


class GPT(nn.Module):
    """The whole model: `model(tokens)` are the logits of the next token at every position.

    Initialisation, as standard deviations of normal distributions (drawn from torch's global generator, so
    `torch.manual_seed` before it decides all):

    | parameter                                        | `init="gpt2"`               | `init="zero"`          |
    |--------------------------------------------------|-----------------------------|------------------------|
    | token embedding                                  | 0.02                        | 0.5                    |
    | position embedding                               | 0.02                        | 0.02                   |
    | head, where it is not the token embedding        | 0.02                        | 0: all tokens alike    |
    | linear weights                                   | 0.02                        | 0.5 / sqrt(embed_dim)  |
    | linear weights that write to the residual stream | 0.02 / sqrt(2 · n_layers)   | 0: blocks add nothing  |
    | token mix                                        | the token itself alone      | the same               |
    | biases                                           | 0                           | 0                      |
    | LayerNorm                                        | gain 1, bias 0              | the same               |

    Without residuals the weights that write are as the other linear ones: there is no sum to keep small.

    >>> import torch
    >>> model(torch.from_numpy(tokenizer.encode("the cat"))[None]).shape == (1, 7, tokenizer.vocab_size)
    True
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = embedding(config.vocab_size, config.embed_dim)
        learned = config.positions == "learned"
        self.position_embedding = embedding(config.seq_len, config.embed_dim) if learned else NoPositions()
        self.mix = TokenMix(config) if config.token_mix > 1 else NoMix()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.head = nn.Linear(config.embed_dim, config.vocab_size, bias=False)
        self._tie_head()
        if not self.head.weight.is_meta:
            self._initialise()

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits of the next token.

        Args:
            tokens: (B, T) int64; with a cache, the T tokens that follow those it holds.
            cache: see `new_cache`.

        Returns:
            (B, T, vocab_size)

        Raises:
            ValueError: more tokens than the context holds (on a GPU the look-up itself would take the process down).
        """
        start = cache.length if cache is not None else 0
        if start + tokens.size(1) > self.config.seq_len:
            raise ValueError(f"{start + tokens.size(1)} tokens do not fit a context of {self.config.seq_len}")
        positions = torch.arange(start, start + tokens.size(1), device=tokens.device)  # (T,)
        x = self.mix(self.token_embedding(tokens), cache)  # (B, T, C)
        x = self.dropout(x + self.position_embedding(positions))  # (B, T, C) + (T, C): the residual stream begins
        for block, layer_cache in zip(self.blocks, cache.layers if cache is not None else repeat(None), strict=False):
            x = block(x, layer_cache)  # (B, T, C)
        return self.head(self.final_norm(x))  # (B, T, C) -> (B, T, vocab_size)

    # --- building ---

    def _tie_head(self) -> None:
        if self.config.tied_head:
            self.head.weight = self.token_embedding.weight

    @torch.no_grad()
    def _initialise(self) -> None:
        config = self.config
        gpt2 = config.init == "gpt2"
        linear = 0.02 if gpt2 else 0.5 / math.sqrt(config.embed_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0.0, linear)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, 0.02)
            elif isinstance(module, TokenMix):
                module.weight.zero_()[0] = 1.0
        if not gpt2:
            self.token_embedding.weight.normal_(0.0, 0.5)
            if not config.tied_head:
                self.head.weight.zero_()
        if config.residual:
            for block in self.layers:
                for writer in (block.attention.proj, block.mlp.proj):
                    writer.weight.normal_(0.0, 0.02 / math.sqrt(2 * config.n_layers) if gpt2 else 0.0)

    @classmethod
    def empty(cls, config: ModelConfig, device: torch.device | str = "cpu") -> GPT:
        """A model in evaluation mode whose weights are uninitialised memory, to be copied into.

        Built on the meta device, so it draws nothing from any random generator: looking changes nothing.
        """
        with torch.device("meta"):
            model = cls(config)
        # What `to_empty` does, which loads sympy to find out in which order the memory lies.
        model._apply(lambda weight: torch.empty(weight.shape, dtype=weight.dtype, device=device))
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

    def new_cache(self, batch_size: int) -> Cache:
        """An empty cache for `batch_size` texts."""
        weight = self.token_embedding.weight
        return Cache(self.config, batch_size, weight.device, weight.dtype)

    def check_vocabulary(self, size: int) -> None:
        """Whether every token of a vocabulary of this size is one of the model's.

        Raises:
            UsageError: some are not (on a GPU the look-up itself would take the process down).
        """
        if size > self.config.vocab_size:
            raise UsageError(
                f"the tokenizer has {size:,} tokens and the model {self.config.vocab_size:,}: they do not belong "
                "together; make the model with vocab_size=tokenizer.vocab_size"
            )

    def num_parameters(self) -> int:
        """Distinct parameters; a tied head counts once."""
        return sum(p.numel() for p in self.parameters())
