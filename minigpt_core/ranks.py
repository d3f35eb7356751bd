"""The processes of one run: which of them this is, and on one machine, starting the others and knowing how they fare.

Rank 0 is the run: it owns the directory, decides, and says each step what to do; the others follow (`follower`). No
torch here, so that the others can begin to load it while rank 0 does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from minigpt_core.config import TrainConfig, round_up
from minigpt_core.errors import UsageError, UserError

LEAVE_SECONDS = 5.0
"""How long a process that was told to end may take."""
NOTICE_SECONDS = 5.0
"""How long after a connection broke it takes at most to know whose."""
MOST_RANKS = 4096
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which process of a run this is: of all, and of those on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launched: bool = False
    """`torchrun`, or what sets its variables, started it: it may have been given a GPU that it alone sees."""

    def gpu(self, visible: int) -> int | None:
        """Which of so many GPUs that it sees is its own; None if there are too few."""
        if self.launched and visible == 1:
            return 0
        return self.local_rank if self.local_size <= visible else None


ALONE = Place()


class Address(msgspec.Struct, frozen=True):
    """What a process that rank 0 started must know to find it."""

    place: Place
    port: int


def launched(env: Mapping[str, str] | None = None) -> Place | None:
    """The place that `torchrun`, or what sets its variables, gave this process; None where nobody did.

    Raises:
        UserError: the variables make no sense.
    """
    env = os.environ if env is None else env
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= env.keys():
        return None
    try:
        rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
        local_rank, local_size = int(env.get("LOCAL_RANK", rank)), int(env.get("LOCAL_WORLD_SIZE", size))
    except ValueError:
        raise UserError("RANK, WORLD_SIZE and LOCAL_RANK in the environment are not whole numbers") from None
    if not (0 <= rank < size <= MOST_RANKS and 0 <= local_rank < local_size <= size):
        raise UserError(f"RANK={rank} of WORLD_SIZE={size} in the environment makes no sense")
    if size == 1:
        return None
    return Place(rank=rank, size=size, local_rank=local_rank, local_size=local_size, launched=True)


def leading(nproc: int | None, before: int = 1) -> Place:
    """Rank 0's place in a run of `nproc` processes; None is as many as torchrun started, or else as `before`.

    Raises:
        UsageError: torchrun has started them already.
    """
    given = launched()
    if given is None:
        size = nproc or before
        return Place(size=size, local_size=size)
    if nproc is not None:
        raise UsageError(f"--nproc {nproc}: torchrun has started {given.size} processes already; leave it out")
    return given


def check_batch(train: TrainConfig, size: int) -> None:
    """Whether a batch can be shared equally.

    Raises:
        UsageError: it cannot; the message names one that can.
    """
    pieces = size * train.accumulate
    if train.batch_size % pieces:
        accumulated = f" x --accumulate {train.accumulate}" if train.accumulate > 1 else ""
        raise UsageError(
            f"--batch-size {train.batch_size} cannot be shared equally by {size} processes{accumulated}; "
            f"try --batch-size {round_up(train.batch_size, pieces)}"
        )


class Children:
    """Ranks 1 to `size` - 1 of a run, in processes of their own on this machine.

    Each reads its address on standard input, and ends with it: whatever becomes of this process, none is left behind.
    What they print goes to `log`, and the last line of one that fails is its error.

    Attributes:
        lost: the first that ended unasked, and its error, in one line.
    """

    def __init__(self, size: int, log: Path) -> None:
        self.lost: str | None = None
        self._log = log
        self._closing = False
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)  # nobody else's business
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # -P: the folder it is called from is no place for modules, unless it is one for this process too
        command = [sys.executable, "-P", "-m", "minigpt_core.follower"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self._processes = [
            subprocess.Popen(command, env=env, process_group=0, **pipes)  # type: ignore[call-overload]
            for _ in range(1, size)  # in groups of their own: Ctrl-C is for rank 0
        ]
        for rank, process in enumerate(self._processes, 1):
            threading.Thread(target=self._attend, args=(rank, process), name=f"rank {rank}", daemon=True).start()

    def tell(self, port: int) -> None:
        """Where rank 0 is to be found."""
        size = len(self._processes) + 1
        for rank, process in enumerate(self._processes, 1):
            address = Address(Place(rank=rank, size=size, local_rank=rank, local_size=size), port)
            with suppress(OSError):  # it is gone, and `lost` will say so
                assert process.stdin is not None
                process.stdin.write(msgspec.json.encode(address) + b"\n")
                process.stdin.flush()

    def wait_for_loss(self) -> str | None:
        """A connection broke: which process is gone, if one is."""
        deadline = time.monotonic() + NOTICE_SECONDS
        while self.lost is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.lost

    def close(self) -> None:
        """Let them go; who does not end by himself is ended."""
        self._closing = True
        for process in self._processes:
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
        deadline = time.monotonic() + LEAVE_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _attend(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Write down what a process prints; once it has ended, know why."""
        last = ""
        assert process.stderr is not None
        for line in process.stderr:
            last = line.decode(errors="replace").strip() or last
            with suppress(OSError), open(self._log, "ab") as file:
                file.write(line)
        code = process.wait()
        if not self._closing and self.lost is None:
            self.lost = ending(rank, code, last)


def ending(rank: int, code: int, last: str) -> str:
    """How a process ended, in words; `last` is the last line that it printed."""
    if code < 0:
        with suppress(ValueError):
            return f"rank {rank} was ended by {signal.Signals(-code).name}"
    return last if last.startswith(f"rank {rank}") else f"rank {rank} ended with exit code {code}{last and f': {last}'}"
