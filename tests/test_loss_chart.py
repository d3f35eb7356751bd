"""The loss chart: the arithmetic of its view, its axes and marks, what is drawn, and what its keys and the mouse do."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual import on
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from minigpt_core.ladder import Ladder, Rung
from minigpt_core.series import Series
from minigpt_core.status import Envelope, Event, MetricsRow, Status
from minigpt_tui.widgets import chart_strips
from minigpt_tui.widgets.chart_axes import AXES, Axis, AxisName, labels
from minigpt_tui.widgets.chart_marks import Area
from minigpt_tui.widgets.chart_raster import Raster, spans
from minigpt_tui.widgets.chart_view import View
from minigpt_tui.widgets.loss_chart import LossChart
from minigpt_tui.widgets.plotting import round_limits
from minigpt_tui.widgets.ticks import nice_size, time_name, time_ticks

# --- the view ---

lasts = st.floats(100, 1e7)
shares = st.floats(0, 1)


@st.composite
def views(draw: st.DrawFn) -> tuple[View, float]:
    last = draw(lasts)
    span = draw(st.none() | st.floats(0.01, 0.99).map(lambda share: share * last))
    end = None if span is None else draw(st.none() | st.floats(span, last))
    return View(span, end), last


@given(views(), st.floats(0.05, 20), shares)
def test_a_zoom_keeps_inside_and_its_point_in_place(found: tuple[View, float], factor: float, at: float) -> None:
    view, last = found
    lo, hi = view.window(last)
    least = last / 1000
    zoomed = view.zoomed(factor, last, least, at)
    new_lo, new_hi = zoomed.window(last)
    assert -1e-6 * last <= new_lo < new_hi <= last * (1 + 1e-9)
    assert new_hi - new_lo >= least * (1 - 1e-6)
    anchor = lo + at * (hi - lo)
    if 1e-6 * last < new_lo and new_hi < last * (1 - 1e-6):  # not held back by an end of the run
        assert new_lo + at * (new_hi - new_lo) == pytest.approx(anchor, rel=1e-6, abs=1e-6 * last)


@given(views(), st.lists(st.floats(-2, 2), max_size=5))
def test_panning_keeps_the_width_and_ends_at_the_ends(found: tuple[View, float], moves: list[float]) -> None:
    view, last = found
    lo, hi = view.window(last)
    for by in moves:
        view = view.panned(by, last)
        new_lo, new_hi = view.window(last)
        assert new_hi - new_lo == pytest.approx(hi - lo)
        assert -1e-6 * last <= new_lo <= new_hi <= last * (1 + 1e-9)
    view = view.panned(1e9, last)
    assert view.following


@given(views())
def test_the_frame_of_a_view_that_follows_has_room_and_moves_seldom(found: tuple[View, float]) -> None:
    view, last = found
    lo, hi = view.window(last)
    left, right = view.frame(last)
    assert left <= hi <= right * (1 + 1e-9)
    assert right - hi <= 0.2 * (hi - lo)
    if view.following:
        frames = {view._replace(span=None).frame(last * (1 + i / 10_000))[1] for i in range(200)}  # grows by 2 %
        assert len(frames) <= 3
    else:
        assert (left, right) == (lo, hi)


@given(views(), shares)
def test_a_point_out_of_sight_comes_into_sight(found: tuple[View, float], share: float) -> None:
    view, last = found
    x = share * last
    lo, hi = view.with_point(x, last).window(last)
    assert lo - 1e-6 * last <= x <= hi + 1e-6 * last


# --- axes ---


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40), st.lists(shares, min_size=1, max_size=5))
def test_an_axis_maps_there_and_back(pace: list[float], places: list[float]) -> None:
    steps = np.arange(1.0, len(pace) + 1) * 10
    axis = Axis("time", steps, np.cumsum(pace))
    wanted = np.sort(places) * steps[-1] * 1.5  # beyond the newest step too
    np.testing.assert_allclose(axis.steps(axis.at(wanted)), wanted, rtol=1e-6, atol=1e-6 * steps[-1])
    assert np.all(np.diff(axis.at(wanted)) >= 0)
    assert axis.end == pytest.approx(sum(pace))


def test_an_axis_without_a_quantity_counts_steps() -> None:
    for values in (np.empty(0), np.full(3, np.nan), np.zeros(3)):
        axis = Axis("tokens", np.arange(float(len(values))), values)
        assert axis.at(np.array([5.0])).tolist() == [5.0]


@pytest.mark.parametrize(
    ("name", "right", "expected"),
    [
        ("step", 5000, ["0", "1k", "2k", "3k", "4k", "5k step"]),
        ("epoch", 2.5, ["0", "0.5", "1", "1.5", "2", "2.5 epoch"]),
        ("tokens", 5e9, ["0", "1.0G", "2.0G", "3.0G", "4.0G", "5.0G tokens"]),
        ("time", 7200, ["0s", "30m", "1h", "1h30m", "2h"]),
        ("time", 200_000, ["0s", "12h", "1d", "1d12h", "2d"]),
    ],
)
def test_marks_are_round_in_units_that_people_read(name: AxisName, right: float, expected: list[str]) -> None:
    assert labels(name, 0, right, 84)[1] == expected


@given(st.floats(0, 1e6), st.floats(1e-3, 1e7), st.integers(2, 15))
def test_time_marks_are_in_range_few_and_different(low: float, span: float, n: int) -> None:
    ticks = time_ticks(low, low + span, n)
    assert len(ticks) <= n + 1
    assert all(low - 1e-6 * span <= tick <= (low + span) * (1 + 1e-9) for tick in ticks)
    if span / n >= 1:
        assert len({time_name(tick) for tick in ticks}) == len(ticks)


@given(st.floats(1e-9, 1e9))
def test_a_nice_size_is_round_and_not_far(least: float) -> None:
    size = nice_size(least)
    assert least * 0.99 <= size <= least * 2.51


@given(st.floats(-100, 100), st.floats(1e-3, 1e3), st.integers(8, 50))
def test_round_limits_hold_the_data_and_little_else(bottom: float, height: float, n: int) -> None:
    low, high = round_limits(bottom, bottom + height, n)
    assert low <= bottom + 1e-6 * height
    assert high >= bottom + height * (1 - 1e-6)
    assert high - low <= height * (1 + 6 / n)


# --- dots ---


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=60))
def test_every_point_is_covered_and_the_line_has_no_holes(points: list[tuple[float, float, float]]) -> None:
    points.sort()
    x = np.array([p[0] for p in points])
    low, high = np.sort(np.array([p[1:] for p in points]), axis=1).T
    covered = spans(x, low, high, (low + high) / 2, np.empty(0), 40)
    for place, bottom, top in zip(x, low, high, strict=True):
        column = min(int(place), 39)
        assert covered[0, column] <= bottom
        assert covered[1, column] >= top
    inside = np.flatnonzero(np.isfinite(covered[0]))
    assert np.array_equal(inside, np.arange(inside[0], inside[-1] + 1))
    for left, right in pairwise(inside):  # neighbours touch
        assert covered[0, left] <= covered[1, right] + 1e-9
        assert covered[0, right] <= covered[1, left] + 1e-9


def test_a_line_stops_at_a_gap() -> None:
    x = np.array([1.5, 3.5, 8.5, 9.5])
    y = np.ones(4)
    assert np.isfinite(spans(x, y, y, y, np.empty(0), 10)[0]).tolist() == [False] + [True] * 9
    covered = np.isfinite(spans(x, y, y, y, np.array([5.0]), 10)[0])
    assert covered.tolist() == [False, True, True, True, False, False, False, False, True, True]


def test_dots_are_braille_from_the_bottom_up() -> None:
    raster = Raster(2, 2)
    heights = np.array([0.0, 1.0, np.nan, 0.99])  # of four columns of dots
    raster.paint(np.stack([heights, heights]), 0.0, 1.0, 7)
    raster.put(0, 1, "◆", 2)
    assert list(raster.runs()) == [(0, 0, "⡀", 7), (0, 1, "◆", 2), (1, 1, "⠈", 7)]


def test_an_area_finds_the_cell_of_a_point_and_back() -> None:
    area = Area(6, 50, 20, (100.0, 200.0), (1.0, 3.0))
    assert (area.column(100), area.column(200), area.column(99), area.column(201)) == (6, 55, None, None)
    assert (area.row(3.0), area.row(1.0)) == (0, 19)
    for column in range(6, 56):
        assert area.column(area.x(column)) == column


# --- strips ---


def text_of(parts: list[tuple[str, object]]) -> str:
    return "".join(text for text, _ in parts)


def test_a_strip_keeps_a_spike_and_what_is_around_it() -> None:
    heights = np.array([1.0, 1.0, 100.0, 1.0])
    whole = np.zeros(4, bool)
    assert text_of(chart_strips.course(np.arange(4), heights, whole, False)) == "▁▁█▁"
    parts = chart_strips.course(np.arange(4), heights, whole, True)
    assert text_of(parts) == "▂▂█▂"
    assert [text for text, _ in parts] == ["▂▂", "█", "▂"]  # in a colour of its own
    whole[1] = True
    assert text_of(chart_strips.course(np.array([0, 3]), heights[[0, 3]], whole, True)) == "█✗██"


# --- the widget ---


def row(step: int, loss: float = 2.0, pace: float = 0.1) -> MetricsRow:
    return MetricsRow(
        step=step, epoch=step / 1000, tokens=step * 64, time=step * pace, lr=1e-3, train_loss=loss,
        grad_norm=1.0, clipped=0.0, tok_s=640.0, val_loss=2.0 - step / 2000 if step % 100 == 0 else None,
    )  # fmt: skip


def metrics(n: int, loss: dict[int, float] | None = None, pace: float = 0.1) -> Series:
    series, rng = Series(), np.random.default_rng(0)
    noise = rng.normal(0, 0.05, n + 1)
    for step in range(1, n + 1):
        series.append(row(step, (loss or {}).get(step, 1.5 + 2.5 * math.exp(-step / 200) + noise[step]), pace))
    return series


class Run:
    """What the chart asks of a session."""

    def __init__(self, series: Series) -> None:
        self.metrics = series
        self.asked = 0

    def series(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        self.asked += 1
        return self.metrics.envelope(metric, lo, hi, buckets)


class ChartApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.chart = LossChart()
        self.messages: list[object] = []

    def compose(self) -> ComposeResult:
        yield self.chart

    @on(LossChart.Smoothed)
    def smoothed(self, event: LossChart.Smoothed) -> None:
        self.messages.append(event.beta)

    @on(LossChart.OverlaysWanted)
    def overlays(self) -> None:
        self.messages.append("overlays")


def status(step: int, **fields: object) -> Status:
    return Status(phase="training", step=step, **fields)  # type: ignore[arg-type]


def text(chart: LossChart) -> str:
    return "\n".join(row.text for row in chart._rows)


async def shown(app: ChartApp, pilot: Pilot[None], run: Run, step: int, **more: object) -> LossChart:
    app.chart.update(run, status(step), **more)  # type: ignore[arg-type]
    app.chart.focus()
    await pilot.pause()
    return app.chart


async def test_a_gap_is_marked_and_not_drawn_over() -> None:
    loss = dict.fromkeys(range(400, 600), math.nan) | {800: math.inf}
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(1000, loss)), 1000)
        area = chart._area
        assert area is not None
        first, last = area.column(400), area.column(599)
        assert first is not None
        assert last is not None
        assert chart._rows[0].text[first + 1 : last] == "✗" * (last - first - 1)
        inside = {row.text[x] for row in chart._rows[1 : area.rows] for x in range(first + 1, last)}
        assert inside == {" ", "◆"}  # validation went on
        lone = area.column(800)
        assert lone is not None
        assert chart._rows[0].text[lone] == "✗"
        assert any("\u2800" < row.text[lone] <= "\u28ff" for row in chart._rows[1 : area.rows])


async def test_a_spike_of_one_step_among_many_is_drawn() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(20_000, {7777: 9.0})), 20_000)
        area = chart._area
        assert area is not None
        x, y = area.column(7777), area.row(9.0)
        assert x is not None
        assert y is not None
        near = chart._rows[y].text[x - 1 : x + 2]
        assert any("\u2800" < character <= "\u28ff" for character in near)


async def test_every_axis_names_its_unit_and_keeps_the_view() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(1000)), 1000)
        await pilot.press("right_square_bracket", "left")
        window = chart.window
        assert window == (375, 875)
        for name, scale in zip((*AXES[1:], "step"), (1 / 1000, 64, 0.1, 1), strict=True):
            await pilot.press("x")
            assert chart.axis == name
            assert chart.window == pytest.approx((375 * scale, 875 * scale), rel=0.02)
            assert name in text(chart) or "1m" in text(chart)


async def test_keys_smooth_by_a_ladder_and_say_so() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(300)), 300)
        assert "smoothed .98" in str(chart.border_subtitle)
        await pilot.press("plus", "minus", "minus", "minus", "minus", "0", "o")
        await pilot.pause()
        assert app.messages == [0.99, 0.98, 0.9, 0.0, 0.0, 0.98, "overlays"]


async def test_the_cursor_says_the_values_and_the_events_of_its_step_and_escape_hides_it() -> None:
    marks = [
        Event(kind="note", step=500, time=0.0, message="lr halved\x1b[2J here"),
        Event(kind="lr", step=900, time=0.0, message="learning rate × 0.5"),
    ]
    app = ChartApp()
    async with app.run_test(size=(120, 24)) as pilot:
        run = Run(metrics(1000))
        chart = await shown(app, pilot, run, 1000, marks=marks)
        area = chart._area
        assert area is not None
        axis = chart._rows[area.rows].text
        note, rate = area.column(500), area.column(900)
        assert note is not None
        assert rate is not None
        assert axis[note : note + 10] == "↑lr halved"
        assert axis[rate] == "×"
        assert "\x1b" not in text(chart)
        assert not chart.check_action("hide_cursor", ())
        await pilot.click(chart, offset=(rate + chart.gutter.left, 5))
        await pilot.pause()
        assert chart._cursor is not None
        assert area.column(chart._cursor) == rate
        loss = float(run.metrics.envelope("train_loss", chart._cursor, chart._cursor).mean[0])
        for words in (f"train {loss:.3f}", "smoothed 1.", "val 1.", "1m 3", "learning rate × 0.5"):
            assert words in text(chart)
        await pilot.press("comma")
        assert area.column(chart._cursor) == rate - 1
        await pilot.press("escape")
        assert chart._cursor is None
        assert "smoothed" not in text(chart)


async def test_the_wheel_zooms_at_the_pointer_and_a_drag_pans() -> None:
    from textual.events import MouseScrollUp

    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(1000)), 1000)
        area = chart._area
        assert area is not None
        x = area.column(500)
        assert x is not None
        at = chart.content_region.x + x
        await pilot._post_mouse_events([MouseScrollUp], chart, (at - chart.region.x, 5), button=0)
        lo, hi = chart.window
        assert hi - lo == pytest.approx(800)
        assert lo < 500 < hi
        assert 480 < lo + (hi - lo) / 2 < 520
        await pilot.mouse_down(chart, offset=(50, 5))
        await pilot.hover(chart, offset=(60, 5))
        await pilot.mouse_up(chart, offset=(60, 5))
        dragged = chart.window
        assert dragged[1] - dragged[0] == pytest.approx(800)
        assert lo - dragged[0] == pytest.approx(800 * 10 / area.columns, rel=0.15)
        assert chart._cursor is None


async def test_other_runs_are_drawn_with_their_names_and_the_longest_sets_the_width() -> None:
    others = {f"run-{i}": Run(metrics(2000 if i == 0 else 500, pace=0.2)) for i in range(7)}
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(1000)), 1000, overlays=others)
        assert [name for name in others if name in text(chart)] == [f"run-{i}" for i in range(5)]
        assert chart.window[1] == pytest.approx(2000, rel=0.02)
        await pilot.press("x", "x", "x")  # by time the other is half as fast
        assert chart.window[1] == pytest.approx(400, rel=0.02)


async def test_strips_stand_where_there_is_room_and_can_be_taken_away() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(1000)), 1000)
        for name, value in (("lr", "1.00e-03"), ("grad", "1.000"), ("tok/s", "640")):
            [row] = [row.text for row in chart._rows if row.text.startswith(name)]
            assert row.split("│")[0].endswith(value)
        await pilot.press("u")
        assert "tok/s" not in text(chart)
        await pilot.press("u")
        await pilot.resize_terminal(100, 14)
        assert "tok/s" not in text(chart)


async def test_points_that_would_hardly_show_wait_and_a_view_of_the_past_is_drawn_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(metrics(1000))
    now = [100.0]
    monkeypatch.setattr("minigpt_tui.widgets.loss_chart.monotonic", lambda: now[0])
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, run, 1000)
        drawn: list[object] = []
        draw = chart._draw
        monkeypatch.setattr(chart, "_draw", lambda source: (drawn.append(source), draw(source)))

        def later(step: int, seconds: float) -> int:
            if step > run.metrics.envelope("tokens", buckets=10**4).step[-1]:
                run.metrics.append(row(step))
            now[0] += seconds
            drawn.clear()
            chart.update(run, status(step))
            return len(drawn)

        assert later(1001, 0.5) == 0
        assert later(1002, 0.6) == 0  # less than a column
        assert later(1003, 1.0) == 1
        assert later(1040, 1.1) == 1  # more than a column
        assert later(2000, 0.0) == 1  # much of the run
        assert later(2000, 60.0) <= 1
        assert later(2000, 60.0) == 0  # nothing new
        await pilot.press("right_square_bracket", "left")
        assert later(2100, 60.0) == 0


async def test_a_calm_run_moves_no_label() -> None:
    run = Run(metrics(3000))
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, run, 2110)
        seen = set()
        for step in range(2110, 2200, 10):
            chart.update(run, status(step))
            chart.redraw()
            area = chart._area
            assert area is not None
            seen.add((area.margin, area.frame, area.losses, chart._rows[area.rows + 1].text))
        assert len(seen) == 1


async def test_rungs_of_the_ladder_make_room_for_names() -> None:
    ladder = Ladder(rungs=(Rung("unigram", 3.2),), train_tokens=10, val_tokens=10)
    app = ChartApp()
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, pilot, Run(metrics(1000)), 1000, ladder=ladder)
        assert "unigram 3.20" in text(chart)
        await pilot.press("l")
        assert "unigram" not in text(chart)
        assert "n-grams" not in str(chart.border_subtitle)
