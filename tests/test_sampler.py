"""Sampling: the cache against recomputation, the filters against their definitions, text against tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_core import CharTokenizer, sample
from minigpt_core.config import ModelConfig, SampleConfig
from minigpt_core.generation import Generation
from minigpt_core.model import GPT
from minigpt_core.sampler import COLDEST, StopText, answer, decode, encode_prompt, filter_logits, pick

CONFIG = ModelConfig(vocab_size=12, seq_len=8, n_layers=2, num_heads=2, embed_dim=16)
TOKENIZER = CharTokenizer.from_text("abcdefghij \n")
GREEDY = SampleConfig(temperature=0, max_new_tokens=40)


@pytest.fixture
def model():
    torch.manual_seed(3)
    model = GPT(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)  # far from uniform, so that a wrong position would show
    return model


def recomputed(model: GPT, prompt: list[int], n: int) -> list[int]:
    """Greedy decoding without a cache: the same window rule, every step from scratch."""
    seq_len = model.config.seq_len
    window, new = prompt[-seq_len:], []
    for _ in range(n):
        if len(window) > seq_len:
            window = window[-max(1, seq_len // 2) :]
        with torch.no_grad():
            new.append(model(torch.tensor([window]))[0, -1].argmax().item())
        window.append(new[-1])
    return new


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("length", [1, 3, 8, 20])
def test_cached_decoding_equals_recomputation_past_the_context(model, path, length):
    prompt = [i % 12 for i in range(length)]
    model.use_attention(path)
    cached = [t.item() for t in decode(model, torch.tensor([prompt]), GREEDY, torch.Generator())]
    assert cached == recomputed(model, prompt, 40)


def test_a_context_of_one_token_still_generates():
    model = GPT(CONFIG.replace(seq_len=1)).eval()
    tokens = list(decode(model, torch.tensor([[1]]), GREEDY, torch.Generator()))
    assert len(tokens) == 40


def test_exactly_k_survive_top_k_even_among_equals():
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])
    kept = filter_logits(logits, SampleConfig(top_k=2)).isfinite()
    assert kept.sum() == 2
    assert not kept[0, 0]


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert filter_logits(logits, SampleConfig(top_p=0.7)).isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, SampleConfig(top_p=0.81)).isfinite().tolist() == [[True, True, True, False]]
    assert filter_logits(logits, SampleConfig(top_p=0.0)).isfinite().tolist() == [[True, False, False, False]]


def test_min_p_drops_what_is_much_less_likely_than_the_best():
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    assert filter_logits(logits, SampleConfig(min_p=0.4)).isfinite().tolist() == [[True, True, False]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=30),
    st.integers(0, 40),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 3),
    st.integers(0, 2**31),
)
def test_the_most_likely_token_always_survives_and_what_is_drawn_survived(values, k, p, min_p, temperature, seed):
    logits = torch.tensor([values])
    config = SampleConfig(top_k=k, top_p=p, min_p=min_p, temperature=temperature)
    kept = filter_logits(logits, config).isfinite()
    assert kept[0][logits[0] == logits.max()].any()
    token = pick(logits, config, torch.Generator().manual_seed(seed)).item()
    if temperature >= COLDEST:
        assert filter_logits((logits - logits.max()) / temperature, config).isfinite()[0, token]
    else:
        assert logits[0, token] == logits.max()


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().repeat(20_000, 1)
    drawn = pick(logits, SampleConfig(temperature=1.0), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.015, rtol=0)


def test_the_repetition_penalty_discourages_what_was_seen(model):
    loop = sample(model, TOKENIZER, "abc", temperature=0, max_new_tokens=30)
    varied = sample(model, TOKENIZER, "abc", temperature=0, max_new_tokens=30, repetition_penalty=5.0)
    assert len(set(varied)) > len(set(loop))


def test_the_same_seed_gives_the_same_text_and_leaves_torch_alone(model):
    state = torch.get_rng_state()
    first = sample(model, TOKENIZER, "abc", seed=7)
    assert first == sample(model, TOKENIZER, "abc", seed=7)
    assert first != sample(model, TOKENIZER, "abc", seed=8)
    assert len(first) == 200
    assert torch.equal(state, torch.get_rng_state())


def test_several_samples_differ_and_arrive_together(model):
    generation = Generation("ab", SampleConfig(num_samples=3, max_new_tokens=20))
    answer(generation, model, TOKENIZER, [0, 1], seed=1)
    assert generation.finish_reason == "length"
    assert len({generation.text(i) for i in range(3)}) == 3
    pieces = generation.take()
    assert "".join(p.text for p in pieces if p.sample == 2) == generation.text(2)


def test_a_stop_text_ends_the_answer_and_is_not_shown(model):
    free = sample(model, TOKENIZER, "abc", seed=7)
    stop = free[50:53]
    ended = sample(model, TOKENIZER, "abc", seed=7, stop=(stop,))
    assert ended == free[: free.index(stop)]


@given(st.text("ab\n", max_size=60), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_texts_are_found_however_the_text_arrives(text, stops, data):
    watcher, shown, rest = StopText(tuple(stops)), "", text
    while rest and not watcher.found:
        n = data.draw(st.integers(1, len(rest)))
        shown += watcher.feed(rest[:n])
        rest = rest[n:]
    shown += watcher.flush()
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    if not any(stop in text for stop in stops):
        assert shown == text


def test_a_prompt_outside_the_vocabulary_is_named_not_fatal(model):
    tokens, warnings = encode_prompt(TOKENIZER, "aéb")
    assert TOKENIZER.decode(tokens) == "ab"
    assert "'é'" in warnings[0]
    assert encode_prompt(TOKENIZER, "")[0] == TOKENIZER.encode("\n").tolist()
    assert len(sample(model, TOKENIZER, "漢字", max_new_tokens=5)) == 5


def test_cancelling_ends_the_answer_after_the_current_token(model):
    generation = Generation("a", SampleConfig(max_new_tokens=1000))
    generation.cancel()
    answer(generation, model, TOKENIZER, [0], seed=1)
    assert generation.finish_reason == "cancelled"
    assert generation.n_tokens <= 2
