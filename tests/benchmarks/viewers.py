"""What viewers cost a run, and how soon they see something: `python -m tests.benchmarks.viewers [cost|token|attach]`.

- cost: the step rate with three viewers (one takes nothing, one sends rubbish as fast as it can, one prompts every
  5 s) over that without, in turns; the median of the rounds.
- token: from asking to the first token in another process, while the run trains.
- attach: from the start of `minigpt-tui attach` to a screen with the whole of a 1,000,000-step history of 100,000 rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from minigpt_core.config import SampleConfig
from minigpt_core.lock import holder
from minigpt_core.rundir import RunDir
from minigpt_tui.link.remote import AttachedSession
from tests.terminal import Terminal

PROGRAM = [sys.executable, "-m", "minigpt_tui"]
ROUNDS, SECONDS = 14, 8.0
PROMPTS, ATTACHES = 40, 10
ROWS, EVERY = 100_000, 10
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
RUBBISH = b"\x82\x84\0\0\0\0\xc1\xc1\xc1\xc1" * 100


@contextlib.contextmanager
def training(folder: Path, *options: str) -> Iterator[RunDir]:
    """A run of the default size in a process of its own."""
    words = ["train", "--name", "run", "--steps", "1000000", "--eval-every", "1000000", "--detach", *options]
    subprocess.run([*PROGRAM, *words], cwd=folder, check=True, capture_output=True)
    run = RunDir(folder / "runs/run")
    try:
        yield run
    finally:
        subprocess.run([*PROGRAM, "stop", "run"], cwd=folder, check=True, capture_output=True)


def attached(run: RunDir) -> AttachedSession:
    session = AttachedSession(run)
    session.listen()
    while not session.connected or session.live_status().step < 20:
        time.sleep(0.01)
    return session


def rate(session: AttachedSession, seconds: float) -> float:
    """Steps a second of training."""
    before = session.live_status()
    time.sleep(seconds)
    after = session.live_status()
    return (after.step - before.step) / (after.elapsed - before.elapsed)


def connect(run: RunDir) -> socket.socket:
    held = holder(run)
    assert held is not None
    there = socket.socket(socket.AF_UNIX)
    there.connect(held.socket)
    there.sendall(HANDSHAKE)
    return there


def stall(run: RunDir, ended: threading.Event) -> int:
    with connect(run):
        ended.wait()
    return 0


def send_rubbish(run: RunDir, ended: threading.Event) -> int:
    sent = 0
    while not ended.is_set():
        with contextlib.suppress(OSError), connect(run) as there:
            there.recv(4096)
            there.sendall(RUBBISH)
            sent += 100
            while there.recv(4096):
                pass
    return sent


def prompt(run: RunDir, ended: threading.Event) -> int:
    session, asked = attached(run), 0
    while not ended.wait(5.0):
        session.generate("The ", SampleConfig(max_new_tokens=100)).wait(10)
        asked += 1
    session.close()
    return asked


@contextlib.contextmanager
def three_viewers(run: RunDir, counts: list[int]) -> Iterator[None]:
    """One that takes nothing, one that sends rubbish, one that prompts; adds what each has done to its count."""
    ended = threading.Event()

    def work(i: int, act: Callable[[RunDir, threading.Event], int]) -> None:
        counts[i] += act(run, ended)

    threads = [threading.Thread(target=work, args=each) for each in enumerate((stall, send_rubbish, prompt))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def cost(folder: Path) -> dict[str, object]:
    def alone() -> float:
        return rate(session, SECONDS)

    def watched() -> float:
        with three_viewers(run, counts):
            return rate(session, SECONDS)

    with training(folder) as run:
        session = attached(run)  # to read the rate; in both halves of a round
        ratios, counts = [], [0, 0, 0]
        for number in range(ROUNDS):
            halves = (alone, watched) if number % 2 else (watched, alone)  # a machine grows slower and faster by itself
            rates = {half: half() for half in halves}
            ratios.append(rates[watched] / rates[alone])
        session.close()
    return {"ratios": ratios, "median": statistics.median(ratios), "malformed": counts[1], "prompts": counts[2]}


def token(folder: Path) -> dict[str, object]:
    with training(folder) as run:
        session, times = attached(run), []
        for _ in range(PROMPTS):
            began = time.perf_counter()
            generation = session.generate("The meaning of ", SampleConfig(max_new_tokens=5))
            while not generation.n_tokens:
                time.sleep(0.001)
            times.append(time.perf_counter() - began)
            generation.wait(10)
            time.sleep(0.3)
        session.close()
    return {"median_ms": statistics.median(times) * 1e3, "worst_ms": max(times) * 1e3}


def attach(folder: Path) -> dict[str, object]:
    with training(folder) as run:
        attached(run).close()
        subprocess.run([*PROGRAM, "pause", "run"], cwd=folder, check=True, capture_output=True)
        last = json.loads(run.metrics.read_text().splitlines()[-1])
        kept = run.metrics.read_bytes()
        with open(run.metrics, "r+") as file:  # the run stands still, and appends to this file
            for n in range(1, ROWS + 1):
                row = last | {"step": n * EVERY, "train_loss": 1 + 3 / n**0.3 + (n % 7) / 50}
                file.write(json.dumps(row) + "\n")
        times = []
        for _ in range(ATTACHES):
            began = time.perf_counter()
            with Terminal([*PROGRAM, "attach"], columns=160, rows=45, cwd=folder) as terminal:
                while not all(mark in terminal.text() for mark in ("paused", "loss 1.155", "┤", "layer 0 head 0")):
                    terminal.pump(0.005)
                    assert time.perf_counter() - began < 20, terminal.text()
                times.append(time.perf_counter() - began)
                terminal.send("q")
                terminal.wait_exit()
        os.truncate(run.metrics, 0)
        run.metrics.write_bytes(kept)
    return {"median_s": statistics.median(times), "worst_s": max(times)}


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["cost", "token", "attach"]
    for name in wanted:
        with tempfile.TemporaryDirectory() as place:
            found = {"cost": cost, "token": token, "attach": attach}[name](Path(place))
        print(json.dumps({name: found}))
