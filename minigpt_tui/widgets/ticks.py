"""Round numbers for the axes of a chart."""

from __future__ import annotations

import math

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
TIME_SIZES = (1, 2, 5, 10, 15, 30, *(m * MINUTE for m in (1, 2, 5, 10, 15, 30)), *(h * HOUR for h in (1, 2, 3, 6, 12)))
"""Seconds between two marks of a time axis; beyond these, round numbers of days."""


def nice_size(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below a positive number."""
    size = 10.0 ** math.floor(math.log10(least))
    return next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= least * 0.999)


def nice_ticks(low: float, high: float, n: int) -> list[float]:
    """At most about `n` round numbers between two bounds."""
    if not high > low or n < 1:
        return [low]
    return _multiples(nice_size((high - low) / n), low, high)


def log_ticks(low: float, high: float, n: int) -> list[float]:
    """Round numbers between two positive bounds for a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 4, 6), (1, 2, 5), (1,)):
        ticks = [m * 10.0**d for d in decades for m in digits if low <= m * 10.0**d <= high]
        if len(ticks) <= n:
            break
    return ticks or [low]


def time_ticks(low: float, high: float, n: int) -> list[float]:
    """Seconds at round times of a clock between two bounds, at most about `n`."""
    if not high > low or n < 1:
        return [low]
    least = (high - low) / n
    if least < 1:
        return nice_ticks(low, high, n)
    size = next((size for size in TIME_SIZES if size >= least), 0.0) or DAY * nice_size(least / DAY)
    return _multiples(size, low, high)


def time_name(seconds: float) -> str:
    """30s, 5m, 1h30m, 2d6h: a mark of a time axis, from its first unit that counts to its last."""
    if seconds < MINUTE:
        return f"{seconds:g}s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    parts = [(days, "d"), (hour, "h"), (minute, "m"), (second, "s")]
    counts = [i for i, (number, _) in enumerate(parts) if number]
    return "".join(f"{number}{unit}" for number, unit in parts[counts[0] : counts[-1] + 1])


def _multiples(size: float, low: float, high: float) -> list[float]:
    first = math.ceil(low / size - 1e-9)
    return [round(i * size, 12) for i in range(first, math.floor(high / size + 1e-9) + 1)]
