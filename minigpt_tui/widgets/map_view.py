"""Which part of an attention map is on screen, and how large: arithmetic only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """The part of a map on screen: queries and keys from-to, and pixels a token."""

    q0: int
    q1: int
    k0: int
    k1: int
    scale_x: int
    scale_y: int


class Grid(NamedTuple):
    """How many queries and keys are on screen, and pixels a token."""

    queries: int
    keys: int
    scale_x: int
    scale_y: int


def fit(tokens: int, columns: int, rows: int, per_cell: int) -> Grid:
    """How large a token is drawn in so many cells, and how many of the tokens then have room."""
    if per_cell == 2:
        scale_x = scale_y = max(1, min(columns // tokens, 2 * rows // tokens))
    else:
        scale_x, scale_y = (2 if columns >= 2 * tokens else 1), 1
    return Grid(
        min(tokens, max(1, per_cell * rows // scale_y)), min(tokens, max(1, columns // scale_x)), scale_x, scale_y
    )


def around(cursor: tuple[int, int], corner: tuple[int, int], grid: Grid, tokens: int, per_cell: int) -> View:
    """The part of the map with the cursor in it, as near as can be to the corner of the last one."""
    query, key = cursor
    q0 = min(max(corner[0], query - grid.queries + 1), query, tokens - grid.queries)
    k0 = min(max(corner[1], key - grid.keys + 1), key, tokens - grid.keys)
    q0 -= q0 % per_cell if q0 + grid.queries < tokens else 0  # keep the same queries paired in a cell while scrolling
    if query >= q0 + grid.queries:
        q0 += per_cell
    return View(q0, q0 + grid.queries, k0, k0 + grid.keys, grid.scale_x, grid.scale_y)


def strongest(weights: np.ndarray, grid: Grid) -> tuple[int, int]:
    """Where the cursor begins: the last query on screen that a token follows, and the key it looks at most."""
    query = max(0, min(grid.queries, len(weights) - 1) - 1)
    return query, int(np.argmax(np.nan_to_num(weights[query, : min(query + 1, grid.keys)])))
