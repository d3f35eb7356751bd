"""Envelopes: exact where it matters (extremes, counts, gaps), few points, little work."""

from __future__ import annotations

import math
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_core.errors import UsageError
from minigpt_core.series import METRICS, Pyramid, Series, Smoother
from minigpt_core.status import Envelope, MetricsRow

values = st.one_of(st.floats(-1e100, 1e100), st.sampled_from([math.nan, math.inf, -math.inf]))


def row(step: int, train_loss: float = 2.0, val_loss: float | None = None) -> MetricsRow:
    return MetricsRow(
        step=step, epoch=step / 10, tokens=step * 64, time=step / 2, lr=1e-3, train_loss=train_loss,
        grad_norm=1.0, clipped=0.5, tok_s=1e4, val_loss=val_loss,
    )  # fmt: skip


def filled(points: list[tuple[int, float]]) -> Pyramid:
    pyramid = Pyramid()
    for step, value in points:
        pyramid.append(step, value)
    return pyramid


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    repeat=st.integers(1, 40),
    seen=st.lists(values, min_size=1, max_size=30),
    lo=st.none() | st.integers(-5, 3000),
    hi=st.none() | st.integers(-5, 6000),
    buckets=st.integers(1, 50),
)
def test_an_envelope_holds_exactly_the_points_of_its_range(
    gaps: list[int], repeat: int, seen: list[float], lo: int | None, hi: int | None, buckets: int
) -> None:
    steps = np.cumsum(np.tile(gaps, repeat))
    points = [(int(step), seen[i % len(seen)]) for i, step in enumerate(steps)]
    envelope = filled(points).envelope(lo, hi, buckets)
    inside = [(s, v) for s, v in points if (lo is None or s >= lo) and (hi is None or s <= hi)]
    finite = [v for _, v in inside if math.isfinite(v)]

    assert len(envelope) <= buckets
    assert bool(len(envelope)) == bool(inside)
    assert np.all(np.diff(envelope.step) >= 0)
    if inside:
        assert inside[0][0] <= envelope.step[0] <= envelope.step[-1] <= inside[-1][0]
    drawn = np.isfinite(envelope.mean)
    assert np.array_equal(drawn, np.isfinite(envelope.low))
    assert np.all(envelope.low[drawn] <= envelope.mean[drawn])
    assert np.all(envelope.mean[drawn] <= envelope.high[drawn])
    assert bool(drawn.any()) == bool(finite)
    if finite:
        assert np.nanmin(envelope.low) == min(finite)
        assert np.nanmax(envelope.high) == max(finite)


def test_few_points_come_back_as_they_are() -> None:
    envelope = filled([(10, 1.0), (20, math.nan), (21, 3.0)]).envelope(None, None, 3)
    assert envelope.step.tolist() == [10, 20, 21]
    for line in (envelope.low, envelope.high, envelope.mean):
        assert np.array_equal(line, [1.0, np.nan, 3.0], equal_nan=True)


def test_buckets_are_equally_wide_in_steps() -> None:
    dense_then_sparse = [(s, 0.0) for s in range(1000)] + [(s, 1.0) for s in range(1000, 10_001, 100)]
    envelope = filled(dense_then_sparse).envelope(0, 10_000, 10)
    assert len(envelope) == 10
    assert envelope.mean[0] == 0.0
    assert np.all(envelope.mean[2:] == 1.0)


def test_means_match_a_plain_computation_across_levels() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=20_000)
    pyramid = filled(list(enumerate(data.tolist())))
    envelope = pyramid.envelope(1234, 17_233, 10)  # 16,000 points, 1,600 a bucket
    exact = data[1234:17_234].reshape(10, 1600).mean(axis=1)
    np.testing.assert_allclose(envelope.mean, exact, atol=0.02)  # edges may move by part of a bucket
    whole = pyramid.envelope(1234, 17_233, 1)
    np.testing.assert_allclose(whole.mean, data[1234:17_234].mean(), rtol=1e-12)


