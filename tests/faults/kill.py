"""Kill a training process with SIGKILL at random instants, resume it each time, and compare with an undisturbed run.

    python -m tests.faults.kill --count 200

Every attempt is a fork of this process, which has loaded all that it needs, so that most of it is training.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from minigpt_core import checkpoint
from minigpt_core.atomic import TEMPORARY
from minigpt_core.lock import is_locked
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.rundir import RunDir
from minigpt_core.tail import read_metrics

MODEL = {"n_layers": 2, "num_heads": 2, "embed_dim": 32, "seq_len": 16, "dropout": 0.1}
TRAIN: dict[str, Any] = {"batch_size": 4, "accumulate": 2, "eval_every": 7, "save_every": 3, "log_every": 1}
TRAIN |= {"device": "cpu", "threads": 1, "patience": 0}
TIMES = {"time", "tok_s"}


def train(folder: Path, text: Path, name: str, steps: int) -> None:
    """Begin the run, or go on with it, to its end; without its text as soon as there is a checkpoint."""
    if (folder / name / "model_checkpoint.pt").is_file():
        plan = prepare_resume(name, {}, str(folder))
    else:
        shutil.rmtree(folder / name, ignore_errors=True)  # killed before there was anything to lose
        settings = TRAIN | {"steps": steps}
        plan = prepare(Request(data=str(text), model=MODEL, train=settings, name=name, out=str(folder)))
    for _ in plan.build():
        pass


def attempt(folder: Path, text: Path, name: str, steps: int, seconds: float | None) -> bool:
    """Train in a process of its own, killed after so many seconds; whether it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            train(folder, text, name, steps)
            os._exit(0)
        except BaseException as error:
            print(f"cannot go on: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code > 0:
        raise AssertionError(f"{name}: a killed run could not be resumed")
    return code == 0


def rows(run: RunDir) -> list[dict[str, Any]]:
    """All metrics rows without what a clock says."""
    return [{k: getattr(r, k) for k in r.__struct_fields__ if k not in TIMES} for r in read_metrics(run)]


def check_remains(run: RunDir) -> int:
    """What a kill left: a checkpoint, and every row that it covers, once. Returns its step."""
    step = checkpoint.load(run.checkpoint)["state"]["step"]
    logged = [row["step"] for row in rows(run)]
    assert logged == list(range(1, len(logged) + 1)), f"rows are missing or doubled: {logged}"
    assert len(logged) >= step, f"the checkpoint is of step {step}, the last row of step {len(logged)}"
    assert not is_locked(run)
    return step


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the bit, but for the seconds that they took."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in ("elapsed", "seconds"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def kill(count: int, steps: int, seed: int, folder: Path) -> str:
    """Kill runs `count` times in all; what happened, in a line.

    Raises:
        AssertionError: something was lost, doubled or different.
    """
    rng = random.Random(seed)
    text = folder / "text.txt"
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "and",
        "the",
        "dog",
        "ran",
        "to",
        "a",
        "tree",
        "while",
        "birds",
        "sang",
    ]
    text.write_text(" ".join(random.Random(0).choices(words, k=4000)))
    train(folder, text, "warm", 2)  # what is loaded now need not be loaded by every fork
    started = time.monotonic()
    assert attempt(folder, text, "whole", steps, None)
    longest = time.monotonic() - started
    whole = RunDir(folder / "whole")
    expected_rows, expected = rows(whole), checkpoint.load(whole.checkpoint)

    kills = finished = lost = before = leftovers = 0
    while kills < count or not finished:
        name = f"run{finished}"
        run = RunDir(folder / name)
        if attempt(folder, text, name, steps, rng.uniform(0, longest) if kills < count else None):
            saved = checkpoint.load(run.checkpoint)
            assert rows(run) == expected_rows, f"{name}: its rows differ"
            assert same(saved, expected), f"{name}: its last checkpoint differs"
            assert not any(TEMPORARY.fullmatch(file) for file in os.listdir(run.path))
            finished += 1
            continue
        kills += 1
        leftovers += any(TEMPORARY.fullmatch(file) for file in os.listdir(run.path)) if run.path.is_dir() else 0
        if run.checkpoint.is_file():
            step = check_remains(run)
            lost = max(lost, len(rows(run)) - step)
        else:
            before += 1
    return (
        f"{kills} kills (half-written files left by {leftovers}, {before} before the first checkpoint), "
        f"{finished} runs of {steps} steps finished, each equal to the undisturbed one to the bit; "
        f"at most {lost} steps had to be made again"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10, help="kills")
    parser.add_argument("--steps", type=int, default=60, help="of a run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(kill(options.count, options.steps, options.seed, Path(folder)))


if __name__ == "__main__":
    main()
