"""Checkpoints and run files as chance or an enemy would leave them: each loads correctly or is refused in one line.

    python -m tests.faults.corrupt --count 2000 --files 500 --seed 1

No traceback, no hang, no memory without bounds, and no code out of a file is ever run.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from minigpt_core import checkpoint
from minigpt_core.errors import UserError
from minigpt_core.rundir import RunDir
from tests.faults import hostile_checkpoint, hostile_run
from tests.faults.damage import bytes_damaged
from tests.faults.small_run import make_run

LONGEST = 5.0
"""Seconds that anything here may take; most take milliseconds."""
LONGEST_LINE = 600
"""Characters of an error."""


class Faults:
    """Counts what came of each attempt; `wrong` lists what must not have happened."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0

    def attempt(self, what: str, action: Callable[[], str], limit: float = LONGEST) -> None:
        """`action` says what came of it, or raises UserError."""
        started = time.perf_counter()
        try:
            with time_limit(limit), warnings.catch_warnings():
                warnings.simplefilter("error")  # a warning would be a second line
                warnings.simplefilter("ignore", ResourceWarning)  # files of what was refused half way
                self.outcomes[action()] += 1
        except UserError as error:
            self.outcomes["refused"] += 1
            if not one_line(str(error)):
                self.wrong.append(f"{what}: not one line: {str(error)[:LONGEST_LINE]!r}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.wrong.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")
        self.slowest = max(self.slowest, time.perf_counter() - started)

    def __str__(self) -> str:
        return f"{dict(self.outcomes)}, slowest {self.slowest:.2f} s, wrong: {len(self.wrong)}"


def one_line(message: str) -> bool:
    return bool(message) and len(message) <= LONGEST_LINE and len(message.splitlines()) == 1


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"still busy after {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# --- checkpoints ---


def corrupt_checkpoints(run: RunDir, count: int, seed: int, faults: Faults) -> None:
    """Load `count` corrupted copies of a run's checkpoint as `chat` and `--resume` do."""
    rng = random.Random(seed)
    data = run.checkpoint.read_bytes()
    state = checkpoint.load(run.checkpoint)
    bad, marker = run.path / "bad.pt", run.path / "executed"
    builders = hostile_checkpoint.BUILDERS
    for i in range(count):
        draw = random.Random(rng.random())
        if i % 2:
            what, damaged = "bytes", bytes_damaged(data, draw)
        else:
            what = list(builders)[i // 2 % len(builders)]
            damaged = builders[what](hostile_checkpoint.Original(data, state, marker), draw)
        bad.write_bytes(damaged)
        same = what == "bytes"
        faults.attempt(f"checkpoint {i} ({what})", lambda same=same: use_checkpoint(bad, state, same))
        if marker.exists():
            faults.wrong.append(f"checkpoint {i} ({what}): its code was run")
            marker.unlink()


def use_checkpoint(path: Path, original: dict[str, Any], same: bool) -> str:
    """Load it, compute with it and go on training from it.

    Args:
        same: what loads must be the original, since nobody could have meant anything else.
    """
    state = checkpoint.load(path)
    if same:
        assert equal(state, original), "other values than were saved"
        return "loaded the same"
    model = checkpoint.load_model(state)
    assert model(torch.zeros(1, 4, dtype=torch.int64)).isfinite().all(), "not finite"
    return hostile_run.go_on(state)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


# --- the other files of a run ---


def corrupt_files(run: RunDir, count: int, seed: int, faults: Faults) -> None:
    """Read `count` malformed copies of a run's files through everything that reads them."""
    rng = random.Random(seed)
    names = list(hostile_run.FILES)
    for i in range(count):
        draw, name = random.Random(rng.random()), names[i % len(names)]
        path = run.path / name
        good = path.read_bytes()
        try:
            path.write_bytes(hostile_run.FILES[name](good, draw))
            for reader in hostile_run.READERS:
                faults.attempt(f"file {i} ({name}, {reader.__name__})", lambda reader=reader: reader(run))
        finally:
            path.write_bytes(good)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="corrupted checkpoints")
    parser.add_argument("--files", type=int, default=100, help="malformed files")
    parser.add_argument("--commands", type=int, default=10, help="of either, through the command line")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder))
        for what, count in (("checkpoints", given.count), ("files", given.files), ("commands", given.commands)):
            faults = Faults()
            {"checkpoints": corrupt_checkpoints, "files": corrupt_files, "commands": hostile_run.corrupt_commands}[
                what
            ](run, count, given.seed, faults)
            print(f"{count} {what}: {faults}", flush=True)
            wrong += faults.wrong
    for line in wrong[:40]:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