def test_a_million_points_cost_no_more_than_a_few() -> None:
    n = 1_000_000
    pyramid = Pyramid()
    for step in range(n):
        pyramid.append(step, 1.0)
    touched: list[int] = []
    blocks = pyramid._blocks
    pyramid._blocks = lambda level, a, b: (touched.append(b - a), blocks(level, a, b))[1]  # type: ignore[method-assign]
    for lo, hi in ((None, None), (1, n - 2), (123_457, 876_543), (n - 300_001, None), (5, 900)):
        touched.clear()
        assert 150 < len(pyramid.envelope(lo, hi, 200)) <= 200
        assert sum(touched) <= 16 * 200 + 1000
    started = time.perf_counter()
    for _ in range(20):
        pyramid.envelope(None, None, 200)
    assert (time.perf_counter() - started) / 20 < 0.02


def test_spikes_survive_up_and_down() -> None:
    points = [(step, 1.0) for step in range(100_000)]
    points[33_333], points[77_777] = (33_333, 99.0), (77_777, -99.0)
    envelope = filled(points).envelope(None, None, 100)
    assert envelope.step[int(envelope.high.argmax())] == pytest.approx(33_333, abs=1000)
    assert envelope.step[int(envelope.low.argmin())] == pytest.approx(77_777, abs=1000)
    assert (envelope.high.max(), envelope.low.min()) == (99.0, -99.0)


def test_a_stretch_without_numbers_is_a_gap() -> None:
    points = [(step, math.inf if 3900 <= step < 6100 else 1.0) for step in range(10_000)]
    envelope = filled(points).envelope(0, 9_999, 10)
    assert np.isnan(envelope.mean).nonzero()[0].tolist() == [4, 5]
    assert np.isnan(envelope.low).nonzero()[0].tolist() == [4, 5]
    assert envelope.broken.nonzero()[0].tolist() == [3, 4, 5, 6]


def test_all_points_at_once_are_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    data = np.where(rng.random(70_000) < 0.01, np.nan, rng.normal(size=70_000))
    one, all_at_once = filled(list(enumerate(data.tolist()))), Pyramid.of(np.arange(70_000), data)
    all_at_once.append(70_000, 5.0)
    one.append(70_000, 5.0)
    for lo, hi, buckets in ((None, None, 100), (123, 60_001, 77), (69_000, None, 2000)):
        a, b = one.envelope(lo, hi, buckets), all_at_once.envelope(lo, hi, buckets)
        for name in Envelope.__slots__:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_steps_do_not_go_back() -> None:
    pyramid = filled([(5, 1.0), (5, 2.0)])
    with pytest.raises(ValueError, match="step 4 comes after step 5"):
        pyramid.append(4, 1.0)


# --- smoothing ---


def test_smoothing_is_the_bias_corrected_average() -> None:
    data = [4.0, 3.0, math.nan, 5.0, math.inf, 1.0]
    finite = [x for x in data if math.isfinite(x)]
    smoother = Smoother()
    assert smoother.value is None
    for x in data:
        smoother.update(x)
    n, beta = len(finite), 0.98
    weights = [(1 - beta) * beta ** (n - 1 - i) for i in range(n)]
    expected = sum(w * x for w, x in zip(weights, finite, strict=True)) / (1 - beta**n)
    assert smoother.value == pytest.approx(expected, rel=1e-12)


def test_the_first_value_is_not_pulled_to_zero_and_a_constant_stays() -> None:
    smoother = Smoother()
    for _ in range(1000):
        smoother.update(3.5)
        assert smoother.value == pytest.approx(3.5, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    beta=st.sampled_from([0.0, 0.5, 0.9, 0.98, 0.995, 0.9999]),
    seen=st.lists(st.one_of(st.floats(-1e3, 1e3), st.sampled_from([math.nan, math.inf])), min_size=1, max_size=40),
    n=st.sampled_from([1, 2, 63, 64, 65, 1000, 4097, 9000]),
)
def test_smoothing_anew_is_the_definition_and_goes_on(beta: float, seen: list[float], n: int) -> None:
    losses = [seen[i % len(seen)] for i in range(n)]
    series, smoother = Series(), Smoother(beta)
    for step, loss in enumerate(losses):
        series.append(row(step, loss))
    series.smooth(beta)
    for step in range(n, n + 5):
        losses.append(float(step % 3))
        series.append(row(step, losses[-1]))
    expected = []
    for loss in losses:
        smoother.update(loss)
        if math.isfinite(loss):
            expected.append(smoother.value)
    found = series.envelope("smoothed", buckets=n + 5)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-9, atol=1e-9)
    series.clear()
    series.append(row(1, 4.0))
    series.append(row(2, 2.0))
    again = Smoother(beta)  # the choice outlives the points
    again.update(4.0)
    again.update(2.0)
    assert series.last("smoothed") == pytest.approx(again.value)


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_a_smoothing_that_is_none_is_one_clear_line(beta: float) -> None:
    with pytest.raises(UsageError, match=r"at least 0 .* and below 1"):
        Series().smooth(beta)


