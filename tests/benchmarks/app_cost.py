"""What the app costs while the default run trains at full speed, measured in a real pseudo-terminal.

    python -m tests.benchmarks.app_cost [traffic] [keys] [stall] [cpu] [--size 80x24] [--seconds 30]

traffic: bytes a second on the link in the steady state, without and with --low-bandwidth.
keys: milliseconds from a key press to the repaint it causes.
stall: training steps a second before, and while nobody reads the terminal for ten seconds.
cpu: seconds of all threads but the trainer's, per wall second and core; and steps a second headless and in the app.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import psutil

from minigpt_core.hardware import cpu_count
from minigpt_core.rundir import RunDir
from tests.terminal import Terminal

SETTLED = 300
"""Steps after which the run, its first evaluation and first frames are past."""
KINDS: dict[str, tuple[str, list[tuple[str, bytes]]]] = {
    "letter": ("i", [(letter, letter.encode()) for letter in "§¶µ¿"]),
    "cursor": ("\x1b2", [("\x1b[A", b"q 61"), ("\x1b[B", b"q 62")]),
    "pane": ("\x1b1", [("2", b"2 attention"), ("1", b"1 loss"), ("4", b"4 log"), ("3", b"3 samples")]),
}
"""What is pressed first, then again and again, and what is among the bytes painted for it: a letter typed into the
prompt, a step of the attention cursor, another pane in place of one."""
KEY_SECONDS = 0.23
"""Between two keys; no multiple of any timer's period."""
STALL_SECONDS = 10.0


def steps(run: RunDir) -> int:
    """Rows of the run's metrics: on a CPU one a step."""
    return run.metrics.read_bytes().count(b"\n") if run.metrics.is_file() else 0


@contextmanager
def training(columns: int, rows: int, *options: str) -> Iterator[tuple[Terminal, RunDir]]:
    """The default run in the app, past its beginning; stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder, "run"))
        command = [sys.executable, "-m", "minigpt_tui.cli", "train", "--steps", "100000", *options]
        with Terminal([*command, "--out", folder, "--name", "run"], columns=columns, rows=rows) as terminal:
            terminal.wait(lambda: steps(run) > SETTLED, 300)
            yield terminal, run
            terminal.send("\x11")
            terminal.wait_exit(60)


def traffic(columns: int, rows: int, seconds: float, rounds: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, options in (("normal", ()), ("low_bandwidth", ("--low-bandwidth",))):
        with training(columns, rows, *options) as (terminal, _):
            terminal.pump(2)
            each = []
            for _ in range(round(seconds)):
                before = len(terminal.bytes)
                terminal.pump(1)
                each.append(len(terminal.bytes) - before)
            found[name] = {"bytes_per_s": round(statistics.mean(each)), "worst_second": max(each)}
    return found


def keys(columns: int, rows: int, seconds: float, rounds: int) -> dict[str, object]:
    found: dict[str, object] = {}
    every: list[float] = []
    with training(columns, rows) as (terminal, _):
        for kind, (before, presses) in KINDS.items():
            for key in before:
                terminal.send(key)
            terminal.pump(1)
            taken = []
            end = time.perf_counter() + seconds
            for key, painted in itertools.cycle(presses):
                if time.perf_counter() > end:
                    break
                terminal.pump(KEY_SECONDS)
                taken.append(1000 * repaint(terminal, key, painted))
            found[kind] = summary(taken)
            every += taken
    return {"all": summary(every), **found}


def repaint(terminal: Terminal, key: str, painted: bytes) -> float:
    """Seconds from a key to what it paints."""
    seen = b""
    pressed = time.perf_counter()
    terminal.child.send(key)
    while painted not in seen and time.perf_counter() < pressed + 2:
        with contextlib.suppress(pexpect.TIMEOUT):  # not `pump`: keeping a screen up to date takes time as well
            seen += terminal.child.read_nonblocking(65536, timeout=0.5)
    return time.perf_counter() - pressed


def summary(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {
        "median_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[round(0.99 * (len(ordered) - 1))], 1),
        "max_ms": round(ordered[-1], 1),
        "n": len(ordered),
    }


def stall(columns: int, rows: int, seconds: float, rounds: int) -> dict[str, object]:
    """Rates are medians over rounds, the stalled second among two that are read."""
    read, unread = [], []
    with training(columns, rows) as (terminal, run):
        for _ in range(rounds):
            for rates, reading in ((read, True), (unread, False)):
                before, begun = steps(run), time.perf_counter()
                if reading:
                    terminal.pump(STALL_SECONDS)
                else:
                    time.sleep(STALL_SECONDS)
                rates.append((steps(run) - before) / (time.perf_counter() - begun))
                terminal.pump(1)
    ratio = statistics.median(unread) / statistics.median(read)
    return {
        "steps_per_s": [round(r, 1) for r in read],
        "stalled": [round(r, 1) for r in unread],
        "ratio": round(ratio, 3),
    }


def app_seconds(process: psutil.Process) -> float:
    """CPU seconds of all threads that do not train: the watched trainer and its helpers run at a lower priority."""
    total = 0.0
    for thread in process.threads():
        try:
            if os.getpriority(os.PRIO_PROCESS, thread.id) == 0:
                total += thread.user_time + thread.system_time
        except ProcessLookupError:
            continue
    return total


def cpu(columns: int, rows: int, seconds: float, rounds: int) -> dict[str, object]:
    shares, watched, alone = [], [], []
    for _ in range(rounds):
        with training(columns, rows) as (terminal, run):
            process = psutil.Process(terminal.child.pid)
            used, before, begun = app_seconds(process), steps(run), time.perf_counter()
            terminal.pump(seconds)
            wall = time.perf_counter() - begun
            shares.append((app_seconds(process) - used) / wall / cpu_count())
            watched.append((steps(run) - before) / wall)
        with tempfile.TemporaryDirectory() as folder:
            run = RunDir(Path(folder, "run"))
            command = [sys.executable, "-m", "minigpt_tui.cli", "train", "--headless", "--steps", "100000"]
            with Terminal([*command, "--out", folder, "--name", "run"]) as terminal:
                terminal.wait(lambda run=run: steps(run) > SETTLED, 300)
                before, begun = steps(run), time.perf_counter()
                terminal.pump(seconds)
                alone.append((steps(run) - before) / (time.perf_counter() - begun))
    return {
        "share_of_machine": round(statistics.median(shares), 4),
        "shares": [round(share, 4) for share in shares],
        "steps_per_s": {"app": [round(r, 1) for r in watched], "headless": [round(r, 1) for r in alone]},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = {"traffic": traffic, "keys": keys, "stall": stall, "cpu": cpu}
    parser.add_argument("sections", nargs="*", choices=[*sections, []], default=list(sections))
    parser.add_argument("--size", default="80x24")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    for name in arguments.sections:
        print(json.dumps({name: sections[name](width, height, arguments.seconds, arguments.rounds)}), flush=True)
