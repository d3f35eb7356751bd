"""A run's curves, head scores and attention maps for a page: SVG geometry and small PNGs that need no other file.

Nothing here chooses a colour of a line or writes a tag: the page's template does, so that one style sheet serves light
and dark. Numbers are rounded to a tenth of a pixel, and the same run gives the same bytes.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minigpt_core.frame import HeadHistory
from minigpt_core.heads import BORN, ROLES, SCORES, label
from minigpt_core.ladder import Ladder
from minigpt_core.series import Series

BUCKETS = 480
"""Points of a curve at most: more than one a pixel and a half would not be seen."""
PANEL_POINTS = 100
"""Points of a line in a head's panel at most."""
PANELS = 48
"""Heads that have a panel at most."""
MAP_PIXELS = 600_000
"""Cells of all attention maps together: what keeps a page of a thousand heads small."""
GREYS = 63
"""Shades of an attention map."""
LABEL_GAP = 17
"""Pixels from one label of the ladder to the next."""


@dataclass(frozen=True)
class Axis:
    """Values `lo` to `hi` along the pixels `start` to `end`."""

    lo: float
    hi: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: np.ndarray | Sequence[float]) -> np.ndarray:
        """Pixels, kept near the picture; what has no place (NaN, infinity, 0 on a logarithmic axis) is NaN."""
        v = np.asarray(values, dtype=np.float64)
        lo, hi = self.lo, self.hi
        if self.log:
            v, lo, hi = np.log(np.where(v > 0, v, np.nan)), math.log(lo), math.log(hi)
        share = np.where(np.isfinite(v), (v - lo) / (hi - lo), np.nan)
        return self.start + np.clip(share, -1, 2) * (self.end - self.start)

    def ticks(self, most: int, whole: bool = False) -> list[tuple[float, str]]:
        """(pixel, label) at round values."""
        values = _log_ticks(self.lo, self.hi) if self.log else _ticks(self.lo, self.hi, most, whole)
        return [(round(float(p), 1), f"{v:,.10g}") for p, v in zip(self(values), values, strict=True)]


