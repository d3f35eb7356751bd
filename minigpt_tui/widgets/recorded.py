"""What the model wrote at a step of the past, in the place of the transcript."""

from __future__ import annotations

from rich.text import Text

from minigpt_core.frame import RecordedSample
from minigpt_tui.safetext import safe
from minigpt_tui.widgets.feed import Feed, Prose
from minigpt_tui.widgets.palette import BACKGROUND, BRIGHT, FAINT_STYLE, MUTED_STYLE, WARN_STYLE, Style

NOTHING = "No sample was recorded up to this step."
TEXT_STYLE = Style(color=BRIGHT, bgcolor=BACKGROUND)


class RecordedSamplePane(Feed):
    """One sample, read from its top."""

    FOLLOWS = False

    def __init__(self) -> None:
        super().__init__(id="recorded", classes="pane writing -away")
        self.border_title = "3 sample of the past"
        self._shown: RecordedSample | None = None

    def on_mount(self) -> None:
        self._prose = Prose(_text(None), self.app.console)
        self.add(self._prose)

    def update(self, sample: RecordedSample | None) -> None:
        if sample != self._shown:
            self._shown = sample
            self._prose.text = _text(sample)
            self.changed(self._prose)


def _text(sample: RecordedSample | None) -> Text:
    if sample is None:
        return Text(NOTHING, FAINT_STYLE)
    return Text.assemble(
        (f"◂ written at step {sample.step:,}\n", WARN_STYLE),
        (safe(sample.prompt), MUTED_STYLE),
        (safe(sample.text), TEXT_STYLE),
    )
