"""Sampling: the cache against recomputation, the filters against their definitions, text against tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_core import CharTokenizer, sample
from minigpt_core.config import PRESETS, ModelConfig, SampleConfig
from minigpt_core.generation import Generation
from minigpt_core.model import GPT
from minigpt_core.sampler import COLDEST, StopText, answer, decode, encode_prompt, filter_logits, pick, stream, weigh

CONFIG = ModelConfig(vocab_size=12, seq_len=8, n_layers=2, num_heads=2, embed_dim=16)
TOKENIZER = CharTokenizer.from_text("abcdefghij \n")
GREEDY = SampleConfig(temperature=0, max_new_tokens=40)


@pytest.fixture(params=PRESETS)
def model(request):
    torch.manual_seed(3)
    model = GPT(CONFIG.replace(**PRESETS[request.param])).eval()
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


def answered(model: GPT, config: SampleConfig, seed: int = 1) -> Generation:
    generation = Generation("ab", config)
    answer(generation, model, TOKENIZER, TOKENIZER.encode("ab").tolist(), seed)
    return generation


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 3), min_size=2, max_size=5, unique=True),
    st.lists(st.floats(-9, 9), min_size=3, max_size=12),
    st.integers(0, 6),
    st.integers(0, 2**31),
)
def test_each_of_several_temperatures_draws_what_it_would_draw_alone(temperatures, values, k, seed):
    logits = torch.tensor([values])
    together = SampleConfig(temperatures=tuple(temperatures), top_k=k)
    drawn = pick(logits.expand(len(temperatures), -1), together, torch.Generator().manual_seed(seed)).tolist()
    alone = [
        pick(logits, SampleConfig(temperature=t, top_k=k), torch.Generator().manual_seed(seed)).item()
        for t in temperatures
    ]
    assert drawn == alone


def test_several_temperatures_are_one_answer_and_the_coldest_is_greedy(model):
    generation = answered(model, SampleConfig(temperatures=(0, 0.8, 3), max_new_tokens=20))
    texts = [generation.text(row) for row in range(3)]
    assert len(set(texts)) == 3
    assert texts[0] == sample(model, TOKENIZER, "ab", temperature=0, max_new_tokens=20)
    assert texts[1] == sample(model, TOKENIZER, "ab", temperature=0.8, max_new_tokens=20, seed=1)


def test_a_choice_tells_the_probability_before_any_filter_and_the_likeliest_tokens(model):
    config = SampleConfig(temperature=0.3, top_k=2, repetition_penalty=1.5, max_new_tokens=6)
    generation = answered(model, config)
    tokens = TOKENIZER.encode("ab").tolist()
    for choice in generation.choices[0]:
        with torch.no_grad():
            probabilities = model(torch.tensor([tokens]))[0, -1].softmax(-1)
        best = probabilities.topk(5)
        tokens += TOKENIZER.encode(choice.text).tolist()
        assert choice.p == pytest.approx(probabilities[tokens[-1]].item(), abs=1e-5)
        assert [label for label, _ in choice.alternatives] == list(TOKENIZER.token_labels(best.indices.tolist()))
        assert [p for _, p in choice.alternatives] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert len(tokens) == 8


def test_choices_change_nothing_of_the_text_and_cost_nothing_unless_asked_for(model):
    generation = answered(model, SampleConfig(num_samples=2, max_new_tokens=30))
    config = generation.config
    pieces = [
        item
        for item in stream(model, TOKENIZER, TOKENIZER.encode("ab").tolist(), config, seed=1)
        if not isinstance(item, str)
    ]
    assert all(piece.choice is None for piece in pieces)
    for row in range(2):
        assert "".join(piece.text for piece in pieces if piece.sample == row) == generation.text(row)


def test_a_text_begins_the_texts_of_its_choices_and_a_stopped_one_takes_no_more(model):
    free = answered(model, SampleConfig(num_samples=3, max_new_tokens=40))
    stop = free.text(0)[10:13]
    ended = answered(model, SampleConfig(num_samples=3, max_new_tokens=40, stop=(stop,)))
    for row in range(3):
        joined = "".join(choice.text for choice in ended.choices[row])
        assert joined.startswith(ended.text(row))
        assert free.text(row).startswith(joined)
        at = free.text(row).find(stop)
        assert len(joined) == (40 if at < 0 else at + len(stop))
    assert len(ended.take()) == sum(map(len, ended.choices)) == ended.n_tokens


def test_a_vocabulary_smaller_than_the_alternatives_is_told_whole():
    row = weigh(torch.tensor([[0.0, 1.0, -1.0]]), torch.tensor([2]))[0].tolist()
    assert row[:4] == [2, 1, 0, 2]
    assert sum(row[5:]) == pytest.approx(1)
    assert row[4] == row[7]
