"""The n-gram ladder against counting by hand, its cache, and the steps at which a run passes its rungs."""

import math
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_core import ladder as module
from minigpt_core.corpus import encode, load_corpus, split
from minigpt_core.errors import UserError
from minigpt_core.ladder import (
    ADDED,
    MIN_ROWS,
    RUNGS,
    Crossings,
    Ladder,
    Rung,
    fit_ladder,
    load_ladder,
    write_ladder,
)
from minigpt_core.rundir import RunDir
from minigpt_core.series import Smoother
from minigpt_core.status import MetricsRow
from minigpt_core.tokenizer import CharTokenizer


def losses(ladder: Ladder) -> list[float]:
    return [rung.loss for rung in ladder.rungs]


def loss_by_hand(train: list[int], val: list[int], vocab_size: int, n: int) -> float:
    """The definition, one position at a time."""
    if n == 0:
        return math.log(vocab_size)
    n_grams, contexts = Counter(), Counter()
    for i in range(n - 1, len(train)):
        context = tuple(train[i - n + 1 : i])
        n_grams[(*context, train[i])] += 1
        contexts[context] += 1
    total = 0.0
    for i in range(n - 1, len(val)):
        context = tuple(val[i - n + 1 : i])
        p = (n_grams[(*context, val[i])] + ADDED) / (contexts[context] + ADDED * vocab_size)
        total -= math.log(p)
    return total / (len(val) - n + 1)


def ladder_by_hand(train: np.ndarray, val: np.ndarray, vocab_size: int) -> list[float]:
    return [loss_by_hand(train.tolist(), val.tolist(), vocab_size, n) for n in range(len(RUNGS))]


# --- fitting ---


@settings(deadline=None, max_examples=150)
@given(
    train=st.lists(st.integers(0, 3), min_size=5, max_size=60),
    val=st.lists(st.integers(0, 3), min_size=5, max_size=30),
    # 4: the ids of short n-grams need no numbering; the others: five tokens' ids, or two, would overflow 64 bits
    vocab_size=st.sampled_from([4, 10**4, 2**32]),
)
def test_every_rung_is_what_counting_by_hand_gives(train, val, vocab_size):
    # The largest ids of the vocabulary, where an overflow would show.
    train, val = (np.array(part, np.int64) + vocab_size - 4 for part in (train, val))
    dtype = np.min_scalar_type(vocab_size - 1)
    ladder = fit_ladder(train.astype(dtype), val.astype(dtype), vocab_size)
    assert tuple(rung.name for rung in ladder.rungs) == RUNGS
    assert losses(ladder) == pytest.approx(ladder_by_hand(train, val, vocab_size), abs=1e-12)


def test_a_real_text_agrees_with_counting_by_hand_and_leaves_its_tokens_alone():
    text = load_corpus("pydocs").text[:60_000]
    tokenizer = CharTokenizer("".join(sorted(set(text))))
    tokens = encode(tokenizer, text)
    assert tokens.dtype == np.uint8
    before = tokens.copy()
    train, val = split(tokens, seq_len=64)
    ladder = fit_ladder(train, val, tokenizer.vocab_size)
    assert losses(ladder) == pytest.approx(ladder_by_hand(train, val, tokenizer.vocab_size), abs=1e-10)
    assert (ladder.train_tokens, ladder.val_tokens) == (len(train), len(val))
    assert losses(ladder)[:4] == sorted(losses(ladder)[:4], reverse=True)  # English: context helps
    np.testing.assert_array_equal(tokens, before)


def test_closed_forms():
    ones = np.zeros(100, np.uint8)
    assert losses(fit_ladder(ones, ones[:20], 1)) == pytest.approx([0.0] * 6, abs=1e-15)

    # a b a ... a, 51 + 50 letters: each context is followed by one letter only.
    alternating = (np.arange(101) % 2).astype(np.uint8)
    _, unigram, bigram, *_, five_gram = losses(fit_ladder(alternating, alternating[:10], 2))
    assert unigram == pytest.approx(-(math.log(51.05 / 101.1) + math.log(50.05 / 101.1)) / 2)
    assert bigram == pytest.approx(-math.log(50.05 / 50.1))
    assert five_gram == pytest.approx(-(math.log(49.05 / 49.1) + math.log(48.05 / 48.1)) / 2)

    # Validation of letters never seen: nothing is known of what follows them, only that they are rare.
    uniform, unigram, *longer = losses(fit_ladder(ones, np.ones(20, np.uint8), 7))
    assert unigram == pytest.approx(math.log((100 + 7 * ADDED) / ADDED))
    assert [uniform, *longer] == pytest.approx([math.log(7)] * 5)


