"""How an answer stands in the transcript: its samples side by side where there is room, else one below the other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style
from textual.strip import Strip

from minigpt_tui.safetext import safe
from minigpt_tui.widgets import tint
from minigpt_tui.widgets.answer import UNKNOWN, Answer
from minigpt_tui.widgets.column import PROMPT, Column, Row
from minigpt_tui.widgets.flow import Flow
from minigpt_tui.widgets.lines import Part, cut, strip, width
from minigpt_tui.widgets.palette import (
    ACCENT_STYLE,
    BACKGROUND,
    BAD_STYLE,
    BRIGHT,
    FAINT_STYLE,
    LINE,
    MUTED_STYLE,
    TEXT_STYLE,
    WARN_STYLE,
)

GENERATED_STYLE = Style(color=BRIGHT, bgcolor=BACKGROUND)
RULE_STYLE = Style(color=LINE, bgcolor=BACKGROUND)
GAP = " │ "
MIN_COLUMN = 27
"""Cells that a column needs to be read."""
THEN_AND_NOW = "then and now"
"""Over two answers, before the settings that they share."""
EMPTY = Strip([])

Cursor = tuple[int, int]
"""(column, token)"""


class Look(NamedTuple):
    """What somebody chose to see, the same for all answers."""

    tinted: bool = False
    mono: bool = False
    waiting: str = ""
    """What an answer waits for that has no weights yet."""


class AnswerBlock:
    """An answer in a feed, or two of them together: an old one, and the new one to the same prompt.

    Attributes:
        marked: somebody has selected it.
        cursor: the token under the cursor.
    """

    def __init__(self, answer: Answer, look: Look, old: Answer | None = None) -> None:
        self.answer, self.look, self.old = answer, look, old
        self.marked = False
        self.cursor: Cursor | None = None
        self.height = 0
        self.columns: list[Column] = []
        """The old answer's and the new one's in turn, sample by sample."""
        self._width = 0
        self._beside = 1
        """How many columns stand side by side."""
        self._top: list[Row] = []
        self._prompt: Flow[int] | None = None
        self._strips: dict[int, Strip] = {}
        """The lines that were looked at and are still what they were."""
        self._shown: tuple[Cursor | None, Look] = (None, look)

    @property
    def answers(self) -> list[Answer]:
        return [self.answer] if self.old is None else [self.old, self.answer]

    @property
    def settled(self) -> bool:
        return all(answer.settled for answer in self.answers)

    # --- layout ---

    def lay_out(self, columns: int) -> None:
        if columns != self._width:
            self._width = columns
            self._begin(columns)
        before = self._frame
        grown = [column.grow() for column in self.columns]
        for column in self.columns:
            column.head, column.foot = self._head(column), self._foot(column)
        self._top = [self._first(), *(self._warnings(self.answer, columns) if self.old is None else ())]
        self.height = self._above + sum(self._band(n) for n in self._bands())
        if before != self._frame:
            self._strips.clear()
        elif len(self.columns) > self._beside:  # what grows above moves what is below
            first = self._above + min(grown)
            self._strips = {n: line for n, line in self._strips.items() if n < first}
        else:
            for column, first in zip(self.columns, grown, strict=True):
                for n in range(first, column.height + 1):
                    self._strips.pop(self._above + n, None)

    @property
    def _frame(self) -> list[Row]:
        """All that stands around the texts."""
        return [*self._top, *(row for column in self.columns for row in (*column.head, *column.foot))]

    @property
    def _above(self) -> int:
        """Lines before the first column."""
        return len(self._top) + (len(self._prompt.lines) if self._prompt is not None else 0)

    def _begin(self, columns: int) -> None:
        """Part the width, and forget what was wrapped to another."""
        numbers = range(max(len(answer.samples) for answer in self.answers))
        shown = [(answer, n) for n in numbers for answer in self.answers if n < len(answer.samples)]
        most = max(1, (columns + len(GAP)) // (MIN_COLUMN + len(GAP)))
        if self.old is not None and most > 1:
            most -= most % 2  # the two that belong together stand together
        rows = -(-len(shown) // most)
        self._beside = -(-len(shown) // rows)
        if self.old is not None and self._beside > 1:
            self._beside += self._beside % 2
        width = max(1, (columns - len(GAP) * (self._beside - 1)) // self._beside)
        prompt = self.answer.prompt
        self._prompt = None
        if len(shown) > 1 and prompt:
            self._prompt = Flow(columns)
            self._prompt.append(prompt, PROMPT)
            self._prompt.end()
        self.columns = [Column(answer, n, width, "" if len(shown) > 1 else prompt) for answer, n in shown]

    def _bands(self) -> range:
        """The first column of each row of columns."""
        return range(0, len(self.columns), self._beside)

    def _band(self, first: int) -> int:
        """Lines of a row of columns, with the empty one after it."""
        return max(column.height for column in self.columns[first : first + self._beside]) + 1

    def _glyph(self, answer: Answer) -> Part:
        if answer.generation.stamp is None:
            return "○ ", FAINT_STYLE
        if not answer.settled:
            return "● ", ACCENT_STYLE
        return ("▸ ", ACCENT_STYLE) if self.marked else ("✓ ", FAINT_STYLE)

    @property
    def _stamp_style(self) -> Style:
        return TEXT_STYLE if self.marked else FAINT_STYLE

    def _first(self) -> Row:
        """The stamp; over two answers, what is the same for both."""
        answer, room = self.answer, max(0, self._width - 2)
        if self.old is not None:
            shared = self.old.request(max(0, room - cell_len(THEN_AND_NOW) - 3))
            text = f"{THEN_AND_NOW} · {shared}" if shared else THEN_AND_NOW
            return [self._glyph(answer), (cut(text, room), self._stamp_style)]
        if answer.generation.stamp is None:
            return [self._glyph(answer), self._unstamped(answer, room)]
        return [self._glyph(answer), (answer.stamp(room), self._stamp_style)]

    def _unstamped(self, answer: Answer, columns: int) -> Part:
        return cut("no answer" if answer.settled else self.look.waiting, columns), WARN_STYLE

    def _head(self, column: Column) -> list[Row]:
        """What stands over a column: of two answers the weights of each, and what the samples differ in."""
        answer, several = column.answer, column.answer.generation.config.temperatures
        out: list[Row] = []
        if self.old is not None and answer.generation.stamp is None:
            out.append([self._unstamped(answer, column.columns)])
        elif self.old is not None:
            out.append([(answer.weights(column.columns), self._stamp_style)])
        if len(answer.samples) > 1:
            label = f"T {several[column.number]:g}" if several else f"{column.number + 1}."
            out.append([(cut(label, column.columns), MUTED_STYLE)])
        return [*out, *(self._warnings(answer, column.columns) if self.old is not None else [])]

    def _warnings(self, answer: Answer, columns: int) -> list[Row]:
        return [row for text in answer.generation.warnings for row in said(text, WARN_STYLE, columns)]

    def _foot(self, column: Column) -> list[Row]:
        """What went wrong, once for an answer."""
        error = column.answer.generation.error
        return said(error, BAD_STYLE, column.columns) if error and column.number == 0 else []

    # --- lines ---

    def line(self, number: int) -> Strip:
        if self._shown != (self.cursor, self.look):
            self._shown = self.cursor, self.look
            self._strips.clear()
        if number not in self._strips:
            self._strips[number] = self._made(number)
        return self._strips[number]

    def _made(self, number: int) -> Strip:
        if number < len(self._top):
            return strip(self._top[number])
        number -= len(self._top)
        if self._prompt is not None:
            if number < len(self._prompt.lines):
                return strip([(text, MUTED_STYLE) for text, _ in self._prompt.lines[number] if text != "\n"])
            number -= len(self._prompt.lines)
        found = self._in_band(number)
        if found is None:
            return EMPTY
        first, number = found
        out: Row = []
        if number + 1 == self._band(first):
            return EMPTY
        for at, column in enumerate(self.columns[first : first + self._beside], first):
            row = column.row(number, self._style_of(column), self._cursor_in(at))
            if at > first:
                out += [(" " * ((column.columns + len(GAP)) * (at - first) - len(GAP) - width(out)), TEXT_STYLE)]
                out.append((GAP, RULE_STYLE))
            out += row
        return strip(out)

    def _in_band(self, number: int) -> tuple[int, int] | None:
        """The first column of the row of columns that holds a line, and which of its lines it is."""
        for first in self._bands():
            height = self._band(first)
            if number < height:
                return first, number
            number -= height
        return None

    def _cursor_in(self, column: int) -> int | None:
        return self.cursor[1] if self.cursor is not None and self.cursor[0] == column else None

    def _style_of(self, column: Column) -> Callable[[int], Style]:
        choices, look = column.sample.choices, self.look

        def style(token: int) -> Style:
            if token == PROMPT:
                return MUTED_STYLE
            return tint.style(choices[token].p, look.mono) if look.tinted and token > UNKNOWN else GENERATED_STYLE

        return style

    # --- the cursor ---

    def step(self, by: int) -> Cursor | None:
        """Where the cursor goes next; None if no token of the answer is known."""
        places = [(n, token) for n, column in enumerate(self.columns) for token in column.sample.tokens]
        if not places:
            return None
        if self.cursor is None:
            return places[0 if by > 0 else -1]
        return places[min(max(bisect_left(places, self.cursor) + by, 0), len(places) - 1)]

    def line_of(self, cursor: Cursor) -> int:
        """The line on which a token stands."""
        first = cursor[0] // self._beside * self._beside
        above = sum(self._band(n) for n in self._bands() if n < first)
        return self._above + above + self.columns[cursor[0]].line_of(cursor[1])

    def cursor_at(self, number: int, x: int) -> Cursor | None:
        """The token at a cell of a line."""
        found = self._in_band(number - self._above) if number >= self._above else None
        if found is None:
            return None
        first, number = found
        along, x = divmod(x, self.columns[first].columns + len(GAP))
        if not 0 <= along < len(self.columns[first : first + self._beside]):
            return None
        token = self.columns[first + along].token_at(number, x)
        return None if token is None else (first + along, token)


def said(text: str, style: Style, columns: int) -> list[Row]:
    """A warning or an error, wrapped."""
    flow: Flow[Style] = Flow(columns)
    flow.append(f"! {safe(text, newlines=False)}", style)
    flow.end()
    return list(flow.lines)
