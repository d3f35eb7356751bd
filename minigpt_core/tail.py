"""Reading a run's logs, metrics and events, while they grow; `runlog` says what their lines are."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from minigpt_core.errors import UserError
from minigpt_core.reading import check_format
from minigpt_core.rundir import RunDir
from minigpt_core.status import LOG_FORMAT, Event, MetricsRow

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], line: bytes) -> T | None:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class _Versioned(msgspec.Struct):
    """What a line of any version says of itself."""

    format: int = LOG_FORMAT


def check_version(path: Path, line: bytes) -> None:
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
        self._known: tuple[int, os.stat_result] | None = None
        self._endless = False
        """Within a line that is too long."""

    @property
    def end(self) -> int:
        """Up to where it was read: the end of a line."""
        return self._offset

    def start_at(self, end: int, file: os.stat_result) -> None:
        """Before the first read: pass over the lines before `end`, which are known, if the log is still this file."""
        self._known = end, file

    def read(self) -> list[T]:
        """The rows completed since the last call; none while the file does not exist."""
        self._follow()
        rows: list[T] = []
        if self._file is None or self.problem:
            return rows
        while True:
            self._file.seek(self._offset)
            chunk = self._file.read(MAX_LINE)
            end = chunk.rfind(b"\n") + 1  # what follows is half a line: wait for the rest
            begin = 0
            if end and self._endless:
                begin = chunk.find(b"\n") + 1
                self._endless, self._offset = False, self._offset + begin
                self.skipped += 1
            whole = chunk[begin:end]
            try:
                rows += self._decoder.decode_lines(whole)  # twice as fast as line by line
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._pick_out(whole, rows)
                if self.problem:
                    return rows
            self._offset += len(whole)
            if len(chunk) - end == MAX_LINE:
                self._endless, self._offset = True, self._offset + MAX_LINE
            if len(chunk) < MAX_LINE:
                return rows

    def _pick_out(self, lines: bytes, rows: list[T]) -> None:
        """Add those of some whole lines that make sense to `rows`, up to one that a newer version wrote."""
        for line in lines.split(b"\n")[:-1]:
            if (row := decode(self._decoder, line)) is not None:
                rows.append(row)
            else:
                self.skipped += 1
                try:
                    check_version(self.path, line)
                except UserError as error:
                    self.problem = str(error)
                    return

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
        if self._known is not None:
            end, file = self._known
            self._known = None
            if os.path.samestat(file, os.fstat(self._file.fileno())) and end <= now.st_size:
                self._offset = end
            else:
                self.generation += 1
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