def test_no_n_gram_spans_the_two_parts():
    # "0 1" stands only where the parts meet.
    ladder = fit_ladder(np.zeros(10, np.uint8), np.ones(10, np.uint8), 2)
    assert losses(ladder)[2:] == pytest.approx([math.log(2)] * 4)


def test_long_parts_are_cut(monkeypatch):
    rng = np.random.default_rng(0)
    train, val = rng.integers(0, 5, 500), rng.integers(0, 5, 300)
    monkeypatch.setattr(module, "TRAIN_TOKENS", 200)
    monkeypatch.setattr(module, "VAL_TOKENS", 100)
    cut = fit_ladder(train, val, 5)
    assert (cut.train_tokens, cut.val_tokens) == (200, 100)
    assert losses(cut) == pytest.approx(ladder_by_hand(train[:200], val[:100], 5), abs=1e-12)


@pytest.mark.parametrize(("n_train", "n_val"), [(4, 100), (100, 4), (0, 0)])
def test_a_text_shorter_than_the_longest_n_gram_is_refused(n_train, n_val):
    with pytest.raises(UserError, match="too few for the 5-gram"):
        fit_ladder(np.zeros(n_train, np.uint8), np.zeros(n_val, np.uint8), 3)


# --- kept with the run ---


def made(*values: float) -> Ladder:
    return Ladder(rungs=tuple(map(Rung, RUNGS, values)), train_tokens=900, val_tokens=100)


LADDER = made(4.0, 3.5, 3.0, 2.5, 2.0, 1.9)


def test_a_run_keeps_its_ladder_exactly(tmp_path):
    run = RunDir(tmp_path)
    assert load_ladder(run) is None
    ladder = fit_ladder(np.arange(50) % 3, np.arange(20) % 3, 3)
    write_ladder(run, LADDER)
    write_ladder(run, ladder)
    assert load_ladder(run) == ladder
    assert msgspec.json.decode(msgspec.json.encode(ladder), type=Ladder) == ladder


@pytest.mark.parametrize(
    "damage",
    {
        "empty": b"",
        "no UTF-8": b"\xff\xfe",
        "other JSON": b"[1, 2]",
        "zeros": b"\0" * 100,
        "half": msgspec.json.encode(LADDER)[:-30],
        "no loss": msgspec.json.encode(LADDER).replace(b"4.0", b"null"),
        "infinite loss": msgspec.json.encode(LADDER).replace(b"4.0", b"1e999"),
        "other rungs": msgspec.json.encode(LADDER).replace(b"5-gram", b"6-gram"),
        "a name of no UTF-8": msgspec.json.encode(LADDER).replace(b"5-gram", b"\xff-gram"),
        "no rungs": msgspec.json.encode(msgspec.structs.replace(LADDER, rungs=())),
    }.items(),
    ids=lambda case: case[0],
)
def test_a_damaged_ladder_reads_as_none(tmp_path, damage):
    run = RunDir(tmp_path)
    run.ladder.write_bytes(damage[1])
    assert load_ladder(run) is None


def test_a_disk_that_refuses_is_one_clear_line(tmp_path):
    run = RunDir(tmp_path / "gone")
    with pytest.raises(UserError, match=r"cannot write .*ladder\.json"):
        write_ladder(run, LADDER)


# --- climbing ---


def row(step: int, train_loss: float, epoch: float = 0.5, val_loss: float | None = None) -> MetricsRow:
    return MetricsRow(
        step=step, epoch=epoch, tokens=step * 64, time=float(step), lr=1e-3, train_loss=train_loss,
        grad_norm=1.0, clipped=0.0, tok_s=1e4, val_loss=val_loss,
    )  # fmt: skip


def told(crossings) -> list[tuple[str, int]]:
    return [(crossing.rung.name, crossing.step) for crossing in crossings]


def climb(rows, ladder=LADDER, announced=(), known_from=0) -> list[tuple[str, int]]:
    """Everything announced over `rows` when the ladder is set before row number `known_from`."""
    crossings, all_told = Crossings(announced), []
    for number, each in enumerate(rows):
        if number == known_from:
            all_told += crossings.set_ladder(ladder)
        all_told += crossings.feed(each)
    if known_from >= len(rows):
        all_told += crossings.set_ladder(ladder)
    return told(all_told)


