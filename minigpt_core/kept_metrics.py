"""A long run's metrics as plain numbers beside its log, so that opening it need not decode every line again.

Derived from `metrics.jsonl`, left out where it does not fit that, and made anew: a run without it lacks nothing.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from minigpt_core.atomic import write_atomic
from minigpt_core.errors import UserError
from minigpt_core.reading import read_bytes
from minigpt_core.rundir import RunDir
from minigpt_core.series import DENSE, Table
from minigpt_core.status import MetricsRow

FORMAT = 1
MOST_BYTES = 2**28
MARK_BYTES = 4096
"""At the beginning of the log and before the place up to which it is kept: what tells it from another one."""
COLUMNS = 1 + len(DENSE)


class _File(msgspec.Struct):
    format: int
    end: int
    mark: bytes
    rows: bytes
    """(n, COLUMNS) float64: the step, and what every row has."""
    measured: bytes
    """(m, 2) float64: steps and their validation losses."""


class Kept(NamedTuple):
    """The rows of a log's first bytes."""

    table: Table
    last: MetricsRow
    end: int
    """Where the rows that follow begin."""
    log: os.stat_result
    """Of which file that holds."""


def keep(run: RunDir, table: Table, end: int) -> None:
    """Write the rows that a log holds before `end`, a line's beginning.

    Raises:
        UserError, OSError: it cannot be written.
    """
    rows = np.column_stack([table.steps, table.values])  # (n, COLUMNS)
    measured = np.column_stack([table.val_steps, table.val_losses])  # (m, 2)
    mark, _ = _mark(run.metrics, end)
    write_atomic(run.kept_metrics, msgspec.msgpack.encode(_File(FORMAT, end, mark, rows.tobytes(), measured.tobytes())))


def read(run: RunDir) -> Kept | None:
    """What is kept of a run's log as it is now; None if nothing is, or it is of another log."""
    try:
        found = msgspec.msgpack.decode(read_bytes(run.kept_metrics, MOST_BYTES), type=_File)
        mark, log = _mark(run.metrics, found.end)
        if found.format != FORMAT or found.mark != mark:
            return None
        rows = np.frombuffer(found.rows).reshape(-1, COLUMNS)
        measured = np.frombuffer(found.measured).reshape(-1, 2)
        table = Table(rows[:, 0].astype(np.int64), rows[:, 1:], measured[:, 0].astype(np.int64), measured[:, 1])
        last = table.last
    except (UserError, OSError, ValueError, IndexError, OverflowError, msgspec.MsgspecError):
        return None
    if any(np.any(np.diff(steps, prepend=0) < 0) for steps in (table.steps, table.val_steps)):
        return None
    return Kept(table, last, found.end, log)


def _mark(path: Path, end: int) -> tuple[bytes, os.stat_result]:
    """What tells a log's first `end` bytes from those of another, and which file that is.

    Raises:
        ValueError, OSError: it is shorter, or cannot be read.
    """
    with open(path, "rb") as file:
        log = os.fstat(file.fileno())
        if not 0 < end <= log.st_size:
            raise ValueError(f"{path} does not have {end} bytes")
        head = file.read(min(MARK_BYTES, end))
        file.seek(max(0, end - MARK_BYTES))
        return hashlib.blake2b(head + file.read(min(MARK_BYTES, end)), digest_size=16).digest(), log
