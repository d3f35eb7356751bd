"""The browser: the list of runs as start screen. Closes with what to do next."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from textual import on
from textual.binding import Binding, BindingType

from minigpt_core.library import Library
from minigpt_core.summary import RunSummary
from minigpt_tui.safetext import safe
from minigpt_tui.screens.compare import CompareScreen
from minigpt_tui.screens.runs import RunList
from minigpt_tui.widgets.hints import Hint
from minigpt_tui.widgets.run_table import RunTable


class Choice(NamedTuple):
    """What to do with which run."""

    verb: Literal["open", "resume"]
    name: str


class BrowseScreen(RunList[Choice | None]):
    """Open, resume, compare, delete; `None` is leaving."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "enter", "open the run, or compare what is marked", id="runs.open"),
        Binding("r", "resume", "train the run further", id="runs.resume"),
        Binding("space", "mark", "mark for comparing", id="runs.mark"),
        Binding("o", "compare", "compare what is marked", id="runs.compare"),
        Binding("escape", "back", "list all, drop the marks", id="runs.back", show=False),
        Binding("q", "app.quit", "leave", id="runs.leave"),
    ]

    def __init__(self, library: Library, coloured: bool) -> None:
        super().__init__(library)
        self._coloured = coloured

    def hints(self) -> list[Hint]:
        compares = len(self.marked) > 1
        return [
            Hint(1, "runs.open", "compare" if compares else "open", "screen.enter"),
            Hint(4, "runs.resume", "resume", "screen.resume"),
            Hint(2, "runs.mark", "mark", "screen.mark"),
            *([Hint(7, "runs.compare", "compare", "screen.compare")] if not compares else []),
            *super().hints(),
            Hint(0, "runs.leave", "quit", "app.quit"),
        ]

    # --- actions ---

    @on(RunTable.Opened)
    def action_enter(self) -> None:
        if len(self.marked) > 1:
            self.action_compare()
        elif self.table.run is not None:
            self._choose(Choice("open", self.table.run.name), why_not_opened(self.table.run))

    def action_resume(self) -> None:
        if self.table.run is not None:
            self._choose(Choice("resume", self.table.run.name), why_not_resumed(self.table.run))

    def _choose(self, choice: Choice, why_not: str) -> None:
        if why_not:
            self.say(f"{safe(choice.name, newlines=False)} {why_not}")
        else:
            self.dismiss(choice)

    def action_mark(self) -> None:
        self.toggle()
        self.table.move(1)

    def action_compare(self) -> None:
        """All that is marked, and with a single mark also the run under the cursor."""
        runs = {run.name: run for run in self._library.summaries()}
        names = list(self.marked)
        if len(names) == 1 and self.table.run is not None and not self.why_not_marked(self.table.run):
            names = list(dict.fromkeys([*names, self.table.run.name]))
        found = [(runs[name], overlay) for name in names if name in runs and (overlay := self._library.overlay(name))]
        if len(found) < 2:
            self.say("space marks the runs to compare: two or more")
        else:
            self.app.push_screen(CompareScreen(found, self._coloured))

    def action_back(self) -> None:
        if self.line.words:
            self.line.clear()
        elif self.marked:
            self.marked.clear()
            self._show()
        else:
            self.say("q quits")


def why_not_opened(run: RunSummary) -> str:
    if run.state == "unread":
        return "is still being read"
    if run.state == "training":
        return "is training: it opens when it has ended; space marks it to compare"
    if not run.has_checkpoint:
        return f"is broken: {safe(run.problem, newlines=False)}" if run.problem else "has no checkpoint to talk to"
    return ""


def why_not_resumed(run: RunSummary) -> str:
    if run.state == "training":
        return "is training already"
    if run.state == "done":
        return "is done; to train on: minigpt-tui train --resume RUN --steps N"
    if run.state == "unread":
        return "is still being read"
    if run.state == "broken":
        return f"is broken: {safe(run.problem, newlines=False)}"
    return "" if run.has_checkpoint else "has no checkpoint to resume from"
