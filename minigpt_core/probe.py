"""Looking inside a model: attention maps, computed on request on a replica by the explicit path."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minigpt_core.attention import attention_weights
from minigpt_core.model import GPT


@torch.inference_mode()
def attention_maps(model: GPT, tokens: list[int]) -> np.ndarray:
    """Attention of every head on one text.

    Args:
        model: a replica in evaluation mode; its attention path is put back afterwards.
        tokens: at most `seq_len` token ids.

    Returns:
        (n_layers, num_heads, T, T) float32: rows are queries, columns keys, each row sums to 1.
    """
    maps: list[Tensor] = []

    def recording(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        weights = attention_weights(q, k)  # (1, H, T, T)
        maps.append(weights[0].float())  # (H, T, T)
        return weights.to(v.dtype) @ v  # (1, H, T, D)

    layers = [block.attention for block in model.layers]
    paths = [layer.attend for layer in layers]
    for layer in layers:
        layer.attend = recording
    try:
        model(torch.tensor([tokens], device=model.token_embedding.weight.device))
    finally:
        for layer, path in zip(layers, paths, strict=True):
            layer.attend = path
    return torch.stack(maps).cpu().numpy()
