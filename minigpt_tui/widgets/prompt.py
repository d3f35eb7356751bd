"""The prompt box: Enter sends, ctrl+j breaks the line, up and down bring back earlier prompts."""

from __future__ import annotations

from collections import deque

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import TextArea

from minigpt_core.config import SampleConfig
from minigpt_tui.safetext import safe
from minigpt_tui.widgets.slash import summary

PLACEHOLDER = "type a prompt, Enter sends; /help for settings"
MAX_HISTORY = 200
MAX_BURST = 256
"""Keys that may be on their way through the prompt and the screen at once."""


class Prompt(TextArea):
    """Says what was typed and leaves what happens next to the screen."""

    class Submitted(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Escaped(Message):
        """Escape was pressed: stop the answer, or leave the prompt."""

    def __init__(self) -> None:
        super().__init__(id="prompt", show_line_numbers=False, highlight_cursor_line=False, placeholder=PLACEHOLDER)
        self._history: list[str] = []
        self._recall = 0
        """How far back in the history; 0 is the text being typed."""
        self._draft = ""
        self.cursor_blink = False  # every blink is a repaint
        self.received: deque[events.Key] = deque(maxlen=MAX_BURST)
        """The newest keys that came here, so that the screen, which gets them next, can tell strays."""

    def show_settings(self, config: SampleConfig) -> None:
        self.border_title = Content.assemble("prompt ", (summary(config), "dim"))

    async def _on_key(self, event: events.Key) -> None:
        self.received.append(event)
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self._submit()
        elif event.key in ("ctrl+j", "newline", "shift+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
        elif event.key == "escape":
            event.stop()
            event.prevent_default()
            self.post_message(self.Escaped())
        elif (event.key == "up" and self.cursor_at_first_line and self._step(1)) or (
            event.key == "down" and self.cursor_at_last_line and self._step(-1)
        ):
            event.stop()
            event.prevent_default()
        else:
            await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        """Pasted text is as untrusted as any: what could steer the terminal is made visible first."""
        event.prevent_default()
        self.insert(safe(event.text.replace("\r\n", "\n").replace("\r", "\n")))

    def _submit(self) -> None:
        text = self.text
        if not text.strip():
            return
        if not self._history or self._history[-1] != text:
            self._history = [*self._history, text][-MAX_HISTORY:]
        self._recall, self._draft = 0, ""
        self.text = ""
        self.post_message(self.Submitted(text))

    def _step(self, by: int) -> bool:
        """Show an older (+1) or newer (-1) prompt; False where there is none."""
        wanted = self._recall + by
        if not 0 <= wanted <= len(self._history):
            return False
        if self._recall == 0:
            self._draft = self.text
        self._recall = wanted
        self.text = self._draft if wanted == 0 else self._history[-wanted]
        self.move_cursor(self.document.end)
        return True
