"""What the probe reads off a model, against the same thing computed another way."""

import math

import numpy as np
import pytest
import torch

from minigpt_core.config import ModelConfig, ablated
from minigpt_core.model import GPT
from minigpt_core.probe import copy_accuracy, induction_scores, look, repeated_tokens, update_ratio

CONFIG = ModelConfig(vocab_size=11, seq_len=12, n_layers=3, num_heads=2, embed_dim=16)
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
VALIDATION = np.arange(24).reshape(2, 12) % 11


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))  # so that nothing is symmetric or zero
    return model.use_attention("fused")


def test_the_last_stage_of_the_lens_is_the_models_own_prediction(model):
    with torch.no_grad():
        p = model(torch.tensor([TOKENS]))[0].softmax(-1)
    seen = look(model, TOKENS, VALIDATION)
    assert seen.lens.tokens.shape == (4, 8, 5)
    assert (seen.lens.tokens[-1, :, 0] == p.argmax(-1).numpy()).all()
    np.testing.assert_allclose(seen.lens.probabilities[-1], p.topk(5).values.numpy(), rtol=1e-4)
    expected = [-math.log(p[i, TOKENS[i + 1]]) for i in range(7)]
    np.testing.assert_allclose(seen.lens.losses[-1, :-1], expected, rtol=1e-4)
    assert np.isnan(seen.lens.losses[:, -1]).all()  # nobody knows what follows the end


def test_an_earlier_stage_is_the_model_cut_off_there(model):
    seen = look(model, TOKENS, VALIDATION)
    for stage in range(4):
        short = GPT(CONFIG.replace(n_layers=max(1, stage))).eval()
        short.load_state_dict(model.state_dict(), strict=False)
        if stage == 0:
            short.blocks = torch.nn.ModuleList()
        with torch.no_grad():
            p = short(torch.tensor([TOKENS]))[0].softmax(-1)
        np.testing.assert_allclose(seen.lens.probabilities[stage, :, 0], p.amax(-1).numpy(), rtol=1e-4)


def test_residual_norms(model):
    seen = look(model, TOKENS, VALIDATION)
    with torch.no_grad():
        x = model.token_embedding(torch.tensor(TOKENS)) + model.position_embedding(torch.arange(8))
        assert seen.health.residual_norms[0] == pytest.approx(x.norm(dim=-1).mean().item(), rel=1e-5)
        for layer, block in enumerate(model.layers, 1):
            x = block(x[None])[0]
            assert seen.health.residual_norms[layer] == pytest.approx(x.norm(dim=-1).mean().item(), rel=1e-5)


def test_dead_units_are_those_that_never_fire(model):
    with torch.no_grad():
        for layer, dead in enumerate((0, 16, 64)):  # of 64 units
            model.layers[layer].mlp.up.bias[:] = 1000.0
            model.layers[layer].mlp.up.bias[:dead] = -1000.0
    assert look(model, TOKENS, VALIDATION).health.dead_units.tolist() == [0, 0.25, 1]


def test_a_look_leaves_the_model_as_it_was(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    paths = [block.attention.attend for block in model.layers]
    state = torch.get_rng_state()
    look(model, TOKENS, VALIDATION)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [block.attention.attend for block in model.layers] == paths
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_a_look_that_fails_leaves_the_model_as_it_was(model):
    with pytest.raises(ValueError, match="do not fit"):
        look(model, TOKENS * 2, VALIDATION)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("ablation", ["no-layernorm", "no-residual", "single-head", "swap-qk", "no-positions"])
def test_every_ablated_model_can_be_looked_into(ablation):
    model = GPT(CONFIG.replace(**ablated([ablation]))).eval()
    seen = look(model, TOKENS, VALIDATION)
    assert np.isfinite(seen.scores).all()
    assert seen.weights.sum(-1) == pytest.approx(np.ones(seen.weights.shape[:3]), abs=1e-5)


@pytest.mark.parametrize("tokens", [[5], [5, 2]])
def test_the_shortest_texts(model, tokens):
    seen = look(model, tokens, np.zeros((1, 1), np.int64))
    assert seen.weights.shape == (3, 2, len(tokens), len(tokens))


def test_a_vocabulary_smaller_than_the_lens():
    model = GPT(CONFIG.replace(vocab_size=2)).eval()
    assert look(model, [0, 1, 1], VALIDATION % 2).lens.tokens.shape == (4, 3, 2)


def test_repeated_tokens_are_distinct_and_come_twice(model):
    tokens = repeated_tokens(model)
    S = len(tokens) // 2
    assert S == 6  # half the context: fewer than the 11 tokens there are
    assert tokens[:S] == tokens[S:]
    assert len(set(tokens)) == S


def test_induction_scores_of_a_fresh_model_are_chance():
    torch.manual_seed(0)
    found = induction_scores(GPT(CONFIG).eval())
    assert found.shape == (3, 2)
    assert found == pytest.approx(np.full((3, 2), math.log(2) / 6), rel=0.2)


def test_copy_accuracy_of_a_model_that_copies(model):
    """A stand-in that knows the text: it must score 1, and 0 if it says the token itself."""
    tokens = repeated_tokens(model)

    class Copier:
        config, token_embedding = model.config, model.token_embedding

        def __init__(self, shift):
            self.shift = shift

        def __call__(self, x):
            return torch.nn.functional.one_hot(torch.roll(x, self.shift, dims=1), 11).float()

    assert len(tokens) == 12
    assert copy_accuracy(Copier(-1)) == 1
    assert copy_accuracy(Copier(0)) == 0


def test_update_ratio(model):
    after = GPT(CONFIG).eval()
    after.load_state_dict(model.state_dict())
    assert update_ratio(model, after) is None  # nothing moved
    with torch.no_grad():
        for p in after.parameters():
            if p.dim() == 2:
                p.add_(1e-3 * p.std() * torch.randn_like(p))
            else:
                p.add_(100)  # vectors do not count
    assert update_ratio(model, after) == pytest.approx(-3, abs=0.1)
