"""Runs side by side, from their directories alone: what came out, in which settings they differ, their curves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigpt_core.bits import bits_per_byte
from minigpt_core.corpus import NO_TEXT
from minigpt_core.errors import UsageError, UserError
from minigpt_core.recipe import recipe
from minigpt_core.rundir import RunDir, find_checkpoint
from minigpt_core.series import Pyramid, Smoother
from minigpt_core.status import Envelope, MetricsRow
from minigpt_core.stored import read_config, read_tokenizer
from minigpt_core.summary import Reader, RunSummary
from minigpt_core.tail import read_events, read_metrics

LENGTHS = ("steps", "epochs", "minutes")


@dataclass(frozen=True)
class Compared:
    """One of the runs. Losses are in nats a token; what is not known is None.

    Attributes:
        label: its name, or its path where another has the same name.
        checkpoint: the one to draw samples from; it may not be there yet.
        options: its settings by the names of `train`'s options, and those that have none by their own.
        vocabulary: tells whether two runs have the same one.
        train_loss: the newest value, smoothed as in the app.
        final_val_loss: over the whole validation split, at the run's own end.
        tok_s: tokens a second, the median over its rows.
        tokens_per_byte: of its text, for bits per byte.
        curves: "val_loss" and "smoothed" (training loss) over steps.
    """

    label: str
    dir: RunDir
    checkpoint: Path
    summary: RunSummary
    options: Mapping[str, Any]
    vocabulary: str
    vocab_size: int
    train_loss: float | None
    final_val_loss: float | None
    tok_s: float | None
    tokens_per_byte: float | None
    curves: Mapping[str, Pyramid]

    def bits_per_byte(self, loss: float | None) -> float | None:
        """A loss in nats a token as bits a byte of text, which does not depend on what a token is."""
        return bits_per_byte(loss, self.tokens_per_byte)

    def curve(self, metric: str, buckets: int, *, per_byte: bool = False) -> Envelope:
        """One of the curves at no more than so many points, in bits a byte if asked for."""
        found = self.curves[metric].envelope(None, None, buckets)
        scale = (self.bits_per_byte(1.0) or math.nan) if per_byte else 1.0
        return Envelope(found.step, found.low * scale, found.high * scale, found.mean * scale)


@dataclass(frozen=True)
class Comparison:
    """Runs, in the order they were asked for.

    Attributes:
        differences: by option, one value for each run; None where a run has none.
    """

    runs: Sequence[Compared]
    differences: Mapping[str, Sequence[Any]]

    @property
    def same_vocabulary(self) -> bool:
        """Whether losses in nats a token mean the same in all of them."""
        return len({run.vocabulary for run in self.runs}) == 1

    @property
    def per_byte(self) -> bool:
        """Whether curves are to be drawn in bits a byte: tokens differ, and every run knows how long its are."""
        return not self.same_vocabulary and all(run.tokens_per_byte is not None for run in self.runs)

    @property
    def metric(self) -> str:
        """The curve to look at first: validation, once every run has two points of it."""
        return "val_loss" if all(len(run.curves["val_loss"]) > 1 for run in self.runs) else "smoothed"


def compare(refs: Sequence[str], parent: Path) -> Comparison:
    """Read the runs that `refs` mean, at least two: names under `parent`, directories or checkpoint files.

    Raises:
        UsageError: there are fewer, no such run, or one of them twice.
        UserError: one cannot be read; the line names its file.
    """
    if len(refs) < 2:
        raise UsageError("give two runs or more to compare; minigpt-tui runs lists them")
    found = [find_checkpoint(ref, parent) for ref in refs]
    paths = [checkpoint.resolve() for _, checkpoint in found]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UsageError(f"run {refs[i]!r} is given twice; a run compares with another one")
    names = [run.name for run, _ in found]
    labels = [name if names.count(name) == 1 else ref for name, ref in zip(names, refs, strict=True)]
    runs = [_read(label, run, checkpoint) for label, (run, checkpoint) in zip(labels, found, strict=True)]
    known = {name: None for run in runs for name in run.options}
    values = {name: [run.options.get(name) for run in runs] for name in known}
    return Comparison(runs, {name: row for name, row in values.items() if any(value != row[0] for value in row)})


def _read(label: str, run: RunDir, checkpoint: Path) -> Compared:
    config, tokenizer = read_config(run), read_tokenizer(run)
    rows = read_metrics(run)
    done = [event for event in read_events(run) if event.kind == "done"]
    summary = Reader(run).read()
    if summary.state == "broken":
        raise UserError(f"run {run.name!r} cannot be compared: {summary.problem}")
    ended = summary.state == "done" and done
    smoothed = _smoothed(rows)
    return Compared(
        label=label,
        dir=run,
        checkpoint=checkpoint,
        summary=summary,
        options=_options(config, tokenizer.to_dict()),
        vocabulary=hashlib.sha256(run.tokenizer.read_bytes()).hexdigest(),
        vocab_size=tokenizer.vocab_size,
        train_loss=smoothed.last if len(smoothed) else None,
        final_val_loss=_number(done[-1].data.get("val_loss")) if ended else None,
        tok_s=float(np.median([row.tok_s for row in rows])) if rows else None,
        tokens_per_byte=_number(config.get("tokens_per_byte")),
        curves={"val_loss": _measured(rows), "smoothed": smoothed},
    )


def _options(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """What may differ: the options of the run and what they do not reach, lengths by what was asked for."""
    found = recipe(config["model"], config["train"], tokenizer, config)
    options = found.options | found.beyond
    if any(config["train"].get(name) for name in LENGTHS):
        options |= {name: config["train"].get(name) for name in LENGTHS}
    # A text is what it says and not where it lies: its name, and where that is the same, still its content.
    corpus = config["corpus"]
    named = f"{corpus.get('name') or Path(corpus['source']).name} ({corpus['sha256'][:8]})"
    options["data"] = named if corpus["source"] != NO_TEXT else NO_TEXT
    return {name: value for name, value in options.items() if value is not None}


def _measured(rows: Sequence[MetricsRow]) -> Pyramid:
    found = [(row.step, row.val_loss) for row in rows if row.val_loss is not None]
    return Pyramid.of(np.array([step for step, _ in found], np.int64), np.array([loss for _, loss in found], float))


def _smoothed(rows: Sequence[MetricsRow]) -> Pyramid:
    losses = np.array([row.train_loss for row in rows], float)
    finite = np.isfinite(losses)
    steps = np.array([row.step for row in rows], np.int64)
    return Pyramid.of(steps[finite], Smoother().take(losses[finite]))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
