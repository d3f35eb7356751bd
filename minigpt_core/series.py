"""Metrics kept for drawing: any range of a million points as a few hundred, without losing a spike."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import reduce
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from minigpt_core.config import lookup
from minigpt_core.errors import UsageError
from minigpt_core.status import Envelope, MetricsRow

FACTOR = 4
"""Blocks of one level that make a block of the next."""
CHUNK = FACTOR**4
"""Points between two updates of the levels: enough for NumPy to pay off, few enough to scan."""
LOW, HIGH, SUM, COUNT, BROKEN, FIRST, LAST = range(7)
"""Rows of a block array: extremes, sum and number of the finite values; number of the others; first and last step."""
ROWS = LAST + 1
BULK = FACTOR**8
"""Points summed up at a time when there are many: as many as the processor's cache holds."""

BETA = 0.98
"""Of the smoothed loss until another is chosen."""
SPAN = 64
"""Values that are averaged by one row of a matrix product."""

METRICS = (*(name for name in MetricsRow.__struct_fields__ if name != "step"), "smoothed")
"""All series of a run: the fields of a metrics row, and the smoothed training loss."""

DENSE = tuple(name for name in MetricsRow.__struct_fields__ if name not in ("step", "val_loss"))
"""Those that every row has."""
DENSE_VALUES = attrgetter(*DENSE)


class Table(NamedTuple):
    """Many rows at once."""

    steps: np.ndarray
    """(n,) int64, ascending"""
    values: np.ndarray
    """(n, len(DENSE)) float64"""
    val_steps: np.ndarray
    """(m,) int64, ascending"""
    val_losses: np.ndarray
    """(m,) float64"""

    @property
    def last(self) -> MetricsRow:
        """The newest of them; there must be one."""
        step, values = int(self.steps[-1]), dict(zip(DENSE, self.values[-1].tolist(), strict=True))
        measured = len(self.val_steps) > 0 and self.val_steps[-1] == step
        val_loss = float(self.val_losses[-1]) if measured else None
        return MetricsRow(**values | {"step": step, "tokens": int(values["tokens"]), "val_loss": val_loss})


