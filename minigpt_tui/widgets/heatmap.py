"""Attention as coloured cells: pure functions from numbers to strips.

A value p in 0..1 becomes a level on a square-root scale, and a level becomes a colour or a glyph. The scale is
absolute, so two frames compare. Half blocks put two square pixels into one terminal cell; where colours cannot be told
apart (16 colours, none, ASCII) a cell is one pixel and its glyph says how much.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from minigpt_tui.widgets.palette import BACKGROUND, FAINT, TEXT

Depth = Literal["truecolor", "256", "16", "none"]
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


def levels(weights: np.ndarray, n: int, first_query: int = 0, first_key: int = 0) -> np.ndarray:
    """Quantise (Q, K) probabilities to levels 0..n-1 by their square root; future keys become MASKED.

    `first_query` and `first_key` say which part of the whole map this is.
    """
    root = np.sqrt(np.clip(np.nan_to_num(weights), 0.0, 1.0))
    quantised = np.minimum((root * n).astype(np.int16), n - 1)
    queries = np.arange(weights.shape[0])[:, None] + first_query
    keys = np.arange(weights.shape[1])[None, :] + first_key
    return np.where(keys > queries, MASKED, quantised).astype(np.int16)


def overview(weights: np.ndarray, side: int) -> np.ndarray:
    """Reduce (T, T) to (side, side): keys are summed and queries averaged, so every row keeps its mass of 1.

    A coarse cell on the diagonal holds the visible half of its square.
    """
    total = weights.shape[0]
    if total <= side:
        return weights
    edges = np.linspace(0, total, side + 1).astype(int)[:-1]
    counts = np.diff([*edges, total])
    rows: np.ndarray = np.add.reduceat(np.nan_to_num(weights), edges, axis=0) / counts[:, None]
    return np.add.reduceat(rows, edges, axis=1)


def strips(level: np.ndarray, look: Ramp, offset: tuple[int, int] = (0, 0)) -> list[Strip]:
    """Draw levels (Q, K), one column a key and one or two queries a row. `offset` anchors the mask's dots."""
    if not look.colours:
        return [_glyph_row(row, dotted=(offset[0] + y) % 3 == 0) for y, row in enumerate(level)]
    if len(level) % 2:
        level = np.vstack([level, np.full((1, level.shape[1]), MASKED, level.dtype)])
    return [
        _half_block_row(level[y], level[y + 1], look, (offset[0] + y) // 2, offset[1]) for y in range(0, len(level), 2)
    ]


def legend(look: Ramp, cells: int = 12) -> list[Segment]:
    """A bar from 0 to 1 in the colours or glyphs of the ramp."""
    picks = [round(i * (look.n - 1) / (cells - 1)) for i in range(cells)]
    if look.colours:
        return [Segment(" ", _style(look.colours[pick], look.colours[pick])) for pick in picks]
    return [Segment("".join(GLYPHS[pick] for pick in picks), _style(TEXT, BACKGROUND))]


@lru_cache(4096)
def _style(foreground: str, background: str) -> Style:
    return Style(color=foreground, bgcolor=background)


def _colour(level: int, look: Ramp) -> str:
    return MARK if level == MARKED else BACKGROUND if level == MASKED else look.colours[level]


@lru_cache(8)
def _pair_styles(look: Ramp) -> dict[tuple[int, int], Style]:
    """The style of every pair of levels in one cell."""
    shown = (MASKED, MARKED, *range(look.n))
    return {(a, b): _style(TEXT if a == b else _colour(a, look), _colour(b, look)) for a in shown for b in shown}


def _half_block_row(upper: np.ndarray, lower: np.ndarray, look: Ramp, row: int, first_key: int) -> Strip:
    """One terminal row as runs of equal cells: a colour change costs more bytes than a cell."""
    segments: list[Segment] = []
    width = len(upper)
    x = 0
    changes = np.flatnonzero((np.diff(upper) != 0) | (np.diff(lower) != 0)) + 1
    pairs = list(zip(upper.tolist(), lower.tolist(), strict=True))  # plain numbers: this loop is most of a frame's cost
    styles = _pair_styles(look)
    for end in [*changes.tolist(), width]:
        pair = pairs[x]
        if pair == (MASKED, MASKED):
            dots = "".join("·" if row % 2 == 0 and (first_key + i) % 4 == 0 else " " for i in range(x, end))
            segments.append(Segment(dots, _style(FAINT, BACKGROUND)))
        else:
            segments.append(Segment((" " if pair[0] == pair[1] else "▀") * (end - x), styles[pair]))
        x = end
    return Strip(segments, width)


def _glyph_row(row: np.ndarray, dotted: bool) -> Strip:
    segments: list[Segment] = []
    x = 0
    for end in [*(np.flatnonzero(np.diff(row) != 0) + 1).tolist(), len(row)]:
        level, n = int(row[x]), end - x
        if level == MASKED:
            # Sparse marks, so that the mask does not look like attention of zero, which is blank.
            text = "".join("'" if dotted and i % 4 == 0 else " " for i in range(x, end))
            segments.append(Segment(text, _style(FAINT, BACKGROUND)))
        elif level == MARKED:
            segments.append(Segment("X" * n, Style(reverse=True, bold=True)))
        else:
            segments.append(Segment(GLYPHS[level] * n, _style(TEXT, BACKGROUND)))
        x = end
    return Strip(segments, len(row))
