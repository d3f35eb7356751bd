"""A run's logs, metrics and events: written line by line, read while they grow.

The logs are JSON lines. JSON has no infinity and no NaN, so a loss that is not finite is written as the string "inf",
"-inf" or "nan", and reads back as the same number.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from minigpt_core.atomic import atomic_file
from minigpt_core.errors import UserError
from minigpt_core.reading import check_format, encode_json
from minigpt_core.rundir import RunDir
from minigpt_core.status import LOG_FORMAT, Event, EventKind, MetricsRow

T = TypeVar("T")

# --- writing ---

RETRY_SECONDS = 5.0
"""Until lines that a disk refused are tried again."""


class RunLog:
    """Appends to a run's metrics and events: one JSON line each, whole or not at all. Safe for several threads.

    A disk that refuses does not stop whoever logs: lines wait in memory, in order, until it takes them again.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._step = 0
        self._metrics = _Lines(run.metrics)
        self._events = _Lines(run.events)

    @property
    def failure(self) -> str | None:
        """Why lines wait in memory at present, in one line."""
        return self._metrics.failure or self._events.failure

    def metrics(self, row: MetricsRow) -> None:
        self._add(self._metrics, row)

    def event(self, event: Event) -> None:
        self._add(self._events, event)

    def _add(self, log: _Lines, item: MetricsRow | Event) -> None:
        with self._lock, self._telling():
            self._step = item.step
            log.add(_encode(item))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Log it where the disk begins to refuse in this block, and where it takes all again."""
        before = self.failure
        try:
            yield
        finally:
            if (failure := self.failure) != before:
                message = f"{failure}; lines wait in memory" if failure else "the logs are written again"
                kind: EventKind = "warning" if failure else "info"
                self._events.add(_encode(Event(kind=kind, step=self._step, time=time.time(), message=message)))

    def flush(self) -> None:
        """Wait until every line is on the disk.

        Raises:
            UserError: the disk refuses.
        """
        with self._lock, self._telling():
            copies = [os.dup(descriptor) for descriptor in (self._metrics.flush(), self._events.flush())]
        try:
            for descriptor in copies:  # without the lock: a disk may take its time, and training goes on
                os.fsync(descriptor)
        except OSError as error:
            raise UserError(f"cannot write {self.run.metrics}: {error.strerror}") from None
        finally:
            for descriptor in copies:
                os.close(descriptor)

    def truncate(self, step: int) -> None:
        """Cut the metrics to the rows up to `step`, those that a checkpoint of that step covers.

        The file is replaced, so that readers notice a new one. Events are never cut.

        Raises:
            UserError: the disk refuses.
        """
        decoder = msgspec.json.Decoder(MetricsRow, strict=False)
        with self._lock:
            self._metrics.flush()
            try:
                with atomic_file(self.run.metrics) as file:
                    for line in self.run.metrics.read_bytes().split(b"\n"):
                        if (row := _decode(decoder, line)) is None:
                            _check_version(self.run.metrics, line)
                        elif row.step <= step:
                            file.write(line + b"\n")
            except OSError as error:
                raise UserError(f"cannot write {self.run.metrics}: {error.strerror}") from None
            self._metrics.close()
            self._metrics = _Lines(self.run.metrics)

    def close(self) -> None:
        with self._lock:
            self._metrics.close()
            self._events.close()


class _Lines:
    """A file of lines and the lines that it has not taken yet; one thread at a time.

    Raises:
        UserError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: str | None = None
        self._waiting: list[bytes] = []
        self._retry_at = 0.0
        self._file: FileIO | None = None
        self.flush()

    def add(self, line: bytes) -> None:
        self._waiting.append(line)
        if time.monotonic() >= self._retry_at:
            with suppress(UserError):
                self.flush()

    def flush(self) -> int:
        """Write what waits; the file's descriptor.

        Raises:
            UserError: the disk refuses; nothing is lost.
        """
        try:
            self._file = self._file or _open_log(self.path)
            descriptor = self._file.fileno()
            if not os.fstat(descriptor).st_nlink:  # writing to a deleted file succeeds
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if self._waiting:
                _append(self._file, b"".join(self._waiting))
        except OSError as error:
            self.close()  # after a link was down, only a new descriptor works
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self.failure = f"cannot write {self.path}: {error.strerror}"
            raise UserError(self.failure) from None
        self._waiting.clear()
        self.failure, self._retry_at = None, 0.0
        return descriptor

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _append(file: FileIO, lines: bytes) -> None:
    end = os.fstat(file.fileno()).st_size
    try:
        written = file.write(lines)
        while written < len(lines):
            written += file.write(lines[written:])
    except OSError:
        with suppress(OSError):
            os.truncate(file.fileno(), end)  # a full disk may have taken half a line
        raise