def test_smoothing_a_million_points_is_quick() -> None:
    n = 1_000_000
    losses = np.random.default_rng(0).random(n)
    series = Series()
    series._pyramids["train_loss"] = Pyramid.of(np.arange(n), losses)
    taken = []
    for beta in (0.9, 0.995, 0.98):
        started = time.perf_counter()
        series.smooth(beta)
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.2


# --- the series of a run ---


def test_every_field_is_a_series_and_absent_validation_adds_nothing() -> None:
    series = Series()
    for step in range(1, 101):
        series.append(row(step, 5.0 - step / 50, val_loss=2.0 if step % 50 == 0 else None))
    for metric in METRICS:
        assert len(series.envelope(metric, buckets=1000)) == (2 if metric == "val_loss" else 100)
    assert series.envelope("val_loss").step.tolist() == [50, 100]
    assert series.envelope("epoch", 10, 10).mean.tolist() == [1.0]
    smoothed = series.envelope("smoothed").mean
    assert smoothed[0] == pytest.approx(4.98)
    assert 3.0 < smoothed[-1] < 4.98  # it lags behind a falling loss


def test_a_loss_that_is_no_number_is_a_gap_and_stays_out_of_the_smoothing() -> None:
    series = Series()
    for step, loss in enumerate([2.0, math.nan, 2.0]):
        series.append(row(step, loss))
    assert np.isnan(series.envelope("train_loss").mean).tolist() == [False, True, False]
    assert series.envelope("smoothed").mean.tolist() == pytest.approx([2.0, 2.0])


def test_clear_starts_over() -> None:
    series = Series()
    series.append(row(10, 9.0))
    series.append(row(3, 1.0))  # from before the newest: left out
    assert series.envelope("train_loss").step.tolist() == [10]
    series.clear()
    assert len(series.envelope("train_loss")) == 0
    series.append(row(3, 1.0))
    assert series.envelope("smoothed").mean.tolist() == [1.0]


@pytest.mark.parametrize("cuts", [(), (300,), (5, 900), (260, 520, 1100)])
def test_many_rows_at_once_are_as_one_by_one(cuts: tuple[int, ...]) -> None:
    """Also where steps go back, losses are no numbers, and validation is measured now and then."""
    rng = np.random.default_rng(0)
    steps = [int(step) for step in np.cumsum(rng.integers(0, 3, 1500)) - 5 * (rng.random(1500) < 0.02)]
    losses = [float("nan") if rng.random() < 0.05 else float(rng.normal(3)) for _ in steps]
    rows = [
        row(max(step, 0), train_loss=loss, val_loss=loss if n % 50 == 49 else None)
        for n, (step, loss) in enumerate(zip(steps, losses, strict=True))
    ]
    one_by_one, at_once = Series(), Series()
    for each in rows:
        one_by_one.append(each)
    for first, last in pairwise((0, *cuts, len(rows))):
        at_once.extend(rows[first:last])
    for metric in METRICS:
        for buckets in (7, 5000):
            expected, found = one_by_one.envelope(metric, buckets=buckets), at_once.envelope(metric, buckets=buckets)
            for column in ("step", "low", "high", "mean", "broken"):
                np.testing.assert_allclose(getattr(found, column), getattr(expected, column), rtol=1e-12)


def test_an_unknown_metric_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown metric 'trainloss'; did you mean 'train_loss'"):
        Series().envelope("trainloss")


def test_one_thread_may_append_while_another_draws() -> None:
    series = Series()

    def write() -> None:
        for step in range(5000):
            series.append(row(step, float(step)))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        envelope = series.envelope("train_loss", buckets=50)
        np.testing.assert_array_equal(envelope.low <= envelope.high, True)
    writer.join()
    assert series.envelope("train_loss", buckets=1).high.tolist() == [4999.0]
