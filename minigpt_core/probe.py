"""Looking inside a model, on a replica: attention maps, head scores, logit lens, health.

Everything is computed on request, in evaluation mode and without gradients, by one forward pass in which forward hooks
write down what goes by. Training never runs any of this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from minigpt_core import heads
from minigpt_core.attention import attention_weights
from minigpt_core.errors import UsageError
from minigpt_core.frame import LENS_TOP, Health, Lens
from minigpt_core.model import GPT


@dataclass
class Trace:
    """What one forward pass over a single text left behind, one entry a layer.

    Attributes:
        attention: (H, T, T) each.
        stream: (T, C) each, the residual stream after the embeddings and after every block: n_layers + 1 of them.
        fired: (F,) bool each, which feed-forward units were above 0 at any position of any text.
    """

    attention: list[Tensor] = field(default_factory=list)
    stream: list[Tensor] = field(default_factory=list)
    fired: list[Tensor] = field(default_factory=list)


@contextmanager
def recorded(model: GPT) -> Iterator[Trace]:
    """While open, forward passes go by the explicit attention path and are written down; then all is put back."""
    trace = Trace()

    def recording(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        weights = attention_weights(q, k)  # (B, H, T, T)
        trace.attention.append(weights[0].float())  # (H, T, T)
        return weights.to(v.dtype) @ v  # (B, H, T, D)

    layers = [block.attention for block in model.layers]
    paths = [layer.attend for layer in layers]
    for layer in layers:
        layer.attend = recording
    hooks = [model.dropout.register_forward_hook(lambda _, __, x: trace.stream.append(x[0]))]  # (T, C): embeddings
    for block in model.layers:
        hooks.append(block.register_forward_hook(lambda _, __, x: trace.stream.append(x[0])))  # (T, C)
        # (B, T, F) -> (F,)
        hooks.append(
            block.mlp.activation.register_forward_hook(lambda _, __, x: trace.fired.append((x > 0).any(0).any(0)))
        )
    try:
        yield trace
    finally:
        for hook in hooks:
            hook.remove()
        for layer, path in zip(layers, paths, strict=True):
            layer.attend = path


@torch.inference_mode()
def trace(model: GPT, tokens: Tensor) -> Trace:
    """One forward pass over (B, T) tokens; attention and stream are kept of the first text."""
    with recorded(model) as kept:
        model(tokens)
    return kept


def attention_maps(model: GPT, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
    """Attention of every head on one text, without dropout.

    Args:
        model: its mode and its attention path are put back afterwards.
        tokens: 1 to `seq_len` token ids.

    Returns:
        (n_layers, num_heads, T, T) float32: rows are queries, columns keys, each row sums to 1.

    >>> maps = attention_maps(model, tokenizer.encode("the cat sat"))
    >>> bool(abs(maps.sum(-1) - 1).max() < 1e-5)
    True
    >>> attention_maps(model, "the cat sat")
    Traceback (most recent call last):
    minigpt_core.errors.UsageError: attention is looked at on token ids: tokenizer.encode(text)

    Raises:
        UsageError: these are no token ids of this model, or not so many.
    """
    ids = _checked(model, tokens)
    training = model.training
    model.eval()
    try:
        return _numpy(torch.stack(trace(model, _batch(model, ids)).attention))
    finally:
        model.train(training)


@torch.inference_mode()
def induction_scores(model: GPT, seed: int = 0) -> np.ndarray:
    """How much each head attends to what followed the same token before: (L, H) float32.

    The text is S distinct random tokens twice, S being half the context or, if that is less, the vocabulary.
    """
    return heads.induction(attention_maps(model, repeated_tokens(model, seed)))


def repeated_tokens(model: GPT, seed: int = 0) -> list[int]:
    """S distinct random tokens, and the same again: 2S token ids, the same for every look into a run."""
    config = model.config
    S = max(1, min(config.seq_len // 2, config.vocab_size))
    once = np.random.default_rng(seed).permutation(config.vocab_size)[:S].tolist()
    return once + once


@torch.inference_mode()
def copy_accuracy(model: GPT, seed: int = 0) -> float:
    """The share of the second S of `repeated_tokens` that the model predicts right from the token before, 0 to 1.

    The last token of the text has no successor, and the first of the second half cannot be known.
    """
    tokens = repeated_tokens(model, seed)
    S = len(tokens) // 2
    predicted = model(_batch(model, tokens))[0].argmax(-1)[S:-1]  # (S-1,)
    return float((predicted == torch.tensor(tokens[S + 1 :], device=predicted.device)).float().mean())


@torch.inference_mode()
def logit_lens(model: GPT, stream: list[Tensor], tokens: list[int]) -> Lens:
    """What each stage of the residual stream, (T, C) each, would predict through the final norm and the head."""
    stages = torch.stack(stream)  # (L+1, T, C)
    logits = model.head(model.final_norm(stages)).float()  # (L+1, T, V)
    log_p = logits.log_softmax(-1)  # (L+1, T, V)
    top, ids = log_p.topk(min(LENS_TOP, log_p.size(-1)), dim=-1)  # (L+1, T, k)
    following = torch.tensor(tokens[1:], device=log_p.device).expand(len(log_p), -1)  # (L+1, T-1)
    losses = torch.full(log_p.shape[:2], math.nan, device=log_p.device)  # (L+1, T)
    losses[:, :-1] = -log_p[:, :-1].gather(-1, following[..., None])[..., 0]
    return Lens(ids.cpu().numpy(), _numpy(top.exp()), _numpy(losses))


@torch.inference_mode()
def update_ratio(before: GPT, after: GPT) -> float | None:
    """log10(std(Δw) / std(w)) between two snapshots one step apart, median over the matrices; None if nothing moved.

    About −3 is healthy; source: Karpathy, "Neural Networks: Zero to Hero", part 4.
    """
    ratios = [
        (w1 - w0).std() / w1.std()
        for w0, w1 in zip(before.parameters(), after.parameters(), strict=True)
        if w1.dim() == 2
    ]
    ratio = float(torch.stack(ratios).median())  # one wait for the device
    return math.log10(ratio) if 0 < ratio < math.inf else None


@dataclass
class Look:
    """Everything that one snapshot shows on one text, as NumPy arrays; see `frame.Frame` for their shapes."""

    weights: np.ndarray
    scores: np.ndarray
    lens: Lens
    health: Health


def look(model: GPT, tokens: list[int], validation: np.ndarray, ratio: float | None = None) -> Look:
    """Look into a replica.

    Args:
        tokens: the watched text, at most `seq_len` token ids.
        validation: (B, T) token ids, the text on which units that never fire are counted.
        ratio: the update ratio measured last.
    """
    watched = trace(model, _batch(model, tokens))
    weights = _numpy(torch.stack(watched.attention))  # (L, H, T, T)
    fired = trace(model, torch.from_numpy(validation.astype(np.int64)).to(_device(model))).fired
    health = Health(
        residual_norms=_numpy(torch.stack(watched.stream).norm(dim=-1).mean(-1)),  # (L+1, T, C) -> (L+1,)
        dead_units=1 - _numpy(torch.stack(fired).float().mean(-1)),  # (L, F) -> (L,)
        update_ratio=ratio,
    )
    repeated = attention_maps(model, repeated_tokens(model))  # (L, H, 2S, 2S)
    return Look(weights, heads.scores(weights, repeated), logit_lens(model, watched.stream, tokens), health)


def _device(model: GPT) -> torch.device:
    return model.token_embedding.weight.device


def _checked(model: GPT, tokens: Sequence[int] | np.ndarray) -> list[int]:
    if isinstance(tokens, str) or np.ndim(tokens) != 1:
        raise UsageError("attention is looked at on token ids: tokenizer.encode(text)")
    ids, config = [int(token) for token in tokens], model.config
    if not 1 <= len(ids) <= config.seq_len:
        raise UsageError(f"{len(ids):,} tokens: a model with seq_len={config.seq_len} looks at 1 to {config.seq_len:,}")
    if not 0 <= min(ids) <= max(ids) < config.vocab_size:
        outside = min(ids) if min(ids) < 0 else max(ids)
        raise UsageError(f"token id {outside} is outside the model's vocabulary of {config.vocab_size:,} tokens")
    return ids


def _batch(model: GPT, tokens: list[int]) -> Tensor:
    return torch.tensor([tokens], device=_device(model))  # (1, T)


def _numpy(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
