"""The app's colours: one calm dark theme with one accent. `light.py` says what each becomes on a light background.

Every value is exactly a colour of the xterm 256 palette, so that what most SSH users see is what was designed.
"""

from __future__ import annotations

from rich.style import Style
from textual.theme import Theme

BACKGROUND = "#121212"  # 233
RAISED = "#1c1c1c"  # 234
LINE = "#3a3a3a"  # 237, borders at rest
FAINT = "#626262"  # 241, grid, hints, masked cells
MUTED = "#949494"  # 246, labels
TEXT = "#c6c6c6"  # 251
BRIGHT = "#e4e4e4"  # 254
ACCENT = "#5fd7af"  # 79: the loss, the focus, the running state; nothing else
SECOND = "#ffaf5f"  # 215: validation
RAW = "#4e4e4e"  # 239: the raw loss behind the smoothed one
WARN = "#ffd787"  # 222
BAD = "#ff5f5f"  # 203
OVERLAY_COLOURS = ("#af5fff", "#ffff87", "#d75f5f", "#afafff", "#0087d7")
"""135, 228, 167, 147, 32: of the 256 colours, ones that every eye tells from the run's own green and orange, and from
each other."""

TEXT_STYLE = Style(color=TEXT, bgcolor=BACKGROUND)
BRIGHT_STYLE = Style(color=BRIGHT, bold=True, bgcolor=BACKGROUND)
MUTED_STYLE = Style(color=MUTED, bgcolor=BACKGROUND)
FAINT_STYLE = Style(color=FAINT, bgcolor=BACKGROUND)
ACCENT_STYLE = Style(color=ACCENT, bgcolor=BACKGROUND)
ACCENT_BOLD = Style(color=ACCENT, bold=True, bgcolor=BACKGROUND)
SECOND_STYLE = Style(color=SECOND, bgcolor=BACKGROUND)
WARN_STYLE = Style(color=WARN, bgcolor=BACKGROUND)
BAD_STYLE = Style(color=BAD, bold=True, bgcolor=BACKGROUND)


def theme(
    name: str,
    *,
    dark: bool,
    background: str,
    raised: str,
    line: str,
    faint: str,
    muted: str,
    text: str,
    bright: str,
    accent: str,
    warn: str,
    bad: str,
    selection: str,
) -> Theme:
    """What Textual's own widgets and `app.tcss` need to know of some colours."""
    return Theme(
        name=name,
        primary=accent,
        secondary=muted,
        accent=accent,
        warning=warn,
        error=bad,
        success=accent,
        foreground=text,
        background=background,
        surface=background,
        panel=raised,
        dark=dark,
        text_alpha=1.0,
        variables={
            "line": line,
            "faint": faint,
            "muted": muted,
            "bright": bright,
            "border": accent,
            "border-blurred": line,
            "scrollbar": line,
            "scrollbar-hover": faint,
            "scrollbar-active": accent,
            "scrollbar-background": background,
            "scrollbar-background-hover": background,
            "scrollbar-background-active": background,
            "scrollbar-corner-color": background,
            "block-cursor-background": accent,
            "block-cursor-foreground": background,
            "input-selection-background": selection,
        },
    )


THEME = theme(
    "minigpt",
    dark=True,
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
    selection="#444444",
)