@dataclass(frozen=True)
class Chart:
    """Everything that the template needs to draw one chart; all positions are pixels of `width` by `height`."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[str, str]]
    """(class, path), those at the back first."""
    levels: Sequence[tuple[float, float, str]] = ()
    """(y, y of its label, label) of horizontal lines."""
    marks: Sequence[tuple[str, float, float, str]] = ()
    """(class, x, y, tooltip)."""
    note: str = ""
    """What the picture cannot show, in words."""


def loss_chart(series: Series, last_step: int, vocab_size: int, ladder: Ladder | None, passed: dict[str, int]) -> Chart:
    """Training and validation loss over steps, between the lines of the n-gram ladder.

    The top of the picture is at most half as high again as ln(vocab_size), what guessing costs: a run that blows up
    would else flatten everything before.

    Args:
        passed: the step at which each rung was passed.
    """
    raw, smooth, val = (series.envelope(name, buckets=BUCKETS) for name in ("train_loss", "smoothed", "val_loss"))
    rungs = {rung.name: rung.loss for rung in ladder.rungs} if ladder else {}
    finite = [v for v in (*raw.low, *raw.high, *val.mean) if math.isfinite(v)]
    shown = [*(finite or [math.log(vocab_size)]), *rungs.values()]
    lo, hi = min(shown), max(shown)
    cap = 1.5 * math.log(vocab_size)
    note = ""
    if lo < cap < hi:
        note = f"The highest loss, {hi:,.1f}, lies above the picture."
        hi = cap
    pad = 0.04 * (hi - lo) or 0.5
    width, height, left, right = 760, 360, 52, 626 if rungs else 744
    x = Axis(0, max(1, last_step), left, right)
    y = Axis(lo - pad, hi + pad, height - 34, 10)
    lines = [("raw", _band(x, y, raw.step, raw.low, raw.high)), ("train", _path(x(smooth.step), y(smooth.mean)))]
    lines.append(("val", _path(x(val.step), y(val.mean))))
    few = len(val) <= 40
    marks = [("val", *_at(x, y, step, loss), f"validation {loss:.4f} at step {step:,.0f}")
             for step, loss in zip(val.step, val.mean, strict=True) if few and math.isfinite(loss)]  # fmt: skip
    marks += [("rung", *_at(x, y, step, rungs[name]), f"passed {name} at step {step:,}")
              for name, step in passed.items() if name in rungs and step <= last_step]  # fmt: skip
    heights = [round(float(p), 1) for p in y(list(rungs.values()))]
    places = spread(heights, LABEL_GAP, y.end + 6, y.start - 4)
    names = [f"{name} {loss:.2f}" for name, loss in rungs.items()]
    return Chart(
        width, height, left, right, y.end, y.start, x.ticks(6, whole=True), y.ticks(7), lines,
        list(zip(heights, places, names, strict=True)), marks, note,
    )  # fmt: skip


def small_chart(series: Series, metric: str, last_step: int, log: bool = False) -> Chart | None:
    """One metric over steps, half as wide; None if no value of it can be drawn.

    Args:
        log: a logarithmic axis; otherwise it begins at 0.
    """
    curve = series.envelope(metric, buckets=BUCKETS // 2)
    usable = [v for v in (*curve.low, *curve.high) if math.isfinite(v) and (v > 0 or not log)]
    if not usable:
        return None
    lo, hi = (min(usable) / 1.1, max(usable) * 1.1) if log else (0.0, max(usable) * 1.05 or 1.0)
    width, height, left, right = 380, 220, 58, 366
    x, y = Axis(0, max(1, last_step), left, right), Axis(lo, hi, height - 34, 10, log)
    lines = [("raw", _band(x, y, curve.step, curve.low, curve.high)), ("train", _path(x(curve.step), y(curve.mean)))]
    return Chart(width, height, left, right, y.end, y.start, x.ticks(4, whole=True), y.ticks(4), lines)


# --- heads ---


@dataclass(frozen=True)
class Panel:
    """The scores of one head over steps, in a picture of `PANEL_WIDTH` by `PANEL_HEIGHT`."""

    layer: int
    head: int
    role: str
    """Its label at the end."""
    lines: list[tuple[str, str]]
    """(name of the score, path)."""
    births: list[tuple[float, float, str, int]]
    """(x, y, role, step)."""
    summary: str


PANEL_WIDTH, PANEL_HEIGHT = 180, 84


def head_panels(history: HeadHistory, births: Iterable[tuple[int, int, int, str]]) -> tuple[list[Panel], int]:
    """A panel a head, in order of layers; of more than `PANELS` heads those that come nearest to a role.

    Args:
        births: (step, layer, head, role).

    Returns:
        The panels, and how many heads were left out.
    """
    x = Axis(0, max(1, int(history.steps[-1])), 2, PANEL_WIDTH - 2)
    y = Axis(0, 1, PANEL_HEIGHT - 2, 2)
    kept = np.unique(np.linspace(0, len(history.steps) - 1, PANEL_POINTS).astype(np.int64))
    steps, scores = history.steps[kept], np.nan_to_num(history.scores[kept])  # (n,), (n, 4, L, H)
    roles = [SCORES.index(role) for role in ROLES]
    peaks = np.nan_to_num(history.scores[:, roles]).max((0, 1))  # (L, H)
    order = np.argsort(-peaks, axis=None, kind="stable")
    chosen = sorted(divmod(int(i), peaks.shape[1]) for i in order[:PANELS])
    born: dict[tuple[int, int], list[tuple[float, float, str, int]]] = {}
    for step, layer, head, role in births:
        born.setdefault((layer, head), []).append((*_at(x, y, step, BORN), role, step))
    panels = []
    for layer, head in chosen:
        last = history.scores[-1, :, layer, head]
        lines = [(name, _path(x(steps), y(scores[:, i, layer, head]))) for i, name in enumerate(SCORES)]
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in zip(SCORES, last.tolist(), strict=True))
        panels.append(Panel(layer, head, label(last), lines, born.get((layer, head), []), numbers))
    return panels, peaks.size - len(panels)


def y_of_birth() -> float:
    """Where the line of `BORN` is in a panel."""
    return round(float(Axis(0, 1, PANEL_HEIGHT - 2, 2)([BORN])[0]), 1)


# --- attention ---


def tokens_shown(n_heads: int, n_tokens: int) -> int:
    """Tokens on each side of a map, so that all maps together keep within `MAP_PIXELS`."""
    return max(1, min(n_tokens, math.isqrt(MAP_PIXELS // n_heads)))


def map_png(weights: np.ndarray) -> str:
    """One attention map as a PNG in a data URI, a pixel a weight: cividis over the square root of the weight.

    What the causal mask hides is transparent, as is what is not a number.

    Args:
        weights: (T, T), rows are queries, columns are keys.
    """
    level = 1 + np.rint(np.sqrt(np.clip(np.nan_to_num(weights), 0, 1)) * (GREYS - 1)).astype(np.uint8)
    level[np.triu(np.ones(weights.shape, bool), 1) | ~np.isfinite(weights)] = 0
    n = len(level)
    rows = np.concatenate([np.zeros((n, 1), np.uint8), level], axis=1)  # each row begins with its filter: none
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">2I5B", n, n, 8, 3, 0, 0, 0)),  # 8 bits a pixel, by palette
            _chunk(b"PLTE", bytes(3) + b"".join(bytes(colour) for colour in shades(GREYS))),
            _chunk(b"tRNS", b"\0"),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def shades(n: int) -> list[tuple[int, int, int]]:
    """The scale of the maps, from no weight to all of it: n colours of cividis."""
    import matplotlib

    colours = matplotlib.colormaps["cividis"](np.linspace(0, 1, n), bytes=True)  # (n, 4)
    return [(int(r), int(g), int(b)) for r, g, b, _ in colours]


def _chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file (ISO/IEC 15948): length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# --- geometry ---


def spread(wanted: list[float], gap: float, lo: float, hi: float) -> list[float]:
    """Places for labels as near as may be to where they belong, at least `gap` apart, and within lo to hi if they fit.

    From the top down each label moves below the one before it; if the last then is too low, all move up from there.
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    places = list(wanted)
    at = lo - gap
    for i in order:
        at = places[i] = max(places[i], at + gap)
    at = hi + gap
    for i in reversed(order):
        at = places[i] = min(places[i], at - gap)
    return [round(place, 1) for place in places]


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """A line through the points, broken where there is none; a point alone is a dot under round line caps."""
    pieces, pen = [], "M"
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        if math.isnan(px) or math.isnan(py):
            pen = "M"
            continue
        pieces.append(f"{pen}{px:.1f} {py:.1f}" + ("h0" if pen == "M" else ""))
        pen = "L"
    return "".join(pieces)