def _open_log(path: Path) -> FileIO:
    """A log opened for appending, unbuffered: a line is one `write`."""
    file = FileIO(path, "a+b")
    # A killed writer may have left half a line. Ending it keeps it from swallowing the next one; readers skip it.
    if file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
        file.write(b"\n")
    return file


def _encode(item: MetricsRow | Event) -> bytes:
    values = {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in msgspec.to_builtins(item).items()
    }
    return encode_json(values) + b"\n"


def _decode(decoder: msgspec.json.Decoder[T], line: bytes) -> T | None:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class _Versioned(msgspec.Struct):
    """What a line of any version says of itself."""

    format: int = LOG_FORMAT


def _check_version(path: Path, line: bytes) -> None:
    """Whether a line that makes no sense is of a newer version of this program, and so not to be passed over.

    Raises:
        UserError: it is.
    """
    try:
        found = msgspec.json.decode(line, type=_Versioned).format
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    if found > LOG_FORMAT:
        check_format(found, LOG_FORMAT, path, "has lines of")


# --- reading ---

MAX_LINE = 16 * 2**20
"""Bytes; a longer line is none of ours, and is passed over without ever being in memory as a whole."""


class Tail(Generic[T]):
    """Follows a log that another thread or process may be writing, cutting or replacing.

    Attributes:
        generation: grows each time the file was replaced or cut: what came before is no longer in it, drop it.
        skipped: complete lines of this generation that could not be decoded.
        problem: why reading has ended before the log does: a newer version of this program goes on from there.
    """

    def __init__(self, path: Path, type_: type[T]) -> None:
        self.path = path
        self.generation = 0
        self.skipped = 0
        self.problem: str | None = None
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_, strict=False)
        self._file: BinaryIO | None = None
        self._offset = 0
        """End of the last complete line."""
        self._endless = False
        """Within a line that is too long."""

    def read(self) -> list[T]:
        """The rows completed since the last call; none while the file does not exist."""
        self._follow()
        rows: list[T] = []
        if self._file is None or self.problem:
            return rows
        while True:
            self._file.seek(self._offset)
            chunk = self._file.read(MAX_LINE)
            *lines, half = chunk.split(b"\n")  # the last piece is empty or half a line: wait for the rest
            if lines and self._endless:
                self._endless, self._offset = False, self._offset + len(lines.pop(0)) + 1
                self.skipped += 1
            for line in lines:
                if (row := _decode(self._decoder, line)) is not None:
                    rows.append(row)
                else:
                    self.skipped += 1
                    try:
                        _check_version(self.path, line)
                    except UserError as error:
                        self.problem = str(error)
                        return rows
            self._offset += sum(map(len, lines)) + len(lines)
            if len(half) == MAX_LINE:
                self._endless, self._offset = True, self._offset + len(half)
            if len(chunk) < MAX_LINE:
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
        if not stat.S_ISREG(now.st_mode):  # a pipe would be waited for
            return
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
        self._endless, self.problem = False, None


def read_metrics(run: RunDir) -> list[MetricsRow]:
    """All complete metric rows of a run, oldest first.

    Raises:
        UserError: a newer version of this program wrote some of them.
    """
    return _read_all(run.metrics, MetricsRow)


def read_events(run: RunDir) -> list[Event]:
    """All complete events of a run, oldest first.

    Raises:
        UserError: a newer version of this program wrote some of them.
    """
    return _read_all(run.events, Event)


def _read_all(path: Path, type_: type[Any]) -> list[Any]:
    tail = Tail(path, type_)
    try:
        found = tail.read()
    finally:
        tail.close()
    if tail.problem:
        raise UserError(tail.problem)
    return found


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
