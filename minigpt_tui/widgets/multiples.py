"""All heads side by side as small maps, each with its name and the badge of its role."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import set_cell_size
from rich.segment import Segment
from textual.strip import Strip

from minigpt_core.frame import Frame
from minigpt_core.heads import label
from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.lines import Part, strip
from minigpt_tui.widgets.palette import ACCENT_BOLD, MUTED_STYLE, TEXT_STYLE
from minigpt_tui.widgets.roles import STYLES as ROLE_STYLES

MIN_SIDE = 10
"""Pixels: smaller maps show little; where not all fit, they scroll with the selection."""
BADGES = {"previous": "p", "induction": "i", "sink": "s"}


class Multiples(NamedTuple):
    """Rows of small maps, and which heads they show."""

    what: str
    rows: list[Strip]


def multiples(frame: Frame, chosen: tuple[int, int], look: Ramp, columns: int, rows: int) -> Multiples:
    """As many heads as fit around the chosen (layer, head)."""
    n_layers, n_heads, tokens, _ = frame.weights.shape
    per_cell = look.rows_per_cell
    fits = min(columns // n_heads - 1, (rows // n_layers - 1) * per_cell)
    side = max(1, min(tokens, max(MIN_SIDE, fits), columns - 1, (rows - 1) * per_cell))
    height = -(-side // per_cell) + 1
    across = max(1, min(n_heads, columns // (side + 1)))
    down = max(1, min(n_layers, rows // height))
    top = min(max(0, chosen[0] - down // 2), n_layers - down)
    start = min(max(0, chosen[1] - across // 2), n_heads - across)
    partial = down * across < n_layers * n_heads
    out: list[Strip] = []
    gap = Strip([Segment(" ", TEXT_STYLE)])
    for layer in range(top, top + down):
        names: list[Part] = []
        blocks: list[list[Strip]] = []
        for head in range(start, start + across):
            names += _name(layer, head, (layer, head) == chosen, label(frame.scores[:, layer, head]), side + 1)
            small = heatmap.overview(frame.weights[layer, head], side)
            blocks.append(heatmap.strips(heatmap.levels(small, look.n), look))
        out.append(strip(names))
        out += [Strip.join([piece for part in line for piece in (part, gap)]) for line in zip(*blocks, strict=True)]
    what = f"layers {top}–{top + down - 1} heads {start}–{start + across - 1}" if partial else "all heads"
    return Multiples(what, out)


def _name(layer: int, head: int, chosen: bool, role: str, columns: int) -> list[Part]:
    """`▸L0 H1 p` in exactly so many cells."""
    name = set_cell_size(f"{'▸' if chosen else ' '}L{layer} H{head} ", min(columns, len(f" L{layer} H{head} ")))
    badge = set_cell_size(BADGES.get(role, ""), columns - len(name))
    return [(name, ACCENT_BOLD if chosen else MUTED_STYLE), (badge, ROLE_STYLES.get(role, MUTED_STYLE))]
