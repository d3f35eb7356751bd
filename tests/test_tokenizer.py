import json
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_core.errors import UsageError
from minigpt_core.tokenizer import CHUNK, UNKNOWN_CHAR, CharTokenizer, Tokenizer, load_tokenizer

# Every code point: lone surrogates too, since command-line bytes that are not UTF-8 reach Python as such.
any_text = st.text(st.characters(exclude_categories=()))
some_text = st.text(st.characters(exclude_categories=()), min_size=1)


def test_the_vocabulary_is_the_sorted_characters() -> None:
    tokenizer: Tokenizer = CharTokenizer.from_text("hello, 世界 🎈")
    assert tokenizer.to_dict()["characters"] == " ,ehlo世界🎈"
    assert tokenizer.vocab_size == 9
    ids = tokenizer.encode("hell")
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 2, 4, 4]
    assert tokenizer.token_labels(ids) == ("h", "e", "l", "l")


@given(st.data())
def test_round_trip_of_any_text_made_from_the_vocabulary(data: st.DataObject) -> None:
    tokenizer = CharTokenizer.from_text(data.draw(some_text), data.draw(st.none() | st.integers(2, 20)))
    text = data.draw(st.text(st.sampled_from(tokenizer.characters)))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert "".join(tokenizer.token_labels(ids)) == text
    assert tokenizer.unknown(text) == ()


@given(some_text, any_text)
def test_without_an_unknown_token_foreign_characters_are_dropped_and_named(text: str, prompt: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(prompt)) == "".join(c for c in prompt if c in text)
    assert tokenizer.unknown(prompt) == tuple(dict.fromkeys(c for c in prompt if c not in text))


@given(some_text, any_text, st.integers(2, 20))
def test_with_an_unknown_token_foreign_characters_become_it(text: str, prompt: str, vocab_size: int) -> None:
    tokenizer = CharTokenizer.from_text(text, vocab_size)
    known = tokenizer.characters
    assert tokenizer.decode(tokenizer.encode(prompt)) == "".join(c if c in known else UNKNOWN_CHAR for c in prompt)
    assert tokenizer.unknown(prompt) == tuple(dict.fromkeys(c for c in prompt if c not in known))


@given(some_text, st.integers(2, 20))
def test_vocab_size_keeps_the_most_frequent(text: str, vocab_size: int) -> None:
    counts = Counter(text.replace(UNKNOWN_CHAR, ""))
    tokenizer = CharTokenizer.from_text(text, vocab_size)
    kept = tokenizer.characters[:-1]
    assert tokenizer.characters[-1] == UNKNOWN_CHAR
    assert tokenizer.vocab_size == min(vocab_size, len(counts) + 1)
    assert list(kept) == sorted(kept)
    assert sorted(counts[c] for c in kept) == sorted(counts.values())[len(counts) - len(kept) :]


def test_equally_frequent_characters_are_kept_in_unicode_order() -> None:
    assert CharTokenizer.from_text("dcbaa", vocab_size=3).characters == "ab" + UNKNOWN_CHAR


def test_a_text_longer_than_one_chunk() -> None:
    text = "abc" * (CHUNK // 2) + "é🎈"
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert tokenizer.characters == "abcé🎈"
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode(text + "z")) == text


def test_encoding_has_no_loop_over_characters() -> None:
    text = "the quick brown fox\n" * 200_000
    tokenizer = CharTokenizer.from_text(text)

    def seconds(work: Callable[[], object]) -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    loop = seconds(lambda: [tokenizer._ids[c] for c in text])
    assert min(seconds(lambda: tokenizer.encode(text)) for _ in range(3)) < loop / 3  # about a twentieth


@given(some_text, st.none() | st.integers(2, 20))
def test_dict_round_trip_through_json(text: str, vocab_size: int | None) -> None:
    tokenizer = CharTokenizer.from_text(text, vocab_size)
    values = json.loads(json.dumps(tokenizer.to_dict()))
    assert values["type"] == "char"
    assert load_tokenizer(values) == tokenizer


@given(some_text, st.lists(st.integers(0, 5)))
def test_streamed_pieces_join_to_the_whole(text: str, cuts: list[int]) -> None:
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    decoder = tokenizer.decoder()
    streamed = ""
    for cut in cuts:
        streamed += decoder.feed(ids[:cut])
        ids = ids[cut:]
    assert streamed + decoder.feed(ids) + decoder.flush() == text


@pytest.mark.parametrize("bad", [-1, 3, 10**6])
def test_an_id_outside_the_vocabulary_is_named(bad: int) -> None:
    tokenizer = CharTokenizer.from_text("abc")
    for use in (tokenizer.decode, tokenizer.token_labels, tokenizer.decoder().feed):
        with pytest.raises(UsageError, match=rf"token id {bad} .* 3 tokens"):
            use([0, bad])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "unknown tokenizer type 'None'; known: char"),
        ({"type": "chars"}, "did you mean 'char'"),
        ({"type": "char", "characters": "abc"}, "needs type, characters and has_unknown"),
        ({"type": "char", "characters": ["a"], "has_unknown": False}, "characters: list"),
        ({"type": "char", "characters": "abc", "has_unknown": False, "merges": []}, "merges: list"),
        ({"type": "char", "characters": "", "has_unknown": False}, "at least one character"),
        ({"type": "char", "characters": "abca", "has_unknown": False}, "'a' more than once"),
        ({"type": "char", "characters": "abc", "has_unknown": True}, "U\\+FFFD, not 'c'"),
    ],
)
def test_a_damaged_dict_is_refused_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_tokenizer(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "vocab_size"), [("", None), ("", 5), ("abc", 1), ("abc", 0), ("abc", -3)])
def test_no_vocabulary_without_characters(text: str, vocab_size: int | None) -> None:
    with pytest.raises(UsageError, match="empty" if not text else f"vocab_size={vocab_size}"):
        CharTokenizer.from_text(text, vocab_size)