def falling(n: int = 400) -> list[MetricsRow]:
    return [row(10 * i, 1.5 + 3.5 * math.exp(-i / 40)) for i in range(1, n + 1)]


def test_each_rung_is_told_once_at_the_first_row_whose_smoothed_loss_is_below_it():
    rows, smoother, smoothed = falling(), Smoother(), []
    for each in rows:
        smoother.update(each.train_loss)
        smoothed.append(smoother.value)
    expected = [
        (rung.name, next(r.step for r, loss in zip(rows, smoothed, strict=True) if loss < rung.loss))
        for rung in LADDER.rungs
    ]
    assert climb(rows) == expected
    assert all(step > 10 * MIN_ROWS for _, step in expected)  # so MIN_ROWS did not decide here


def test_a_few_rows_prove_nothing():
    rows = [row(i, 1.0) for i in range(1, MIN_ROWS)]
    assert climb(rows) == []
    # A loss that is not a number is no evidence either.
    assert climb([*rows, row(MIN_ROWS, math.nan)]) == []
    assert climb([*rows, row(MIN_ROWS, math.nan), row(21, 1.0)]) == [(name, 21) for name in RUNGS]


def test_after_the_first_pass_only_the_validation_loss_counts():
    memorised = [row(i, 0.1, epoch=1.5) for i in range(1, 100)]
    assert climb(memorised) == []
    assert climb([*memorised, row(100, 0.1, epoch=1.6, val_loss=2.7)]) == [
        ("uniform", 100),
        ("unigram", 100),
        ("bigram", 100),
    ]
    diverged = row(100, 0.1, epoch=1.6, val_loss=math.nan)
    assert climb([diverged, row(110, 0.1, epoch=1.7, val_loss=3.9)], known_from=2) == [("uniform", 110)]
    # The end of the first pass still belongs to it; a validation loss within it does not count.
    first_pass = [row(i, 3.2, epoch=1.0, val_loss=1.0) for i in range(1, MIN_ROWS + 1)]
    assert climb(first_pass) == [("uniform", MIN_ROWS), ("unigram", MIN_ROWS)]


def test_a_loss_equal_to_a_rung_has_not_passed_it():
    assert climb([row(1, 9.0, epoch=2, val_loss=3.5)]) == [("uniform", 1)]


def test_rungs_passed_together_are_told_from_the_highest_loss_down():
    ladder = made(4.0, 3.5, 3.0, 2.5, 2.0, 2.2)  # a short text: the 5-gram is worse than the 4-gram
    assert [name for name, _ in climb([row(1, 9.0, epoch=2, val_loss=1.0)], ladder)][-2:] == ["5-gram", "4-gram"]


@settings(deadline=None, max_examples=100)
@given(
    values=st.lists(
        st.tuples(st.floats(1, 5) | st.just(math.nan), st.none() | st.floats(1, 5) | st.just(math.nan)), max_size=80
    ),
    first_pass=st.integers(0, 80),
    known_from=st.integers(0, 81),
    announced=st.sets(st.sampled_from(RUNGS)),
)
def test_when_the_ladder_comes_changes_nothing_but_when_it_is_told(values, first_pass, known_from, announced):
    rows = [
        row(3 * i, loss, epoch=0.9 if i < first_pass else 1.1, val_loss=val) for i, (loss, val) in enumerate(values)
    ]
    late = climb(rows, announced=announced, known_from=known_from)
    assert late == climb(rows, announced=announced)
    names = [name for name, _ in late]
    assert len(set(names)) == len(names)
    assert announced.isdisjoint(names)


def test_a_resumed_run_goes_on_where_it_was():
    rows = falling()
    first = climb(rows[:100])
    assert 0 < len(first) < len(RUNGS)
    resumed = climb(rows, announced=[name for name, _ in first])
    assert first + resumed == climb(rows)


def test_the_message_names_rung_loss_and_step():
    crossings = Crossings()
    crossings.set_ladder(made(4.174, 3.347, 2.485, 2.0501, 1.777, 1.757))
    told_last = crossings.feed(row(310, 9.0, epoch=2, val_loss=2.0))[-1]
    assert told_last.message == "passed 3-gram (2.050 nats) at step 310"
