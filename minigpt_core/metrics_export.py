"""A run's metrics for other programs: CSV, JSON and TensorBoard, from its directory alone, also while it trains.

Every name says its unit (`COLUMNS`). A loss that is no finite number is `nan`, `inf` or `-inf` in CSV, as pandas reads
it, and the same word as a string in JSON, which has no such numbers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

import msgspec

from minigpt_core.atomic import atomic_file, write_atomic
from minigpt_core.config import lookup
from minigpt_core.errors import UsageError, UserError
from minigpt_core.reading import encode_json
from minigpt_core.rundir import RunDir
from minigpt_core.status import MetricsRow
from minigpt_core.stored import read_config
from minigpt_core.tail import read_events, read_metrics

COLUMNS = {
    "step": "step",
    "epoch": "epoch",
    "tokens": "tokens",
    "time_s": "time",
    "learning_rate": "lr",
    "train_loss_nats": "train_loss",
    "val_loss_nats": "val_loss",
    "grad_norm": "grad_norm",
    "clipped_share": "clipped",
    "tokens_per_s": "tok_s",
}
"""Names in what is exported, each with its field of `MetricsRow`: time in seconds of training, losses in nats a token
(divide by ln 2 for bits), the share of steps whose gradient was clipped from 0 to 1."""

FORMATS = ("csv", "json", "tensorboard")
EXTRA = "pip install 'minigpt-tui[tensorboard]'"
EVENT_FILE = "events.out.tfevents.minigpt-tui"
"""TensorBoard reads every file below its folder whose name holds "tfevents"."""
TAGS = {
    "loss/train": "train_loss",
    "loss/validation": "val_loss",
    "training/learning_rate": "lr",
    "training/gradient_norm": "grad_norm",
    "training/clipped_share": "clipped",
    "speed/tokens_per_second": "tok_s",
}
"""TensorBoard's curves, grouped by what stands before the slash."""


def as_csv(run: RunDir) -> str:
    """The metrics rows under the names of `COLUMNS`; what was not measured is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in read_metrics(run):
        writer.writerow("" if (value := getattr(row, name)) is None else value for name in COLUMNS.values())
    return out.getvalue()


def as_json(run: RunDir) -> str:
    """One object: the run's name, its configuration, its events, and its metrics rows as objects.

    Raises:
        UserError: its configuration cannot be read.
    """
    events = [msgspec.to_builtins(event) for event in read_events(run)]
    rows = [{out: _plain(getattr(row, name)) for out, name in COLUMNS.items()} for row in read_metrics(run)]
    values = {"run": run.name, "config": read_config(run), "events": events, "metrics": rows}
    return msgspec.json.format(encode_json(values), indent=1).decode() + "\n"


def write_tensorboard(run: RunDir, folder: Path, *, overwrite: bool = False) -> Path:
    """The metrics as a TensorBoard event file in `folder`, made if it is not there; returns the file.

    Its clock is that of the training, so that a pause or a night between two sittings is no gap.

    Raises:
        UsageError: the file is there already.
        UserError: the package is not installed, or the disk refuses.
    """
    path = folder / EVENT_FILE
    check_free(path, overwrite)
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        raise UserError(f"writing TensorBoard files needs the package tensorboard: {EXTRA}") from None
    start = float(read_config(run).get("created", 0.0))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=start, file_version="brain.Event:2").SerializeToString())
            for row in read_metrics(run):
                event = Event(wall_time=start + row.time, step=row.step)
                for tag, value in _tagged(row):
                    event.summary.value.add(tag=tag, simple_value=value)
                writer.write(event.SerializeToString())
    except OSError as error:
        raise _refused(path, error) from None
    return path


def export(run: RunDir, format: str, output: Path | None, *, overwrite: bool = False) -> str | Path:
    """A run's metrics in one of `FORMATS`: the text itself where there is no `output`, else the file written.

    TensorBoard's `output` is a folder, by default `tensorboard` in the run's own.

    Raises:
        UsageError: no such format, or the file is there already.
        UserError: the run cannot be read, a package is missing, or the disk refuses.
    """
    lookup(dict.fromkeys(FORMATS), format, "format")
    if format == "tensorboard":
        return write_tensorboard(run, output or run.path / "tensorboard", overwrite=overwrite)
    if output is None:
        return as_csv(run) if format == "csv" else as_json(run)
    check_free(output, overwrite)
    try:
        write_atomic(output, as_csv(run) if format == "csv" else as_json(run))
    except OSError as error:
        raise _refused(output, error) from None
    return output


def _tagged(row: MetricsRow) -> Iterable[tuple[str, float]]:
    return ((tag, value) for tag, name in TAGS.items() if (value := getattr(row, name)) is not None)


def _plain(value: float | None) -> float | str | None:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def check_free(path: Path, overwrite: bool) -> None:
    if not overwrite and (path.exists() or path.is_symlink()):
        raise UsageError(f"{str(path)!r} is there already; choose another --output, or replace it with --force")


def _refused(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {str(path)!r}: {error.strerror or error}; choose another --output")
