"""Attention as coloured cells: pure functions from numbers to strips.

A value p in 0..1 becomes a level on a square-root scale, and a level becomes a colour or a glyph. The scale is
absolute unless asked for otherwise, so two frames compare. Half blocks put two square pixels into one terminal cell;
where colours cannot be told apart (16 colours, none, ASCII) a cell is one pixel and its glyph says how much.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from minigpt_tui.widgets.palette import BACKGROUND, FAINT, TEXT

Depth = Literal["truecolor", "256", "16", "none"]
Norm = Literal["absolute", "row", "head"]
"""What is drawn as 1: a probability of 1, the strongest key of each query, the strongest cell of the map."""
NORMS: tuple[Norm, ...] = get_args(Norm)
MASKED = -1
"""The level of a future key: not zero attention, but no attention possible."""
MARKED = -2
"""The level of the cell under the cursor."""

CIVIDIS = (  # noqa: SIM905
    "00224e 00285b 002e6a 053371 1c396f 293f6e 33446d 3c4a6c 45506c 4d556c 555b6d 5c616e 646770 6b6d72 727274 787877 "
    "807f78 888578 908b78 979177 a09875 a89e73 b0a571 b9ab6d c2b369 cbb965 d3c05f dcc859 e6d051 efd748 f8df3c fee838"
).split()
"""32 levels of cividis (Nuñez, Anderton & Renslow 2018): even in lightness, the same to colour-blind eyes."""
RAMP_256 = "262626 303030 3a3a3a 4e4e4e 585858 767676 87875f afaf5f d7d75f ffff5f ffffaf".split()  # noqa: SIM905
"""Grey into gold (235 236 237 239 240 243 101 143 185 227 229): each step lighter than the one before, zero still apart
from the background. The 256 colours have too few dark blues to say cividis itself."""
GLYPHS = " .:-=+*#%@"
MARK = "#ff5f87"
MASK_DOT = 4
"""Sparse marks, so that the mask does not look like attention of zero: every so many columns of some rows."""


class Ramp(NamedTuple):
    """How levels look: `n` of them, as colours, or as glyphs where `colours` is empty."""

    n: int
    colours: tuple[str, ...]

    @property
    def rows_per_cell(self) -> int:
        return 2 if self.colours else 1


def ramp(depth: Depth, ascii: bool) -> Ramp:
    """The finest ramp that this terminal can show without guessing."""
    if ascii or depth in ("16", "none"):
        return Ramp(len(GLYPHS), ())
    colours = tuple(f"#{code}" for code in (CIVIDIS if depth == "truecolor" else RAMP_256))
    return Ramp(len(colours), colours)


def groups(total: int, n: int) -> np.ndarray:
    """(n+1,) edges that split `total` tokens evenly into n groups; no more groups than tokens."""
    return np.linspace(0, total, min(n, total) + 1).astype(int)


def reduced(weights: np.ndarray, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Reduce (..., T, T) to the groups between edges: queries are averaged and keys summed.

    With edges over all keys every row keeps its mass of 1. A group on the diagonal holds the visible part of its block.
    """
    weights = weights[..., queries[0] : queries[-1], keys[0] : keys[-1]]
    if not np.isfinite(weights).all():  # a look is much quicker than a mended copy
        weights = np.nan_to_num(weights)
    if queries[-1] - queries[0] >= len(queries):
        rows = np.add.reduceat(weights, queries[:-1] - queries[0], axis=-2)
        weights = rows / np.diff(queries)[:, None].astype(np.float32)
    if keys[-1] - keys[0] >= len(keys):
        weights = np.add.reduceat(weights, keys[:-1] - keys[0], axis=-1)
    return weights


def overview(weights: np.ndarray, side: int) -> np.ndarray:
    """Reduce (..., T, T) to (..., side, side), at most, by `reduced`."""
    edges = groups(weights.shape[-1], side)
    return reduced(weights, edges, edges)


def unit(values: np.ndarray, norm: Norm) -> np.ndarray | float:
    """What is drawn as 1 in maps (..., Q, K): 1, the maximum of each row as (..., Q, 1), or of each map. Never 0."""
    if norm == "absolute":
        return 1.0
    top = np.nan_to_num(values).max(axis=-1 if norm == "row" else (-2, -1), keepdims=True, initial=0.0)
    return np.where(top > 0, top, 1.0)


