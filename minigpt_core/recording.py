"""What a run's probe saw, step by step, on disk: the source of time travel.

One SQLite file a run, `probe/frames.sqlite`: whatever is killed at whatever moment, it opens again with every frame
that was written whole. Frames are screen-sized and quantised, and there is a budget: when it is used up, half of the
frames go, spread so that early training, where heads are born, stays the densest.
"""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np

from minigpt_core.errors import UserError
from minigpt_core.frame import Frame, HeadHistory, Health, Lens, RecordedSample
from minigpt_core.rundir import RunDir
from minigpt_core.status import Stamp

BUDGET = 100 * 2**20
"""Bytes of frames that a run keeps at most: a week of training takes no more than this and its metrics."""
MAX_SAMPLES = 2_000
PROBE_TOKENS = 64
"""Tokens of the text that is watched all run long: as many as a terminal can show one by one."""
BUSY_SECONDS = 2.0
"""How long a writer waits for a reader."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (step INTEGER PRIMARY KEY, stamp TEXT, scores BLOB, rest BLOB, attention BLOB);
CREATE TABLE IF NOT EXISTS samples (step INTEGER PRIMARY KEY, prompt TEXT, text TEXT);
CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, tokens TEXT);
"""


class Recording:
    """Reads a run's frames; any number of readers beside one writer. A connection belongs to the thread that made it.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, run: RunDir) -> None:
        self.path = run.frames
        self._db: sqlite3.Connection | None = None

    def steps(self) -> np.ndarray:
        """(n,) int64: the steps that have a frame, ascending."""
        return np.array([step for (step,) in self._rows("SELECT step FROM frames ORDER BY step")], dtype=np.int64)

    def nearest(self, step: int) -> int | None:
        """The recorded step nearest to `step`; None while there is none."""
        rows = self._rows("SELECT step FROM frames ORDER BY abs(step - ?), step LIMIT 1", step)
        return rows[0][0] if rows else None

    def frame(self, step: int, labels: Callable[[list[int]], tuple[str, ...]]) -> Frame | None:
        """The frame of exactly this step; None if there is none (it may have been thinned out just now).

        Args:
            labels: the text of each token id.
        """
        rows = self._rows(
            "SELECT stamp, scores, rest, attention, tokens FROM frames, texts WHERE step = ? AND texts.id = 0", step
        )
        if not rows:
            return None
        stamp, scores, rest, attention, tokens = rows[0]
        return _unpack(json.loads(stamp), scores, rest, attention, json.loads(tokens), labels)

    def sample(self, step: int) -> RecordedSample | None:
        """The newest sample written at or before a step."""
        rows = self._rows("SELECT step, prompt, text FROM samples WHERE step <= ? ORDER BY step DESC LIMIT 1", step)
        return RecordedSample(*rows[0]) if rows else None

    def samples(self) -> list[RecordedSample]:
        """All samples, oldest first."""
        return [RecordedSample(*row) for row in self._rows("SELECT step, prompt, text FROM samples ORDER BY step")]

    def head_history(self) -> HeadHistory | None:
        """The scores of all heads at all recorded steps; None while there are none."""
        rows = self._rows("SELECT step, stamp, scores FROM frames ORDER BY step")
        if not rows:
            return None
        shape = json.loads(rows[-1][1])["shape"]
        steps = np.array([row[0] for row in rows], dtype=np.int64)
        return HeadHistory(steps, np.stack([_scores(row[2], *shape[:2]) for row in rows]))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _rows(self, query: str, *values: object) -> list[tuple]:
        if self._db is None:
            if not self.path.is_file():
                return []
            self._db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error):  # just being made
                return []
            raise UserError(f"cannot read {str(self.path)!r}: {error}") from None


class Recorder:
    """Writes a run's frames. It belongs to the thread that made it.

    Args:
        tokens: (T,) the text that is watched all run long.
        budget: bytes of frames to keep at most.

    Raises:
        UserError: the disk refuses, or the file is damaged.
    """

    def __init__(self, run: RunDir, tokens: list[int], budget: int = BUDGET) -> None:
        self.path, self._budget = run.frames, budget
        with self._careful():
            self.path.parent.mkdir(exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
            self._db.executescript("PRAGMA auto_vacuum = FULL;" + SCHEMA)  # a thinned file gives its room back
            with self._db:
                self._db.execute("INSERT OR REPLACE INTO texts VALUES (0, ?)", (json.dumps(tokens),))
            self._bytes = self._count()
            (last,) = self._db.execute("SELECT max(step) FROM frames").fetchone()
        self._last: int | None = last
        self._spacing = 0.0
        """Distance of the frames kept, in square roots of steps, once some had to go."""

    def due(self, step: int, final: bool = False) -> bool:
        """Whether a frame of this step should be kept: not if it lies closer to the last one than those that are.

        Args:
            final: no other will come after it.
        """
        if self._last is None or step == self._last:
            return self._last is None
        return final or step**0.5 - self._last**0.5 >= self._spacing

    def write(self, frame: Frame) -> None:
        """Keep a frame; the one that was written at its step before is replaced."""
        stamp, scores, rest, attention = _pack(frame)
        with self._careful(), self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?, ?)",
                (frame.stamp.step, json.dumps(stamp), scores, rest, attention),
            )
        self._last = frame.stamp.step
        self._bytes += len(rest) + len(attention)
        if self._bytes > self._budget:
            n = self._thin("frames")
            self._bytes, self._spacing = self._count(), self._last**0.5 / n

    def write_sample(self, sample: RecordedSample) -> None:
        with self._careful(), self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO samples VALUES (?, ?, ?)", (sample.step, sample.prompt, sample.text)
            )
            (n,) = self._db.execute("SELECT count(*) FROM samples").fetchone()
        if n > MAX_SAMPLES:
            self._thin("samples")

    def close(self) -> None:
        self._db.close()

    def _thin(self, table: str) -> int:
        """Let half of the rows go; how many are left."""
        with self._careful(), self._db:
            steps = [step for (step,) in self._db.execute(f"SELECT step FROM {table} ORDER BY step")]
            kept = thinned(steps, len(steps) // 2)
            self._db.executemany(f"DELETE FROM {table} WHERE step = ?", [(step,) for step in set(steps) - set(kept)])
        return len(kept)

    def _count(self) -> int:
        (n,) = self._db.execute("SELECT total(length(rest) + length(attention)) FROM frames").fetchone()
        return int(n)

    @contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"cannot record frames in {str(self.path)!r}: {error}") from None


def truncate(run: RunDir, step: int) -> None:
    """Forget what was recorded after a step: a resumed run goes another way from there.

    A damaged file is removed: it is no reason not to train on.
    """
    path = run.frames
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as db, db:
            db.executescript(SCHEMA)
            db.execute("DELETE FROM frames WHERE step > ?", (step,))
            db.execute("DELETE FROM samples WHERE step > ?", (step,))
    except sqlite3.DatabaseError:
        path.unlink(missing_ok=True)


def thinned(steps: list[int], keep: int) -> list[int]:
    """About `keep` of the steps, first and last among them, spread evenly over the square root of the step."""
    if len(steps) <= 2 or keep >= len(steps):
        return steps
    roots = np.sqrt(np.array(steps, dtype=np.float64))
    wanted = np.linspace(roots[0], roots[-1], max(2, keep))
    after = np.searchsorted(roots, wanted).clip(1, len(roots) - 1)
    nearest = np.where(wanted - roots[after - 1] < roots[after] - wanted, after - 1, after)
    return [steps[i] for i in sorted({0, len(steps) - 1, *nearest.tolist()})]


# --- a frame as bytes ---


def _pack(frame: Frame) -> tuple[dict, bytes, bytes, bytes]:
    """The stamp, and three blobs: scores, lens and health, attention below the diagonal as 8-bit square roots."""
    L, H, T, _ = frame.weights.shape
    lower = np.tril_indices(T)
    roots = np.sqrt(np.clip(np.nan_to_num(frame.weights[:, :, lower[0], lower[1]]), 0, 1))  # (L, H, T(T+1)/2)
    attention = np.rint(roots * 255).astype(np.uint8)
    lens, health = frame.lens, frame.health
    rest = b"".join(
        (
            lens.tokens.astype("<u4").tobytes(),
            lens.probabilities.astype("<f2").tobytes(),
            lens.losses.astype("<f2").tobytes(),
            health.residual_norms.astype("<f4").tobytes(),
            health.dead_units.astype("<f4").tobytes(),
        )
    )
    stamp = {
        "step": frame.stamp.step,
        "val_loss": _json_float(frame.stamp.val_loss),
        "val_step": frame.stamp.val_step,
        "update_ratio": _json_float(health.update_ratio),
        "shape": [L, H, T, lens.tokens.shape[2]],
    }
    return stamp, frame.scores.astype("<f4").tobytes(), zlib.compress(rest, 6), zlib.compress(attention.tobytes(), 6)


def _unpack(
    stamp: dict,
    scores: bytes,
    rest: bytes,
    attention: bytes,
    tokens: list[int],
    labels: Callable[[list[int]], tuple[str, ...]],
) -> Frame:
    L, H, T, k = stamp["shape"]
    lower = np.tril_indices(T)
    weights = np.zeros((L, H, T, T), np.float32)
    packed = np.frombuffer(zlib.decompress(attention), np.uint8).reshape(L, H, -1)
    weights[:, :, lower[0], lower[1]] = np.square(packed / np.float32(255))
    parts = _split(
        zlib.decompress(rest),
        [("<u4", (L + 1, T, k)), ("<f2", (L + 1, T, k)), ("<f2", (L + 1, T)), ("<f4", (L + 1,)), ("<f4", (L,))],
    )
    lens = Lens(parts[0].astype(np.int64), parts[1].astype(np.float32), parts[2].astype(np.float32))
    return Frame(
        stamp=Stamp(step=stamp["step"], val_loss=stamp["val_loss"], val_step=stamp["val_step"]),
        tokens=labels(tokens),
        weights=weights,
        scores=_scores(scores, L, H),
        lens=lens,
        lens_labels=lens.labelled(labels),
        health=Health(parts[3], parts[4], stamp["update_ratio"]),
    )


def _scores(blob: bytes, L: int, H: int) -> np.ndarray:
    return np.frombuffer(blob, "<f4").reshape(4, L, H)


def _split(data: bytes, parts: list[tuple[str, tuple[int, ...]]]) -> list[np.ndarray]:
    arrays, at = [], 0
    for dtype, shape in parts:
        n = math.prod(shape)
        arrays.append(np.frombuffer(data, dtype, n, at).reshape(shape))
        at += n * np.dtype(dtype).itemsize
    return arrays


def _json_float(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
