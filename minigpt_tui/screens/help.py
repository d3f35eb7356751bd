"""The help screen: every key as it is bound, grouped by what it works on, and what each pane shows."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from minigpt_tui.base import TerminalApp
from minigpt_tui.keymap import bindings_of, keys_of, label, spelled
from minigpt_tui.screens.steer import STEERING
from minigpt_tui.widgets.chart_marks import EXPLAINED
from minigpt_tui.widgets.palette import ACCENT, MUTED, TEXT


class Topic(NamedTuple):
    """What is said of a group of bindings besides its keys. `fixed` are keys that no file changes."""

    title: str
    about: str = ""
    fixed: tuple[tuple[str, str], ...] = ()


TOPICS: dict[str, Topic] = {
    "app": Topic("everywhere"),
    "pane": Topic("panes"),
    "run": Topic("the run", "Each command is obeyed between two steps, said above and kept in events.jsonl."),
    "talk": Topic(
        "talking to it",
        "Answers come from the weights of the moment they were asked; the stamp names their step and validation loss.",
    ),
    "prompt": Topic(
        "prompt box",
        "Settings: /temp /tokens /topk /seed …, all in /help. /watch chooses the text of the attention pane.",
        (
            ("⏎", "send"),
            ("^j", "new line"),
            ("tab", "complete a command or a name"),
            ("↑ ↓", "earlier prompts"),
            ("pgup pgdn", "scroll the answers"),
            ("esc", "stop the answer, then leave"),
        ),
    ),
    "tour": Topic("tour"),
    "chart": Topic(
        "loss",
        "Smoothed training loss, its raw range behind it, validation as diamonds. Nats per token: lower is better. "
        + EXPLAINED,
    ),
    "attention": Topic(
        "attention",
        "How much each query (row) looks at each key (column) of a text. Dots mark the future, which is masked.",
    ),
    "samples": Topic("samples"),
    "lens": Topic(
        "logit lens",
        "What the model would say next if it stopped after each block, at the query under the attention cursor: the "
        "likeliest token, its probability p, the loss on the token that really follows, the residual stream's length.",
    ),
    "timeline": Topic(
        "looking back",
        "Attention, logit lens, sample and the chart's line move together. Training goes on meanwhile. The mouse "
        "clicks or drags on the bar.",
    ),
}
"""By the first part of a binding's id, in the order of the screen."""
FOCUS = {"loss": "chart", "recorded": "samples", "lesson": "tour"}
"""Widget to topic, where the names differ."""
COLUMN = 52
"""Cells of a column of groups."""
GAP = 2
FRAME = 7
"""Cells of border, padding and scrollbar."""
KEYS = 10
"""Cells of the keys; longer ones push what they do to the right."""


class Group(NamedTuple):
    """A topic with its keys as they are now: what is shown for them, and what they do."""

    topic: Topic
    keys: list[tuple[str, str]]
    focused: bool = False

    def lines(self, columns: int) -> int:
        """Rows that it takes, with the empty one after it."""
        return 2 + len(self.keys) + len(wrap(self.topic.about, columns - 2))


def groups(screen: Screen[Any], trains: bool) -> list[Group]:
    """All keys of a screen as they are now, what has the focus first. `trains`: there is something to steer."""
    look = screen.app.terminal if isinstance(screen.app, TerminalApp) else None
    keymap = look.keys if look is not None else {}
    written = spelled if look is not None and look.ascii else str
    focus = screen.focused.id or "" if screen.focused is not None else ""
    found: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in TOPICS}
    for node in (screen, screen.app, *screen.query("*")):
        for binding in bindings_of(type(node)):
            name = binding.id or ""
            shown = written(" ".join(map(label, keys_of(binding, keymap))))
            found.setdefault(name.partition(".")[0], {})[name] = (shown, binding.description)
    if not trains:
        found["run"] = {name: keys for name, keys in found["run"].items() if name not in STEERING}
    first = FOCUS.get(focus, focus)
    out = []
    for name in sorted(found, key=lambda name: name != first):
        topic = TOPICS.get(name, Topic(name))
        keys = [*found[name].values(), *((written(key), does) for key, does in topic.fixed)]
        if keys:
            out.append(Group(topic, keys, name == first))
    return out


def help_text(shown: Iterable[Group], columns: int) -> Text:
    """Groups of keys under their titles, with what the pane shows, wrapped."""
    out = Text()
    for topic, keys, focused in shown:
        out.append(f"{'▸ ' if focused else ''}{topic.title}\n", f"bold {ACCENT}")
        indent = min(KEYS, max((cell_len(key) for key, _ in keys), default=0)) + 3
        for key, does in keys:
            first, *more = wrap(does, max(8, columns - max(indent, cell_len(key) + 3))) or [""]
            out.append(f"  {key}{' ' * max(1, indent - 2 - cell_len(key))}", ACCENT)
            out.append("\n".join([first, *(" " * indent + line for line in more)]) + "\n", TEXT)
        for line in wrap(topic.about, columns - 2):
            out.append(f"  {line}\n", MUTED)
        out.append("\n")
    out.rstrip()
    return out


def in_columns(shown: list[Group], count: int) -> list[list[Group]]:
    """The groups in their order, over columns that are about as long as each other."""
    total = sum(group.lines(COLUMN) for group in shown)
    out: list[list[Group]] = [[] for _ in range(count)]
    above = 0
    for group in shown:
        middle = above + group.lines(COLUMN) / 2
        out[min(count - 1, int(middle * count / total))].append(group)
        above += group.lines(COLUMN)
    return [column for column in out if column]


class HelpScreen(ModalScreen[None]):
    """Any of the usual keys closes it.

    Args:
        about: the screen whose keys are explained.
        trains: whether there is a training to steer.
    """

    CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    #help {
        width: auto; max-width: 96%; height: auto; max-height: 96%;
        padding: 1 2; background: $panel; border: round $primary;
        border-title-color: $primary; border-subtitle-color: $muted;
        scrollbar-size-vertical: 1;
    }
    #help Horizontal { width: auto; height: auto; }
    .help-column { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "close", id="help.close"),
    ]

    def __init__(self, about: Screen[Any], trains: bool) -> None:
        super().__init__()
        self._shown = groups(about, trains)

    def compose(self) -> ComposeResult:
        width = self.app.size.width
        with VerticalScroll(id="help") as box:
            box.border_title = "keys"
            box.border_subtitle = "esc closes"
            count = max(1, min(3, (width * 96 // 100 - FRAME) // (COLUMN + GAP)))
            columns = COLUMN if count > 1 else max(12, min(COLUMN + 12, width * 96 // 100 - FRAME))
            with Horizontal():
                for groups_ in in_columns(self._shown, count):
                    column = Static(help_text(groups_, columns), classes="help-column")
                    column.styles.width = columns + (GAP if count > 1 else 0)
                    yield column
