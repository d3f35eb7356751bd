"""A run's logs, metrics and events: written line by line, read while they grow.

The logs are JSON lines. JSON has no infinity and no NaN, so a loss that is not finite is written as the string "inf",
"-inf" or "nan", and reads back as the same number.
"""

from __future__ import annotations

import math
import os
import threading
import time
import traceback
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from minigpt_core.atomic import atomic_file
from minigpt_core.errors import UserError
from minigpt_core.rundir import RunDir
from minigpt_core.status import Event, MetricsRow

T = TypeVar("T")

# --- writing ---


class RunLog:
    """Appends to a run's metrics and events: one JSON line each, whole or not at all. Safe for several threads."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._metrics = _open_log(run.metrics)
        self._events = _open_log(run.events)

    def metrics(self, row: MetricsRow) -> None:
        with self._lock:
            _append(self._metrics, _encode(row))

    def event(self, event: Event) -> None:
        with self._lock:
            _append(self._events, _encode(event))

    def flush(self, durable: bool = False) -> None:
        """Lines are never held back in this process; `durable` waits until they are on the disk as well."""
        if durable:
            with self._lock:
                os.fsync(self._metrics.fileno())
                os.fsync(self._events.fileno())

    def truncate(self, step: int) -> None:
        """Cut the metrics to the rows up to `step`, those that a checkpoint of that step covers.

        The file is replaced, so that readers notice a new one. Events are never cut.
        """
        decoder = msgspec.json.Decoder(MetricsRow, strict=False)
        with self._lock:
            with atomic_file(self.run.metrics) as file:
                for line in self.run.metrics.read_bytes().split(b"\n"):
                    if (row := _decode(decoder, line)) is not None and row.step <= step:
                        file.write(line + b"\n")
            self._metrics.close()
            self._metrics = _open_log(self.run.metrics)

    def close(self) -> None:
        with self._lock:
            self._metrics.close()
            self._events.close()


def _append(file: FileIO, line: bytes) -> None:
    end = os.fstat(file.fileno()).st_size
    try:
        written = file.write(line)
        while written < len(line):
            written += file.write(line[written:])
    except OSError as error:
        with suppress(OSError):
            os.truncate(file.fileno(), end)  # a full disk may have taken half a line
        raise UserError(f"cannot write {file.name}: {error.strerror}") from None


def _open_log(path: Path) -> FileIO:
    """A log opened for appending, unbuffered: a line is one `write`."""
    try:
        file = FileIO(path, "a+b")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    # A killed writer may have left half a line. Ending it keeps it from swallowing the next one; readers skip it.
    if file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
        file.write(b"\n")
    return file


def _encode(item: MetricsRow | Event) -> bytes:
    values = {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in msgspec.to_builtins(item).items()
    }
    return msgspec.json.encode(values) + b"\n"


def _decode(decoder: msgspec.json.Decoder[T], line: bytes) -> T | None:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


# --- reading ---


class Tail(Generic[T]):
    """Follows a log that another thread or process may be writing, cutting or replacing.

    Attributes:
        generation: grows each time the file was replaced or cut: what came before is no longer in it, drop it.
        skipped: complete lines of this generation that could not be decoded.
    """

    def __init__(self, path: Path, type_: type[T]) -> None:
        self.path = path
        self.generation = 0
        self.skipped = 0
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_, strict=False)
        self._file: BinaryIO | None = None
        self._offset = 0
        """End of the last complete line."""

    def read(self) -> list[T]:
        """The rows completed since the last call; none while the file does not exist."""
        self._follow()
        if self._file is None:
            return []
        self._file.seek(self._offset)
        *lines, half = self._file.read().split(b"\n")  # the last piece is empty or half a line: wait for the rest
        self._offset = self._file.tell() - len(half)
        rows = []
        for line in lines:
            if (row := _decode(self._decoder, line)) is None:
                self.skipped += 1
            else:
                rows.append(row)
        return rows

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _follow(self) -> None:
        """Open the file that the path now names, and start over if it is not the one read so far, or shorter."""
        try:
            now = os.stat(self.path)
        except OSError:
            return  # not there yet, or the run was deleted: what was read stays
        if self._file is None:
            self._file = open(self.path, "rb")  # noqa: SIM115 - held open, so that its inode is not given to another
        elif not os.path.samestat(now, os.fstat(self._file.fileno())):
            self._file.close()
            self._file = open(self.path, "rb")  # noqa: SIM115
        elif now.st_size >= self._offset:
            return
        if self._offset:
            self.generation += 1
        self._offset = self.skipped = 0


def read_metrics(run: RunDir) -> list[MetricsRow]:
    """All complete metric rows of a run, oldest first."""
    return _read_all(run.metrics, MetricsRow)


def read_events(run: RunDir) -> list[Event]:
    """All complete events of a run, oldest first."""
    return _read_all(run.events, Event)


def _read_all(path: Path, type_: type[Any]) -> list[Any]:
    tail = Tail(path, type_)
    try:
        return tail.read()
    finally:
        tail.close()


def standing(events: list[Event]) -> list[Event]:
    """Events without the rungs and births of branches that a resume has left: what comes again is told again."""
    kept: list[Event] = []
    for event in events:
        if event.kind == "resumed":
            kept = [old for old in kept if old.kind not in ("rung", "birth") or old.step <= event.step]
        kept.append(event)
    return kept


def log_traceback(run: RunDir) -> None:
    """Add the traceback of the exception being handled to `train.log`; a disk that refuses costs only that."""
    with suppress(OSError), open(run.train_log, "a", encoding="utf-8") as file:
        file.write(time.strftime("%Y-%m-%d %H:%M:%S\n") + traceback.format_exc())
