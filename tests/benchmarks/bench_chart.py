"""What the loss chart costs, by the length of the run:  pytest tests/benchmarks/bench_chart.py"""

from __future__ import annotations

import numpy as np
import pytest
from textual.geometry import Size

from minigpt_core.series import METRICS, Pyramid, Series
from minigpt_core.status import Envelope, Status
from minigpt_tui.widgets import chart_strips
from minigpt_tui.widgets.chart_axes import Axis
from minigpt_tui.widgets.chart_data import gather
from minigpt_tui.widgets.loss_chart import LossChart

LENGTHS = (1_000, 1_000_000)
SIZES = ((80, 20), (120, 30), (200, 50))


class Run:
    """All metrics of a run of `n` steps."""

    def __init__(self, n: int) -> None:
        steps, rng = np.arange(1, n + 1), np.random.default_rng(0)
        self.n, self.metrics = n, Series()
        losses = 1.5 + 2.6 * np.exp(-steps / (n / 14)) + 0.1 * rng.normal(size=n)
        for name in METRICS:
            every = n // 40 if name == "val_loss" else 1
            self.metrics._pyramids[name] = Pyramid.of(steps[::every], losses[::every])
        self.metrics.smooth(0.98)

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        return self.metrics.envelope(metric, lo, hi, buckets)


@pytest.fixture(scope="module", params=LENGTHS)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


def test_data_of_a_chart(benchmark, run):
    """Curves and strips of a pane of 120 columns."""
    axis, frame, steps = Axis.counting_steps(), (0.0, float(run.n)), (0, run.n)

    def prepare() -> None:
        gather(run, axis, frame, 120, log=False)
        for metric in chart_strips.METRICS:
            run.series(metric.field, *steps, 120)

    benchmark(prepare)


@pytest.mark.parametrize("size", SIZES)
def test_a_frame(benchmark, run, size, monkeypatch):
    monkeypatch.setattr(LossChart, "size", Size(*size))
    chart = LossChart()
    monkeypatch.setattr(chart, "show", lambda rows: None)
    chart.update(run, Status(phase="training", step=run.n))
    benchmark(chart._draw, run)


def test_smoothing_anew(benchmark, run):
    benchmark(run.metrics.smooth, 0.99)
