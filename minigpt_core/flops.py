"""How much arithmetic training is, and how much of what a GPU can do it uses (MFU, model FLOP/s utilisation).

Source: Chowdhery et al. 2022, "PaLM", arXiv 2204.02311, appendix B: 6N + 12·L·H·D·T floating-point operations a token,
forwards and backwards, attention counted as if it looked at the whole context.
"""

from __future__ import annotations

from minigpt_core.model import GPT

PEAK: tuple[tuple[str, float, float], ...] = (
    # part of the driver's name, bf16 and fp32 in TFLOP/s, dense, without TF32: as NVIDIA's data sheets say
    ("H200", 989, 67),
    ("H100 PCIe", 756, 51),
    ("H100 NVL", 835, 60),
    ("H100", 989, 67),
    ("A100", 312, 19.5),
    ("L40S", 362, 91.6),
    ("L40", 181, 90.5),
    ("L4", 121, 30.3),
    ("A10", 125, 31.2),
    ("RTX 4090", 165, 82.6),
    ("RTX 3090", 71, 35.6),
)
"""The first that fits counts, so a longer name stands before the shorter one it holds."""


def peak_flops(gpu: str | None, precision: str) -> float | None:
    """FLOP/s that a GPU can reach in `precision` ("bf16" or "fp32"); None for one that is not in the table."""
    for name, bf16, fp32 in PEAK:
        if gpu and name in gpu:
            return 1e12 * (bf16 if precision == "bf16" else fp32)
    return None


def multiplied_parameters(model: GPT) -> int:
    """N, the parameters that take part in matrix products: those that are only looked up cost nothing."""
    looked_up = sum(p.numel() for p in model.position_embedding.parameters())
    if not model.config.tied_head:
        looked_up += model.token_embedding.weight.numel()
    return model.num_parameters() - looked_up


def flop_per_token(model: GPT) -> int:
    """Floating-point operations of training on one token."""
    config = model.config
    attention = 12 * config.n_layers * config.num_heads * config.head_dim * config.seq_len
    return 6 * multiplied_parameters(model) + attention
