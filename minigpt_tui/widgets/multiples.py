"""All heads side by side as small maps, each with its name and the badge of its role."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import set_cell_size
from rich.segment import Segment
from textual.strip import Strip

from minigpt_core.frame import Frame
from minigpt_core.heads import label
from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import Norm, Ramp
from minigpt_tui.widgets.lines import Part, strip
from minigpt_tui.widgets.palette import ACCENT_BOLD, MUTED_STYLE, TEXT_STYLE
from minigpt_tui.widgets.roles import STYLES as ROLE_STYLES

MIN_SIDE = 10
"""Pixels: smaller maps show little; where not all fit, they scroll with the selection."""
BADGES = {"previous": "p", "induction": "i", "sink": "s"}


class Layout(NamedTuple):
    """Which heads are on screen, in a block of layers by heads, and how large: `side` pixels and a name each."""

    layers: range
    heads: range
    side: int
    height: int
    """Rows of a map and its name."""

    def at(self, x: int, y: int) -> tuple[int, int] | None:
        """The layer and head drawn at a cell; None beside them."""
        layer, head = y // self.height, x // (self.side + 1)
        return (self.layers[layer], self.heads[head]) if layer < len(self.layers) and head < len(self.heads) else None


def arrange(shape: tuple[int, ...], chosen: tuple[int, int], per_cell: int, columns: int, rows: int) -> Layout:
    """As many heads of a (L, H, T, T) as fit around the chosen (layer, head)."""
    n_layers, n_heads, tokens, _ = shape
    fits = min(columns // n_heads - 1, (rows // n_layers - 1) * per_cell)
    side = max(1, min(tokens, max(MIN_SIDE, fits), columns - 1, (rows - 1) * per_cell))
    height = -(-side // per_cell) + 1
    across = max(1, min(n_heads, columns // (side + 1)))
    down = max(1, min(n_layers, rows // height))
    top = min(max(0, chosen[0] - down // 2), n_layers - down)
    start = min(max(0, chosen[1] - across // 2), n_heads - across)
    return Layout(range(top, top + down), range(start, start + across), side, height)


def multiples(frame: Frame, chosen: tuple[int, int], look: Ramp, place: Layout, norm: Norm = "absolute") -> list[Strip]:
    """The small maps as rows. Maps smaller than their text are reduced as an overview is."""
    layers, heads, side, _ = place
    small = heatmap.overview(frame.weights[layers.start : layers.stop, heads.start : heads.stop], side)
    lines = heatmap.strips(heatmap.levels(small / heatmap.unit(small, norm), look.n), look)
    gap = Strip([Segment(" ", TEXT_STYLE)], 1)
    tall = place.height - 1
    out: list[Strip] = []
    for i, layer in enumerate(layers):
        names: list[Part] = []
        for head in heads:
            names += _name(layer, head, (layer, head) == chosen, label(frame.scores[:, layer, head]), side + 1)
        out.append(strip(names))
        block = lines[i * len(heads) * tall : (i + 1) * len(heads) * tall]  # the rows of one head after the other's
        out += [Strip.join([piece for line in block[y::tall] for piece in (line, gap)]) for y in range(tall)]
    return out


def what_is_shown(place: Layout, shape: tuple[int, ...]) -> str:
    """`all heads`, or which of them."""
    if len(place.layers) * len(place.heads) == shape[0] * shape[1]:
        return "all heads"
    spans = (
        f"{name}{'s' if len(span) > 1 else ''} {_span(span)}"
        for name, span in zip(("layer", "head"), place[:2], strict=True)
    )
    return " ".join(spans)


def _span(span: range) -> str:
    return f"{span[0]}–{span[-1]}" if len(span) > 1 else f"{span[0]}"


def _name(layer: int, head: int, chosen: bool, role: str, columns: int) -> list[Part]:
    """`▸L0 H1 p` in exactly so many cells."""
    name = set_cell_size(f"{'▸' if chosen else ' '}L{layer} H{head} ", min(columns, len(f" L{layer} H{head} ")))
    badge = set_cell_size(BADGES.get(role, ""), columns - len(name))
    return [(name, ACCENT_BOLD if chosen else MUTED_STYLE), (badge, ROLE_STYLES.get(role, MUTED_STYLE))]
