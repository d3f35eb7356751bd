"""The log pane: what happened in the run, with its step and time of day."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from minigpt_core.status import Event
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.feed import MAX_LINES, Feed
from minigpt_tui.widgets.palette import ACCENT_STYLE, BAD_STYLE, FAINT_STYLE, MUTED_STYLE, TEXT_STYLE, WARN_STYLE

STYLES = {"warning": WARN_STYLE, "error": BAD_STYLE, "done": ACCENT_STYLE}


def line(event: Event) -> Text:
    """`14:02:11  1,000  saved model_checkpoint.pt`."""
    message = safe(event.message, newlines=False)
    return Text.assemble(
        (f"{fmt.clock(event.time)} ", FAINT_STYLE),
        (f"{event.step:>7,}  ", MUTED_STYLE),
        (message, STYLES.get(event.kind, TEXT_STYLE)),
    )


class EventLog(Feed):
    """Shows the events of a session as they come."""

    def __init__(self) -> None:
        super().__init__(id="log")
        self.border_title = "4 log"
        self._seen = 0

    @property
    def seen(self) -> int:
        """How many events have been taken: the next `after` to ask for."""
        return self._seen

    def take(self, events: Sequence[Event]) -> None:
        self._seen += len(events)
        self.extend([line(event) for event in events[-MAX_LINES:]])
