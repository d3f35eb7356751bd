"""One sample of an answer, laid out: what stands over it, and its text as far as it has come."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from rich.cells import cell_len
from rich.style import Style

from minigpt_tui.safetext import PICTURES
from minigpt_tui.widgets.answer import UNKNOWN, Answer, Sample
from minigpt_tui.widgets.flow import Flow
from minigpt_tui.widgets.lines import Part, width

PROMPT = -2
"""The token of the prompt's text; below all that were generated."""
REVERSED = Style(reverse=True)

Row = list[Part]


class Column:
    """Lines of its own heading, of the text, and of what went wrong.

    Args:
        columns: its cells.
        prompt: what is shown before the text, in the same flow.
    """

    def __init__(self, answer: Answer, number: int, columns: int, prompt: str) -> None:
        self.answer, self.number, self.columns = answer, number, columns
        self.head: list[Row] = []
        self.foot: list[Row] = []
        self.flow: Flow[int] = Flow(columns)
        self.flow.append(prompt, PROMPT)
        self._laid_out = 0
        """Pieces of the sample that the flow has."""

    @property
    def sample(self) -> Sample:
        return self.answer.samples[self.number]

    @property
    def height(self) -> int:
        return len(self.head) + len(self.flow.lines) + len(self.foot)

    def grow(self) -> int:
        """Lay out what has come since, and say from which line on the column is not what it was."""
        pieces, first = self.sample.pieces, len(self.head) + len(self.flow.lines) - 1
        for text, token in pieces[self._laid_out :]:
            self.flow.append(text, token)
        self._laid_out = len(pieces)
        if self.answer.settled:
            self.flow.end()
        return first

    def row(self, number: int, style_of: Callable[[int], Style], at: int | None) -> Row:
        """A line of the column. `at` is the token under the cursor, which stands out, a line break as a picture."""
        if number < len(self.head):
            return self.head[number]
        number -= len(self.head)
        if number >= len(self.flow.lines):
            number -= len(self.flow.lines)
            return self.foot[number] if number < len(self.foot) else []
        out: Row = []
        for token, runs in groupby(self.flow.lines[number], key=lambda run: run[1]):
            text = "".join(text for text, _ in runs)
            style = style_of(token)
            if token == at:
                style += REVERSED
                if width(out) + cell_len(text) < self.columns:
                    text = text.replace("\n", PICTURES["\n"])
            text = text.replace("\n", "")
            if out and out[-1][1] == style:
                out[-1] = out[-1][0] + text, style
            else:
                out.append((text, style))
        return out

    def line_of(self, token: int) -> int:
        """The first line on which a token stands."""
        lines = enumerate(self.flow.lines, len(self.head))
        return next((n for n, line in lines if any(run[1] == token for run in line)), 0)

    def token_at(self, number: int, x: int) -> int | None:
        """The token at a cell; None where there is none of which more is known."""
        number -= len(self.head)
        for text, token in self.flow.lines[number] if 0 <= number < len(self.flow.lines) else ():
            x -= max(1, cell_len(text))
            if x < 0:
                return token if token > UNKNOWN else None
        return None
