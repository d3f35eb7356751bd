"""The model against independent implementations, and the properties a causal transformer must have."""

import pytest
import torch
from torch.nn import functional as F

from minigpt_core.attention import attention_weights, explicit_attention, fused_attention, rotate
from minigpt_core.bench.peer import build
from minigpt_core.config import ABLATIONS, PRESETS, ModelConfig
from minigpt_core.errors import UsageError
from minigpt_core.model import GPT
from minigpt_core.probe import attention_maps

SHAPES = [
    {"vocab_size": 65, "seq_len": 16, "n_layers": 2, "num_heads": 4, "embed_dim": 32},
    {"vocab_size": 11, "seq_len": 5, "n_layers": 1, "num_heads": 1, "embed_dim": 8, "ff_mult": 2},
    {"vocab_size": 300, "seq_len": 33, "n_layers": 3, "num_heads": 3, "embed_dim": 48},
    {"vocab_size": 65, "seq_len": 16, "n_layers": 2, "num_heads": 2, "embed_dim": 32, "tied_head": False},
]
SMALL = ModelConfig(**SHAPES[0])


def perturb(model: torch.nn.Module) -> None:
    """Move every parameter away from its initial value: a forgotten bias or gain must not hide behind 0 or 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def huggingface_twin(model: GPT):
    """`transformers`' GPT-2 with the same weights, and the parameter each of ours corresponds to."""
    config, twin = model.config, build(model.config).eval()
    pairs = [
        (model.token_embedding.weight, twin.transformer.wte.weight, False),
        (model.position_embedding.weight, twin.transformer.wpe.weight, False),
        (model.final_norm.weight, twin.transformer.ln_f.weight, False),
        (model.final_norm.bias, twin.transformer.ln_f.bias, False),
    ]
    if not config.tied_head:
        pairs.append((model.head.weight, twin.lm_head.weight, False))
    for ours, theirs in zip(model.blocks, twin.transformer.h, strict=True):
        for a, b in ((ours.norm1, theirs.ln_1), (ours.norm2, theirs.ln_2)):
            pairs += [(a.weight, b.weight, False), (a.bias, b.bias, False)]
        for a, b in (
            (ours.attention.qkv, theirs.attn.c_attn),
            (ours.attention.proj, theirs.attn.c_proj),
            (ours.mlp.up, theirs.mlp.c_fc),
            (ours.mlp.proj, theirs.mlp.c_proj),
        ):
            pairs += [(a.weight, b.weight, True), (a.bias, b.bias, False)]  # their Conv1D keeps the transpose
    with torch.no_grad():
        for a, b, transposed in pairs:
            b.copy_(a.T if transposed else a)
    return twin, pairs


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_gradients_equal_huggingface_gpt2(shape, path):
    torch.manual_seed(0)
    model = GPT(ModelConfig(**shape)).use_attention(path)
    perturb(model)
    twin, pairs = huggingface_twin(model)
    assert sum(p.numel() for p in twin.parameters()) == model.num_parameters()
    tokens = torch.randint(0, shape["vocab_size"], (3, shape["seq_len"]))

    logits, expected = model(tokens), twin(tokens).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)

    for out in (logits, expected):
        F.cross_entropy(out[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    for ours, theirs, transposed in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad.T if transposed else theirs.grad, atol=1e-4, rtol=0)


def test_fused_attention_equals_explicit():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 17, 8) for _ in range(3))
    torch.testing.assert_close(fused_attention(q, k, v), explicit_attention(q, k, v), atol=1e-5, rtol=0)
    q, k, v = (x.bfloat16() for x in (q, k, v))
    torch.testing.assert_close(fused_attention(q, k, v), explicit_attention(q, k, v), atol=2e-2, rtol=0)


@pytest.mark.parametrize("n_queries", [1, 4, 17])
def test_fused_attention_equals_explicit_when_the_queries_come_last(n_queries):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, n_queries, 8), torch.randn(2, 3, 17, 8), torch.randn(2, 3, 17, 8)
    torch.testing.assert_close(fused_attention(q, k, v), explicit_attention(q, k, v), atol=1e-5, rtol=0)


def test_attention_rows_sum_to_one_and_see_no_future():
    torch.manual_seed(0)
    weights = attention_weights(torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 9))
    assert weights.triu(1).count_nonzero() == 0

    maps = attention_maps(GPT(SMALL).eval(), list(range(12)))
    assert maps.shape == (2, 4, 12, 12)
    assert maps.sum(-1) == pytest.approx(1, abs=1e-5)


def test_attention_maps_put_the_attention_path_back():
    model = GPT(SMALL).eval().use_attention("fused")
    attention_maps(model, [1, 2, 3])
    assert all(block.attention.attend is fused_attention for block in model.blocks)


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("ablation", [None, *ABLATIONS])
def test_no_position_sees_its_future(ablation, preset, path):
    """Even an ablated model: the gradient of position i's logits reaches no embedding after i."""
    torch.manual_seed(0)
    model = GPT(SMALL.replace(**PRESETS[preset] | ABLATIONS.get(ablation, {}))).use_attention(path)
    perturb(model)
    embedded = []
    model.token_embedding.register_forward_hook(lambda _module, _inputs, output: embedded.append(output))
    logits = model(torch.randint(0, 65, (1, 10)))
    for i in range(10):
        (gradient,) = torch.autograd.grad(logits[0, i].square().sum(), embedded[0], retain_graph=True)
        reach = gradient[0].abs().sum(-1)
        assert reach[i + 1 :].count_nonzero() == 0
        assert reach[i] > 0


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    model = GPT(SMALL)
    tokens = torch.randint(0, 65, (4, 17))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_the_default_size_has_the_parameters_it_is_known_for():
    assert GPT(ModelConfig(vocab_size=65)).num_parameters() == 809_856


