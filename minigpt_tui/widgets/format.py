"""Numbers and times as people read them, in steady widths. Unknown values are a dash."""

from __future__ import annotations

import math
import time

UNKNOWN = "—"


def number(value: float | None, digits: int = 3) -> str:
    """A plain decimal such as a loss; `inf` and `nan` stay words."""
    if value is None:
        return UNKNOWN
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def share(value: float, digits: int = 3) -> str:
    """A number from 0 to 1, such as a probability, without its leading zero: .731."""
    return f"{value:.{digits}f}".removeprefix("0") if math.isfinite(value) else UNKNOWN


def quoted(label: str) -> str:
    """A token's label in a line: visible white space as it is, ordinary text in quotes."""
    return f"'{label}'" if label.isascii() else label


def count(value: int | None) -> str:
    """A whole number with thousands separators."""
    return UNKNOWN if value is None else f"{value:,}"


def short(value: float | None) -> str:
    """A magnitude in at most five characters: 950, 1.2k, 34k, 10.7M."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.1f}{unit}" if abs(scaled) < 99.95 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}" if abs(value) >= 9.995 or value == int(value) else f"{value:.2g}"


def duration(seconds: float | None) -> str:
    """42s, 3m 05s, 2h 07m, 4d 03h."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole // 60 % 60:02d}m"
    return f"{whole // 86400}d {whole // 3600 % 24:02d}h"


def age(seconds: float | None) -> str:
    """How long ago, coarsely, so that it seldom changes: now, 40s, 3m, 2h, 4d."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 10:
        return "now"
    if seconds < 60:
        return f"{int(seconds // 10) * 10}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m"
    return f"{int(seconds // 3600)}h" if seconds < 86400 else f"{int(seconds // 86400)}d"


def clock(seconds: float) -> str:
    """The local time of day of a moment in seconds since 1970; a log may hold any number, even one without a date."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "--:--:--"


def size(n_bytes: int | None) -> str:
    """Memory: 812 MB, 3.4 GB."""
    if n_bytes is None:
        return UNKNOWN
    mega = n_bytes / 2**20
    return f"{mega:.0f} MB" if mega < 1000 else f"{mega / 1024:.1f} GB"


def size_of(n_bytes: int, total: int | None) -> str:
    """Memory and how much there is, in one unit: 3.2/22.4 GB."""
    return size(n_bytes) if total is None else f"{n_bytes / 2**30:.1f}/{total / 2**30:.1f} GB"


def learning_rate(value: float | None) -> str:
    """1.00e-03: always the same width."""
    return UNKNOWN if value is None else f"{value:.2e}"
