"""`minigpt-tui runs`: what runs there are and what is in one, as tables."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from minigpt_core.corpus import NO_TEXT
from minigpt_core.library import Library
from minigpt_core.lock import Holder
from minigpt_core.rundir import RunDir
from minigpt_core.stored import read_config
from minigpt_core.summary import Reader
from minigpt_core.tail import read_events
from minigpt_tui.safetext import safe
from minigpt_tui.widgets.format import UNKNOWN, count, duration, number, short

DAY = 24 * 3600
PIPE_WIDTH = 10_000
"""Columns; a table takes only what its texts need."""


def show(table: Table) -> None:
    """Print as wide as the terminal; a pipe has no width, so there nothing is folded and every row is one line."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=PIPE_WIDTH if piped else None)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def print_runs(parent: Path) -> None:
    """One line a run, newest first."""
    runs = Library(parent).read()
    if not runs:
        print(f"no runs in {safe(str(parent), newlines=False)} yet; start one with: minigpt-tui train")
        return
    live = any(run.trainer for run in runs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    headings = ("state", *(("where",) if live else ()), "step", "train", "val", "best", "bits/byte", "time", "changed")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("state", "where") else "right", no_wrap=True)
    for run in runs:
        last = run.last
        table.add_row(
            Text(safe(run.name, newlines=False)),
            run.state,
            *((where(run.trainer) if run.trainer else "",) if live else ()),
            count(last.step) if last else UNKNOWN,
            number(last.train_loss) if last else UNKNOWN,
            number(run.val_loss),
            number(run.best_val_loss),
            number(run.bits_per_byte),
            duration(last.time) if last else UNKNOWN,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(run.modified)),
        )
    show(table)


def where(trainer: Holder) -> str:
    """`pid 4711, 14:02`: since when, and on which machine if it is another."""
    at = time.localtime(trainer.started)
    since = time.strftime("%H:%M" if time.time() - trainer.started < DAY else "%Y-%m-%d", at)
    return safe(f"pid {trainer.pid}{'' if trainer.here else f' on {trainer.host}'}, {since}", newlines=False)


def print_run(run: RunDir) -> None:
    """Everything the directory says of a run."""
    config = read_config(run)
    summary = Reader(run).read()
    last = summary.last
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def add(name: str, value: object) -> None:
        table.add_row(name, Text(safe(str(value), newlines=False)))

    add("run", run.path)
    add("state", summary.state)
    if summary.trainer:
        add("trained by", where(summary.trainer))
        add("attach", f"minigpt-tui attach {shlex.quote(run.name)}")
        add("socket", summary.trainer.socket or UNKNOWN)
    add("text", f"{config['corpus']['source']} ({short(config['corpus']['n_bytes'])} bytes)")
    add("tokenizer", f"{summary.settings.get('tokenizer', 'char')}, {config['model']['vocab_size']:,} tokens")
    add("model", settings(config["model"]))
    add("training", settings(config["train"]))
    for name, reason in config["devices"]["reasons"].items():
        add(name, f"{config['devices'][name]}: {reason}")
    if last:
        add("step", f"{last.step:,} (epoch {last.epoch:.2f}, {short(last.tokens)} tokens, {duration(last.time)})")
        losses = {"train": last.train_loss, "validation": summary.val_loss, "best": summary.best_val_loss}
        add("loss", ", ".join(f"{name} {number(loss)}" for name, loss in losses.items()))
        if summary.bits_per_byte is not None:
            add("bits/byte", f"{number(summary.bits_per_byte)} at best ({summary.tokens_per_byte:.4f} tokens a byte)")
    for event in read_events(run):
        if event.kind == "done":
            add("end", event.message)
    add("made by", " ".join(shlex.quote(word) for word in config.get("command", [])))
    place = shlex.quote(str(run.path))
    imported = config["corpus"]["source"] == NO_TEXT
    add("go on", f"minigpt-tui train {f'--from {place} --data TEXT' if imported else f'--resume {place}'}")
    add("talk to it", f"minigpt-tui chat {place}")
    show(table)


def settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
