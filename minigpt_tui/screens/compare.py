"""Runs compared: their losses over one another, and below what came out and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from minigpt_core.lab.overlay import Mean
from minigpt_core.library import Overlay
from minigpt_core.summary import RunSummary
from minigpt_tui.widgets.hints import Hint, KeyHints
from minigpt_tui.widgets.overlay_chart import Line, OverlayChart
from minigpt_tui.widgets.run_settings import RunSettings

POLL_SECONDS = 0.5
WAITING = "no losses yet"
TITLES = {"smoothed": "smoothed training loss, nats a token", "val_loss": "validation loss, nats a token"}
HINTS = [
    Hint(1, "runs.metric", "validation, training", "screen.metric"),
    Hint(2, "runs.log", "log scale", "screen.log"),
    Hint(3, "runs.settings-up runs.settings-down", "settings"),
    Hint(0, "runs.list", "back", "screen.close"),
]


class CompareScreen(Screen[None]):
    """Follows runs that train while it is open."""

    CSS = """
    CompareScreen { overflow: hidden; background: $background; color: $foreground; }
    CompareScreen #settings { max-height: 50%; }
    CompareScreen #hints { height: 1; }
    """
    AUTO_FOCUS = "RunSettings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "metric", "validation or training loss", id="runs.metric"),
        Binding("y", "log", "logarithmic loss", id="runs.log"),
        Binding("escape,o,q", "close", "back to the list", id="runs.list"),
    ]

    def __init__(self, runs: Sequence[tuple[RunSummary, Overlay]], coloured: bool) -> None:
        super().__init__()
        self._sources = [source for _, source in runs]
        self._metric = "smoothed"
        self.chart = OverlayChart(TITLES[self._metric], WAITING)
        self.settings = RunSettings([run for run, _ in runs], coloured)
        self.settings.styles.height = self.settings.length
        self.key_hints = KeyHints()

    def compose(self) -> ComposeResult:
        yield self.chart
        yield self.settings
        yield self.key_hints

    def on_mount(self) -> None:
        self.call_after_refresh(self.key_hints.update, HINTS)
        self.call_after_refresh(self.poll)
        self.set_interval(POLL_SECONDS, self.poll)

    def poll(self) -> None:
        """Bring the curves up to date; what has not changed costs nothing."""
        buckets = 2 * max(8, self.chart.size.width)
        found = [source.series(self._metric, buckets=buckets) for source in self._sources]
        lines = [
            Line(*self.settings.look_of(i), Mean(curve.step, curve.mean, curve.low, curve.high))
            for i, curve in enumerate(found)
        ]
        ends = tuple((len(curve), float(curve.step[-1]) if len(curve) else 0.0) for curve in found)
        self.chart.update(lines, False, (self._metric, ends))

    def action_metric(self) -> None:
        self._metric = "val_loss" if self._metric == "smoothed" else "smoothed"
        self.chart.title = TITLES[self._metric]
        self.poll()

    def action_log(self) -> None:
        self.chart.toggle_log()

    def action_close(self) -> None:
        self.dismiss()
