"""The files that `--data` names: one, those of a folder, or those that a pattern matches; and of what kind each is."""

from __future__ import annotations

import difflib
import glob
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from minigpt_core.errors import UsageError, UserError
from minigpt_core.text_stream import unreadable

TEXT_SUFFIXES = (".txt", ".md", ".jsonl")
"""The files that a folder contributes; packed, with .gz at the end."""
PATTERN = "*?["
"""Characters that make a pattern of what is no file's name."""


class Document(NamedTuple):
    """A file that holds text, or many texts."""

    path: Path
    lines: bool = False
    """Each line is a JSON object, one field of which is a text."""
    packed: Literal["", "gz", "zip"] = ""
    """A zip archive holds one file."""
    stream: BinaryIO | None = None
    """Read instead of `path`, which then is but a name: standard input."""

    @property
    def plain(self) -> bool:
        """Its bytes are its text, at any offset, as often as one likes."""
        return not self.lines and not self.packed and self.stream is None and not _is_pipe(self.path)

    @property
    def what(self) -> str:
        """As errors name it."""
        return str(self.path) if self.stream else repr(str(self.path))


def documents(data: str, cwd: Path, names: Iterable[str]) -> list[Document]:
    """The documents that `data` names: a file's, a folder's by path, or a pattern's (`docs/**/*.md`) by path.

    Args:
        cwd: what relative paths start from.
        names: what else could be asked for; an error offers the nearest.

    Raises:
        UsageError: there is no such file.
        UserError: a folder cannot be read, or holds no text files.
    """
    path = cwd / os.path.expanduser(data)
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        if not any(mark in data for mark in PATTERN):
            raise _missing(data, names) from None
        return _matching(path, data)
    except OSError as error:
        raise unreadable(path, error) from None
    return _below(path) if folder else [_document(path)]


def name_and_source(data: str, cwd: Path) -> tuple[str, str]:
    """What to call the text that `data` names, and where it is, for people and to find it again."""
    path = cwd / os.path.expanduser(data)
    if path.exists():
        path = path.resolve()
    source = os.fsencode(path).decode(errors="replace")  # a file name may be any bytes; what is logged must be text
    name = path.name.removesuffix(".gz")
    stem, suffix = os.path.splitext(name)
    return stem if suffix in TEXT_SUFFIXES else name, source


def _document(path: Path) -> Document:
    name = path.name.lower()
    packed: Literal["", "gz"] = "gz" if name.endswith(".gz") else ""
    return Document(path, name.removesuffix(".gz").endswith(".jsonl"), packed)


def _matching(pattern: Path, data: str) -> list[Document]:
    found = sorted(filter(os.path.isfile, glob.glob(str(pattern), recursive=True)))
    if not found:
        raise UsageError(f"no file matches {data!r}; ** stands for any folders, and hidden files are left out")
    return [_document(Path(path)) for path in found]


def _below(folder: Path) -> list[Document]:
    def fail(error: OSError) -> None:
        raise unreadable(Path(error.filename), error) from None

    found = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=fail)
        for name in names
        if name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)
    )
    if not found:
        raise UserError(
            f"{str(folder)!r} holds no .txt or .md or .jsonl files, nor such with .gz; name a file or another folder"
        )
    return [_document(path) for path in found]


def _missing(data: str, names: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(data, list(names), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"texts with a name: {', '.join(map(repr, names))}"
    return UsageError(f"no such file or corpus: {data!r}; {hint}")


def _is_pipe(path: Path) -> bool:
    """Whether it can be read only once, from its beginning; what is not there is found out by who reads it."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
