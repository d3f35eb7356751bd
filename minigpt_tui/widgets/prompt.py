"""The prompt box: Enter sends, ctrl+j breaks the line, up and down bring back earlier prompts.

Its title is the settings of the next answers: ctrl+t, or a click on it, lets the arrow keys and the digits change them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_tui.prompt_history import PromptHistory
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import slash
from minigpt_tui.widgets.answer import in_parts
from minigpt_tui.widgets.lines import cut
from minigpt_tui.widgets.settings_editor import SEPARATOR, SettingsEditor, summary

PLACEHOLDER = "type a prompt, Enter sends; /help for settings"
CLOSE_SECONDS = 0.5
"""How long leaving waits for a slow disk to take the last prompts."""
FRAME = 6
"""Cells of the title's row that are no title."""
MAX_LEAD = 40
"""Cells that the title begins with, at most."""
EDITING = {"left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1)}
"""Keys that choose a field of the settings, and that change it."""
NUMBER = frozenset("0123456789.-")
"""What may be typed there; a space only between two temperatures."""
EDITING_HINT = ((0, "←→ field"), (2, "↑↓ change"), (1, "type a number"), (3, "enter/esc done"))
PLAIN_HINT = ((0, "left/right field"), (2, "up/down change"), (1, "type a number"), (3, "enter/esc done"))
"""Where there are no arrows to draw."""


class Prompt(TextArea):
    """Says what was typed and leaves what happens next to the screen.

    Attributes:
        prompts: earlier ones; one that keeps them across runs may take its place before the prompt is mounted.
        names: whom one may talk to, for tab.
        plain: the terminal shows no more than ASCII.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+t", "settings", "change the settings", show=False, id="prompt.settings"),
    ]

    class Submitted(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Escaped(Message):
        """Escape was pressed: stop the answer, or leave the prompt."""

    class Paged(Message):
        """Somebody wants to read the answers above (-1) or below (1)."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Said(Message):
        """What the prompt has no room to say, or what is wrong: one line."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class SettingsChanged(Message):
        """The settings have been changed in the title."""

        def __init__(self, config: SampleConfig) -> None:
            super().__init__()
            self.config = config

    class Ambiguous(Message):
        """Tab found several ways to complete a command."""

        def __init__(self, candidates: list[str]) -> None:
            super().__init__()
            self.candidates = candidates

    def __init__(self) -> None:
        super().__init__(id="prompt", show_line_numbers=False, highlight_cursor_line=False, placeholder=PLACEHOLDER)
        self.prompts = PromptHistory()
        self.names: Callable[[], tuple[str, ...]] = tuple
        self.plain = False
        self._recall = 0
        """How far back in the history; 0 is the text being typed."""
        self._draft = ""
        self._settings = SettingsEditor(SampleConfig())
        self._lead = "prompt"
        self._offered: list[str] = []
        """What tab has found, among which it goes round."""
        self._fields: list[tuple[int, int, int | None]] = []
        """Where each setting stands in the title: its first cell, the cell after it, its number."""
        self.cursor_blink = False  # every blink is a repaint

    def on_mount(self) -> None:
        self.prompts.start()

    def on_unmount(self) -> None:
        self.prompts.close(CLOSE_SECONDS)

    def begin(self, text: str) -> None:
        """Begin with this text; what was being typed is the newest of the history."""
        if self.text.strip() and self.text != text:
            self.prompts.add(self.text)
        self._recall, self._draft = 0, ""
        self._put(text)

    # --- settings ---

    def show_settings(self, config: SampleConfig, lead: str = "prompt") -> None:
        """Show the settings of the next answers in the title, after `lead`."""
        self._settings.config, self._lead = config, safe(lead, newlines=False)
        self._entitle()

    def on_resize(self) -> None:
        self._entitle()

    def on_blur(self) -> None:
        self._edit(None)

    def action_settings(self) -> None:
        """Change the settings, or go back to the text."""
        self._edit(0 if self._settings.chosen is None else None)

    def _edit(self, field: int | None) -> None:
        if self._settings.chosen != field:
            self._take()
            self._settings.chosen = field
            self._entitle()
            if field is None and self._untitled:
                self.post_message(self.Said(f"next answers: {summary(self._settings.config)}"))

    def _take(self) -> bool:
        """Take what was typed for a setting; False if it does not do, which is said."""
        try:
            changed = self._settings.take()
        except UsageError as error:
            self.post_message(self.Said(str(error)))
            return False
        if changed:
            self.post_message(self.SettingsChanged(self._settings.config))
        return True

    @property
    def _untitled(self) -> bool:
        """Whether there is no frame, and so no title to be seen."""
        return self.size.height > 0 and not self.gutter.top

    def _entitle(self) -> None:
        """The title: what is typed here, and as many of the settings as there is room for."""
        chosen = self._settings.chosen
        lead = "" if chosen is not None else cut(self._lead, MAX_LEAD)
        room = max(0, self.size.width + self.gutter.width - FRAME)
        parts: list[str | tuple[str, str]] = [lead] if lead else []
        used = cell_len(lead)
        left = room - used - len(SEPARATOR) * bool(lead) if self.size.width else None
        self._fields = []
        for number, text in self._settings.shown(left):
            if parts:
                parts.append((SEPARATOR, "dim"))
                used += len(SEPARATOR)
            parts.append((text, "dim" if chosen is None or number != chosen else "reverse"))
            self._fields.append((used, used + cell_len(text), number))
            used += cell_len(text)
        self.border_title = Content.assemble(*parts)
        hint = "" if chosen is None else in_parts(PLAIN_HINT if self.plain else EDITING_HINT, room)
        self.border_subtitle = Content.assemble((hint, "dim"))
        if chosen is not None and self._untitled:
            field = next(text for number, text in self._settings.shown() if number == chosen)
            self.post_message(self.Said(f"{field}{SEPARATOR}{hint}"))

    def _edited(self, event: events.Key) -> bool:
        """Whether a key was for the settings; one that means nothing there ends it and goes on as text."""
        editor = self._settings
        if editor.chosen is None:
            return False
        if event.key in EDITING:
            if self._take():
                choose, change = EDITING[event.key]
                if choose:
                    editor.choose(choose)
                elif editor.change(change):
                    self.post_message(self.SettingsChanged(editor.config))
        elif event.character in NUMBER or (event.character == " " and editor.typed):
            editor.type(str(event.character))
        elif event.key == "backspace":
            editor.erase()
        elif event.key != "enter" or self._take():
            self._edit(None)
            return event.key in ("enter", "escape")
        self._entitle()
        return True

    async def _on_mouse_down(self, event: events.MouseDown) -> None:
        if event.y < self.gutter.top:  # the title
            event.stop()
            event.prevent_default()
            self.focus()
            x = event.x - FRAME // 2
            hit = next((n for start, end, n in self._fields if start <= x < end and n is not None), 0)
            self._edit(hit)
            return
        self._edit(None)
        await super()._on_mouse_down(event)

    # --- keys ---

    async def _on_key(self, event: events.Key) -> None:
        if self._begins_editing(event) or self._edited(event) or self._takes(event.key):
            event.stop()
            event.prevent_default()
        else:
            await super()._on_key(event)

    def _begins_editing(self, event: events.Key) -> bool:
        """Do at once what the binding would do later: the keys in one burst with this one are for the settings."""
        active = None if event.is_printable else self.screen.active_bindings.get(event.key)
        if active is None or active.binding.id != "prompt.settings":
            return False
        self.action_settings()
        return True

    def _takes(self, key: str) -> bool:
        """Do what a key means here; False if it is text, or the business of others."""
        if key == "enter":
            self._submit()
        elif key in ("ctrl+j", "newline", "shift+enter"):
            self.insert("\n")
        elif key == "escape":
            self.post_message(self.Escaped())
        elif key == "tab":
            return self._complete()
        elif key == "up" and self.cursor_at_first_line:
            return self._step(1)
        elif key == "down" and self.cursor_at_last_line:
            return self._step(-1)
        else:
            return False
        return True

    def action_cursor_page_up(self) -> None:
        """A text of a few lines has no pages: the answers have."""
        self.post_message(self.Paged(-1))

    def action_cursor_page_down(self) -> None:
        self.post_message(self.Paged(1))

    async def _on_paste(self, event: events.Paste) -> None:
        """Pasted text is as untrusted as any: what could steer the terminal is made visible first."""
        event.prevent_default()
        self.insert(safe(event.text.replace("\r\n", "\n").replace("\r", "\n")))

    def render_line(self, y: int) -> Strip:
        """Nothing where there is no room: Textual cannot wrap a placeholder to no width at all."""
        return super().render_line(y) if self.content_size.width > 0 else Strip.blank(self.size.width)

    def _submit(self) -> None:
        text = self.text
        if not text.strip():
            return
        self.prompts.add(text)
        self._recall, self._draft = 0, ""
        self.text = ""
        self.post_message(self.Submitted(text))

    def _put(self, text: str) -> None:
        """From the history, which is a file, or of what there is to complete: as untrusted as what is pasted."""
        self.text = safe(text)
        self.move_cursor(self.document.end)
        self.update_suggestion()

    def _step(self, by: int) -> bool:
        """Show an older (+1) or newer (-1) prompt; False where there is none."""
        wanted = self._recall + by
        if not 0 <= wanted <= len(self.prompts):
            return False
        if self._recall == 0:
            self._draft = self.text
        self._recall = wanted
        self._put(self.prompts.back(wanted) if wanted else self._draft)
        return True

    def _complete(self) -> bool:
        """Complete the command that is being typed; False where there is none, and tab leaves the prompt."""
        if not slash.is_command(self.text) or "\n" in self.text:
            return False
        if self.text in self._offered:
            self._put(self._offered[(self._offered.index(self.text) + 1) % len(self._offered)])
            return True
        candidates = slash.complete(self.text, self.names())
        begins = slash.common(candidates) if candidates else ""
        if len(begins) > len(self.text) or len(candidates) == 1:
            self._put(begins)
        elif candidates:
            self._put(candidates[0])
        self._offered = candidates if len(candidates) > 1 else []
        if self._offered:
            self.post_message(self.Ambiguous(candidates))
        return True

    def update_suggestion(self) -> None:
        """What tab would add, faint behind the cursor."""
        typing = slash.is_command(self.text) and self.cursor_at_end_of_text
        candidates = slash.complete(self.text, self.names()) if typing else []
        self.suggestion = candidates[0][len(self.text) :] if candidates else ""
