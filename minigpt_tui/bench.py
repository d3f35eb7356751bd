"""`minigpt-tui bench`: runs the benchmarks and prints them as tables or as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.table import Table
from rich.text import Text

from minigpt_core import bench
from minigpt_core.bench.lock import TimingLock
from minigpt_core.bench.machine import facts
from minigpt_core.bench.result import Comparison, Result
from minigpt_core.bench.workbench import Program, Workbench
from minigpt_core.errors import UsageError
from minigpt_tui.listing import show
from minigpt_tui.preferences import VARIABLE

FIRST_FRAME = b"samples"
"""The title of a pane, which only the first whole screen has."""


def run(section: str | None, *, as_json: bool, quick: bool, data: str | None, **changes: object) -> None:
    """Measure one section, or all of them one after the other.

    Raises:
        UserError, UsageError: there is no such section, or a package that it needs is missing.
    """
    sections = [section] if section else list(bench.SECTIONS)
    if as_json and section is None:
        raise UsageError(f"--json prints one object: name a section ({', '.join(bench.SECTIONS)})")
    bench.check(sections)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` leaves it
            signal.signal(number, lambda number, frame: sys.exit(128 + number))  # what was started ends with us
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", file=sys.stderr, flush=True)

    with TimingLock(say), tempfile.TemporaryDirectory(prefix="minigpt-tui-bench-") as state:
        workbench = Workbench(data=data, say=say, program=program(Path(state)))
        machine = facts()
        for name in sections:
            say(name)
            result = bench.measure(name, workbench, bench.settings(name, quick=quick, **changes))
            if as_json:
                print(json.dumps(result.to_dict(machine), indent=2))
            else:
                print_result(result)
    if not as_json:
        words = ("cpu", "cores", "memory_gib", "bf16", "torch", "transformers", "load")
        print("machine: " + ", ".join(f"{word} {machine[word]}" for word in words))


def program(state: Path) -> Program:
    """This very program, with nobody's preferences, as if it had been opened before."""
    (state / "minigpt-tui").mkdir()
    (state / "minigpt-tui" / "welcomed").touch()
    own = {"TERM": "xterm-256color", "LANG": "C.UTF-8", VARIABLE: os.devnull, "XDG_STATE_HOME": str(state)}
    return Program(command=(sys.executable, "-m", "minigpt_tui.cli"), environment=own, first_frame=FIRST_FRAME)


def print_result(result: Result) -> None:
    """A section as a table: medians, the ratio and its range over the rounds."""
    table = Table(box=None, pad_edge=False, title=f"{result.section}, against {result.peer}", title_justify="left")
    table.add_column("")
    for heading in ("ours", "peer", "ratio", "range"):
        table.add_column(heading, justify="right")
    for comparison in result.comparisons:
        table.add_row(Text(comparison.what), *cells(comparison))
    show(table)
    for note in result.notes:
        print(note)
    print()


def cells(found: Comparison) -> list[str]:
    """Medians of both sides, their ratio and its smallest and largest value."""
    ours, peer = found.medians
    values = ["never" if ours is None else f"{ours:,.4g} {found.unit}", "" if peer is None else f"{peer:,.4g}"]
    if found.ratio is None or found.spread is None:
        return [*values, "", ""]
    low, high = found.spread
    return [*values, f"{found.ratio:.2f}", f"{low:.2f} to {high:.2f}"]
