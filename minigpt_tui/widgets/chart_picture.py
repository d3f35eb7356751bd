"""A scene as a picture: plotext draws the axes and the cells of the curves; what stands around them goes over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from textual.strip import Strip

from minigpt_core.ladder import Ladder
from minigpt_core.status import Event
from minigpt_tui.widgets.chart_axes import Axis, labels
from minigpt_tui.widgets.chart_data import Scene, Trace
from minigpt_tui.widgets.chart_marks import Area, with_events, with_gaps, with_ladder, with_names
from minigpt_tui.widgets.chart_raster import ACROSS, Raster, spans
from minigpt_tui.widgets.palette import ACCENT, OVERLAY_COLOURS, RAW, SECOND
from minigpt_tui.widgets.plotting import AXIS_ROWS, built, limits, loss_labels, new_plot, rgb, round_limits

COLOURS = (RAW, ACCENT, SECOND, *OVERLAY_COLOURS)
RAW_INDEX, LINE_INDEX, VAL_INDEX, OVERLAY_INDEX = range(4)
POINT, VAL, BEST = "•", "◆", "★"
LABEL = 5
"""Cells of the labels of the y axis, at least: so wide that they seldom need more."""


class Look(NamedTuple):
    """How to draw."""

    columns: int
    rows: int
    log: bool = False
    margin: int = LABEL
    """Cells to the left of the y axis, at least."""
    ladder: Ladder | None = None


class Drawn(NamedTuple):
    """A picture and where in it the data is."""

    picture: list[Strip]
    area: Area


def draw(scene: Scene, axis: Axis, frame: tuple[float, float], look: Look, events: Sequence[Event]) -> Drawn:
    """The picture of a scene that holds at least one point.

    Args:
        events: those of the run that have a mark.
    """
    columns, rows, log = look.columns, look.rows, look.log
    bottom, top = round_limits(*limits(scene.heights), max(8, rows))
    ticks, names = loss_labels(bottom, top, rows, log)
    names = [f"{name:>{look.margin}}" for name in names]
    margin = 1 + max(map(len, names), default=0)
    height = rows - (2 if rows >= AXIS_ROWS else 0)
    area = Area(margin, columns - margin, height, frame, (bottom, top))
    plot = new_plot(columns, rows)
    plot.xlim(0, area.columns - 1)
    plot.ylim(0, height - 1)
    for column, row, text, colour in _cells(scene, area).runs():
        plot.text(text, column, row, color=rgb(COLOURS[colour]), alignment="left")
    if rows >= AXIS_ROWS:
        marks, texts = labels(axis.name, *frame, area.columns)
        plot.xticks([float(_place(area, mark)) for mark in marks], texts)
    rungs = [area.row(tick) for tick in ticks]
    plot.yticks(
        [float(height - 1 - row) for row in rungs if row is not None],
        [name for name, row in zip(names, rungs, strict=True) if row is not None],
    )
    picture = built(plot)
    picture = with_names(picture, area, list(zip(scene.overlays, OVERLAY_COLOURS, strict=False)))
    if look.ladder is not None:
        picture = with_ladder(picture, area, look.ladder, log)
    places = axis.at(np.array([float(event.step) for event in events]))
    picture = with_events(picture, area, list(zip(places.tolist(), events, strict=True)))
    return Drawn(with_gaps(picture, area, scene.broken.tolist()), area)


def _place(area: Area, mark: float) -> int:
    column = area.column(mark)
    return 0 if column is None else column - area.margin


def _cells(scene: Scene, area: Area) -> Raster:
    raster = Raster(area.columns, area.rows)
    left, right = area.frame
    dots = ACROSS * area.columns

    def paint(trace: Trace, colour: int) -> None:
        if len(trace.x) == 1:
            _put(raster, area, float(trace.x[0]), float(trace.mean[0]), POINT, colour)
            return
        x, gaps = ((places - left) * (dots / (right - left)) for places in (trace.x, scene.gaps))
        raster.paint(spans(x, trace.low, trace.high, trace.mean, gaps, dots), *area.losses, colour)

    paint(scene.raw, RAW_INDEX)
    for number, trace in enumerate(scene.overlays.values()):
        x = (trace.x - left) * (dots / (right - left))
        covered = spans(x, trace.low, trace.high, trace.mean, np.empty(0), dots)
        raster.paint(covered, *area.losses, OVERLAY_INDEX + number)
    paint(scene.smoothed, LINE_INDEX)
    for x, y in zip(scene.validation.x.tolist(), scene.validation.mean.tolist(), strict=True):
        _put(raster, area, x, y, VAL, VAL_INDEX)
    if scene.best is not None:
        _put(raster, area, *scene.best, BEST, VAL_INDEX)
    return raster


def _put(raster: Raster, area: Area, x: float, y: float, character: str, colour: int) -> None:
    column, row = area.column(x), area.row(y)
    if column is not None and row is not None:
        raster.put(column - area.margin, area.rows - 1 - row, character, colour)
