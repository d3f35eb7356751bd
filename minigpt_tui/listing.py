"""`minigpt-tui runs`: what runs there are and what is in one, as tables."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Literal

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
EXPENDABLE = ("changed", "train", "best", "time")
"""Columns of the list of runs that leave where there is no room for them, the first first."""
PIPE_WIDTH = 10_000
"""Columns; a table takes only what its texts need."""


def wide() -> Console:
    """As wide as the terminal; a pipe has no width, so there nothing is folded and every row is one line."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if piped else None)


def show(table: Table) -> None:
    console = wide()
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def print_runs(parent: Path) -> None:
    """One line a run, newest first; what there is no room for is left out, whole columns of it."""
    runs = Library(parent).read()
    if not runs:
        print(f"no runs in {safe(str(parent), newlines=False)} yet; start one with: minigpt-tui train")
        return
    columns: dict[str, list[str]] = {"run": [safe(run.name, newlines=False) for run in runs]}
    columns["state"] = [run.state for run in runs]
    if any(run.trainer for run in runs):
        columns["where"] = [where(run.trainer) if run.trainer else "" for run in runs]
    lasts = [run.last for run in runs]
    columns |= {
        "step": [count(last.step) if last else UNKNOWN for last in lasts],
        "train": [number(last.train_loss) if last else UNKNOWN for last in lasts],
        "val": [number(run.val_loss) for run in runs],
        "best": [number(run.best_val_loss) for run in runs],
        "bits/byte": [number(run.bits_per_byte) for run in runs],
        "time": [duration(last.time) if last else UNKNOWN for last in lasts],
        "changed": [time.strftime("%Y-%m-%d %H:%M", time.localtime(run.modified)) for run in runs],
    }
    console = wide()
    table = table_of(columns)
    for name in EXPENDABLE:
        if console.measure(table, options=console.options.update(max_width=PIPE_WIDTH)).maximum <= console.width:
            break
        del columns[name]
        table = table_of(columns)
    show(table)


def table_of(columns: dict[str, list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in ("run", "state", "where") else "right"
        table.add_column(name, justify=justify, **({"overflow": "fold"} if name == "run" else {"no_wrap": True}))
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


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
