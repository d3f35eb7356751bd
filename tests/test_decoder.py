"""The decoder gives, token by token, what the model gives for the whole text; whatever the architecture."""

import pytest
import torch

from minigpt_core.config import PRESETS, ModelConfig
from minigpt_core.decoder import Decoder
from minigpt_core.model import GPT

SMALL = {"vocab_size": 11, "n_layers": 2, "num_heads": 2, "embed_dim": 16, "seq_len": 12}
VARIANTS = {
    "no positions": {"positions": "none"},
    "no norm": {"norm": "none"},
    "no residual": {"residual": False},
    "swapped": {"swap_qk": True},
    "untied": {"tied_head": False},
    "narrow feed-forward": {"ff_mult": 1},
}


def lively(config: ModelConfig) -> GPT:
    """A model none of whose weights is zero."""
    torch.manual_seed(3)
    model = GPT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["in NumPy", "in torch"])
@pytest.mark.parametrize("n_texts", [1, 3, 7])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("change", [{}, *VARIANTS.values()], ids=["as it is", *VARIANTS])
def test_a_text_read_token_by_token_has_the_logits_of_the_text_read_at_once(preset, change, n_texts, dtype):
    config = ModelConfig(**PRESETS[preset] | SMALL | change)
    model = lively(config).to(dtype)
    texts = torch.randint(config.vocab_size, (n_texts, config.seq_len))  # (B, T)
    expected = model(texts)  # (B, T, V)
    cache = model.new_cache(n_texts)
    model(texts[:, :5], cache)
    decoder = Decoder(model, cache)
    for t in range(5, config.seq_len):
        torch.testing.assert_close(decoder(texts[:, t]), expected[:, t], atol=1e-4, rtol=1e-4)


def test_the_first_token_needs_no_prompt_before_it():
    model = lively(ModelConfig(**PRESETS["modern"] | SMALL))
    token = torch.tensor([4])  # (1,)
    torch.testing.assert_close(Decoder(model, model.new_cache(1))(token), model(token[:, None])[:, 0])
