"""Colours and glyphs: on light and dark, in 16 colours, in ASCII, and to colour-blind eyes.

Contrast is the ratio of WCAG 2.2 (success criterion 1.4.3 asks 4.5 of text). Colour blindness is simulated by the
matrices of Machado, Oliveira & Fernandes 2009, "A physiologically-based model for simulation of color vision
deficiency", severity 1.0, on linear RGB. Distances are CIE 1976 colour differences in CIELAB.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.theme import Theme

from minigpt_tui import light
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.filters import ANSI, XTERM, AnsiFilter
from minigpt_tui.widgets import chart_picture, heatmap, overlay_chart, palette
from tests.scripted_session import ScriptedSession, Terminal

DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ @ np.ones(3)
TEXT_CONTRAST = 4.5
LINES_APART = 10.0
"""Between lines that have their names beside them, too."""
APART = 19.0
"""CIELAB units between colours that mean different things: side by side, 2.3 are just noticeable."""


def linear(colour: str) -> np.ndarray:
    """(3,) sRGB as linear light."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, from 1 to 21."""
    dark, bright = sorted(float(TO_XYZ[1] @ linear(c)) for c in (a, b))
    return (bright + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """(3,) CIELAB of linear RGB."""
    t = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def lightness(colour: str) -> float:
    return float(lab(linear(colour))[0])


# --- palettes ---

TEXTS = ("FAINT", "MUTED", "TEXT", "BRIGHT", "ACCENT", "SECOND", "WARN", "BAD")


@pytest.mark.parametrize("name", TEXTS)
def test_light_text_can_be_read(name: str) -> None:
    assert contrast(getattr(light, name), light.BACKGROUND) >= TEXT_CONTRAST
    assert contrast(getattr(light, name), light.RAISED) >= 4.0
    assert contrast(getattr(light, name), light.COUNTERPARTS["#303030"]) >= 3.3  # a selected row


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "FAINT"])
def test_dark_text_can_be_read(name: str) -> None:
    for ground in (palette.BACKGROUND, palette.RAISED):
        assert contrast(getattr(palette, name), ground) >= TEXT_CONTRAST


def test_light_overlays_and_roles_can_be_read() -> None:
    for colour in (*light.OVERLAYS, *light.ROLES.values()):
        assert contrast(colour, light.BACKGROUND) >= TEXT_CONTRAST


def test_every_colour_but_the_truecolor_ramp_is_one_of_the_256() -> None:
    for dark, bright in light.COUNTERPARTS.items():
        if dark[1:] not in heatmap.CIVIDIS:
            for colour in (dark, bright):
                named = RichColor.parse(XTERM[colour])
                assert named.get_truecolor().hex == colour
                assert named.downgrade(ColorSystem.EIGHT_BIT) == named


def test_no_light_colour_is_a_dark_one() -> None:
    """So a line may pass the filter twice."""
    of_theme = set(light.THEME.variables.values()) | {light.THEME.primary, light.THEME.panel or ""}
    assert not (set(light.COUNTERPARTS.values()) | of_theme) & light.COUNTERPARTS.keys()


@pytest.mark.parametrize("ramp", [heatmap.RAMP_256, heatmap.CIVIDIS])
def test_on_light_more_attention_is_darker(ramp: list[str]) -> None:
    shown = [lightness(light.COUNTERPARTS[f"#{dark}"]) for dark in ramp]
    assert all(a > b for a, b in pairwise(shown))
    assert shown[0] < lightness(light.BACKGROUND) - 3  # zero is not masked
    assert shown[-1] < 20


@pytest.mark.parametrize("theme", [palette, light], ids=["dark", "light"])
@pytest.mark.parametrize("eyes", ["all colours", *DEFICIENCIES])
def test_what_means_something_else_looks_different_to_every_eye(theme: object, eyes: str) -> None:
    matrix = np.array(DEFICIENCIES.get(eyes, np.eye(3)))
    seen = {name: lab(matrix @ linear(getattr(theme, name))) for name in TEXTS}
    for a, b in [
        *combinations(("ACCENT", "SECOND", "BAD"), 2),
        ("ACCENT", "WARN"),
        ("WARN", "BAD"),
        ("SECOND", "TEXT"),
    ]:
        assert np.linalg.norm(seen[a] - seen[b]) >= APART, (a, b)


@pytest.mark.parametrize("eyes", ["all colours", *DEFICIENCIES])
def test_runs_over_one_another_look_different_to_every_eye(eyes: str) -> None:
    matrix = np.array(DEFICIENCIES.get(eyes, np.eye(3)))
    dark = chart_picture.OVERLAY_COLOURS
    for colours in (dark, [light.COUNTERPARTS[colour] for colour in dark]):
        for a, b in combinations(colours, 2):
            assert np.linalg.norm(lab(matrix @ linear(a)) - lab(matrix @ linear(b))) >= LINES_APART, (a, b)


