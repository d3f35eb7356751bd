"""Make the README's pictures from the real app, training for real:  python -m tests.screenshots [FOLDER]

Takes about five minutes, most of them for the induction heads of the gallery. Needs `cairosvg` and the DejaVu fonts.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

import cairosvg

import minigpt_core
from minigpt_core.plan import Request, prepare
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.local import LocalSession
from minigpt_tui.terminal import Terminal

LARGE, MEDIUM = (200, 50), (120, 35)
LOOK = Terminal(True, "", "256", "", False, "")
STEP = 800
"""Late enough for words and for heads that do something."""
BIRTHS = 3200
"""Steps of the synthetic corpus after which its induction heads have formed."""
BACK = 120
"""The step to look back at: letters, and heads that still look everywhere."""


BRAILLE = re.compile(r"<text (?=[^>]*>[^<]*[\u2800-\u28ff])")


def picture(svg: str, path: Path) -> None:
    """Textual's SVG as a PNG, in fonts that are there: the mono one has every glyph but braille."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*;", "font-family: DejaVu Sans Mono;", svg)
    svg = BRAILLE.sub('<text style="font-family: DejaVu Sans" ', svg)
    cairosvg.svg2png(bytestring=svg.encode(), write_to=str(path), scale=0.75)


async def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as runs:
        session = LocalSession.training(prepare(Request(name="pydocs", out=runs)))
        app = MiniGPTApp(session, LOOK)
        async with app.run_test(size=LARGE) as pilot:
            await pilot.press(">", ">", ".")
            while session.status().step < STEP:
                await pilot.pause(0.2)
            await pilot.press("i", *"The value ", "enter")
            await pilot.pause(3.0)
            await pilot.press("escape", "2")
            picture(app.export_screenshot(title="minigpt-tui"), folder / "app-200x50.png")
            await pilot.resize_terminal(*MEDIUM)
            await pilot.press("a")
            await pilot.pause(2.0)
            picture(app.export_screenshot(title="minigpt-tui"), folder / "heads-120x35.png")
            await pilot.resize_terminal(*LARGE)
            await pilot.press("a", "t")
            while app.main.past is not None and app.main.past > BACK:
                await pilot.press("left")
                await pilot.pause(0.1)
            await pilot.pause(2.0)
            picture(app.export_screenshot(title="minigpt-tui"), folder / "past-200x50.png")
            session.close()
            while not session.join(0):
                await pilot.pause(0.1)


async def gallery(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as runs:
        request = Request(
            data="repeats",
            preset="classic",
            model={"n_layers": 2},
            train={"optimizer": "adamw", "seed": 3},
            name="repeats",
            out=runs,
        )
        session = LocalSession.training(prepare(request))
        app = MiniGPTApp(session, LOOK)
        async with app.run_test(size=MEDIUM) as pilot:
            while session.status().step < BIRTHS:
                await pilot.pause(0.2)
            await pilot.press("g")
            await pilot.pause(4.0)
            picture(app.export_screenshot(title="minigpt-tui"), folder / "gallery-120x35.png")
            session.close()
            while not session.join(0):
                await pilot.pause(0.1)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(minigpt_core.__file__).parent / "walkthrough"
    asyncio.run(main(target))
    asyncio.run(gallery(target))
