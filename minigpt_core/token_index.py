"""Which text files held when they were last read, so that one that has not changed is not read again.

Files are told apart by path, size, time of change and inode, as git does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from minigpt_core.atomic import write_atomic
from minigpt_core.cache import cache_folder
from minigpt_core.documents import Reading
from minigpt_core.sources import Document
from minigpt_core.text_facts import TextFacts
from minigpt_core.text_stream import unreadable

RACY_NS = 2 * 10**9
"""A file changed so shortly before it was read may change again within the same tick of its clock."""


class Look(NamedTuple):
    """A file as it looks from outside."""

    path: str
    size: int
    changed: int
    """Time, in nanoseconds."""
    inode: int


class Known(msgspec.Struct, frozen=True):
    """What is known of files that look like this."""

    files: list[Look]
    how: Reading
    text: TextFacts


def look(documents: Sequence[Document]) -> list[Look]:
    """How the files of documents look.

    Raises:
        UserError: one cannot be looked at.
    """
    found = []
    for document in documents:
        try:
            stat = document.path.stat()
            path = os.fsencode(document.path.resolve()).hex()
        except OSError as error:
            raise unreadable(document.path, error) from None
        found.append(Look(path, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return found


def is_settled(files: Sequence[Look], now: int) -> bool:
    """Whether a change from `now` (nanoseconds since 1970) on would show."""
    return now - max(file.changed for file in files) >= RACY_NS


def known_text(files: list[Look], how: Reading) -> TextFacts | None:
    """What the text is that these files held, if they have been read before and still look the same."""
    try:
        known = msgspec.json.decode(_path(files, how).read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError):
        return None
    return known.text if (known.files, known.how) == (files, how) else None


def remember(files: list[Look], how: Reading, text: TextFacts) -> None:
    """Where the cache can be written; without, they will be read again."""
    with suppress(OSError):
        write_atomic(_path(files, how), msgspec.json.encode(Known(files, how, text)))


def _path(files: list[Look], how: Reading) -> Path:
    """One for each list of paths, however often the files change."""
    key = " ".join([*(file.path for file in files), *how])
    return cache_folder() / f"index-{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()}.json"
