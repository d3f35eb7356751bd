"""The list of runs over the app: choose which are laid over the loss chart. Also the base of the browser's list."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from functools import partial
from textwrap import wrap
from typing import ClassVar, Generic

from rich.cells import cell_len
from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import DescendantBlur, DescendantFocus
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widgets import Static

from minigpt_core.errors import UserError
from minigpt_core.library import Library, delete_run
from minigpt_core.rundir import RunDir
from minigpt_core.summary import RunSummary
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.chart_data import OVERLAYS
from minigpt_tui.widgets.chart_picture import OVERLAY_COLOURS
from minigpt_tui.widgets.hints import Hint, KeyHints
from minigpt_tui.widgets.palette import ACCENT_BOLD, BACKGROUND
from minigpt_tui.widgets.run_line import RunDetails, RunHeader, RunLine
from minigpt_tui.widgets.run_table import ORDERS, Order, RunTable, arranged

POLL_SECONDS = 0.25
REFRESH_SECONDS = 2.0
"""Between two looks at the disk while the list is on the screen."""
LOOKING = "looking for runs…"
FILTERING = [Hint(0, "⏎", "keep the filter"), Hint(1, "esc", "list all"), Hint(2, "↑ ↓", "choose")]
NO_MATCH = "no run has these words in its name, state or text; esc lists all"


class RunList(Screen[ScreenResultType], Generic[ScreenResultType]):
    """A table of runs with a filter, sorting, marks and deleting. Nothing here waits for a disk."""

    DEFAULT_CSS = """
    RunList { overflow: hidden; background: $background; color: $foreground; }
    RunList #runs-header { height: 1; }
    RunList #runs { height: 1fr; margin: 1 0 0 0; }
    RunList #runs-details { height: 2; }
    RunList #runs-line { height: 1; }
    RunList #hints { height: 1; }
    RunList.-h-short #runs-details { display: none; }
    RunList.-h-short #runs { margin: 0; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-h-short"), (16, "-h-tall")]  # noqa: RUF012 (Textual's instance variable)
    AUTO_FOCUS = "RunTable"
    TITLE_TEXT: ClassVar[str] = "all runs"
    EMPTY: ClassVar[str] = "no runs here yet. Start one with: minigpt-tui train"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Here and not in the table: they work while one types a filter, too.
        Binding("up,k", "move(-1)", "run above", id="runs.up", show=False),
        Binding("down,j", "move(1)", "run below", id="runs.down", show=False),
        Binding("pageup", "page(-1)", "a page up", id="runs.page-up", show=False),
        Binding("pagedown", "page(1)", "a page down", id="runs.page-down", show=False),
        Binding("home", "edge(0)", "first run", id="runs.first", show=False),
        Binding("end", "edge(-1)", "last run", id="runs.last", show=False),
        Binding("slash", "filter", "filter as you type", id="runs.filter"),
        Binding("s", "sort", "sort by name, loss, time", id="runs.sort"),
        Binding("d", "delete", "delete the run", id="runs.delete"),
    ]

    def __init__(self, library: Library, own: str | None = None, marked: Collection[str] = ()) -> None:
        """
        Args:
            own: the name of the run that the app is on, if it is on one; it is not listed.
            marked: the names of those that are marked already.
        """
        super().__init__()
        self._library, self._own = library, own
        self.marked: dict[str, None] = dict.fromkeys(marked)
        """Names in the order in which they were marked."""
        self._order: Order = "changed"
        self.header = RunHeader()
        self.table = RunTable()
        self.details = RunDetails()
        self.line = RunLine()
        self.key_hints = KeyHints()
        self._hinted: list[Hint] = []

    def compose(self) -> ComposeResult:
        yield self.header
        yield self.table
        yield self.details
        yield self.line
        yield self.key_hints

    def on_mount(self) -> None:
        self._library.refresh()
        self.poll()
        self.set_interval(POLL_SECONDS, self.poll)
        self.set_interval(REFRESH_SECONDS, self._library.refresh)

    def hints(self) -> list[Hint]:
        """What the last row offers."""
        return [
            Hint(3, "runs.filter", "filter", "screen.filter"),
            Hint(5, "runs.sort", f"by {self._order}", "screen.sort"),
            Hint(6, "runs.delete", "delete", "screen.delete"),
        ]

    # --- showing ---

    def poll(self) -> None:
        """Bring the list up to date; what has not changed costs nothing."""
        self._show()

    def _show(self, first: bool = False) -> None:
        runs = [run for run in self._library.summaries() if run.name != self._own]
        if self._library.ready:
            there = {run.name for run in runs}
            self.marked = {name: None for name in self.marked if name in there}
        chosen = arranged(runs, self.line.words, self._order)
        longest = max((cell_len(safe(run.name, newlines=False)) for run in runs), default=0)
        marks = {name: self.mark_style(i) for i, name in enumerate(self.marked)}
        self.table.update(chosen, marks, longest, self._nothing(bool(runs)), first)
        counted = f"{len(chosen)} of {len(runs)} runs" if len(chosen) < len(runs) else f"{len(runs)} runs"
        counted = counted if len(runs) != 1 else counted.removesuffix("s")
        marked = f", {len(self.marked)} marked" if self.marked else ""
        self.header.update(self.TITLE_TEXT, str(self._library.parent.absolute()), counted + marked if runs else "")
        self._show_hints()

    def _show_hints(self) -> None:
        found = FILTERING if self.line.has_focus else self.hints()
        if found != self._hinted:
            self._hinted = found
            self.key_hints.update(found)

    def _nothing(self, filtered: bool) -> str:
        if filtered:
            return NO_MATCH
        if self._library.problem:
            return safe(self._library.problem, newlines=False)
        return self.EMPTY if self._library.ready else LOOKING

    @on(DescendantFocus)
    @on(DescendantBlur)
    def _change_hints(self) -> None:
        self.call_after_refresh(self._show_hints)

    @on(RunTable.Moved)
    def _show_details(self) -> None:
        self.details.update(self.table.run)

    def say(self, text: str, bad: bool = False) -> None:
        self.line.say(text, bad)

    # --- choosing ---

    def action_move(self, by: int) -> None:
        self.table.move(by)

    def action_page(self, by: int) -> None:
        self.table.page(by)

    def action_edge(self, end: int) -> None:
        self.table.edge(end)

    def action_filter(self) -> None:
        self.say("")
        self.line.focus()

    @on(RunLine.Changed)
    def _refilter(self) -> None:
        self._show(first=True)

    @on(RunLine.Left)
    def _to_table(self) -> None:
        self.table.focus()

    def action_sort(self) -> None:
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self._show()

    def toggle(self) -> None:
        """Mark the run under the cursor, or take its mark away."""
        run = self.table.run
        if run is None:
            return
        self.say("")
        if run.name in self.marked:
            del self.marked[run.name]
        elif why := self.why_not_marked(run):
            self.say(why)
        else:
            self.marked[run.name] = None
        self._show()

    def mark_style(self, index: int) -> Style:
        """What a mark looks like; the first is 0."""
        return ACCENT_BOLD

    def why_not_marked(self, run: RunSummary) -> str:
        if run.last is None:
            return f"{safe(run.name, newlines=False)} has no losses to draw"
        return ""

    # --- deleting ---

    def action_delete(self) -> None:
        run = self.table.run
        if run is None:
            return
        if run.state == "training":
            self.say(f"{safe(run.name, newlines=False)} is training: it cannot be deleted")
        else:
            self.say("")
            self.app.push_screen(ConfirmScreen(run), partial(self._confirmed, run))

    def _confirmed(self, run: RunSummary, yes: bool | None) -> None:
        name = safe(run.name, newlines=False)
        if not yes:
            self.say(f"kept {name}")
            return
        self.say(f"deleting {name}…")
        self.run_worker(self._delete(run), exclusive=False)

    async def _delete(self, run: RunSummary) -> None:
        try:
            await asyncio.to_thread(delete_run, RunDir(run.path))
        except UserError as error:
            self.say(safe(str(error), newlines=False), bad=True)
        else:
            self.say(f"deleted {safe(run.name, newlines=False)}: {fmt.short(run.n_bytes)}B freed")
        self._library.refresh()


