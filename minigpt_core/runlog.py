"""A run's logs, metrics and events, written line by line; `tail` reads them.

The logs are JSON lines. JSON has no infinity and no NaN, so a loss that is not finite is written as the string "inf",
"-inf" or "nan", and reads back as the same number.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import msgspec

from minigpt_core.atomic import atomic_file
from minigpt_core.errors import UserError
from minigpt_core.reading import encode_json
from minigpt_core.rundir import RunDir
from minigpt_core.status import Event, EventKind, MetricsRow
from minigpt_core.tail import check_version, decode

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
                        if (row := decode(decoder, line)) is None:
                            check_version(self.run.metrics, line)
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


def log_traceback(run: RunDir) -> None:
    """Add the traceback of the exception being handled to `train.log`; a disk that refuses costs only that."""
    with suppress(OSError), open(run.train_log, "a", encoding="utf-8") as file:
        file.write(time.strftime("%Y-%m-%d %H:%M:%S\n") + traceback.format_exc())
