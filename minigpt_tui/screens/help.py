"""The help screen: every key, grouped, and what each pane shows."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from minigpt_tui.widgets.palette import ACCENT, MUTED, TEXT

Group = tuple[str, str, tuple[tuple[str, str], ...]]
"""A title, what the pane shows, and its keys."""

EVERYWHERE: Group = (
    "everywhere",
    "",
    (
        ("?", "this help"),
        ("ctrl+p", "all commands, by name"),
        ("1 2 3 4 5", "loss, attention, samples, log, lens"),
        ("tab", "next pane"),
        ("f", "maximise the focused pane, and back"),
        ("t", "look back in time, and live again"),
        ("g", "gallery of all heads"),
        ("i", "write a prompt"),
        ("esc", "stop the answer, or go live, or restore"),
        ("ctrl+c", "stop the answer"),
        ("ctrl+z", "suspend: training stops too, until fg"),
        ("q, ctrl+q", "quit: saves first; twice: at once"),
    ),
)
STEERING: Group = (
    "training",
    "The learning rate is halved and doubled from ctrl+p.",
    (("space", "pause, resume"), ("n", "one step while paused"), ("s", "save a checkpoint")),
)
PAST: Group = (
    "looking back (t)",
    "Attention, logit lens, sample and the chart's line move together. Training goes on meanwhile.",
    (
        ("← →", "one recorded frame"),
        ("pgup pgdn", "ten frames"),
        ("home end", "first, newest"),
        ("space", "play from here to the end, stop"),
        ("mouse", "click or drag on the bar"),
        ("esc, t", "return to the present"),
    ),
)
PROMPT: Group = (
    "prompt and samples",
    "Answers come from the weights of the moment they were asked; the stamp names their step and validation loss.",
    (
        ("Enter", "send"),
        ("ctrl+j", "new line"),
        ("up, down", "earlier prompts"),
        ("esc", "stop the answer, then leave the prompt"),
        ("r, R", "ask again: same seed, new seed"),
        ("c", "copy the last answer"),
        ("/help", "settings: /temp /tokens /topk /seed …"),
        ("/watch", "choose the text of the attention pane"),
    ),
)
LOSS: Group = (
    "loss",
    "Smoothed training loss, its raw range behind it, validation as diamonds. Nats per token: lower is better.",
    (
        ("[ ]", "zoom out, in"),
        ("← →", "pan"),
        ("end", "follow the newest step"),
        ("home", "the whole run"),
        ("y", "logarithmic loss"),
        ("l", "lines: what counting n-grams achieves"),
    ),
)
ATTENTION: Group = (
    "attention",
    "How much each query (row) looks at each key (column) of a validation text. Dots mark the future, which is masked.",
    (
        ("< >", "layer"),
        (", .", "head"),
        ("a", "all heads"),
        ("Enter", "zoom into the marked head"),
        ("arrows", "move the cursor, read its value below"),
        ("home, end", "first key, the query itself"),
    ),
)
LENS: Group = (
    "logit lens",
    "What the model would say next if it stopped after each block, at the query under the attention cursor: the "
    "likeliest token, its probability p, the loss on the token that really follows, the residual stream's length.",
    (("arrows", "earlier, later position"), ("< > , .", "layer and head whose role is shown")),
)
COLUMN = 52
"""Cells of a column of groups."""
TWO_COLUMNS = 118


def help_text(groups: Sequence[Group], columns: int) -> Text:
    """Groups of keys under their titles, with what the pane shows, wrapped."""
    out = Text()
    for title, about, keys in groups:
        out.append(f"{title}\n", f"bold {ACCENT}")
        for key, label in keys:
            out.append(f"  {key:<11}", ACCENT)
            out.append(f" {label}\n", TEXT)
        for line in wrap(about, columns - 2):
            out.append(f"  {line}\n", MUTED)
        out.append("\n")
    out.rstrip()
    return out


class HelpScreen(ModalScreen[None]):
    """Any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "close"),
    ]

    def __init__(self, trains: bool) -> None:
        super().__init__()
        self._left = (EVERYWHERE, *((STEERING,) if trains else ()), PAST, LOSS)
        self._right = (PROMPT, ATTENTION, LENS)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help") as box:
            box.border_title = "keys"
            box.border_subtitle = "esc closes"
            if self.app.size.width >= TWO_COLUMNS:
                with Horizontal():
                    yield Static(help_text(self._left, COLUMN), classes="help-column")
                    yield Static(help_text(self._right, COLUMN), classes="help-column")
            else:
                columns = max(12, min(COLUMN + 12, self.app.size.width - 8))
                everything = Static(help_text((*self._left, *self._right), columns), classes="help-column")
                everything.styles.width = columns
                yield everything
