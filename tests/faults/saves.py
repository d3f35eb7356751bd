"""Break a save at each of its system calls: the disk is full, fails or is read-only from there on, or the process dies.

    python -m tests.faults.saves

After each the old or the new checkpoint loads, and where the process lived its next save succeeds. A save here is all
that belongs to one: rows and events made durable, `best.pt`, `model_checkpoint.pt`. Every case is a fork of one process
in which training has just found better weights.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import torch

from minigpt_core import CharTokenizer, ModelConfig, TrainConfig, Trainer, atomic, checkpoint, runlog
from minigpt_core.atomic import remove_leftovers
from minigpt_core.errors import UserError
from minigpt_core.model import GPT
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.tail import read_metrics

CRASH = "crash"
FAULTS: tuple[int | str, ...] = (errno.ENOSPC, errno.EIO, errno.EROFS, CRASH)
CRASHED = 42
OLD, NEW = 5, 10
"""Steps of the checkpoint on the disk, and of the one that is being saved."""
NOT_BY_A_FULL_DISK = {"unlink", "dup", "fsync folder"}


class Disk:
    """Every system call of a save goes through here; from the one numbered `at` on (from 0) the fault is there."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.at: int | None = None
        self.fault: int | str = CRASH

    def fails(self, name: str) -> bool:
        self.calls.append(name)
        if self.at is None or len(self.calls) <= self.at:
            return False
        return self.fault != errno.ENOSPC or name not in NOT_BY_A_FULL_DISK

    def fail(self) -> NoReturn:
        if self.fault == CRASH:
            os._exit(CRASHED)
        raise OSError(self.fault, os.strerror(int(self.fault)))

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def through(*args: Any, **kwargs: Any) -> Any:
            if self.fails(name):
                self.fail()
            return call(*args, **kwargs)

        return through

    def install(self, log: RunLog) -> None:
        """For a process that ends soon: nothing is put back. The log's files are opened anew."""
        disk = self

        class Raw(io.FileIO):
            def __init__(self, path: Any, mode: str) -> None:
                if disk.fails("open"):
                    disk.fail()
                super().__init__(path, mode)

            def write(self, data: Any) -> int:
                if disk.fails("write"):
                    super().write(bytes(data)[: len(data) // 2])
                    disk.fail()
                return super().write(data) or 0

        real_fsync = os.fsync
        folder = self.wrapped("fsync folder", real_fsync)
        file = self.wrapped("fsync", real_fsync)
        os.fsync = lambda fd: (folder if os.path.isdir(f"/proc/self/fd/{fd}") else file)(fd)  # type: ignore[assignment]
        for name in ("replace", "unlink", "dup"):
            setattr(os, name, self.wrapped(name, getattr(os, name)))
        atomic.open = lambda path, mode: io.BufferedWriter(Raw(path, mode.replace("b", "")))  # type: ignore
        runlog.FileIO = Raw  # type: ignore
        log.close()


def trained(folder: Path) -> Trainer:
    """A run with a checkpoint of step `OLD` and with better weights, not yet saved, at step `NEW`."""
    text = "the cat sat on a mat and the dog ran to a tree while birds sang. " * 40
    tokenizer = CharTokenizer.from_text(text)
    torch.manual_seed(1)
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=1, num_heads=2, embed_dim=32, seq_len=16))
    run = RunDir(folder / "run")
    run.path.mkdir()
    run.config.write_text("{}")
    config = TrainConfig(steps=100, batch_size=4, eval_every=OLD, save_every=100, device="cpu", threads=1)
    trainer = Trainer(model, tokenizer, text, config, run=RunLog(run))
    for row in trainer:
        if row.step == OLD:
            trainer.save()
        if row.step == NEW:
            break
    return trainer


def broken_save(trainer: Trainer, disk: Disk) -> None:
    """In the child: a save that breaks; if that is not the process's end, the disk is mended and the next one works."""
    assert trainer.log is not None
    disk.install(trainer.log)
    with suppress(UserError):
        trainer.save()
    assert disk.fault != CRASH
    disk.at = None
    if disk.fault == errno.ENOSPC:
        assert not leftovers(trainer), "temporary files are left"
    trainer.save()
    assert trainer.saver is not None
    assert trainer.saver.failure is None


def leftovers(trainer: Trainer) -> list[str]:
    assert trainer.log is not None
    return [name for name in os.listdir(trainer.log.run.path) if atomic.TEMPORARY.fullmatch(name)]


def fork(body: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            body()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_remains(run: RunDir) -> int:
    """Old or new, never neither, never a checkpoint whose best weights or rows are not there. Returns its step."""
    step = checkpoint.load(run.checkpoint)["state"]["step"]
    best = checkpoint.load(run.best)["state"]["step"]
    assert step in (OLD, NEW)
    assert best in (OLD, NEW)
    assert best >= step
    assert [row.step for row in read_metrics(run)] == list(range(1, NEW + 1))
    return step


def count_calls(trainer: Trainer) -> list[str]:
    """The system calls of a save, by one that nothing breaks, in a process of its own."""
    log = trainer.log
    assert log is not None
    out = log.run.path.parent / "calls"

    def body() -> None:
        disk = Disk()
        disk.install(log)
        trainer.save()
        out.write_text("\n".join(disk.calls))

    assert fork(body) == 0
    return out.read_text().splitlines()


def break_saves(count: int, folder: Path) -> str:
    """Break a save with every fault at `count` of its system calls (0: at each); what happened, in a line.

    Raises:
        AssertionError: a checkpoint was lost.
    """
    trainer = trained(folder)
    assert trainer.log is not None
    run = trainer.log.run
    good = {path: path.read_bytes() for path in (run.checkpoint, run.best)}
    calls = count_calls(trainer)
    places = range(len(calls)) if not count else sorted({len(calls) * i // count for i in range(count)})
    found = {OLD: 0, NEW: 0}
    for fault in FAULTS:
        for at in places:
            for path, content in good.items():
                path.write_bytes(content)
            disk = Disk()
            disk.at, disk.fault = at, fault
            code = fork(lambda disk=disk: broken_save(trainer, disk))  # type: ignore[misc]
            what = f"{fault if fault == CRASH else errno.errorcode[int(fault)]} at call {at} ({calls[at]})"
            assert code == (CRASHED if fault == CRASH else 0), what
            step = check_remains(run)
            assert fault == CRASH or step == NEW, f"{what}: the next save did not work"
            found[step] += fault == CRASH
            remove_leftovers(run.path)
            assert not leftovers(trainer)
    return (
        f"{len(FAULTS)} faults at {len(places)} of {len(calls)} system calls: a good checkpoint after each "
        f"({found[OLD]} crashes left the old one, {found[NEW]} the new one), and every save after an error worked"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=0, help="system calls at which each fault strikes (all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(break_saves(options.count, Path(folder)))


if __name__ == "__main__":
    main()
