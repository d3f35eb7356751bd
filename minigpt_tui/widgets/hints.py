"""The last row: the keys that matter here and now. What does not fit leaves whole."""

from __future__ import annotations

from typing import NamedTuple

from textual import events

from minigpt_tui.widgets.lines import Lines, Part, strip, width
from minigpt_tui.widgets.palette import ACCENT_STYLE, MUTED_STYLE, TEXT_STYLE


class Hint(NamedTuple):
    """A key, what it does, and the action a click runs; rank 0 leaves last."""

    rank: int
    key: str
    label: str
    action: str = ""


PROMPT = (
    Hint(1, "⏎", "send"),
    Hint(4, "^j", "new line"),
    Hint(2, "esc", "stop, leave"),
    Hint(5, "↑↓", "history"),
    Hint(3, "/help", "settings"),
)
TIMELINE = (
    Hint(2, "← →", "frame"),
    Hint(4, "pgup pgdn", "ten"),
    Hint(5, "home end", "first, last"),
    Hint(3, "space", "play, stop"),
    Hint(1, "esc", "live", "screen.present"),
)
PANES = {
    "loss": (Hint(7, "[ ]", "zoom"), Hint(8, "← →", "pan"), Hint(9, "y", "log"), Hint(9, "l", "n-grams")),
    "attention": (
        Hint(6, "< >", "layer"),
        Hint(7, ", .", "head"),
        Hint(8, "a", "all heads"),
        Hint(9, "↑↓←→", "cursor"),
    ),
    "lens": (Hint(6, "↑↓", "position"), Hint(7, "< >", "layer"), Hint(8, ", .", "head")),
    "samples": (Hint(6, "r", "again"), Hint(7, "R", "new seed"), Hint(8, "c", "copy")),
}


def hints(focus: str, trains: bool, paused: bool, past: bool = False) -> list[Hint]:
    """The keys for what has the focus; steering only where there is something to steer. `past`: one looks back."""
    ends = [Hint(1, "?", "help", "screen.help"), Hint(0, "q", "quit", "app.quit")]
    if focus == "prompt":
        return [*PROMPT, Hint(6, "^p", "commands", "app.command_palette"), Hint(0, "^q", "quit", "app.quit")]
    if focus == "timeline":
        return [*TIMELINE, Hint(6, "1-5", "panes"), *ends]
    steer: list[Hint] = []
    if trains:
        steer = [
            Hint(3, "space", "resume" if paused else "pause", "screen.pause"),
            *([Hint(4, "n", "one step", "screen.step")] if paused else []),
            Hint(5, "s", "save", "screen.save"),
        ]
    return [
        Hint(2, "i", "prompt", "screen.prompt"),
        *steer,
        *PANES.get(focus, ()),
        Hint(6, "1-5", "panes"),
        Hint(6, "t", "live" if past else "look back", "screen.travel"),
        Hint(9, "g", "heads", "screen.gallery"),
        Hint(10, "f", "maximise", "screen.maximise"),
        *ends,
    ]


class KeyHints(Lines):
    """Hints that can also be clicked."""

    def __init__(self) -> None:
        super().__init__(id="hints")
        self._hints: list[Hint] = []
        self._targets: list[tuple[int, int, str]] = []

    def update(self, found: list[Hint]) -> None:
        self._hints = found
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns = self.size.width - 1
        chosen: set[int] = set()
        used = 0
        for index in sorted(range(len(self._hints)), key=lambda i: self._hints[i].rank):
            need = len(self._hints[index].key) + len(self._hints[index].label) + 3
            if used + need <= columns:
                chosen.add(index)
                used += need
        line: list[Part] = [(" ", TEXT_STYLE)]
        self._targets = []
        for index in sorted(chosen):
            hint = self._hints[index]
            start = width(line)
            line += [(hint.key, ACCENT_STYLE), (f" {hint.label}  ", MUTED_STYLE)]
            self._targets.append((start, width(line), hint.action))
        self.show([strip(line)])

    async def on_click(self, event: events.Click) -> None:
        for start, end, action in self._targets:
            if start <= event.x < end and action:
                await self.screen.run_action(action)