class Pyramid:
    """One metric over steps. Level 0 is the points, a block of level k sums up 4**k of them.

    Appending is amortised O(1), and an envelope costs O(buckets) however many points it covers.
    """

    def __init__(self) -> None:
        self._size = 0
        self._steps = np.empty(CHUNK, dtype=np.int64)
        self._values = np.empty(CHUNK, dtype=np.float64)
        self._levels: list[np.ndarray] = []
        """Levels 1, 2, ...: (ROWS, capacity) float64, of which `_filled` blocks are complete."""
        self._filled: list[int] = []

    def __len__(self) -> int:
        return self._size

    @classmethod
    def of(cls, steps: np.ndarray, values: np.ndarray) -> Pyramid:
        """All points at once: (n,) steps, ascending, and (n,) values."""
        pyramid = cls()
        pyramid._size = len(steps)
        room = CHUNK * max(1, -(-len(steps) // CHUNK))
        pyramid._steps, pyramid._values = np.empty(room, np.int64), np.empty(room)
        pyramid._steps[: len(steps)], pyramid._values[: len(steps)] = steps, values
        pyramid._build()
        return pyramid

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of all points, to be read only."""
        return self._steps[: self._size], self._values[: self._size]

    @property
    def last(self) -> float:
        """The newest value, finite or not; there must be one."""
        return float(self._values[self._size - 1])

    def append(self, step: int, value: float) -> None:
        """Add a point. NaN and infinity are kept as gaps.

        Raises:
            ValueError: the step is before the last one.
        """
        if self._size and step < self._steps[self._size - 1]:
            raise ValueError(f"step {step} comes after step {self._steps[self._size - 1]}")
        if self._size == len(self._steps):
            self._steps = _doubled(self._steps)
            self._values = _doubled(self._values)
        self._steps[self._size] = step
        self._values[self._size] = value
        self._size += 1
        if self._size % CHUNK == 0:
            self._build()

    def extend(self, steps: np.ndarray, values: np.ndarray) -> None:
        """Add many points, (n,) ascending steps and (n,) values: as `append` would, and far quicker."""
        size = self._size + len(steps)
        while size > len(self._steps):
            self._steps, self._values = _doubled(self._steps), _doubled(self._values)
        self._steps[self._size : size], self._values[self._size : size] = steps, values
        self._size = size
        self._build()

    def envelope(self, lo: int | None, hi: int | None, buckets: int) -> Envelope:
        """The points with lo <= step <= hi in at most `buckets` buckets of equal width in steps; no empty ones.

        Every point counts in exactly one bucket. At a bucket's edge a point may count in the neighbour, at most a
        quarter of a bucket away where points are evenly spaced.
        """
        steps = self._steps[: self._size]
        first = 0 if lo is None else int(np.searchsorted(steps, lo, "left"))
        last = self._size if hi is None else int(np.searchsorted(steps, hi, "right"))
        if first >= last or buckets < 1:
            return Envelope(*np.empty((4, 0)))
        n = last - first
        level = 0
        while level < len(self._levels) and n >= FACTOR ** (level + 2) * buckets:
            level += 1
        blocks = np.concatenate(self._cover(first, last, level), axis=1)
        if n <= buckets:
            starts = np.arange(n)
        else:
            left = steps[first] if lo is None else lo
            right = steps[last - 1] if hi is None else hi
            edges = left + np.arange(buckets) * (max(right - left, 1) / buckets)
            found = np.searchsorted(blocks[FIRST] + blocks[LAST], 2 * edges)  # by the middles of the blocks
            found[0] = 0
            filled = np.append(found[1:], blocks.shape[1]) > found
            starts = found[filled]
        total, count, broken = np.add.reduceat(blocks[SUM : BROKEN + 1], starts, axis=1)
        low, high = np.fmin.reduceat(blocks[LOW], starts), np.fmax.reduceat(blocks[HIGH], starts)
        mean = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
        ends = np.append(starts[1:], blocks.shape[1]) - 1
        # Rounding may carry a mean past its own extremes.
        middle = (blocks[FIRST, starts] + blocks[LAST, ends]) / 2
        return Envelope(middle, low, high, np.clip(mean, low, high), broken > 0)

    def _blocks(self, level: int, start: int, stop: int) -> np.ndarray:
        """Blocks `start` to `stop` of a level: (ROWS, stop - start) float64."""
        if level:
            return self._levels[level - 1][:, start:stop]
        values, steps = self._values[start:stop], self._steps[start:stop]
        finite = np.isfinite(values)
        blocks = np.empty((ROWS, stop - start))
        blocks[LOW] = blocks[HIGH] = np.where(finite, values, np.nan)
        blocks[SUM] = np.where(finite, values, 0.0)
        blocks[COUNT], blocks[BROKEN] = finite, ~finite
        blocks[FIRST] = blocks[LAST] = steps
        return blocks

    def _cover(self, first: int, last: int, level: int) -> list[np.ndarray]:
        """The points `first` to `last` as whole blocks of `level` and, at both ends, of the levels below."""
        if first >= last:
            return []
        if level == 0:
            return [self._blocks(0, first, last)]
        size = FACTOR**level
        start = -(-first // size)
        stop = min(last // size, self._filled[level - 1])
        if start >= stop:
            return self._cover(first, last, level - 1)
        return [
            *self._cover(first, start * size, level - 1),
            self._blocks(level, start, stop),
            *self._cover(stop * size, last, level - 1),
        ]

    def _build(self) -> None:
        """Sum up, level by level, the blocks that have become complete."""
        below, level = self._size, 1
        while (filled := below // FACTOR) > 0:
            if level > len(self._levels):
                self._levels.append(np.empty((ROWS, CHUNK)))
                self._filled.append(0)
            done = self._filled[level - 1]
            while filled > self._levels[level - 1].shape[1]:
                self._levels[level - 1] = _doubled(self._levels[level - 1])
            for start in range(done, filled, BULK // FACTOR):
                self._sum_up(level, start, min(filled, start + BULK // FACTOR))
            self._filled[level - 1] = filled
            below, level = filled, level + 1

    def _sum_up(self, level: int, start: int, stop: int) -> None:
        """Fill blocks `start` to `stop` of a level from the level below."""
        fours = self._blocks(level - 1, start * FACTOR, stop * FACTOR).reshape(ROWS, stop - start, FACTOR)
        parts = [fours[..., i] for i in range(FACTOR)]  # adding up slices is several times quicker than a short axis
        target = self._levels[level - 1][:, start:stop]
        target[LOW] = reduce(np.fmin, (part[LOW] for part in parts))
        target[HIGH] = reduce(np.fmax, (part[HIGH] for part in parts))
        target[SUM : BROKEN + 1] = reduce(np.add, (part[SUM : BROKEN + 1] for part in parts))
        target[FIRST], target[LAST] = parts[0][FIRST], parts[-1][LAST]


def _doubled(array: np.ndarray) -> np.ndarray:
    """The array with room for twice as much along its last axis."""
    return np.concatenate([array, np.empty_like(array)], axis=-1)


class Smoother:
    """Exponential moving average, corrected for its start at zero: s ← βs + (1−β)x, shown as s / (1−βᵗ)."""

    def __init__(self, beta: float = BETA) -> None:
        self.beta = beta
        self._sum = 0.0
        self._weight = 0.0
        """1 − βᵗ after t values."""

    @property
    def value(self) -> float | None:
        """The average so far; None before the first finite value."""
        return self._sum / self._weight if self._weight else None

    def update(self, x: float) -> None:
        """Take in a value; one that is not finite changes nothing."""
        if math.isfinite(x):
            self._sum = self.beta * self._sum + (1 - self.beta) * x
            self._weight = self.beta * self._weight + (1 - self.beta)

    def after(self, x: float) -> float:
        """The average once a finite value is taken in."""
        self.update(x)
        return self._sum / self._weight

    def take(self, values: np.ndarray) -> np.ndarray:
        """Start over with (n,) finite values; (n,) averages, one after each, as `update` would have found them."""
        sums = (1 - self.beta) * decayed_sums(values, self.beta)
        weights = 1 - self.beta ** np.arange(1.0, len(values) + 1)
        self._sum, self._weight = (float(sums[-1]), float(weights[-1])) if len(values) else (0.0, 0.0)
        return sums / weights


def decayed_sums(values: np.ndarray, beta: float) -> np.ndarray:
    """s[t] = βs[t−1] + x[t] from s[−1] = 0: (n,) -> (n,).

    Rows of `SPAN` values are summed up by one matrix product; what comes into a row from those before it is the same
    recurrence over the rows' last sums, with β to the power of SPAN.
    """
    powers = beta ** np.arange(SPAN + 1.0)
    ages = np.arange(SPAN)[None, :] - np.arange(SPAN)[:, None]
    weights = np.where(ages >= 0, powers[np.maximum(ages, 0)], 0.0)  # (from, to)
    if len(values) <= SPAN:
        return values @ weights[: len(values), : len(values)]
    rows = np.zeros((-(-len(values) // SPAN), SPAN))
    rows.ravel()[: len(values)] = values
    sums = rows @ weights
    sums[1:] += decayed_sums(sums[:-1, -1], powers[SPAN])[:, None] * powers[1:]
    return sums.ravel()[: len(values)]


class Series:
    """All metrics of a run, each a pyramid. One thread may append while another draws."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._smoother = Smoother()
        self.clear()

    def clear(self) -> None:
        """Forget everything but the β: the run's metrics were cut and are read again."""
        with self._lock:
            self._pyramids = {name: Pyramid() for name in METRICS}
            self._smoother = Smoother(self._smoother.beta)
            self._last_step = -1

    def smooth(self, beta: float) -> None:
        """From now on, and for all that has come, "smoothed" is the average with this β; 0 is the raw loss.

        Raises:
            UsageError: β is not at least 0 and below 1.
        """
        if not 0 <= beta < 1:
            raise UsageError(f"smoothing {beta:g}: it is at least 0 (the raw loss) and below 1")
        with self._lock:
            steps, losses = self._pyramids["train_loss"].points
            finite = np.isfinite(losses)
            self._smoother = Smoother(beta)
            self._pyramids["smoothed"] = Pyramid.of(steps[finite], self._smoother.take(losses[finite]))

    def append(self, row: MetricsRow) -> None:
        """Add a logged step. A row from before the newest one cannot be drawn in order and is left out."""
        with self._lock:
            if row.step < self._last_step:
                return
            self._last_step = row.step
            for name, pyramid in self._pyramids.items():
                if name == "smoothed":
                    continue
                value = getattr(row, name)
                if value is not None:
                    pyramid.append(row.step, value)
            self._smoother.update(row.train_loss)
            if math.isfinite(row.train_loss) and self._smoother.value is not None:
                self._pyramids["smoothed"].append(row.step, self._smoother.value)

    def extend(self, rows: Sequence[MetricsRow]) -> None:
        """Add logged steps: as `append` would, and far quicker where they are many, as when a long run is opened."""
        if len(rows) < CHUNK:
            for row in rows:
                self.append(row)
            return
        with self._lock:
            flat = chain.from_iterable(map(DENSE_VALUES, rows))
            values = np.fromiter(flat, np.float64, len(rows) * len(DENSE)).reshape(len(rows), -1)  # (n, metrics)
            steps = np.array([row.step for row in rows])
            kept = steps >= np.maximum.accumulate(np.maximum(steps, self._last_step))
            measured = [i for i, row in enumerate(rows) if row.val_loss is not None and kept[i]]
            losses = np.array([rows[i].val_loss for i in measured], np.float64)
            self._take(Table(steps[kept], values[kept], steps[measured], losses))

    def take(self, table: Table) -> None:
        """Add rows that come after all there are."""
        with self._lock:
            self._take(table)

    def table(self) -> Table:
        """All rows so far."""
        with self._lock:
            steps = self._pyramids[DENSE[0]].points[0].copy()
            values = np.column_stack([self._pyramids[name].points[1] for name in DENSE])  # (n, metrics)
            val_steps, val_losses = self._pyramids["val_loss"].points
            return Table(steps, values, val_steps.copy(), val_losses.copy())

    def _take(self, table: Table) -> None:
        if not len(table.steps):
            return
        for name, values in zip(DENSE, table.values.T, strict=True):
            self._pyramids[name].extend(table.steps, values)
        self._pyramids["val_loss"].extend(table.val_steps, table.val_losses)
        losses = table.values[:, DENSE.index("train_loss")]
        finite = np.isfinite(losses)
        if self._smoother.value is None:
            averages = self._smoother.take(losses[finite])
        else:
            averages = np.array([self._smoother.after(loss) for loss in losses[finite].tolist()])
        self._pyramids["smoothed"].extend(table.steps[finite], averages)
        self._last_step = int(table.steps[-1])

    def last(self, metric: str) -> float | None:
        """The newest value of a metric; None while it has none."""
        with self._lock:
            pyramid = lookup(self._pyramids, metric, "metric")
            return pyramid.last if len(pyramid) else None

    def envelope(self, metric: str, lo: int | None = None, hi: int | None = None, buckets: int = 200) -> Envelope:
        """A metric between two steps (both included, None for the ends) in at most `buckets` points.

        Raises:
            UsageError: there is no such metric.
        """
        with self._lock:
            return lookup(self._pyramids, metric, "metric").envelope(lo, hi, buckets)
