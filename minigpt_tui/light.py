"""The light theme: what every colour of the dark one becomes on white, as the last step before the terminal.

Widgets bake the dark colours into their styles and know of no theme. No light colour is also a dark one, so that a
line may pass twice, as it does under a dialog.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from minigpt_tui.widgets import heatmap, overlay_chart, palette, roles, tint

BACKGROUND = "#ffffff"  # 231
RAISED = "#eeeeee"  # 255
LINE = "#d0d0d0"  # 252
RAW = "#bcbcbc"  # 250
FAINT = "#5f5f5f"  # 59
MUTED = "#444444"  # 238
TEXT = "#080808"  # 232
BRIGHT = "#000000"  # 16, always bold
ACCENT = "#005f87"  # 24
SECOND = "#af5f00"  # 130
WARN = SECOND  # no other dark yellow stands apart from red for all eyes
BAD = "#870000"  # 88

RAMP_256 = "eeeeee dadada d0d0d0 bcbcbc 87afd7 8787d7 5f87af 5f5fd7 005faf 0000af 00005f".split()  # noqa: SIM905
"""Grey into navy (255 253 252 250 110 104 67 62 25 19 17): each darker than the one before, zero apart from white."""
ANCHORS = ("eeeeee", "c3d4e8", "7fa6d0", "2f68aa", "06305f", "000a28")
"""Blues, even in lightness; the truecolor ramp runs straight from one to the next."""
OVERLAYS = ("#000000", "#0000d7", "#d70000", "#008700", "#af00af", "#875f00", "#5f5f5f")
RUNS = ("#af00ff", "#000000", "#870000", "#875f5f", "#000087")
"""129, 16, 88, 95, 18: other runs in the loss chart, far from the teal and the brown of its own curves."""
ROLES = {"previous": "#005faf", "induction": "#875f00", "sink": "#af005f", "diffuse": MUTED}


def between(anchors: Sequence[str], n: int) -> list[str]:
    """`n` colours along straight lines from anchor to anchor."""
    colours = [Color.parse(f"#{anchor}") for anchor in anchors]
    out = []
    for i in range(n):
        segment, along = divmod(i * (len(colours) - 1) / (n - 1), 1)
        first = int(min(segment, len(colours) - 2))
        out.append(colours[first].blend(colours[first + 1], along if first == segment else 1.0).hex6.lower())
    return out


COUNTERPARTS = {
    palette.BACKGROUND: BACKGROUND,
    palette.RAISED: RAISED,
    palette.LINE: LINE,
    palette.RAW: RAW,
    palette.FAINT: FAINT,
    palette.MUTED: MUTED,
    palette.TEXT: TEXT,
    palette.BRIGHT: BRIGHT,
    palette.ACCENT: ACCENT,
    palette.SECOND: SECOND,
    palette.WARN: WARN,
    palette.BAD: BAD,
    heatmap.MARK: "#d7005f",
    "#ffff87": BRIGHT,
    tint.COLOURS[1]: "#5f5f5f",
    tint.COLOURS[3]: "#d700af",
    **{f"#{dark}": f"#{light}" for dark, light in zip(heatmap.RAMP_256, RAMP_256, strict=True)},
    **{f"#{dark}": light for dark, light in zip(heatmap.CIVIDIS, between(ANCHORS, 32), strict=True)},
    **dict(zip(overlay_chart.COLOURS, OVERLAYS, strict=True)),
    **dict(zip(palette.OVERLAY_COLOURS, RUNS, strict=True)),
    **{dark: ROLES[role] for role, dark in roles.COLOURS.items()},
}
"""Dark colour to light colour. The borders at rest, the raw loss and a selected row are also steps of the ramp."""

ANSI = {
    BACKGROUND: "bright_white",
    RAISED: "bright_white",
    LINE: "white",
    RAW: "bright_black",
    FAINT: "bright_black",
    MUTED: "bright_black",
    TEXT: "black",
    BRIGHT: "black",
    ACCENT: "blue",
    SECOND: "magenta",
    BAD: "red",
    "#dadada": "white",
    **dict(zip(RUNS, ("bright_magenta", "black", "red", "green", "cyan"), strict=True)),
}
"""The light theme in 16 colours: their yellow is too pale for white, green and cyan serve for lines alone."""

THEME = palette.theme(
    "minigpt-light",
    dark=False,
    background=BACKGROUND,
    raised=RAISED,
    line=LINE,
    faint=FAINT,
    muted=MUTED,
    text=TEXT,
    bright=BRIGHT,
    accent=ACCENT,
    warn=WARN,
    bad=BAD,
    selection="#d7d7ff",
)


@lru_cache(4096)
def lightened(style: Style) -> Style:
    def counterpart(colour: RichColor | None) -> RichColor | None:
        if colour is None or colour.triplet is None:
            return None
        light = COUNTERPARTS.get(colour.triplet.hex)
        return None if light is None else RichColor.parse(light)

    return style + Style.from_color(counterpart(style.color), counterpart(style.bgcolor))


class LightFilter(LineFilter):
    """Textual applies it to every line it is about to write."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, style if style is None else lightened(style), control) for text, style, control in segments
        ]
