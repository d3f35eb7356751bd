"""Mean validation curves of an experiment's variants over one another, as losses or as differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from textual.strip import Strip

from minigpt_core.lab.overlay import SMALL, Mean
from minigpt_tui.widgets.lines import Lines, cut, message, strip
from minigpt_tui.widgets.palette import FAINT_STYLE, MUTED_STYLE
from minigpt_tui.widgets.plotting import TOO_SMALL, Labels, built, limits, loss_labels, new_plot, rgb, step_labels

WAITING = "no curve yet: the first validation of the first run draws it"
LOSS = "mean validation loss over the seeds, nats a token"
DIFFERENCE = "validation loss minus the baseline's of the same seed, mean, nats a token"
SIGNED_TICKS = sorted({sign * size for size in (0, 0.01, 0.03, 0.1, 0.3, 1, 3) for sign in (-1, 1)})
COLOURS = ("#e4e4e4", "#0087ff", "#ff5f00", "#00af5f", "#d787d7", "#ffaf00", "#5fd7ff")
"""254, then Okabe and Ito's order as near as 256 colours come to it (33, 202, 35, 176, 214, 81); the baseline first."""


def mark(index: int) -> str:
    """The letter of a curve where colours are few or used up."""
    return chr(ord("a") + index % 26)


class Line(NamedTuple):
    """A curve: its colour, the letter to draw it with or None for dots, and its points."""

    colour: str
    letter: str | None
    curve: Mean


class OverlayChart(Lines):
    """Draws with plotext, which is loaded with the first point."""

    DEFAULT_CSS = "OverlayChart { height: 1fr; width: 1fr; }"

    def __init__(self, title: str = LOSS, waiting: str = WAITING) -> None:
        """
        Args:
            title: what the curves are; differences have a title of their own.
            waiting: a sentence for when there is no point yet.
        """
        super().__init__(id="overlay")
        self.title, self._waiting = title, waiting
        self.log_y = False
        self._signed = False
        self._lines: Sequence[Line] = ()
        self._version: object = None

    def update(self, lines: Sequence[Line], signed: bool, version: object) -> None:
        """Draw these, the last one on top, if `version` (anything that changes with them) is another than before.

        Args:
            signed: they are differences; a logarithmic scale is then linear around zero.
        """
        if (signed, version) != (self._signed, self._version):
            self._lines, self._signed, self._version = lines, signed, version
            self._paint()

    def toggle_log(self) -> None:
        self.log_y = not self.log_y
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns, rows = self.size
        if not columns or not rows:
            return
        drawn = [(line, *self._points(line.curve)) for line in self._lines]
        drawn = [(line, x, y) for line, x, y in drawn if len(x)]
        if not drawn or columns < 16 or rows < 4:
            self.show(message(TOO_SMALL if drawn else self._waiting, FAINT_STYLE, columns))
            return
        title = f" {DIFFERENCE if self._signed else self.title}{', log scale' if self.log_y else ''}"
        self.show([strip([(cut(title, columns), MUTED_STYLE)]), *self._plot(columns, rows - 1, drawn)])

    def _plot(self, columns: int, rows: int, drawn: list[tuple[Line, np.ndarray, np.ndarray]]) -> list[Strip]:
        plot = new_plot(columns, rows)
        bottom, top = limits(np.concatenate([y for _, _, y in drawn]))
        left, right = min(float(x[0]) for _, x, _ in drawn), max(float(x[-1]) for _, x, _ in drawn)
        right = right if right > left else left + 1
        plot.xlim(left, right)
        plot.ylim(bottom, top)
        for line, x, y in drawn:
            draw = plot.plot if len(x) > 1 else plot.scatter
            marker = line.letter or ("braille" if len(x) > 1 else "•")
            draw(x.tolist(), y.tolist(), color=rgb(line.colour), marker=marker)
        plot.xticks(*step_labels(left, right, columns, rows))
        plot.yticks(*self._labels(bottom, top, rows))
        return built(plot)

    def _labels(self, bottom: float, top: float, rows: int) -> Labels:
        if not (self.log_y and self._signed):
            return loss_labels(bottom, top, rows, self.log_y, self._signed)
        marks = [mark for mark in SIGNED_TICKS if bottom <= _signed_log(mark) <= top]
        return [float(_signed_log(mark)) for mark in marks], [f"{mark:+g}" if mark else "0" for mark in marks]

    def _points(self, curve: Mean) -> tuple[np.ndarray, np.ndarray]:
        """What plotext can draw, on the scale that is chosen: finite points, and positive ones for a logarithm."""
        keep = np.isfinite(curve.mean)
        if self.log_y and not self._signed:
            keep &= curve.mean > 0
        y = curve.mean[keep]
        if self.log_y:
            y = _signed_log(y) if self._signed else np.log10(y)
        return curve.steps[keep], y


def _signed_log(y: Any) -> Any:
    """Linear well below `SMALL`, logarithmic well above, the same on both sides of zero."""
    return np.sign(y) * np.log10(1 + np.abs(y) / SMALL)
