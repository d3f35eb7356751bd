"""Curves and bands as braille dots: every cell of a chart's area gets one character and one colour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

ACROSS, DOWN = 2, 4
"""Dots of a cell."""
DOTS = np.array([[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]])
"""The bit of each dot, by column and by row from below; U+2800 plus the bits is the character."""
BLANK = 0x2800


def spans(x: np.ndarray, low: np.ndarray, high: np.ndarray, mean: np.ndarray, gaps: np.ndarray, n: int) -> np.ndarray:
    """(2, n): between which heights each of `n` columns is covered by a line through points; NaN where there is none.

    A point covers its own extent, and the line through the means joins it with the next one.

    Args:
        x: (m,) ascending places of the points, in columns from the left.
        low, high, mean: (m,) of each point.
        gaps: (g,) ascending places across which no line is drawn.
    """
    out = np.full((2, n), np.nan)
    keep = np.isfinite(mean) & (x >= 0) & (x <= n)
    x, low, high, mean = x[keep], low[keep], high[keep], mean[keep]
    if not len(x):
        return out
    column = np.minimum(x.astype(np.int64), n - 1)
    first = np.flatnonzero(np.append(True, column[1:] > column[:-1]))
    out[0, column[first]] = np.minimum.reduceat(low, first)
    out[1, column[first]] = np.maximum.reduceat(high, first)
    # Where the line crosses from one column to the next, both hold that height.
    edges = np.arange(1.0, n)
    heights = np.interp(edges, x, mean, left=np.nan, right=np.nan)
    if len(gaps):
        after = np.searchsorted(x, edges)  # the point to the right of each edge
        passed = np.searchsorted(gaps, x)
        inside = (after > 0) & (after < len(x))
        before = np.maximum(after - 1, 0)
        after = np.minimum(after, len(x) - 1)
        heights[inside & (passed[after] > passed[before])] = np.nan
    for side in (out[:, :-1], out[:, 1:]):
        side[0] = np.fmin(side[0], heights)
        side[1] = np.fmax(side[1], heights)
    return out


class Raster:
    """The cells of an area. What is painted later hides what is below it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._codes = np.full((rows, columns), BLANK, dtype=np.uint32)
        """Characters, the first row at the bottom."""
        self._colours = np.zeros((rows, columns), dtype=np.int64)

    def paint(self, covered: np.ndarray, bottom: float, top: float, colour: int) -> None:
        """(2, ACROSS * columns) heights from `spans`, on a scale from `bottom` to `top`, as dots of a colour."""
        n = DOWN * self.rows
        with np.errstate(invalid="ignore"):
            low, high = np.floor((covered - bottom) * (n / (top - bottom)))
            heights = np.arange(n)
            # The upper bound itself belongs to the last row.
            dots = (heights >= np.minimum(low, n - 1)[:, None]) & (heights <= high[:, None])
        cells = dots.reshape(self.columns, ACROSS, self.rows, DOWN)
        codes = np.einsum("cakd,ad->kc", cells, DOTS, dtype=np.int64)
        hit = codes > 0
        self._codes[hit] = BLANK + codes[hit]
        self._colours[hit] = colour

    def put(self, column: int, row: int, character: str, colour: int) -> None:
        """A character in a cell; rows count from the bottom."""
        self._codes[row, column] = ord(character)
        self._colours[row, column] = colour

    def runs(self) -> Iterator[tuple[int, int, str, int]]:
        """Column, row from the bottom, text and colour of all that is drawn: neighbours of one colour together."""
        for row in np.flatnonzero((self._codes != BLANK).any(axis=1)).tolist():
            text = self._codes[row].astype("<u4").tobytes().decode("utf-32-le")
            colours = np.where(self._codes[row] == BLANK, -1, self._colours[row])
            starts = np.flatnonzero(np.diff(colours, prepend=-1)).tolist()
            for start, end in zip(starts, [*starts[1:], self.columns], strict=True):
                if colours[start] >= 0:
                    yield start, row, text[start:end], int(colours[start])
