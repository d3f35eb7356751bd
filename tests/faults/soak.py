"""A long sitting: the real app trains in a terminal while somebody prompts, resizes, and opens everything there is.

    python -m tests.faults.soak --minutes 10

Prints memory and open files as time goes by. After a warm-up, memory must not grow by more than 5 %, nor files stay
open, and training must go on.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.terminal import Terminal

PROGRAM = [sys.executable, "-c", "from minigpt_tui.cli import main; main()"]
ESCAPE = "\x1b"
ACT_SECONDS = 3.0
LOOK_SECONDS = 5.0
WARM_UP = 0.3
"""Share of the time in which caches fill and every screen is opened for the first time."""
GROWTH = 0.05
SPARE_FILES = 4
"""A checkpoint being written, a log being read."""
SIZES = ((80, 24), (200, 50), (20, 5), (120, 40), (60, 16), (100, 30))
ACTIONS: tuple[tuple[str, ...], ...] = (
    ("i", "The cat", "\r", ESCAPE),
    ("1", "+", "-", "y", "x"),
    ("2", ".", ">", "a"),
    ("3", "f", "f"),
    ("4",),
    ("5",),
    ("g", ESCAPE),
    ("b", ESCAPE),
    ("?", ESCAPE),
    ("t", "\x1b[D", "\x1b[D", ESCAPE),
    ("s",),
    (ESCAPE, "1", " ", "n", " "),
)


class Reading(NamedTuple):
    seconds: float
    step: int
    memory: int
    files: int
    threads: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        readings = []
        for reading in soak(Path(folder), minutes * 60):
            readings.append(reading)
            print(
                f"{reading.seconds:6.0f} s  step {reading.step:7,}  {reading.memory / 2**20:8.1f} MiB  "
                f"{reading.files} files  {reading.threads} threads",
                flush=True,
            )
    problem = verdict(readings)
    print(problem or "flat")
    return 1 if problem else 0


def soak(folder: Path, seconds: float) -> Iterator[Reading]:
    """Act every few seconds, look every few seconds."""
    rng = random.Random(0)
    command = [*PROGRAM, "train", "--name", "run", "--steps", "90000", "--eval-every", "200", "--patience", "0"]
    with Terminal(command, 100, 30, cwd=folder) as terminal:
        metrics = folder / "runs/run/metrics.jsonl"
        terminal.wait(lambda: metrics.exists() and metrics.stat().st_size > 0, 60)
        process = psutil.Process(terminal.child.pid)
        began = acted = looked = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            terminal.pump(0.1)
            terminal.bytes = b""  # nobody reads them again
            if now - acted >= ACT_SECONDS:
                acted = now
                terminal.send(*rng.choice(ACTIONS))
                if rng.random() < 0.3:
                    terminal.resize(*rng.choice(SIZES))
            if now - looked >= LOOK_SECONDS:
                looked = now
                assert terminal.child.isalive(), terminal.text()
                with process.oneshot():
                    files, memory = process.num_fds(), process.memory_info().rss
                    step = metrics.read_bytes().count(b"\n")
                    yield Reading(now - began, step, memory, files, process.num_threads())
        terminal.send(ESCAPE, ESCAPE, "\x11")
        assert terminal.wait_exit(60) == 0, terminal.text()


def verdict(readings: list[Reading]) -> str:
    """What is wrong, in a line: the middle of the first third after the warm-up against that of the last third."""
    warm = [reading for reading in readings if reading.seconds >= WARM_UP * readings[-1].seconds]
    third = max(1, len(warm) // 3)
    before, after = warm[:third], warm[-third:]
    memory = [statistics.median(reading.memory for reading in part) for part in (before, after)]
    growth = memory[1] / memory[0] - 1
    files = [min(reading.files for reading in part) for part in (before, after)]
    if after[-1].step <= before[0].step:
        return "it does not train"
    if growth > GROWTH:
        return f"memory grew by {growth:.1%}"
    if files[1] > files[0] + SPARE_FILES:
        return f"{files[1] - files[0]} files stayed open"
    return ""


if __name__ == "__main__":
    sys.exit(main())
