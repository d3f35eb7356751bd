"""The user's cache folder: what is in it, how much it may hold, and what goes when something new needs room.

It holds encoded texts (`<name>.npy` and `<name>.json`), the work on some that are not finished (`<name>.work`, and
`unpacked-*.txt`), downloads, and an index. All of it may be deleted at any time.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from minigpt_core.atomic import TEMPORARY
from minigpt_core.errors import UsageError, UserError

FOLDER = "MINIGPT_TUI_CACHE"
"""The environment variable that names another folder."""
BUDGET = "MINIGPT_TUI_CACHE_SIZE"
"""The environment variable that says how much the cache may hold, as 500MB or 20GB."""
DEFAULT_BUDGET = 20 * 10**9
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
STALE = 24 * 3600
"""Seconds without a change after which a temporary file is that of a process that was killed."""

_mapped: Counter[str] = Counter()
"""How many arrays of this process read each entry."""


class Item(NamedTuple):
    """Something in the cache that comes and goes as a whole."""

    name: str
    kind: Literal["tokens", "download", "unfinished"]
    paths: tuple[Path, ...]
    """The first says when it was used last."""
    n_bytes: int
    used: float
    """Seconds since 1970."""


def cache_folder() -> Path:
    """`MINIGPT_TUI_CACHE`, else the platform's folder for caches."""
    if chosen := os.environ.get(FOLDER):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("minigpt-tui")


def budget() -> int:
    """Bytes that the cache may hold.

    Raises:
        UsageError: the environment variable says no size.
    """
    said = os.environ.get(BUDGET, "")
    if not said:
        return DEFAULT_BUDGET
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", said, re.IGNORECASE)
    if match is None:
        raise UsageError(f"{BUDGET}={said!r} is no size; write 500MB or 20GB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def items() -> list[Item]:
    """All that is in the cache, the most recently used first."""
    return sorted(_items(cache_folder()), key=lambda item: -item.used)


def _items(folder: Path) -> Iterator[Item]:
    with suppress(OSError):
        for path in folder.glob("*.npy"):
            if item := _item(path.stem, "tokens", path.with_suffix(".json"), path):
                yield item
        for path in folder.glob("*.work"):
            if item := _item(path.name, "unfinished", path):
                yield item
        for path in folder.glob("unpacked-*.txt"):
            if item := _item(path.name, "unfinished", path):
                yield item
        for path in (folder / "downloads").glob("*"):
            if item := _item(path.name, "download", path):
                yield item


def _item(name: str, kind: Literal["tokens", "download", "unfinished"], *paths: Path) -> Item | None:
    """None if it has just gone."""
    there = [path for path in paths if path.exists()]
    with suppress(OSError):
        size = sum(_size(path) for path in there)
        return Item(name, kind, tuple(there), size, there[0].stat().st_mtime) if there else None
    return None


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.iterdir())
    return path.stat().st_size


def make_room(n_bytes: int, what: str, work: str = "") -> None:
    """Remove what was used longest ago, until so many bytes more fit into the budget.

    What this process maps and what another process works on stays. The item `work`, from which this comes, does not
    count: it will go.

    Raises:
        UserError: the budget is too small for this alone.
    """
    most = budget()
    if n_bytes > most:
        raise UserError(
            f"{what} takes {gigabytes(n_bytes)} of the cache, which may hold {gigabytes(most)}; allow more: "
            f"{BUDGET}={-(-n_bytes * 5 // 4 // 10**9) + 1}GB"
        )
    _remove_stale()
    found = [item for item in items() if item.name != work]
    there = sum(item.n_bytes for item in found)
    for item in reversed(found):
        if there + n_bytes <= most:
            return
        if remove(item):
            there -= item.n_bytes


def remove(item: Item) -> bool:
    """Whether it is gone: what is in use stays."""
    if _mapped[item.name] or is_worked_on(item):
        return False
    for path in item.paths:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return True


def remove_index() -> None:
    """Forget the SHA-256 of all files."""
    for path in cache_folder().glob("index-*.json"):
        path.unlink(missing_ok=True)


def gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 10**9 else f"{n_bytes / 1e6:.1f} MB"


def _remove_stale() -> None:
    with suppress(OSError):
        for path in cache_folder().iterdir():
            if TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > STALE:
                path.unlink()


# --- in use ---


def mapped(name: str, tokens: np.ndarray) -> None:
    """This process reads an entry, until the array and all its views are gone."""
    _mapped[name] += 1
    weakref.finalize(tokens, _mapped.subtract, [name])


def touch(path: Path) -> None:
    """Note that it is used now."""
    with suppress(OSError):
        os.utime(path)


def is_worked_on(item: Item) -> bool:
    """Whether a process, this one or another, holds the lock of an unfinished item."""
    if item.kind != "unfinished":
        return False
    path = item.paths[0]
    try:
        with open(path / "lock" if path.is_dir() else path, "rb") as file:
            flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
