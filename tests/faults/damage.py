"""Ways to damage a file or a value, drawn from a seeded generator."""

from __future__ import annotations

import copy
import random
from typing import Any

HOSTILE = "\x1b]52;c;aGk=\x07\x9b2J\u202e\u200b[/red][@click=app.quit]x[/]\n\t\x00"
STRANGE: list[Any] = [
    *(None, True, "", "12", HOSTILE, "x" * 100_000, [], {}, [[[[]]]], {"a": {"b": [1]}}),
    *(-1, 0, 1, 10**9, 10**12, 2**63, 10**30, 0.5, -1.0, 1e300, float("nan"), float("inf")),
]
"""What no writer of this program would have put there; some of it fits some fields by chance."""


def bytes_damaged(data: bytes, rng: random.Random) -> bytes:
    """Flipped bits, a lost end, a lost middle, noise, zeros, something twice, something else in front or behind."""
    out = bytearray(data)
    n = len(out)
    at, length = rng.randrange(n), rng.choice((1, 16, 512, n // 3)) or 1
    match rng.randrange(9):
        case 0 | 1 | 2:
            for _ in range(rng.choice((1, 1, 2, 8, 64))):
                out[rng.randrange(n)] ^= 1 << rng.randrange(8)
        case 3:
            del out[rng.randrange(n) :]
        case 4:
            del out[at : at + length]
        case 5:
            out[at : at + length] = rng.randbytes(len(out[at : at + length]))
        case 6:
            out[at : at + length] = bytes(len(out[at : at + length]))
        case 7:
            out[at:at] = out[at : at + length]
        case 8:
            return rng.choice((rng.randbytes(64) + data, data + rng.randbytes(64), rng.randbytes(n), b"", data * 2))
    return bytes(out)


def value_damaged(value: Any, rng: random.Random) -> Any:
    """A copy of a tree of dicts and lists in which one entry is gone, new, strange or where another should be."""
    value = copy.deepcopy(value)
    places = _places(value)
    parent, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(("surprise", HOSTILE, "x" * 100_000))] = rng.choice(STRANGE)
        case 2:
            other, there = rng.choice(places)
            parent[key] = copy.deepcopy(other[there])
        case 3 if isinstance(parent, dict):
            parent[str(key) + "s"] = parent.pop(key)
        case _:
            parent[key] = rng.choice(STRANGE)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found = []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        found += [(value, key), *_places(inner)]
    return found
