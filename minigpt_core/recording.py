"""What a run's probe saw, step by step, on disk: the source of time travel.

One SQLite file a run, `probe/frames.sqlite`: whatever is killed at whatever moment, it opens again with every frame
that was written whole. Frames are screen-sized and quantised, and there is a budget: when it is used up, half of the
frames go, spread so that early training, where heads are born, stays the densest.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from minigpt_core.errors import UserError
from minigpt_core.frame import Frame, HeadHistory, RecordedSample
from minigpt_core.frame_bytes import head_scores, pack, read_sample, read_stamp, unpack
from minigpt_core.reading import brief, check_format
from minigpt_core.rundir import RunDir

BUDGET = 100 * 2**20
"""Bytes of frames that a run keeps at most: a week of training takes no more than this and its metrics."""
MAX_SAMPLES = 2_000
PROBE_TOKENS = 64
"""Tokens of the text that is watched all run long: as many as a terminal can show one by one."""
BUSY_SECONDS = 2.0
"""How long a writer waits for a reader."""

FORMAT = 1
"""The database's `user_version`; one of version 0 is empty, or was written before there was a number."""
LONGEST_QUERY = 20_000_000
"""Steps of SQLite's machine after which a query is given up: the largest recording takes a tenth."""
TABLES = {"frames", "samples", "texts"}

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
        with self._believing():
            stamp, scores, rest, attention, tokens = rows[0]
            return unpack(read_stamp(stamp), scores, rest, attention, json.loads(tokens), labels)

    def sample(self, step: int) -> RecordedSample | None:
        """The newest sample written at or before a step."""
        rows = self._rows("SELECT step, prompt, text FROM samples WHERE step <= ? ORDER BY step DESC LIMIT 1", step)
        return read_sample(rows[0]) if rows else None

    def samples(self) -> list[RecordedSample]:
        """All samples, oldest first."""
        return [read_sample(row) for row in self._rows("SELECT step, prompt, text FROM samples ORDER BY step")]

    def head_history(self) -> HeadHistory | None:
        """The scores of all heads at all recorded steps; None while there are none."""
        rows = self._rows("SELECT step, stamp, scores FROM frames ORDER BY step")
        if not rows:
            return None
        with self._believing():
            L, H, *_ = read_stamp(rows[-1][1])["shape"]
            steps = np.array([row[0] for row in rows], dtype=np.int64)
            return HeadHistory(steps, np.stack([head_scores(row[2], L, H) for row in rows]))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _rows(self, query: str, *values: object) -> list[tuple]:
        try:
            if self._db is None:
                if not self.path.is_file():
                    return []
                uri = f"{self.path.absolute().as_uri()}?mode=ro"
                self._db = careful(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS), self.path)
            limit(self._db)
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            if "no such table" in str(error):  # just being made
                return []
            self.close()
            raise UserError(f"cannot read {str(self.path)!r}: {brief(error)}") from None

    @contextmanager
    def _believing(self) -> Iterator[None]:
        """Around what takes a row for what this program wrote."""
        try:
            yield
        except UserError as error:
            raise UserError(f"cannot read {str(self.path)!r}: {brief(error)}") from None
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, zlib.error):
            raise UserError(f"cannot read {str(self.path)!r}: it holds a damaged frame") from None


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
            self._db = careful(sqlite3.connect(self.path, timeout=BUSY_SECONDS), self.path)
            limit(self._db)
            # A thinned file gives its room back.
            self._db.executescript(f"PRAGMA auto_vacuum = FULL; PRAGMA user_version = {FORMAT};" + SCHEMA)
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
        stamp, scores, rest, attention = pack(frame)
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
            raise UserError(f"cannot record frames in {str(self.path)!r}: {brief(error)}") from None


def careful(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """A connection to a file that anybody may have written: of our tables and nothing that runs by itself.

    Raises:
        UserError: a newer version of this program wrote it.
        sqlite3.Error: it is damaged, or holds views or triggers.
    """
    try:
        limit(db)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        check_format(max(FORMAT, db.execute("PRAGMA user_version").fetchone()[0]), FORMAT, path)
        found = db.execute("SELECT type, name FROM sqlite_master").fetchall()
        if any(kind != "table" or name not in TABLES for kind, name in found):
            raise sqlite3.DatabaseError("it is not a recording")
    except BaseException:
        db.close()
        raise
    return db


def limit(db: sqlite3.Connection) -> None:
    """Let the queries from here to the next call together take no more than `LONGEST_QUERY`."""
    calls = itertools.count()
    db.set_progress_handler(lambda: next(calls) > 0, LONGEST_QUERY // 2)  # a first call may come at once


def truncate(run: RunDir, step: int) -> None:
    """Forget what was recorded after a step: a resumed run goes another way from there.

    A damaged file is removed: it is no reason not to train on.

    Raises:
        UserError: a newer version of this program wrote it.
    """
    path = run.frames
    if not path.is_file():
        return
    try:
        with closing(careful(sqlite3.connect(path, timeout=BUSY_SECONDS), path)) as db, db:
            db.executescript(SCHEMA)
            db.execute("DELETE FROM frames WHERE step > ?", (step,))
            db.execute("DELETE FROM samples WHERE step > ?", (step,))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise UserError(f"cannot write {str(path)!r}: {error}") from None
        path.unlink(missing_ok=True)
    except sqlite3.Error:
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
