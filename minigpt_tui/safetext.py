"""Any text -> what may be shown. Prompts, file names, corpora and a model's own output are not to be trusted.

A byte-level model *will* write escape sequences. Shown as they are, they could clear the screen, reorder a line or
write to the clipboard. So controls become their Unicode pictures, what is invisible or rearranges text becomes U+FFFD,
and runs of combining marks are cut short.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import lru_cache

from rich.cells import get_character_cell_size

HIDDEN = "\N{REPLACEMENT CHARACTER}"
TAB = 4
"""Columns of a tab in prose."""
MARKS = 3
"""Characters without a cell of their own (combining marks, jamo, variation selectors) that one character may carry."""
PICTURES = {" ": "␣", "\n": "⏎", "\t": "⇥"}
"""White space where it must be seen."""

# Terminals disagree about the columns of what these join: a pair of letters may be two columns (a flag) or four.
FLAG_LETTERS = range(0x1F1E6, 0x1F200)
SKIN_TONES = range(0x1F3FB, 0x1F400)
PRESENTATION = (0xFE0E, 0xFE0F)
"""Ask for a character as text or, one column wider in some terminals, as a picture."""

# Cc controls, Cf formats (bidi, zero width, soft hyphen), Cs surrogates, Co private use, Cn unassigned, Zl and Zp
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@lru_cache(65536)
def _character(character: str) -> str:
    """One character as it may be shown."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    if code in FLAG_LETTERS:
        return chr(ord("A") + code - FLAG_LETTERS.start)
    if code in SKIN_TONES:
        return HIDDEN
    if code in PRESENTATION:
        return ""
    return HIDDEN if unicodedata.category(character) in UNSAFE else character


def safe(text: str, *, newlines: bool = True) -> str:
    """Prose that cannot steer a terminal; applying it twice changes nothing more.

    Args:
        newlines: keep line breaks and expand tabs; otherwise both become pictures, so the text stays one line.
    """
    return _safe(text, 0, newlines)[0]


def on_terminal(line: str) -> str:
    """A line of output: safe where a terminal shows it, as it is in a file or a pipe."""
    return safe(line, newlines=False) if sys.stdout.isatty() else line


class SafeStream:
    """`safe` for text that comes piece by piece: what it gives, joined, is that of the whole.

    A carriage return waits for what follows it, and marks are counted on from one piece to the next.
    """

    def __init__(self) -> None:
        self._marks = 0
        self._held = ""

    def feed(self, text: str) -> str:
        """What may be shown now."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        shown, self._marks = _safe(text.removesuffix("\r"), self._marks, True)
        return shown

    def flush(self) -> str:
        """What is still held back, at the end."""
        held, self._held = self._held, ""
        return safe(held)


def _safe(text: str, marks: int, newlines: bool) -> tuple[str, int]:
    """The text, and how many marks its last character carries; `marks` is that of the character before it."""
    if text.isascii() and text.isprintable():
        return text, 0 if text else marks
    if newlines:
        text = text.replace("\r\n", "\n").replace("\t", " " * TAB)
    out: list[str] = []
    for character in text:
        if character == "\n":
            out.append("\n" if newlines else PICTURES["\n"])
            marks = 0
            continue
        if character == "\t":
            out.append(PICTURES["\t"])
            marks = 0
            continue
        shown = _character(character)
        if not shown:
            continue
        marks = 0 if get_character_cell_size(shown) else marks + 1
        if marks <= MARKS:
            out.append(shown)
    return "".join(out), marks


def token_label(text: str) -> str:
    """One token for an axis: white space made visible, never empty, combining marks on a base of their own."""
    if text in PICTURES:
        return PICTURES[text]
    label = safe(text, newlines=False).replace(" ", PICTURES[" "]) or ("∅" if not text else HIDDEN)
    return label if get_character_cell_size(label[0]) else "◌" + label
