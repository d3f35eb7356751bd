"""Head scores on patterns whose answer is known by hand."""

import numpy as np
import pytest

from minigpt_core import heads

T = 8


def pattern(rows):
    """(1, 1, T, T) from a list of rows."""
    return np.array(rows, dtype=np.float32)[None, None]


def looking_at(key_of):
    """Every query i puts all of its attention on key_of(i)."""
    return pattern([[float(k == key_of(i)) for k in range(T)] for i in range(T)])


EVEN = pattern([[1 / (i + 1) if k <= i else 0.0 for k in range(T)] for i in range(T)])
PREVIOUS = looking_at(lambda i: max(0, i - 1))
FIRST = looking_at(lambda i: 0)
SELF = looking_at(lambda i: i)
INDUCTION = looking_at(lambda i: i - T // 2 + 1 if i >= T // 2 else i)


@pytest.mark.parametrize(
    ("P", "previous", "sink", "entropy"),
    [
        (PREVIOUS, 1, 2 / T, 0),  # queries 0 and 1 look at key 0
        (FIRST, 1 / (T - 1), 1, 0),  # only query 1 has key 0 before it
        (SELF, 0, 1 / T, 0),
        (EVEN, np.mean([1 / (i + 1) for i in range(1, T)]), np.mean([1 / (i + 1) for i in range(T)]), 1),
    ],
)
def test_scores_of_plain_patterns(P, previous, sink, entropy):
    assert heads.previous_token(P) == pytest.approx(previous)
    assert heads.sink(P) == pytest.approx(sink)
    assert heads.entropy(P) == pytest.approx(entropy, abs=1e-6)


def test_entropy_of_two_equal_keys():
    halves = pattern([[1.0] + [0.0] * (T - 1)] + [[0.5, 0.5] + [0.0] * (T - 2)] * (T - 1))
    assert heads.entropy(halves) == pytest.approx(np.mean([np.log(2) / np.log(i + 1) for i in range(1, T)]))


def test_induction_score():
    assert heads.induction(INDUCTION) == pytest.approx(1)
    assert heads.induction(SELF) == pytest.approx(0)
    assert heads.induction(PREVIOUS) == pytest.approx(0)
    # Even attention: each of the queries S … 2S-1 gives 1/(i+1) to that key, about ln 2 / S.
    S = T // 2
    assert heads.induction(EVEN) == pytest.approx(np.mean([1 / (i + 1) for i in range(S, 2 * S)]))
    assert heads.induction(EVEN) == pytest.approx(np.log(2) / S, rel=0.15)


def test_induction_of_the_smallest_text():
    assert heads.induction(pattern([[1, 0], [0, 1]])) == pytest.approx(1)  # S = 1: query 1, key 1


def test_scores_are_per_layer_and_head_and_in_order():
    P = np.concatenate([PREVIOUS, FIRST], axis=1).repeat(3, axis=0)  # 3 layers, 2 heads
    found = heads.scores(P, np.concatenate([INDUCTION, SELF], axis=1).repeat(3, axis=0))
    assert found.shape == (4, 3, 2)
    assert found[heads.SCORES.index("previous"), 2].tolist() == pytest.approx([1, 1 / 7])
    assert found[heads.SCORES.index("induction"), 0].tolist() == pytest.approx([1, 0])
    assert found[heads.SCORES.index("sink"), 1].tolist() == pytest.approx([2 / 8, 1])


def test_a_text_of_one_token_has_no_previous_token_and_no_entropy():
    one = np.ones((2, 3, 1, 1), np.float32)
    assert np.isnan(heads.previous_token(one)).all()
    assert np.isnan(heads.entropy(one)).all()
    assert (heads.sink(one) == 1).all()


@pytest.mark.parametrize(
    ("score", "label"),
    [
        ((0.9, 0.1, 0.2, 0.3), "previous"),
        ((0.5, 0.1, 0.2, 0.3), "previous"),
        ((0.49, 0.1, 0.2, 0.3), ""),
        ((0.6, 0.7, 0.2, 0.3), "induction"),
        ((0.1, 0.1, 0.8, 0.3), "sink"),
        ((0.1, 0.1, 0.1, 0.95), "diffuse"),
        ((np.nan, 0.1, 0.1, np.nan), ""),
    ],
)
def test_labels(score, label):
    assert heads.label(np.array(score)) == label


def high(*where):
    scores = np.zeros((4, 2, 2), np.float32)
    for role, layer, head in where:
        scores[heads.SCORES.index(role), layer, head] = 0.6
    return scores


def test_a_head_is_born_when_its_score_stays_and_is_told_once():
    births = heads.Births()
    assert births.update(10, high(("induction", 1, 0))) == []  # it may be an accident
    assert births.update(20, high()) == []  # it was
    assert births.update(30, high(("induction", 1, 0))) == []
    ((step, layer, head, role, score),) = births.update(40, high(("induction", 1, 0), ("sink", 0, 1)))
    assert (step, layer, head, role) == (30, 1, 0, "induction")  # since when, not since when it is believed
    assert score == pytest.approx(0.6)
    assert [b[1:4] for b in births.update(50, high(("induction", 1, 0), ("sink", 0, 1)))] == [(0, 1, "sink")]
    assert births.update(60, high()) == births.update(70, high(("sink", 0, 1))) == []


def test_a_resumed_run_tells_no_birth_again():
    births = heads.Births({(1, 0, "induction")})
    assert births.update(10, high(("induction", 1, 0))) == births.update(20, high(("induction", 1, 0))) == []
