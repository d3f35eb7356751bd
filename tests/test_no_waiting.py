"""Neither a training step nor the drawing of a token asks for a number of the device: on a GPU the CPU would wait.

What would wait there is a call here as well, and is seen here: no GPU is needed.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minigpt_core.config import PRESETS, ModelConfig, SampleConfig, TrainConfig
from minigpt_core.divergence import Guard
from minigpt_core.model import GPT
from minigpt_core.sampler import draw
from minigpt_core.tokenizer import CharTokenizer
from minigpt_core.trainer import Trainer

TEXT = "the quick brown fox jumps over the lazy dog. " * 40
SMALL = {"n_layers": 2, "num_heads": 2, "embed_dim": 16, "seq_len": 8}
WAITING = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique_consecutive", "_unique2"}
"""Operations whose result, or its size, the CPU must know to go on."""


class Watch(TorchDispatchMode):
    """Notes every operation that would wait."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITING or by_mask:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def model_of(preset, tokenizer):
    torch.manual_seed(0)
    return GPT(ModelConfig(vocab_size=tokenizer.vocab_size, **PRESETS[preset] | SMALL))


def test_the_watch_sees_who_waits():
    with Watch() as watch:
        torch.ones(3).sum().item()
        torch.ones(3)[torch.tensor([True, False, True])]
    assert watch.seen == ["_local_scalar_dense", "index"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_waits_for_nothing(preset, optimizer, accumulate):
    tokenizer = CharTokenizer.from_text(TEXT)
    config = TrainConfig(steps=9, batch_size=4, optimizer=optimizer, accumulate=accumulate, device="cpu", threads=1)
    trainer = Trainer(model_of(preset, tokenizer), tokenizer, TEXT, config)
    trainer.update.guard = Guard(torch.zeros(()), trainer.update.optimizers)  # as on a GPU
    trainer.step()
    with Watch() as watch:
        trainer.step()
    assert trainer.state.step == 2
    assert watch.seen == []


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"top_k": 5, "top_p": 0.9, "min_p": 0.1}], ids=str)
def test_a_token_is_drawn_without_waiting(settings):
    tokenizer = CharTokenizer.from_text(TEXT)
    model = model_of("modern", tokenizer).eval().requires_grad_(False)
    config = SampleConfig(max_new_tokens=20, repetition_penalty=1.2, **settings)
    with Watch() as watch:
        drawn = list(
            draw(model, torch.tensor([tokenizer.encode("the").tolist()]), config, torch.Generator().manual_seed(1))
        )
    assert len(drawn) == 20
    assert watch.seen == []
