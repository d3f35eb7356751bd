"""The synthetic corpus `repeats`: always the same text, and only looking back predicts it."""

import hashlib

import numpy as np
import pytest

from minigpt_core.corpus import load_corpus
from minigpt_core.repeats import SIZE, SYMBOLS, Dice, after, counters, pairs, repeats, run

CONTEXT = 64
SHA256 = "dd7f490322b44c0901c9cea518c32940355a027ed0bf9505e23e4d206a797082"


@pytest.fixture(scope="module")
def text() -> str:
    return repeats()


def entropy(counts: np.ndarray) -> float:
    """Nats, of the distribution over the last axis, averaged by weight over the others."""
    share = counts / counts.sum()
    given = counts / counts.sum(-1, keepdims=True)
    return float(-(share * np.log(given, where=counts > 0, out=np.zeros_like(share))).sum())


def test_the_text_never_changes(text: str) -> None:
    assert text == repeats()
    assert hashlib.sha256(text.encode()).hexdigest() == SHA256


def test_its_size_and_symbols(text: str) -> None:
    assert SIZE <= len(text) < SIZE + 300
    assert "".join(sorted(set(text))) == SYMBOLS


def test_it_is_a_built_in_corpus(text: str) -> None:
    corpus = load_corpus("repeats")
    assert (corpus.name, corpus.text) == ("repeats", text)


def test_letters_and_pairs_of_letters_tell_next_to_nothing(text: str) -> None:
    """The current symbol alone does not predict the next one: that is left to the context."""
    ids = np.frombuffer(text.encode(), np.uint8) - ord(SYMBOLS[0])
    together = np.zeros((len(SYMBOLS), len(SYMBOLS)))
    np.add.at(together, (ids[:-1], ids[1:]), 1)
    uniform = np.log(len(SYMBOLS))
    assert entropy(together.sum(0)) == pytest.approx(uniform, abs=0.001)
    assert entropy(together) == pytest.approx(uniform, abs=0.08)


def test_no_fixed_distance_explains_the_repeats(text: str) -> None:
    """Copying from a fixed number of symbols back is hardly ever right, whatever the number."""
    ids = np.frombuffer(text.encode(), np.uint8)
    right = [float((ids[d:] == ids[:-d]).mean()) for d in range(1, CONTEXT + 1)]
    assert max(right) < 0.12


def test_looking_up_what_came_before_explains_much(text: str) -> None:
    """What followed the last two symbols, when they last came within a context, comes again."""
    seen = right = 0
    some = text[:100_000]
    for i in range(CONTEXT, len(some)):
        before = some.rfind(some[i - 2 : i], i - CONTEXT, i - 1)
        if before >= 0:
            seen += 1
            right += some[before + 2] == some[i]
    assert right / len(some) > 0.2
    assert right / seen > 0.55


def test_the_gaps_teach_the_parts() -> None:
    dice = Dice(3)
    for _ in range(50):
        steps = np.diff([SYMBOLS.index(c) for c in run(dice)]) % 26
        assert (steps == 1).all()
        fours = pairs(dice)
        assert all(fours[i + 2] == after(fours[i], 1) for i in range(len(fours)) if i % 4 < 2)
        two = counters(dice)
        assert all(two[i + 2] == after(two[i], 1) for i in range(len(two) - 2))
