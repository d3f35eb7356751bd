"""Any text -> what may be shown. Prompts, file names, corpora and a model's own output are not to be trusted.

A byte-level model *will* write escape sequences. Shown as they are, they could clear the screen, reorder a line or
write to the clipboard. So controls become their Unicode pictures, what is invisible or rearranges text becomes U+FFFD,
and runs of combining marks are cut short.
"""

from __future__ import annotations

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
    return HIDDEN if unicodedata.category(character) in UNSAFE else character


def safe(text: str, *, newlines: bool = True) -> str:
    """Prose that cannot steer a terminal; applying it twice changes nothing more.

    Args:
        newlines: keep line breaks and expand tabs; otherwise both become pictures, so the text stays one line.
    """
    if text.isascii() and text.isprintable():
        return text
    if newlines:
        text = text.replace("\r\n", "\n").replace("\t", " " * TAB)
    out: list[str] = []
    marks = 0
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
        marks = 0 if get_character_cell_size(shown) else marks + 1
        if marks <= MARKS:
            out.append(shown)
    return "".join(out)


def token_label(text: str) -> str:
    """One token for an axis: white space made visible, never empty, combining marks on a base of their own."""
    if text in PICTURES:
        return PICTURES[text]
    label = safe(text, newlines=False).replace(" ", PICTURES[" "]) or "∅"
    return label if get_character_cell_size(label[0]) else "◌" + label
