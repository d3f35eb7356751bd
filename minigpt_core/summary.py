"""A run in a few lines, read from its directory in milliseconds however long it trained.

The losses that are shown exactly (the latest, the best) are found by searching the log for the rows that hold them;
of all other rows the last one is decoded and a few hundred on the way, for a sparkline.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
import numpy as np

from minigpt_core.bits import bits_per_byte
from minigpt_core.config import ModelConfig
from minigpt_core.errors import UserError
from minigpt_core.lock import Holder, holder, is_locked
from minigpt_core.rundir import RunDir
from minigpt_core.status import Event, MetricsRow
from minigpt_core.stored import read_config

T = TypeVar("T")

RunState = Literal["training", "done", "stopped", "empty", "broken", "unread"]

CURVE_POINTS = 32
SAMPLES = 4 * CURVE_POINTS
"""Rows that are decoded for the curve."""
WHOLE = 64 * 1024
"""Bytes of a log up to which all its rows are."""
LINE = 1024
"""Bytes that hold a whole row wherever one begins to read: rows have about 200."""
CHUNK = 2**20
"""Bytes searched at a time; no line is longer."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of runs says of one."""

    name: str
    path: Path
    state: RunState = "unread"
    problem: str = ""
    """Why it is broken, in a line."""
    last: MetricsRow | None = None
    """The newest metrics row: step, epoch, tokens, training loss, seconds."""
    trainer: Holder | None = None
    """Who trains it at this moment."""
    total_steps: int | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    tokens_per_byte: float | None = None
    """Of the validation split; None in runs that did not note it."""
    modified: float = 0.0
    """Seconds since 1970."""
    n_params: int | None = None
    n_bytes: int = 0
    """Of all its files."""
    corpus: str = ""
    has_checkpoint: bool = False
    curve: tuple[float, ...] = ()
    """Means of the training loss over equal parts of the log, at most `CURVE_POINTS`."""
    settings: dict[str, str] = {}
    """What makes it differ from other runs: model, training, text and device, as text."""

    @property
    def bits_per_byte(self) -> float | None:
        """Of the best validation loss."""
        return bits_per_byte(self.best_val_loss, self.tokens_per_byte)

    @property
    def step(self) -> int:
        return self.last.step if self.last is not None else 0