def _band(x: Axis, y: Axis, steps: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """From the lowest to the highest value of each bucket, up and down: where each holds one value, its curve."""
    if np.array_equal(low, high, equal_nan=True):
        return _path(x(steps), y(low))
    return _path(np.repeat(x(steps), 2), np.stack([y(low), y(high)], axis=1).ravel())


def _at(x: Axis, y: Axis, step: float, value: float) -> tuple[float, float]:
    return round(float(x([step])[0]), 1), round(float(y([value])[0]), 1)


def _ticks(lo: float, hi: float, most: int, whole: bool) -> list[float]:
    """At most about `most` multiples of 1, 2 or 5 times a power of ten."""
    wide = (hi - lo) / most
    size = 10 ** math.floor(math.log10(wide))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= wide * (1 - 1e-9))
    if whole:
        step = max(1, step)
    return [k * step for k in range(math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) + 1)]


def _log_ticks(lo: float, hi: float) -> list[float]:
    """Powers of ten; within two of them also their doubles and fivefolds; round values where not even these occur."""
    decades = range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1)
    factors = (1, 2, 5) if math.log10(hi / lo) < 2 else (1,)
    values = [m * 10.0**k for k in decades for m in factors if lo <= m * 10.0**k <= hi]
    return values if len(values) > 1 else _ticks(lo, hi, 4, whole=False)