@pytest.mark.parametrize("theme", [palette, light], ids=["dark", "light"])
@pytest.mark.parametrize("eyes", ["all colours", *DEFICIENCIES])
def test_no_other_run_looks_like_the_run_itself(theme: object, eyes: str) -> None:
    matrix = np.array(DEFICIENCIES.get(eyes, np.eye(3)))
    own = lab(matrix @ linear(theme.ACCENT))
    for dark in palette.OVERLAY_COLOURS:
        shown = light.COUNTERPARTS[dark] if theme is light else dark
        assert np.linalg.norm(lab(matrix @ linear(shown)) - own) >= APART, shown


# --- the filters ---


def test_a_line_is_light_after_one_pass_and_after_two() -> None:
    styled = Segment("x", Style(color=palette.ACCENT, bgcolor=palette.BACKGROUND, bold=True))
    once = light.LightFilter().apply([styled], Color.parse("#000000"))
    assert once == light.LightFilter().apply(once, Color.parse("#000000"))
    style = once[0].style
    assert style is not None
    assert style.bold
    assert (style.color, style.bgcolor) == (RichColor.parse(light.ACCENT), RichColor.parse(light.BACKGROUND))


@pytest.mark.parametrize(("theme", "names"), [("dark", ANSI), ("light", light.ANSI)])
def test_in_16_colours_text_and_ground_are_never_the_same(theme: str, names: dict[str, str]) -> None:
    module = light if theme == "light" else palette
    for name in TEXTS:
        for ground in ("BACKGROUND", "RAISED"):
            style = Style(color=getattr(module, name), bgcolor=getattr(module, ground))
            [shown] = AnsiFilter(names).apply([Segment("x", style)], Color.parse("#000000"))
            assert shown.style is not None
            assert shown.style.color is not None
            assert shown.style.bgcolor is not None
            assert shown.style.color.downgrade(ColorSystem.STANDARD) != shown.style.bgcolor.downgrade(
                ColorSystem.STANDARD
            )


# --- whole screens ---

VIEWS: dict[str, tuple[str, ...]] = {
    "main": (),
    "attention": ("2",),
    "all heads": ("2", "a"),
    "samples": ("3",),
    "tint": ("3", "p"),
    "log": ("4",),
    "lens": ("5",),
    "help": ("question_mark",),
    "gallery": ("g",),
    "past": ("t", "left"),
    "prompt": ("i", *"To be"),
    "palette": ("ctrl+p",),
}
GRAPHICS = "▀▄█▌▐░▁▂▃▄▅▆▇━─│╭╮╰╯┤├└┘┌┐┬┴┼·◆●○‖▶■ '" + "".join(chr(c) for c in range(0x2800, 0x2900))


async def strips(size: tuple[int, int], keys: tuple[str, ...], **terminal: object) -> list[list[Segment]]:
    """The lines of a screen as the terminal gets them."""
    session = ScriptedSession()
    session.gpu = True
    app = MiniGPTApp(session, Terminal(**terminal))  # type: ignore[arg-type]
    async with app.run_test(size=size) as pilot:
        while not session.started:
            await pilot.pause(0.01)
        app.main._ask("To be", app.main._settings)
        session.stream(session.generations[0], 60)
        app.main.poll()
        await pilot.press(*keys)
        await pilot.pause(0.1)
        app.main.poll()
        await pilot.pause()
        return [list(strip) for strip in app.screen._compositor.render_strips()]


@pytest.mark.parametrize("view", VIEWS)
async def test_ascii_is_ascii_everywhere(view: str) -> None:
    lines = await strips((160, 45), VIEWS[view], ascii=True)
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert text.isascii(), sorted({character for character in text if not character.isascii()})


@pytest.mark.parametrize("view", [view for view in VIEWS if view not in ("help", "palette")])
async def test_a_light_screen_is_light_everywhere_and_its_words_can_be_read(view: str) -> None:
    for line in await strips((160, 45), VIEWS[view], theme="light"):
        for text, style, _ in line:
            if style is None or style.bgcolor is None or style.color is None:
                continue
            ground, ink = (c.get_truecolor().hex for c in (style.bgcolor, style.color))
            if style.reverse:
                ground, ink = ink, ground
            words = "".join(character for character in text if character not in GRAPHICS)
            if words:
                assert contrast(ink, ground) >= 3.0, (text, ink, ground)
            elif text.strip():
                assert ground not in light.COUNTERPARTS, (text, ground)


def test_themes_name_the_same_variables() -> None:
    themes: list[Theme] = [palette.THEME, light.THEME]
    assert themes[0].variables.keys() == themes[1].variables.keys()
    assert [theme.dark for theme in themes] == [True, False]
    assert len(light.OVERLAYS) == len(overlay_chart.COLOURS)
