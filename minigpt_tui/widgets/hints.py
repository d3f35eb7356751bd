"""The last row: the keys that matter here and now. What does not fit leaves whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from rich.cells import cell_len
from textual import events

from minigpt_tui.keymap import label, spelled
from minigpt_tui.widgets.lines import Lines, Part, strip, width
from minigpt_tui.widgets.palette import ACCENT_STYLE, MUTED_STYLE, TEXT_STYLE

GREETING_SECONDS = 30.0
"""How long somebody who opens the app for the first time is told the three keys that matter, unless one is pressed."""
BINDING_ID = re.compile(r"[a-z]+\.[a-z0-9-]+")


class Hint(NamedTuple):
    """Keys, what they do, and the action a click runs; rank 0 leaves last.

    In `key` the ids of bindings stand for their keys, whatever the user has made of them; a hint whose bindings do not
    work at the moment is not shown.
    """

    rank: int
    key: str
    label: str
    action: str = ""

    def keys(self, active: Mapping[str, str]) -> str:
        """The keys as shown, or nothing if one of them does not work. `active` is the key of each binding that does."""
        if not active.keys() >= {*BINDING_ID.findall(self.key)}:
            return ""
        return BINDING_ID.sub(lambda found: active[found[0]], self.key)


PROMPT = (
    Hint(1, "⏎", "send"),
    Hint(4, "^j", "new line"),
    Hint(2, "esc", "stop, leave"),
    Hint(5, "↑ ↓", "history"),
    Hint(3, "prompt.settings", "settings"),
)
TIMELINE = (
    Hint(2, "timeline.back timeline.on", "frame"),
    Hint(4, "timeline.far-back timeline.far-on", "ten"),
    Hint(5, "timeline.first timeline.newest", "first, last"),
    Hint(3, "timeline.play", "play, stop"),
    Hint(1, "timeline.live", "live", "screen.present"),
)
PANES = {
    "loss": (
        Hint(7, "chart.zoom-out chart.zoom-in", "zoom"),
        Hint(8, "chart.earlier chart.later", "pan"),
        Hint(8, "chart.cursor-left chart.cursor-right", "cursor"),
        Hint(9, "chart.log", "log"),
        Hint(9, "chart.axis", "axis"),
        Hint(9, "chart.smoother chart.rougher", "smooth"),
        Hint(9, "chart.overlays", "runs"),
        Hint(9, "chart.ladder", "n-grams"),
    ),
    "attention": (
        Hint(6, "attention.previous-layer attention.next-layer", "layer"),
        Hint(7, "attention.previous-head attention.next-head", "head"),
        Hint(8, "attention.mode", "all heads"),
        Hint(9, "attention.up attention.down attention.left attention.right", "cursor"),
    ),
    "lens": (
        Hint(6, "lens.earlier lens.later", "position"),
        Hint(7, "lens.previous-layer lens.next-layer", "layer"),
        Hint(8, "lens.previous-head lens.next-head", "head"),
    ),
    "samples": (
        Hint(5, "samples.older samples.newer", "answer"),
        Hint(6, "talk.again", "again", "screen.again(True)"),
        Hint(7, "talk.new-seed", "new seed", "screen.again(False)"),
        Hint(8, "talk.copy", "copy", "screen.copy"),
        Hint(8, "samples.versus", "versus"),
        Hint(9, "samples.tint", "tint"),
    ),
}
GREETING = (
    Hint(0, "talk.prompt", "talk to it", "screen.prompt"),
    Hint(1, "app.help", "all keys", "app.help"),
    Hint(2, "app.leave", "saves and quits", "app.quit"),
)


def hints(focus: str, trains: bool, paused: bool, past: bool = False, owned: bool = True) -> list[Hint]:
    """The keys for what has the focus; steering only where there is something to steer.

    Args:
        past: one looks back.
        owned: leaving ends the run.
    """
    ends = [Hint(1, "app.help", "help", "app.help"), Hint(0, "app.leave", "quit" if owned else "leave", "app.quit")]
    if focus == "prompt":
        commands = Hint(6, "app.commands", "commands", "app.command_palette")
        return [*PROMPT, commands, Hint(0, "app.quit", "quit", "app.quit")]
    panes = Hint(6, "pane.loss–pane.lens", "panes")
    if focus == "timeline":
        return [*TIMELINE, panes, *ends]
    steer: list[Hint] = []
    if trains:
        steer = [
            Hint(3, "run.pause", "resume" if paused else "pause", "screen.pause"),
            *([Hint(4, "run.step", "one step", "screen.step")] if paused else []),
            Hint(5, "run.save", "save", "screen.save"),
            *([Hint(6, "run.detach", "detach", "app.detach")] if owned else []),
        ]
    return [
        Hint(2, "talk.prompt", "prompt", "screen.prompt"),
        *steer,
        *PANES.get(focus, ()),
        panes,
        Hint(6, "run.travel", "live" if past else "look back", "screen.travel"),
        Hint(9, "run.gallery", "heads", "screen.gallery"),
        Hint(10, "pane.maximise", "maximise", "screen.maximise"),
        *ends,
    ]


class KeyHints(Lines):
    """Hints that can also be clicked."""

    def __init__(self) -> None:
        super().__init__(id="hints")
        self._hints: list[Hint] = []
        self._greets = False
        self._targets: list[tuple[int, int, str]] = []

    def update(self, found: list[Hint]) -> None:
        self._hints = found
        self._paint()

    def greet(self) -> None:
        """Begin with the three keys that matter, until `greeted` or for half a minute."""
        self._greets = True

    def greeted(self) -> None:
        """Somebody has pressed a key, or has had the time to."""
        if self._greets:
            self._greets = False
            self._paint()

    def on_mount(self) -> None:
        if self._greets:
            self.set_timer(GREETING_SECONDS, self.greeted)

    def on_resize(self) -> None:
        self._paint()

    def _active(self) -> dict[str, str]:
        """The first key of each binding that works now, as it is shown."""
        active: dict[str, str] = {}
        for key, (_, binding, enabled, _) in self.screen.active_bindings.items():
            if binding.id and enabled:
                active.setdefault(binding.id, label(key))
        return active

    def _paint(self) -> None:
        active = self._active()
        written = spelled if self.app.terminal.ascii else str  # type: ignore[attr-defined]
        found = [
            hint._replace(key=written(keys))
            for hint in (GREETING if self._greets else self._hints)
            if (keys := hint.keys(active))
        ]
        columns = self.size.width - 1
        chosen: set[int] = set()
        used = 0
        for index in sorted(range(len(found)), key=lambda i: found[i].rank):
            need = cell_len(found[index].key) + cell_len(found[index].label) + 3
            if used + need <= columns:
                chosen.add(index)
                used += need
        line: list[Part] = [(" ", TEXT_STYLE)]
        self._targets = []
        for index in sorted(chosen):
            hint = found[index]
            start = width(line)
            line += [(hint.key, ACCENT_STYLE), (f" {hint.label}  ", MUTED_STYLE)]
            self._targets.append((start, width(line), hint.action))
        self.show([strip(line)])

    async def on_click(self, event: events.Click) -> None:
        for start, end, action in self._targets:
            if start <= event.x < end and action:
                await self.screen.run_action(action)
