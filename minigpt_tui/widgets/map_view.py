"""Which part of an attention map is on screen, and how large: arithmetic only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minigpt_tui.widgets import heatmap

Cell = tuple[int, int]
"""(query, key)."""


class Room(NamedTuple):
    """The cells that the picture may take, and how many queries one of them shows."""

    columns: int
    rows: int
    per_cell: int


class View(NamedTuple):
    """What each row and column of the picture stands for, and how large it is drawn.

    Attributes:
        queries: (Q+1,) edges of the groups of queries, one a row of pixels; groups of one token where it is 1:1.
        keys: (K+1,) the same for the columns.
        scale_x, scale_y: pixels a group.
    """

    queries: np.ndarray
    keys: np.ndarray
    scale_x: int
    scale_y: int

    def place(self, cell: Cell) -> tuple[int, int]:
        """The row and column of the picture in which a query and a key are drawn, in groups."""
        return (
            int(np.searchsorted(self.queries, cell[0], side="right")) - 1,
            int(np.searchsorted(self.keys, cell[1], side="right")) - 1,
        )

    def at(self, y: int, x: int) -> Cell | None:
        """The query and key drawn at a pixel, the first of its group; None beside the picture."""
        row, column = y // self.scale_y, x // self.scale_x
        inside = 0 <= row < len(self.queries) - 1 and 0 <= column < len(self.keys) - 1
        return (int(self.queries[row]), int(self.keys[column])) if inside else None

    def whole(self, tokens: int) -> bool:
        """Whether every token is in it."""
        return bool(self.queries[-1] - self.queries[0] == tokens == self.keys[-1] - self.keys[0])

    def coarse(self) -> bool:
        """Whether several tokens share a row or a column."""
        groups = len(self.queries) - 1, len(self.keys) - 1
        return (int(self.queries[-1] - self.queries[0]), int(self.keys[-1] - self.keys[0])) != groups


def whole(tokens: int, room: Room) -> View:
    """All tokens, drawn as large as they fit, or several of them in a pixel, as nearly square as can be."""
    if room.per_cell == 2:
        side = min(room.columns, 2 * room.rows)
        scale = max(1, side // tokens)
        edges = heatmap.groups(tokens, side)
        return View(edges, edges, scale, scale)
    # A cell is twice as tall as wide: two columns a key, or twice as many groups of keys as of queries.
    if fits(tokens, room):
        edges = heatmap.groups(tokens, tokens)
        return View(edges, edges, 2 if room.columns >= 2 * tokens else 1, 1)
    queries = min(tokens, room.rows, -(-room.columns // 2))
    return View(heatmap.groups(tokens, queries), heatmap.groups(tokens, min(room.columns, 2 * queries)), 1, 1)


def fits(tokens: int, room: Room) -> bool:
    """Whether every token has a pixel of its own."""
    return tokens <= min(room.columns, room.per_cell * room.rows)


def part(cursor: Cell, corner: Cell, tokens: int, room: Room) -> View:
    """One pixel a token, with the cursor in it, as near as can be to the corner of the last one."""
    n_queries, n_keys = min(tokens, room.per_cell * room.rows), min(tokens, room.columns)
    query, key = cursor
    q0 = min(max(corner[0], query - n_queries + 1), query, tokens - n_queries)
    k0 = min(max(corner[1], key - n_keys + 1), key, tokens - n_keys)
    q0 -= q0 % room.per_cell if q0 + n_queries < tokens else 0  # keep the same queries paired in a cell on the way
    if query >= q0 + n_queries:
        q0 += room.per_cell
    return View(np.arange(q0, q0 + n_queries + 1), np.arange(k0, k0 + n_keys + 1), 1, 1)


def centred(cursor: Cell, tokens: int, room: Room) -> Cell:
    """The corner of a part with the cursor in its middle."""
    return (
        min(max(0, cursor[0] - room.per_cell * room.rows // 2), max(0, tokens - room.per_cell * room.rows)),
        min(max(0, cursor[1] - room.columns // 2), max(0, tokens - room.columns)),
    )


def strongest(weights: np.ndarray, room: Room) -> Cell:
    """Where the cursor begins: the last query that a token follows, and the key it looks at most of those before it
    that can be on screen with it."""
    query = max(0, len(weights) - 2)
    first = max(0, query + 1 - room.columns)
    return query, first + int(np.argmax(np.nan_to_num(weights[query, first : query + 1])))


def move(view: View, cursor: Cell, tokens: int, queries: int, keys: int) -> Cell:
    """The cursor so many rows down and columns right: tokens, or where several share one, groups of them."""
    if not view.coarse():
        return min(max(cursor[0] + queries, 0), tokens - 1), max(cursor[1] + keys, 0)
    row, column = view.place(cursor)
    query = view.queries[min(max(row + queries, 0), len(view.queries) - 2)] if queries else cursor[0]
    key = view.keys[min(max(column + keys, 0), len(view.keys) - 2)] if keys else cursor[1]
    return int(query), int(key)
