"""The last step before the terminal: the whole screen, borders and bars too, in ASCII or a terminal's own colours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from minigpt_tui.widgets import palette

GLYPHS = str.maketrans(
    dict(zip("▁▂▃▄▅▆▇█", "_.-~=+*#", strict=True))
    | dict.fromkeys("─━═▔▀", "-")
    | dict.fromkeys("│┃║▌▐▎▊", "|")
    | dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋", "+")
    | dict.fromkeys("·∙", ".")
    | dict.fromkeys("●◆■•", "*")
    | dict.fromkeys("○◇□", "o")
    | {"★": "@"}
    | dict(zip("▶▸✓✗‖↓↑→◂⏎␣←⇥—–…×°›░", ">>+x=v^><$_<>--~x >:", strict=True))
)


@lru_cache(4096)
def ascii_only(text: str) -> str:
    """The same text in ASCII and exactly as wide. Braille dots become marks by their number."""
    if text.isascii():
        return text
    text = text.translate(GLYPHS)
    return text if text.isascii() else "".join(map(_ascii, text))


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    if "\u2800" <= character <= "\u28ff":
        dots = (ord(character) - 0x2800).bit_count()
        return " .:*#"[(dots + 1) // 2]
    return "?" * cell_len(character)


ANSI = {
    palette.BACKGROUND: "black",
    palette.RAISED: "black",
    palette.LINE: "bright_black",
    palette.RAW: "bright_black",
    palette.FAINT: "bright_black",
    palette.MUTED: "white",
    palette.TEXT: "white",
    palette.BRIGHT: "bright_white",
    palette.ACCENT: "bright_cyan",
    palette.SECOND: "bright_yellow",
    palette.WARN: "bright_magenta",
    palette.BAD: "bright_red",
    **dict(
        zip(
            palette.OVERLAY_COLOURS,
            ("bright_magenta", "bright_white", "bright_red", "bright_blue", "bright_green"),
            strict=True,
        )
    ),
}
"""The theme in 16 colours; the nearest ones by distance would all be grey."""


LEVELS = (0, 95, 135, 175, 215, 255)
XTERM = {
    **{
        "#{:02x}{:02x}{:02x}".format(*rgb): f"color({number})"
        for number, rgb in enumerate(((r, g, b) for r in LEVELS for g in LEVELS for b in LEVELS), 16)
    },
    **{
        f"#{level:02x}{level:02x}{level:02x}": f"color({number})" for number, level in enumerate(range(8, 239, 10), 232)
    },
}
"""The fixed ones of the 256 colours by what they look like: Rich's own choice is a grey beside the right one."""


class AnsiFilter(LineFilter):
    """Textual applies it to every line it is about to write.

    Args:
        names: which of the terminal's colours stands for a colour; what is not among them goes to the nearest.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = names
        self._named = lru_cache(4096)(self._rename)

    def _rename(self, style: Style) -> Style:
        def nearest(colour: RichColor | None) -> RichColor | None:
            if colour is None or colour.triplet is None:
                return None
            return RichColor.parse(self._names.get(colour.triplet.hex, colour.name))

        return style + Style.from_color(nearest(style.color), nearest(style.bgcolor))

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        named = self._named
        return [Segment(text, style if style is None else named(style), control) for text, style, control in segments]


class AsciiFilter(LineFilter):
    """Textual applies it to every line it is about to write."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_only(text), style, control) for text, style, control in segments]