class Marked(Generic[T]):
    """The lines of a growing log that hold a mark; each `read` looks only at what is new.

    Attributes:
        found: the decoded lines, oldest first. A log that was replaced or cut is read again from its start.
    """

    def __init__(self, path: Path, mark: bytes, type_: type[T]) -> None:
        self.found: list[T] = []
        self._path, self._mark = path, mark
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_, strict=False)
        self._inode = 0
        self._offset = 0

    def read(self) -> list[T]:
        """Bring `found` up to date and return it.

        Raises:
            OSError: the log cannot be read.
        """
        if self._path.is_fifo():  # it would be waited for
            return self.found
        with open(self._path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:
                self._inode, self._offset, self.found = status.st_ino, 0, []
            while True:
                chunk = os.pread(file.fileno(), CHUNK, self._offset)
                end = chunk.rfind(b"\n") + 1  # what follows is half a line: it is read again with its other half
                if not end:
                    return self.found
                self._take(chunk, end)
                self._offset += end

    def _take(self, chunk: bytes, end: int) -> None:
        """The marked lines among the first `end` bytes, which are whole lines."""
        at = chunk.find(self._mark, 0, end)
        while at >= 0:
            stop = chunk.index(b"\n", at)
            row = _decoded(self._decoder, chunk[chunk.rfind(b"\n", 0, at) + 1 : stop])
            if row is not None:
                self.found.append(row)
            at = chunk.find(self._mark, stop, end)


class Reader:
    """Reads one run's summary, and again only where its files have changed."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._evaluated = Marked(run.metrics, b'"val_loss":', MetricsRow)
        self._ends = Marked(run.events, b'"kind":"done"', Event)
        self._key: object = None
        self._summary = RunSummary(name=run.name, path=run.path, modified=run.modified)

    @property
    def known(self) -> RunSummary:
        """The summary as it was read last."""
        return self._summary

    def read(self) -> RunSummary:
        """The summary as it is now; what cannot be read makes it a broken run, never an error."""
        run, locked = self.run, is_locked(self.run)
        key = (locked, *map(_signature, (run.config, run.metrics, run.events, run.checkpoint)))
        if key != self._key:
            self._summary, self._key = self._read(locked), key
        return self._summary

    def _read(self, locked: bool) -> RunSummary:
        run = self.run
        facts: dict[str, Any] = {"name": run.name, "path": run.path, "modified": run.modified}
        facts |= {"trainer": holder(run) if locked else None}
        facts |= {"n_bytes": _folder_bytes(run.path), "has_checkpoint": run.checkpoint.is_file()}
        problem = ""
        try:
            facts |= self._measured()
            if facts.get("last") is None and (_signature(run.metrics) or (0, 0))[1]:
                problem = f"{str(run.metrics)!r} holds no row of metrics"
        except OSError as error:
            problem = f"cannot read its metrics: {error.strerror}"
        try:
            facts |= _configured(read_config(run))
        except UserError as error:
            # A run that is being made writes its configuration last.
            problem = problem or ("" if locked else str(error))
        state: RunState = "training" if locked else "broken" if problem else self._ended(facts.get("last"))
        return RunSummary(state=state, problem=problem, **facts)

    def _measured(self) -> dict[str, Any]:
        """What the metrics say."""
        if _signature(self.run.metrics) is None:
            return {}
        with open(self.run.metrics, "rb", buffering=0) as file:
            rows, last = _sampled(file.fileno())
        losses = [row.val_loss for row in self._evaluated.read() if row.val_loss is not None]
        return {
            "last": last,
            "curve": _curve([row.train_loss for row in rows]),
            "val_loss": losses[-1] if losses else None,
            "best_val_loss": min(losses, key=lambda loss: math.inf if math.isnan(loss) else loss, default=None),
        }

    def _ended(self, last: MetricsRow | None) -> RunState:
        if last is None:
            return "empty"
        try:
            return "done" if any(event.step >= last.step for event in self._ends.read()) else "stopped"
        except OSError:
            return "stopped"


# --- the configuration ---


def _configured(config: dict[str, Any]) -> dict[str, Any]:
    """What `config.json` says.

    Raises:
        UserError: its model is none.
    """
    model, train, corpus, devices = (config[part] for part in ("model", "train", "corpus", "devices"))
    decided = config.get("decided")
    steps = decided.get("steps") if isinstance(decided, dict) else train.get("steps")
    name = corpus.get("name", corpus["source"])
    tokenizer = (config.get("tokenizer") or {}).get("kind", "char")
    extra = {"text": name, "tokenizer": tokenizer, "device": devices["device"], "precision": devices["precision"]}
    return {
        "n_params": parameters(ModelConfig.from_dict(model)),
        "total_steps": steps if isinstance(steps, int) else None,
        "corpus": str(name),
        "tokens_per_byte": config.get("tokens_per_byte"),
        "settings": {key: str(value) for key, value in (model | train | extra).items() if value is not None},
    }


def parameters(config: ModelConfig) -> int:
    """Trainable parameters of a model, counted without torch."""
    d, hidden = config.embed_dim, config.ff_mult * config.embed_dim
    one = 1 if config.biases else 0
    norm = 2 * d * one if config.norm == "layernorm" else 0
    attention = 4 * d * (d + one)  # query, key, value, projection; weights and biases
    mlp = hidden * (d + one) + d * (hidden + one)
    mix = config.token_mix * d if config.token_mix > 1 else 0
    positions = config.seq_len * d if config.positions == "learned" else 0
    embeddings = config.vocab_size * d * (1 if config.tied_head else 2)
    return embeddings + mix + positions + config.n_layers * (attention + mlp + 2 * norm) + norm


# --- the metrics ---


def _sampled(file: int) -> tuple[list[MetricsRow], MetricsRow | None]:
    """Rows from the middles of equal parts of an open log, or all rows of a short one; and its last row."""
    size = os.fstat(file).st_size
    if size <= WHOLE:
        rows = _rows(os.pread(file, size, 0).split(b"\n")[:-1])
        return rows, rows[-1] if rows else None
    # Reading begins somewhere in a row: the next one is whole.
    pieces = (os.pread(file, LINE, size * (2 * i + 1) // (2 * SAMPLES)).split(b"\n", 2) for i in range(SAMPLES))
    end = _rows(os.pread(file, LINE, size - LINE).split(b"\n")[1:-1])
    return _rows([piece[1] for piece in pieces if len(piece) == 3]), end[-1] if end else None


def _rows(lines: list[bytes]) -> list[MetricsRow]:
    decoder = msgspec.json.Decoder(MetricsRow, strict=False)
    return [row for line in lines if (row := _decoded(decoder, line)) is not None]


def _curve(losses: list[float]) -> tuple[float, ...]:
    """Means of equal parts; a part with no finite loss is NaN."""
    if not losses:
        return ()
    parts = np.array_split(np.array(losses), min(CURVE_POINTS, len(losses)))
    finite = [part[np.isfinite(part)] for part in parts]
    return tuple(float(part.mean()) if len(part) else math.nan for part in finite)


def _decoded(decoder: msgspec.json.Decoder[T], line: bytes) -> T | None:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


# --- files ---


def _signature(path: Path) -> tuple[int, int] | None:
    """Changes when a file does; None if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder; links are not followed."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _folder_bytes(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass  # it is being deleted, or not ours to read: what was counted counts
    return total
