import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_core.batches import EVAL_TOKENS, Batches, eval_starts, gather
from minigpt_core.corpus import split
from minigpt_core.errors import UsageError

SEEDS = st.integers(0, 2**63 - 1)


@st.composite
def batches(draw: st.DrawFn) -> Batches:
    seq_len = draw(st.integers(1, 12))
    return Batches(draw(st.integers(seq_len, 300)), seq_len, draw(st.integers(1, 40)), draw(SEEDS))


def samples(b: Batches, first: int, count: int) -> np.ndarray:
    """Samples `first` ... `first + count` of the endless sequence of epochs."""
    lo, hi = first // b.batch_size, -(-(first + count) // b.batch_size)
    return np.concatenate([b.starts(step) for step in range(lo, hi)])[first - lo * b.batch_size :][:count]


@given(batches(), st.lists(st.integers(0, 200), max_size=20))
def test_a_batch_depends_on_seed_and_step_alone(b: Batches, steps: list[int]) -> None:
    for step in steps:
        fresh = Batches(b.n_tokens, b.seq_len, b.batch_size, b.seed).starts(step)
        assert fresh.shape == (b.batch_size,)
        assert fresh.dtype == np.int64
        assert np.array_equal(b.starts(step), fresh)


@given(batches(), st.integers(0, 4))
def test_every_token_is_an_input_once_an_epoch(b: Batches, epoch: int) -> None:
    starts = samples(b, epoch * b.blocks, b.blocks)
    inputs, _ = gather(np.arange(b.n_tokens), starts, b.seq_len)
    seen = np.bincount(inputs.ravel(), minlength=b.n_tokens)
    assert seen.max() == 1
    assert (seen == 0).sum() == b.n_tokens % b.seq_len


@given(batches(), st.integers(1, 40), st.integers(0, 300))
def test_the_sequence_does_not_depend_on_the_batch_size(b: Batches, batch_size: int, first: int) -> None:
    other = Batches(b.n_tokens, b.seq_len, batch_size, b.seed)
    assert np.array_equal(samples(b, first, 50), samples(other, first, 50))


def test_epochs_differ_in_order_and_in_offset() -> None:
    b = Batches(1000, 10, 100, seed=1)
    epochs = [b.starts(step) for step in range(20)]
    assert len({tuple(starts) for starts in epochs}) == 20
    assert len({int(starts[0]) % 10 for starts in epochs}) > 5
    assert not any(np.array_equal(np.sort(starts), starts) for starts in epochs)


def test_the_tokens_that_sit_out_change() -> None:
    b = Batches(1009, 10, 100, seed=1)
    out = [set(range(1009)) - set(gather(np.arange(1009), b.starts(e), 10)[0].ravel()) for e in range(20)]
    assert all(len(tokens) == 9 for tokens in out)
    assert len({frozenset(tokens) for tokens in out}) > 5


@given(st.lists(SEEDS, min_size=2, max_size=5, unique=True))
def test_seeds_differ(seeds: list[int]) -> None:
    assert len({tuple(Batches(10_000, 10, 50, seed).starts(0)) for seed in seeds}) == len(seeds)


def test_what_a_caller_does_to_a_batch_harms_no_later_one() -> None:
    b = Batches(100, 10, 10, seed=3)
    before = b.starts(0).copy()
    b.starts(0)[:] = -1
    assert np.array_equal(b.starts(0), before)


def test_the_sequence_is_the_same_on_every_machine() -> None:
    assert Batches(1000, 8, 6, seed=1337).starts(0).tolist() == [117, 725, 261, 469, 653, 885]


@given(batches(), st.integers(0, 100))
def test_targets_are_inputs_shifted_by_one_around_the_ring(b: Batches, step: int) -> None:
    starts = b.starts(step)
    inputs, targets = gather(np.arange(b.n_tokens), starts, b.seq_len)
    assert inputs.shape == targets.shape == (b.batch_size, b.seq_len)
    assert np.array_equal(inputs[:, 0], starts)
    assert np.array_equal(targets, (inputs + 1) % b.n_tokens)


