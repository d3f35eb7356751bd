"""The experiment screen: an ablation's table, its curves over one another, and what each variant teaches.

It polls a `Lab` and hands plain data to its panes; nothing here waits or reads a disk.
"""

from __future__ import annotations

from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.strip import Strip

from minigpt_tui.lab.session import ENDED, Lab, View
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.hints import Hint, KeyHints
from minigpt_tui.widgets.lab_table import LabTable
from minigpt_tui.widgets.lines import Lines, Part, cut, strip, width
from minigpt_tui.widgets.overlay_chart import Line, OverlayChart
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    ACCENT_STYLE,
    BAD_STYLE,
    BRIGHT_STYLE,
    FAINT_STYLE,
    MUTED_STYLE,
    TEXT_STYLE,
    WARN_STYLE,
)

POLL_SECONDS = 0.5
BAR = 20
"""Cells of the progress bar at most."""
STATES = {
    "starting": "▸ loading torch",
    "training": "▶ training",
    "drawing": "▶ drawing the pictures",
    "stopping": "‖ saving the runs under way… (again: leave at once)",
    "done": "✓ done",
    "stopped": "‖ stopped and saved",
    "failed": "✗ failed",
}
HINTS = [
    Hint(1, "lab.up lab.down", "variant"),
    Hint(3, "lab.differences", "differences", "screen.differences"),
    Hint(4, "lab.log", "log scale", "screen.log"),
    Hint(2, "lab.about", "all about it", "screen.about"),
    Hint(0, "lab.leave", "leave", "app.quit"),
]


class ProgressLine(Lines):
    """Two rows: how far the experiment is, and what is being trained."""

    def __init__(self) -> None:
        super().__init__(id="progress")
        self._view = View("")

    def update(self, view: View) -> None:
        self._view = view
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        view, columns = self._view, self.size.width
        if not columns:
            return
        state = BAD_STYLE if view.phase == "failed" else WARN_STYLE if view.phase == "stopping" else ACCENT_BOLD
        parts: list[Part] = [(f" {STATES[view.phase]}", state)]
        if view.runs:
            bar = min(BAR, max(0, columns - 60))
            full = round(view.share * bar)
            parts += [("  " + "━" * full, ACCENT_STYLE), ("─" * (bar - full), FAINT_STYLE)] if bar else []
            parts += [(f"  {view.ended} of {view.runs} runs", TEXT_STYLE)]
        if view.eta is not None and view.phase == "training":
            parts += [("  ETA ", MUTED_STYLE), (fmt.duration(view.eta), TEXT_STYLE)]
        name = safe(view.name, newlines=False)
        if (gap := columns - width(parts) - len(name) - 1) > 1:
            parts += [(" " * gap, TEXT_STYLE), (name, BRIGHT_STYLE)]
        if view.phase == "failed":
            below = (f" {safe(view.message, newlines=False)}", BAD_STYLE)
        else:
            below = (f" {'   '.join(view.running) or view.spread}", MUTED_STYLE)
        self.show([strip(parts), strip([(cut(below[0], columns), below[1])])])


class About(Lines):
    """What is to be expected of a variant and why, wrapped; where it does not fit it says so."""

    def __init__(self) -> None:
        super().__init__(id="about")
        self._paragraphs: tuple[str, ...] = ()

    def update(self, paragraphs: tuple[str, ...]) -> None:
        self._paragraphs = paragraphs
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns, rows = self.size
        if not columns or not rows:
            return
        out: list[Strip] = []
        for paragraph in self._paragraphs:
            name, colon, rest = paragraph.partition(": ")
            explains = bool(colon) and "arXiv" not in rest
            lines = wrap(paragraph, max(1, columns - 2))
            for i, text in enumerate(lines):
                if explains and i == 0:
                    out.append(
                        strip([(f" {text[: len(name) + 1]}", BRIGHT_STYLE), (text[len(name) + 1 :], TEXT_STYLE)])
                    )
                else:
                    out.append(strip([(f" {text}", TEXT_STYLE if explains else FAINT_STYLE)]))
        if len(out) > rows:
            out = [*out[: rows - 1], strip([(" … Enter shows all", FAINT_STYLE)])]
        self.show(out)


