"""Text that wraps as it comes: what has been laid out stays, however long it gets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Generic, TypeVar

from rich.cells import cell_len, get_character_cell_size

from minigpt_tui.safetext import HIDDEN, MARKS, safe

Key = TypeVar("Key")
"""What a piece of text belongs to, such as its style or its token."""

ATOMS = re.compile(r"\n| |[^ \n]+")


def clusters(text: str) -> list[str]:
    """Each character with those behind it that have no cell of their own."""
    out: list[str] = []
    for character in text:
        if out and not get_character_cell_size(character):
            out[-1] += character
        else:
            out.append(character)
    return out


class Flow(Generic[Key]):
    """Greedy word wrap, one piece of text after another; the text may be anything and becomes safe here.

    Words end one cell before the edge, which is left to the space or the line break that follows them. So no character
    is lost: the runs of all lines, joined, are the safe text, and a new piece changes the last lines only.

    Attributes:
        lines: for each its runs, (text, key); the last run of a line that a line break ends is that, "\\n".
    """

    def __init__(self, columns: int) -> None:
        self.columns = max(1, columns)
        self.lines: list[list[tuple[str, Key]]] = [[]]
        self._room = max(1, self.columns - 1)
        """Cells of a line that words may take."""
        self._cells = 0
        """Those of the last line that are taken."""
        self._word = 0
        """The run of the last line with which its last word begins."""
        self._marks = 0
        """How many characters without a cell the last character carries."""
        self._held: tuple[str, Key] | None = None
        """A carriage return, which vanishes if a line feed comes next."""

    def append(self, text: str, key: Key) -> None:
        if self._held is not None and text:
            text, self._held = self._held[0] + text, None
        if text.endswith("\r"):
            text, self._held = text[:-1], ("\r", key)
        self._lay_out(safe(text), key)

    def end(self) -> None:
        """Nothing more comes."""
        if self._held is not None:
            (text, key), self._held = self._held, None
            self._lay_out(safe(text), key)

    def _lay_out(self, text: str, key: Key) -> None:
        for atom in ATOMS.findall(text):
            if atom == "\n":
                self.lines[-1].append((atom, key))
                self._new_line()
            elif atom == " ":
                if self._cells + 1 > self.columns:
                    self._new_line()
                self._put(atom, 1, key)
                self._word = len(self.lines[-1])
            else:
                self._write(atom, key)

    def _new_line(self, runs: Iterable[tuple[str, Key]] = ()) -> None:
        line = list(runs)
        self.lines.append(line)
        self._cells, self._word, self._marks = sum(cell_len(text) for text, _ in line), 0, 0

    def _put(self, text: str, cells: int, key: Key) -> None:
        self.lines[-1].append((text, key))
        self._cells += cells
        self._marks = 0 if text.isascii() else len(clusters(text)[-1]) - 1

    def _write(self, text: str, key: Key) -> None:
        """Add to the last word, or begin one."""
        if not text.isascii():
            text = self._attach(text, key)
            if not text:
                return
        cells = cell_len(text)
        if self._cells + cells > self._room and self._word:  # the word moves to a line of its own
            line = self.lines[-1]
            word = line[self._word :]
            del line[self._word :]
            self._new_line(word)
        if self._cells + cells <= self._room:
            self._put(text, cells, key)
            return
        for cluster in clusters(text):  # a word longer than a line
            cells = cell_len(cluster)
            if self._cells + min(cells, self._room) > self._room:
                self._new_line()
            if cells <= self._room:
                self._put(cluster, cells, key)
            else:
                self._put(HIDDEN, 1, key)

    def _attach(self, text: str, key: Key) -> str:
        """Give what has no cell to the character before it, as far as that may carry more; return the rest."""
        rest = text
        while rest and not get_character_cell_size(rest[0]):
            line = self.lines[-1]
            if self._marks < MARKS:
                self._marks += 1
                before, owner = line.pop() if line else ("", key)
                line.append((before + rest[0], owner))
                self._cells += cell_len(before + rest[0]) - cell_len(before)
            rest = rest[1:]
        return rest