def test_initialisation_is_what_the_docstring_says():
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=500, n_layers=8, embed_dim=128))
    block = model.blocks[3]
    assert model.head.weight is model.token_embedding.weight
    for weight in (model.token_embedding.weight, model.position_embedding.weight, block.attention.qkv.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    for writer in (block.attention.proj, block.mlp.proj):
        assert writer.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert writer.bias.abs().max() == 0
    assert torch.all(block.norm1.weight == 1)
    free = GPT(ModelConfig(vocab_size=500, n_layers=8, embed_dim=128, residual=False))
    assert free.blocks[3].mlp.proj.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_modern_preset_begins_as_its_docstring_says():
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=500, n_layers=2, embed_dim=128, **PRESETS["modern"]))
    block = model.blocks[0]
    assert model.token_embedding.weight.std().item() == pytest.approx(0.5, rel=0.05)
    for weight in (block.attention.qkv.weight, block.mlp.up.weight):
        assert weight.std().item() == pytest.approx(0.5 / 128**0.5, rel=0.05)
    for weight in (model.head.weight, block.attention.proj.weight, block.mlp.proj.weight):
        assert weight.count_nonzero() == 0
    tokens = torch.randint(0, 500, (2, 8))
    assert torch.equal(model.mix(model.token_embedding(tokens)), model.token_embedding(tokens))
    assert all(name.endswith("weight") for name, _ in model.named_parameters())  # no biases


def test_rotary_attention_depends_on_distances_only():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 6, 2, 3, 8)  # (B, T, 2, H, D) each
    here, there = ((rotate(q, start, 40) * rotate(k.roll(2, 1), start, 40)).sum(-1) for start in (0, 30))
    torch.testing.assert_close(here, there, atol=1e-4, rtol=0)
    torch.testing.assert_close(rotate(q, 5, 40).norm(dim=-1), q.norm(dim=-1))
    assert torch.equal(rotate(q, 0, 40)[:, 0], q[:, 0])  # position 0 stays as it is


def test_rotary_positions_need_an_even_head():
    with pytest.raises(UsageError, match="even number of dimensions a head, and there are 5"):
        ModelConfig(vocab_size=9, embed_dim=20, num_heads=4, positions="rotary")


def test_the_mix_is_a_causal_convolution():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=9, embed_dim=6, num_heads=1, token_mix=3)
    mix, x = GPT(config).mix, torch.randn(2, 7, 6)
    torch.nn.init.normal_(mix.weight)
    kernel = mix.weight.detach().flip(0).T[:, None]  # (C, 1, n), the oldest first
    expected = F.conv1d(F.pad(x.mT, (2, 0)), kernel, groups=6).mT  # (B, T, C)
    torch.testing.assert_close(mix(x), expected)


def test_ablations_take_away_what_they_name():
    full = GPT(SMALL)

    def ablated(name):
        return GPT(SMALL.replace(**ABLATIONS[name]))

    assert not [m for m in ablated("no-layernorm").modules() if isinstance(m, torch.nn.LayerNorm)]
    assert full.num_parameters() - ablated("no-positions").num_parameters() == 16 * 32
    assert attention_maps(ablated("single-head").eval(), [1, 2, 3]).shape[1] == 1
    x = torch.randn(1, 4, 32)
    block = ablated("no-residual").blocks[0]
    with torch.no_grad():
        block.mlp.proj.weight.zero_()
    assert block(x).abs().max() == 0  # nothing of x survives a part that writes nothing


def test_swapped_query_and_key_are_a_relabelling():
    """With the two projections exchanged as well, the swapped model computes the same function."""
    torch.manual_seed(0)
    model, swapped = GPT(SMALL), GPT(SMALL.replace(swap_qk=True))
    swapped.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 65, (2, 16))
    assert not torch.allclose(model(tokens), swapped(tokens), atol=1e-4)
    with torch.no_grad():
        for block in swapped.blocks:
            for parameter in (block.attention.qkv.weight, block.attention.qkv.bias):
                q, k, v = parameter.clone().chunk(3)
                parameter.copy_(torch.cat([k, q, v]))
    torch.testing.assert_close(model(tokens), swapped(tokens), atol=1e-6, rtol=0)


def test_a_replica_draws_nothing_from_the_global_generator_and_can_be_filled():
    torch.manual_seed(0)
    model = GPT(SMALL).eval()
    before = torch.get_rng_state()
    replica = GPT.empty(SMALL)
    assert torch.equal(before, torch.get_rng_state())
    assert replica.head.weight is replica.token_embedding.weight
    replica.copy_weights(model)
    tokens = torch.randint(0, 65, (2, 16))
    assert torch.equal(model(tokens), replica(tokens))