def levels(values: np.ndarray, n: int, queries: np.ndarray | None = None, keys: np.ndarray | None = None) -> np.ndarray:
    """Quantise (..., Q, K) values to levels 0..n-1 by their square root; what lies wholly in the future becomes MASKED.

    `queries` are the edges of the groups of the rows and `keys` those of the columns, as in `reduced`; without them
    every row and every column is one token, from 0 on.
    """
    root = np.sqrt(np.clip(np.nan_to_num(values), 0.0, 1.0))
    quantised = np.minimum((root * n).astype(np.int16), n - 1)
    last = np.arange(values.shape[-2]) if queries is None else queries[1:] - 1
    first = np.arange(values.shape[-1]) if keys is None else keys[:-1]
    return np.where(first[None, :] > last[:, None], np.int16(MASKED), quantised)


def strips(level: np.ndarray, look: Ramp, offset: tuple[int, int] = (0, 0)) -> list[Strip]:
    """Draw levels (..., Q, K), one column a key and one or two queries a row; of several maps one after the other.

    A row is runs of equal cells: a colour change costs more bytes than a cell. All rows are cut into runs at once, and
    equal runs are one and the same `Segment`: a frame is some two thousand of them. `offset` anchors the mask's dots.
    """
    pieces = _pieces(look)
    cells = level.reshape(-1, *level.shape[-2:]).astype(np.int32) - MARKED  # from 0 on
    row = offset[0]
    if look.colours:
        if cells.shape[1] % 2:
            cells = np.pad(cells, ((0, 0), (0, 1), (0, 0)), constant_values=MASKED - MARKED)
        cells = cells[:, 0::2] * pieces.base + cells[:, 1::2]
        row //= 2
    height, width = cells.shape[1:]
    cells = cells.reshape(-1, width)
    cut = np.ones(cells.shape, bool)
    cut[:, 1:] = cells[:, 1:] != cells[:, :-1]
    starts = np.flatnonzero(cut)  # (runs,), in the flat picture
    lengths = np.diff(starts, append=cells.size)
    y, x = starts // width, starts % width
    found = cells.ravel()[starts]
    # A run of the mask is also told by where its dots begin; the rows without dots are phase 0.
    dotted = (row + y % height) % pieces.dotted_rows == 0
    phase = np.where((found == pieces.masked) & dotted, 1 + (offset[1] + x) % MASK_DOT, 0)
    keys = ((found * (MASK_DOT + 1) + phase) << 16) + lengths
    segments = [pieces[key] for key in keys.tolist()]
    ends = np.searchsorted(y, np.arange(len(cells)), side="right").tolist()
    return [Strip(segments[begin:end], width) for begin, end in zip([0, *ends], ends, strict=False)]


def legend(look: Ramp, cells: int = 12) -> list[Segment]:
    """A bar from 0 to 1 in the colours or glyphs of the ramp."""
    picks = [round(i * (look.n - 1) / (cells - 1)) for i in range(cells)]
    if look.colours:
        return [Segment(" ", _style(look.colours[pick], look.colours[pick])) for pick in picks]
    return [Segment("".join(GLYPHS[pick] for pick in picks), _style(TEXT, BACKGROUND))]


@lru_cache(4096)
def _style(foreground: str, background: str) -> Style:
    return Style(color=foreground, bgcolor=background)


class _Pieces(dict[int, Segment]):
    """The run of cells for each key of `strips`, made when it is first needed."""

    def __init__(self, look: Ramp) -> None:
        super().__init__()
        self._look = look
        self.base = look.n - MARKED
        """How many levels there are, with the two that are not attention."""
        mask = MASKED - MARKED
        self.masked = mask * self.base + mask if look.colours else mask
        self.dotted_rows = 2 if look.colours else 3

    def __missing__(self, key: int) -> Segment:
        code, length = key >> 16, key & 0xFFFF
        cell, phase = divmod(code, MASK_DOT + 1)
        segment = self._masked(phase, length) if cell == self.masked else self._run(cell, length)
        self[key] = segment
        return segment

    def _masked(self, phase: int, length: int) -> Segment:
        dot = "·" if self._look.colours else "'"
        dots = (dot if phase and (phase - 1 + i) % MASK_DOT == 0 else " " for i in range(length))
        return Segment("".join(dots), _style(FAINT, BACKGROUND))

    def _run(self, cell: int, length: int) -> Segment:
        if self._look.colours:
            upper, lower = (self._colour(level + MARKED) for level in divmod(cell, self.base))
            if upper == lower:
                return Segment(" " * length, _style(TEXT, lower))
            return Segment("▀" * length, _style(upper, lower))
        level = cell + MARKED
        if level == MARKED:
            return Segment("X" * length, Style(reverse=True, bold=True))
        return Segment(GLYPHS[level] * length, _style(TEXT, BACKGROUND))

    def _colour(self, level: int) -> str:
        return MARK if level == MARKED else BACKGROUND if level == MASKED else self._look.colours[level]


@lru_cache(8)
def _pieces(look: Ramp) -> _Pieces:
    return _Pieces(look)
