"""How much arithmetic a token is, and how much of a GPU that keeps busy."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minigpt_core.config import PRESETS, ModelConfig, TrainConfig
from minigpt_core.devices import Facts, decide
from minigpt_core.flops import PEAK, flop_per_token, peak_flops
from minigpt_core.model import GPT
from minigpt_core.status import Status


@pytest.mark.parametrize("preset", PRESETS)
def test_the_formula_counts_what_torch_counts(preset):
    """By custom N holds norms and biases too, which are added and not multiplied: a little over one per cent here."""
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=64, seq_len=64, **PRESETS[preset] | {"n_layers": 4, "embed_dim": 64}))
    model.use_attention("explicit")
    tokens = torch.randint(64, (2, 64))  # (B, T)
    with FlopCounterMode(display=False) as counted:
        model(tokens).sum().backward()
    assert counted.get_total_flops() == pytest.approx(flop_per_token(model) * tokens.numel(), rel=0.02)


@pytest.mark.parametrize(
    ("gpu", "precision", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA A10G", "bf16", 125),
    ],
)
def test_the_peak_is_the_one_of_that_gpu(gpu, precision, tera):
    assert peak_flops(gpu, precision) == tera * 1e12


def test_no_longer_name_stands_behind_a_shorter_one_that_it_holds():
    names = [name for name, *_ in PEAK]
    assert not [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if a in b]


def test_an_unknown_device_has_no_utilisation():
    assert peak_flops("NVIDIA GeForce GTX 1060", "fp32") is None
    assert peak_flops(None, "fp32") is None
    assert Status(tok_s=1e6, flop_per_token=6_000_000).mfu is None


def test_utilisation_is_the_share_of_the_peak_that_training_uses():
    facts = Facts(cuda_free=(2**34,), cuda_bf16=(True,), cuda_names=("NVIDIA A100-SXM4-40GB",), torch_cuda="12.8")
    devices = decide(facts, TrainConfig(), 256)
    peak = peak_flops(devices.gpu, devices.precision)
    assert Status(tok_s=1e6, flop_per_token=78_000_000, peak_flops=peak).mfu == pytest.approx(0.25)