class RunsScreen(RunList[tuple[str, ...]]):
    """Closes with the names of the runs to lay over the loss chart, in the order of their colours there."""

    TITLE_TEXT = "overlay runs"
    EMPTY = "no other runs here yet"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "overlay", "overlay the run, or no longer", id="runs.overlay"),
        Binding("escape,b,o,q", "close", "back", id="runs.close"),
    ]

    def hints(self) -> list[Hint]:
        return [
            Hint(1, "runs.overlay", "overlay", "screen.overlay"),
            *super().hints(),
            Hint(0, "runs.close", "back", "screen.close"),
        ]

    def mark_style(self, index: int) -> Style:
        return Style(color=OVERLAY_COLOURS[index % OVERLAYS], bgcolor=BACKGROUND, bold=True)

    def why_not_marked(self, run: RunSummary) -> str:
        if len(self.marked) >= OVERLAYS:
            return f"the chart draws {OVERLAYS} other runs at most"
        return super().why_not_marked(run)

    @on(RunTable.Opened)
    def action_overlay(self) -> None:
        self.toggle()

    def action_close(self) -> None:
        if self.line.words:
            self.line.clear()
        else:
            self.dismiss(tuple(self.marked))


class ConfirmScreen(ModalScreen[bool]):
    """Names what would be deleted; only a typed y deletes it."""

    CSS = """
    ConfirmScreen { align: center middle; background: transparent; }
    ConfirmScreen Vertical {
        width: 60; max-width: 100%; height: auto; max-height: 100%; padding: 0 1;
        background: $background; border: round $error; border-title-color: $error;
    }
    ConfirmScreen Static { height: auto; color: $foreground; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,Y", "dismiss(True)", "delete", id="runs.confirm"),
        Binding("n,N,q,escape,enter", "dismiss(False)", "keep", id="runs.keep"),
    ]

    def __init__(self, run: RunSummary) -> None:
        super().__init__()
        self._lines = question(run)

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "delete this run?"
            columns = max(1, min(56, self.app.size.width - 4))
            yield Static("\n".join(line for text in self._lines for line in wrap(text, columns)), markup=False)


def question(run: RunSummary) -> Iterable[str]:
    """What would be lost."""
    steps = "no steps" if run.last is None else f"{run.step:,} steps, {fmt.duration(run.last.time)} of training"
    yield safe(run.name, newlines=False)
    yield f"{fmt.short(run.n_bytes)}B, {steps}. It cannot be brought back."
    yield "y deletes it, n keeps it"