class ExperimentScreen(Screen[None]):
    """A table above, the curves below, and beside or below them what to expect."""

    CSS = """
    ExperimentScreen { overflow: hidden; }
    #progress { height: 2; }
    #lab-table { max-height: 50%; }
    #lab { height: 1fr; layout: grid; grid-size: 1; grid-rows: 3fr 2fr; }
    #about { height: 1fr; margin: 0; }
    ExperimentScreen.-w-wide #lab { grid-size: 2; grid-columns: 2fr 1fr; grid-rows: 1fr; }
    ExperimentScreen.-w-wide #about { margin: 1 0 0 1; }
    ExperimentScreen.-h-short #lab { grid-size: 1; grid-columns: 1fr; grid-rows: 1fr; }
    ExperimentScreen.-h-short #about { display: none; }
    ExperimentScreen.-about #lab { grid-size: 1; grid-columns: 1fr; grid-rows: 1fr; }
    ExperimentScreen.-about #overlay { display: none; }
    ExperimentScreen.-about #about { display: block; }
    #hints { height: 1; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-w-narrow"), (110, "-w-wide")]  # noqa: RUF012 (Textual's instance variable)
    VERTICAL_BREAKPOINTS = [(0, "-h-short"), (24, "-h-tall")]  # noqa: RUF012
    AUTO_FOCUS = "LabTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "differences", "differences to the baseline, or losses", id="lab.differences"),
        Binding("y", "log", "logarithmic scale", id="lab.log"),
        Binding("enter", "about", "all about the variant", id="lab.about"),
        Binding("escape", "chart", "the curves", show=False, id="lab.chart"),
        Binding("q", "app.quit", "save and leave", id="lab.leave"),
    ]

    def __init__(self, lab: Lab, coloured: bool) -> None:
        super().__init__()
        self._lab = lab
        self._view: View | None = None
        self.differences = False
        """Whether the chart shows the paired differences to the baseline instead of the losses."""
        self.progress = ProgressLine()
        self.table = LabTable(coloured)
        self.chart = OverlayChart()
        self.about = About()
        self.key_hints = KeyHints()

    def compose(self) -> ComposeResult:
        yield self.progress
        yield self.table
        yield Container(self.chart, self.about, id="lab")
        yield self.key_hints

    def on_mount(self) -> None:
        self.key_hints.update(HINTS)
        self.watch(self.table, "selected", self._show_chosen)
        self.poll()
        self.set_interval(POLL_SECONDS, self.poll)
        self.call_after_refresh(self._lab.start)

    @property
    def ended(self) -> bool:
        return self._lab.look().phase in ENDED

    def poll(self) -> None:
        """Bring everything up to date; what has not changed costs nothing."""
        view = self._view = self._lab.look()
        self.progress.update(view)
        self.table.styles.height = len(view.standings) + 1
        self.table.update(view.standings)
        self._show_chosen()

    def _show_chosen(self) -> None:
        """The chosen variant's paragraphs, and its curve over the others."""
        if self._view is None or not self._view.standings:
            return
        standings, chosen = self._view.standings, self.table.selected
        self.about.update(standings[chosen].expected)
        order = sorted(range(len(standings)), key=lambda i: i == chosen)
        lines = [
            Line(*self.table.look_of(i), standings[i].difference if self.differences else standings[i].curve)
            for i in order
            if standings[i].runs
        ]
        points = tuple((len(line.curve.steps), float(line.curve.mean.sum())) for line in lines)
        self.chart.update(lines, self.differences, (chosen, points))

    def action_differences(self) -> None:
        self.differences = not self.differences
        self._show_chosen()

    def action_log(self) -> None:
        self.chart.toggle_log()

    def action_about(self) -> None:
        self.toggle_class("-about")

    def action_chart(self) -> None:
        self.remove_class("-about")