def test_hell_to_ello() -> None:
    tokens = np.frombuffer(b"hello", np.uint8)
    inputs, targets = gather(tokens, np.array([0]), 4)
    assert inputs.dtype == targets.dtype == np.int64
    assert (bytes(inputs[0].tolist()), bytes(targets[0].tolist())) == (b"hell", b"ello")


@given(st.integers(200, 2000), st.integers(1, 19), SEEDS)
def test_training_sees_nothing_of_the_validation_part(n: int, seq_len: int, seed: int) -> None:
    train, val = split(np.arange(n), seq_len)
    b = Batches(len(train), seq_len, 50, seed)
    seen = {int(t) for step in range(b.steps(1)) for part in gather(train, b.starts(step), seq_len) for t in part.flat}
    judged = {int(t) for part in gather(val, eval_starts(len(val), seq_len), seq_len) for t in part.flat}
    assert judged
    assert not seen & judged


@pytest.mark.parametrize(("epochs", "steps"), [(1, 4), (2, 7), (0.1, 1), (0.3, 1), (0.31, 2), (1.1, 4), (10, 34)])
def test_steps_are_rounded_up_to_whole_epochs(epochs: float, steps: int) -> None:
    assert Batches(105, 10, 3, seed=0).steps(epochs) == steps  # 10 blocks in batches of 3


def test_steps_take_epochs_as_the_decimal_they_were_written_as() -> None:
    assert 1.1 * 50 > 55  # why binary fractions would ask for one step more
    assert Batches(500, 10, 1, seed=0).steps(1.1) == 55


@given(batches(), st.integers(1, 20))
def test_epochs_and_steps_agree(b: Batches, epochs: int) -> None:
    steps = b.steps(epochs)
    assert b.epoch(steps - 1) < epochs <= b.epoch(steps)
    assert b.steps_per_epoch == pytest.approx(b.blocks / b.batch_size)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [((100, 0, 4), "seq_len=0"), ((100, 8, -1), "batch_size=-1"), ((7, 8, 4), "seq_len=8 is longer")],
)
def test_impossible_sizes_are_named(sizes: tuple[int, int, int], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Batches(*sizes, seed=0)


@given(st.integers(1, 50), st.integers(0, 5000), st.none() | st.integers(1, 5000))
def test_evaluation_windows_fit_and_do_not_overlap(seq_len: int, extra: int, max_tokens: int | None) -> None:
    n = seq_len + 1 + extra
    starts = eval_starts(n, seq_len, max_tokens)
    assert starts.dtype == np.int64
    assert starts[0] >= 0
    assert starts[-1] + seq_len + 1 <= n  # the last target is inside too: no window goes around the ring
    assert (np.diff(starts) >= seq_len).all()
    if max_tokens is None:
        assert starts.tolist() == list(range(0, n - seq_len, seq_len))
    else:
        assert len(starts) == min((n - 1) // seq_len, max(1, max_tokens // seq_len))
        assert np.diff(np.diff(starts)).max(initial=0) <= seq_len  # evenly: gaps differ by at most one window
        assert np.diff(starts).max(initial=0) - np.diff(starts).min(initial=n) <= seq_len


def test_a_periodic_evaluation_spans_the_split() -> None:
    starts = eval_starts(10_000_000, 64)
    assert len(starts) * 64 == EVAL_TOKENS
    assert starts[0] < 10_000_000 / len(starts)
    assert starts[-1] > 10_000_000 - 10_000_000 / len(starts)


def test_a_split_too_short_to_evaluate_is_refused() -> None:
    assert eval_starts(9, 8).tolist() == [0]
    with pytest.raises(UsageError, match="needs 9 tokens to evaluate on; there are 8"):
        eval_starts(8, 8)
