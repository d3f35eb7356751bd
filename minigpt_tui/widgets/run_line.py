"""The lines around the table of runs: what is listed, what a run is made of, the filter and what there is to say."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.message import Message

from minigpt_core.summary import RunSummary
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, Part, cut, strip, width
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    BAD_STYLE,
    BRIGHT_STYLE,
    MUTED_STYLE,
    TEXT_STYLE,
    WARN_STYLE,
)


class RunHeader(Lines):
    """`runs  /home/me/runs      3 of 12 runs, 2 marked, by val`."""

    def __init__(self) -> None:
        super().__init__(id="runs-header")
        self._what: tuple[str, str, str] = ("", "", "")

    def update(self, title: str, place: str, counted: str) -> None:
        self._what = title, place, counted
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns = self.size.width
        title, place, counted = self._what
        parts: list[Part] = [(f" {title}", ACCENT_BOLD)]
        room = columns - width(parts) - len(counted) - 5
        if room >= 8:
            parts.append((f"  {cut(safe(place, newlines=False), room)}", MUTED_STYLE))
        gap = columns - width(parts) - len(counted) - 1
        self.show([strip([*parts, (" " * max(1, gap), TEXT_STYLE), (counted, MUTED_STYLE)])])


def about(run: RunSummary) -> str:
    """What it was trained on and how large it is, in a line."""
    if run.state == "unread":
        return ""
    if run.problem:
        return safe(run.problem, newlines=False)
    get = run.settings.get
    parts = [
        safe(run.corpus, newlines=False),
        f"{fmt.short(run.n_params)} parameters",
        f"{_some(get('n_layers'), 'layer')} × {_some(get('num_heads'), 'head')}",
        f"{get('embed_dim')} wide",
        f"context {get('seq_len')}",
        f"batch {get('batch_size')}",
        f"lr {get('learning_rate')}",
        f"seed {get('seed')}",
        f"on {get('device')}",
    ]
    return ", ".join(parts) if run.settings else "no configuration yet"


def _some(number: str | None, thing: str) -> str:
    return f"{number} {thing}{'' if number == '1' else 's'}"


class RunDetails(Lines):
    """The run under the cursor in two rows: its whole name and how far it came, and what it is made of."""

    def __init__(self) -> None:
        super().__init__(id="runs-details")
        self._run: RunSummary | None = None

    def update(self, run: RunSummary | None) -> None:
        self._run = run
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        run, columns = self._run, self.size.width
        if run is None:
            self.show([])
            return
        name = cut(safe(run.name, newlines=False), max(1, columns - 2))
        told = "" if run.last is None else f"  step {run.step:,}, {fmt.short(run.last.tokens)} tokens"
        told = cut(told, max(0, columns - 2 - width([(name, BRIGHT_STYLE)])))
        below = (f" {cut(about(run), max(1, columns - 2))}", BAD_STYLE if run.problem else MUTED_STYLE)
        self.show([strip([(f" {name}", BRIGHT_STYLE), (told, MUTED_STYLE)]), strip([below])])


class RunLine(Lines, can_focus=True):
    """One row: the filter, which is typed here, or what there is to say.

    Attributes:
        words: the filter.
    """

    class Changed(Message):
        """Another filter."""

    class Left(Message):
        """Typing has ended; the filter stays."""

    def __init__(self) -> None:
        super().__init__(id="runs-line")
        self.words = ""
        self._said = ""
        self._bad = False

    def say(self, text: str, bad: bool = False) -> None:
        """Show this until something else is to be shown."""
        self._said, self._bad = text, bad
        self._paint()

    def clear(self) -> None:
        """List everything again."""
        self._set("")

    def _set(self, words: str) -> None:
        self.words = words
        self.say("")
        self.post_message(self.Changed())

    def on_key(self, event: events.Key) -> None:
        if event.is_printable and event.character:
            self._set(self.words + event.character)
        elif event.key == "backspace":
            self._set(self.words[:-1])
        elif event.key == "ctrl+u":
            self._set("")
        elif event.key in ("enter", "escape"):
            if event.key == "escape":
                self._set("")
            self.post_message(self.Left())
        else:
            return  # the cursor moves in the table while one types
        event.stop()
        event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        self._set(self.words + " ".join(event.text.split()))
        event.stop()

    def on_focus(self) -> None:
        self.say("")

    def on_blur(self) -> None:
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns = self.size.width
        if self._said:
            line: Sequence[Part] = [(f" {cut(self._said, columns - 1)}", BAD_STYLE if self._bad else WARN_STYLE)]
        elif self.words or self.has_focus:
            words = safe(self.words, newlines=False)
            shown = [(" / ", ACCENT_BOLD), (cut(words, columns - 4), BRIGHT_STYLE if self.has_focus else TEXT_STYLE)]
            line = [*shown, ("▏" if self.has_focus else "", ACCENT_BOLD)]
        else:
            line = []
        self.show([strip(line)])
