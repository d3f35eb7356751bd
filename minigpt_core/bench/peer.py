"""The peer: GPT-2 as `transformers` has it, of the same shape, trained by a plain PyTorch loop.

Its dropout is off (Hugging Face's default is 0.1) and it gets the batches that ours gets.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt_core.batches import Batches
from minigpt_core.config import ModelConfig
from minigpt_core.data import TokenWindows
from minigpt_core.model import GPT

LEARNING_RATE = 1e-3
NAME = "transformers GPT2LMHeadModel"


def build(config: ModelConfig) -> Any:
    """GPT-2 of this shape, with its own initialisation, in training mode; what is not GPT-2 in `config` is ignored."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.seq_len,
            n_embd=config.embed_dim,
            n_layer=config.n_layers,
            n_head=config.num_heads,
            n_inner=config.ff_mult * config.embed_dim,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=config.tied_head,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).train()


@torch.no_grad()
def copy_weights(source: GPT, into: Any) -> None:
    """Give the peer the weights of our `classic` model, so that both write the same text."""
    body = into.transformer
    body.wte.weight.copy_(source.token_embedding.weight)
    body.wpe.weight.copy_(source.position_embedding.weight)
    _copy(source.final_norm, body.ln_f)
    for ours, theirs in zip(source.layers, body.h, strict=True):
        _copy(ours.norm1, theirs.ln_1)
        _copy(ours.norm2, theirs.ln_2)
        for linear, convolution in (
            (ours.attention.qkv, theirs.attn.c_attn),
            (ours.attention.proj, theirs.attn.c_proj),
            (ours.mlp.up, theirs.mlp.c_fc),
            (ours.mlp.proj, theirs.mlp.c_proj),
        ):
            convolution.weight.copy_(linear.weight.T)  # their Conv1D keeps the transpose
            convolution.bias.copy_(linear.bias)


def _copy(ours: nn.Module, theirs: nn.Module) -> None:
    for name, parameter in ours.named_parameters():
        theirs.get_parameter(name).copy_(parameter)


class PlainTrainer:
    """Plain PyTorch: AdamW with its defaults, fp32, eager, a cosine from 1e-3 to 0.

    Args:
        tokens: (n,) the training split.
        autocast: what the forward pass runs in; nothing is fp32.
        compile: with `torch.compile`.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokens: np.ndarray,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        device: str,
        autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
        compile: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.model = build(config).to(device)
        self.forward = torch.compile(self.model) if compile else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
        self.batches = Batches(len(tokens), config.seq_len, batch_size, seed)
        self.windows = TokenWindows(tokens, config.seq_len, device)
        self.steps, self.done, self.autocast = steps, 0, autocast

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * min(1.0, self.done / self.steps)))
        inputs, targets = self.windows(self.batches.starts(self.done))  # (B, T) each
        with self.autocast():
            logits = self.forward(input_ids=inputs, use_cache=False).logits  # (B, T, V)
        F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)"""
        logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits


@torch.no_grad()
def generate(model: Any, prompt: Tensor, n_tokens: int) -> Tensor:
    """Exactly `n_tokens` more with its own key/value cache, at temperature 0.8 from the whole distribution."""
    written: Tensor = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=n_tokens,
        min_new_tokens=n_tokens,
        do_sample=True,
        temperature=0.8,
        top_k=0,
        use_cache=True,
        pad_token_id=0,
    )
    return written
