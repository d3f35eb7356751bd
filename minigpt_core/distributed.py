"""Data-parallel training: each process computes the gradient of its share of a batch, and all step by their mean.

Rank 0 trains as if it were alone. At each step it tells the others, in one small word over the CPU, what to do: make
the step, add up the losses, take this state, end. So whatever it decides by a clock, a command or a loss holds for all,
and while it evaluates, saves or is paused, they wait for the next word. Gradients are averaged by PyTorch's
DistributedDataParallel over nccl or gloo (Li et al. 2020, arXiv 2006.15704); the words go over a gloo group of their
own, so that no word waits for a GPU.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import IntEnum
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minigpt_core.errors import TrainingError
from minigpt_core.ranks import ALONE, Children, Place

STEP_TIMEOUT = timedelta(minutes=10)
"""How long one may wait for another within a step: the slowest compiles first."""
WORD_TIMEOUT = timedelta(days=365)
"""And for the next word: a pause may be long. A process that dies is noticed at once, by its connections."""
MEET_TIMEOUT = timedelta(minutes=30)
"""And for one another at first: rank 0 may have a long text to encode, or may have ended over a bad option."""
HERE = "127.0.0.1"
JOIN_SECONDS = 120.0
"""How long processes on this machine may take to load torch."""
BROKEN = ("gloo", "nccl", "connection", "timed out", "timeout")
"""What torch's errors mention that come from another process's end."""

Forward = Callable[[Tensor], Tensor]


class Verb(IntEnum):
    """What rank 0 tells the others to do."""

    END = 0
    STEP = 1
    COLLECT = 2
    LOAD = 3


class Word(NamedTuple):
    verb: Verb
    number: int = 0
    """STEP: steps completed. LOAD: bytes that follow."""
    lr: float = 0.0


class World:
    """A run in one process. Its methods are what training asks of several; here nothing needs doing."""

    place = ALONE

    def wrap(self, forward: Forward) -> Forward:
        """A forward pass whose backward pass leaves the mean gradient over all processes."""
        return forward

    def share(self, starts: np.ndarray) -> np.ndarray:
        """Which windows of a piece of a batch are this process's, (b,) of (B,)."""
        return starts

    def summing(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around a piece of a batch: gradients meet in the last one's backward pass only."""
        return contextlib.nullcontext()

    def loss_gradient(self, loss: Tensor) -> Tensor | None:
        """Where the backward pass of a loss, (), begins; None is 1."""
        return None

    def step(self, completed: int, lr: float) -> None:
        """Everybody makes the step after so many, at this rate."""

    def collect(self, loss: Tensor) -> None:
        """Add to a sum of losses, in place, what the others have added up since the last time."""

    def load(self, state: dict[str, Any]) -> None:
        """Everybody goes on from this "model" and these "optimizers", as state dicts."""

    def check(self) -> None:
        """Between steps.

        Raises:
            TrainingError: a process is gone.
        """

    def close(self) -> None:
        """The others end; a second time does nothing."""


class Group(World):
    """One of several processes; they meet when they are constructed.

    Args:
        store: where they find one another; None is where torchrun says.
        children: the others, where rank 0 has started them.
    """

    def __init__(self, place: Place, store: dist.Store | None = None, children: Children | None = None) -> None:
        self.place, self._children = place, children
        self._open, self._stepped = True, False
        self._wrapped: DistributedDataParallel | None = None
        self._data: dist.ProcessGroup | None = None
        timeout = MEET_TIMEOUT if store is None else timedelta(seconds=JOIN_SECONDS)
        with self._blaming():
            dist.init_process_group("gloo", store=store, rank=place.rank, world_size=place.size, timeout=timeout)
            self._words = dist.new_group(backend="gloo", timeout=WORD_TIMEOUT)

    @classmethod
    def spawned(cls, place: Place, children: Children) -> Group:
        """Rank 0 of processes that it has started.

        Raises:
            TrainingError: one of them ended before.
        """
        listening = socket.create_server((HERE, 0))  # torch's own would listen to other machines too
        port = listening.getsockname()[1]
        store = dist.TCPStore(
            HERE, port, place.size, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        children.tell(port)
        deadline = time.monotonic() + JOIN_SECONDS
        while not store.check([joined(rank) for rank in range(1, place.size)]):
            if children.lost or time.monotonic() > deadline:
                raise TrainingError(children.lost or f"the other processes did not begin within {JOIN_SECONDS:.0f} s")
            time.sleep(0.01)
        return cls(place, store, children)

    @classmethod
    def joining(cls, place: Place, port: int) -> Group:
        """Another rank, which rank 0 has started."""
        store = dist.TCPStore(HERE, port, place.size, is_master=False)
        store.set(joined(place.rank), "")
        return cls(place, store)

    # --- what training asks ---

    def wrap(self, forward: Forward) -> Forward:
        # A compiled model is wrapped, not the other way round: it compiles as it does where there is one process.
        self._assemble()
        with self._blaming():
            self._wrapped = DistributedDataParallel(
                cast(nn.Module, forward), process_group=self._data, gradient_as_bucket_view=True
            )
        return self._wrapped

    def share(self, starts: np.ndarray) -> np.ndarray:
        return np.split(starts, self.place.size)[self.place.rank]

    @contextlib.contextmanager
    def summing(self, last: bool) -> Iterator[None]:
        assert self._wrapped is not None
        with self._blaming(), contextlib.nullcontext() if last else self._wrapped.no_sync():
            yield

    def loss_gradient(self, loss: Tensor) -> Tensor:
        """NaN where the loss is not finite: then every process's gradient is NaN, and all refuse the step alike."""
        return torch.where(loss.detach().isfinite(), 1.0, torch.nan)

    def step(self, completed: int, lr: float) -> None:
        self._stepped = True
        self._say(Word(Verb.STEP, completed, lr))

    def collect(self, loss: Tensor) -> None:
        if self._open:
            self.check()  # also before each save: what an aborted step left in the weights is not worth it
            self._say(Word(Verb.COLLECT))
            self.add_up(loss)

    def load(self, state: dict[str, Any]) -> None:
        file = io.BytesIO()
        torch.save({"model": state["model"], "optimizers": state["optimizers"]}, file)
        self._say(Word(Verb.LOAD, file.tell()))
        self._send(file.getbuffer())

    def check(self) -> None:
        if self._children is not None and self._children.lost:
            raise TrainingError(self._children.lost + self._advice)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._children is None or not self._children.lost:
            with contextlib.suppress(RuntimeError):  # they may be gone
                dist.broadcast(torch.tensor(Word(Verb.END), dtype=torch.float64), 0, group=self._words)
        if self._children is not None:
            self._children.close()
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()

    # --- what they tell one another ---

    def invite(self, job: dict[str, Any], device: str) -> None:
        """Rank 0: what the others are to train, as plain values."""
        content = msgspec.json.encode(job)
        self._say(Word(Verb.LOAD, len(content)))
        self._send(content)
        self.connect(device)

    def invited(self) -> dict[str, Any]:
        job: dict[str, Any] = msgspec.json.decode(self._receive(self.hear().number))
        return job

    def connect(self, device: str) -> None:
        """Everybody: have a group for gradients on this kind of device."""
        backend = "nccl" if device.startswith("cuda") else "gloo"
        self._assemble()
        with self._blaming():
            self._data = dist.new_group(backend=backend, timeout=STEP_TIMEOUT)
        if backend == "nccl" and self._children is not None:
            threading.Thread(target=self._free_the_device, name="peers", daemon=True).start()

    def hear(self) -> Word:
        """Wait for rank 0's next word."""
        word = torch.empty(3, dtype=torch.float64)
        self._broadcast(word)
        verb, number, lr = word.tolist()
        return Word(Verb(int(verb)), int(number), lr)

    def loaded(self, n_bytes: int) -> dict[str, Any]:
        """The state of `load`, on the CPU."""
        state: dict[str, Any] = torch.load(io.BytesIO(self._receive(n_bytes)), weights_only=True)
        return state

    def add_up(self, loss: Tensor) -> None:
        """Everybody's sum in place of one's own."""
        with self._blaming():
            dist.all_reduce(loss, group=self._data)

    def _say(self, word: Word) -> None:
        self._broadcast(torch.tensor(word, dtype=torch.float64))

    def _send(self, content: bytes | memoryview) -> None:
        self._broadcast(torch.frombuffer(bytearray(content), dtype=torch.uint8))

    def _receive(self, n_bytes: int) -> bytes:
        content = torch.empty(n_bytes, dtype=torch.uint8)
        self._broadcast(content)
        return content.numpy().tobytes()

    def _broadcast(self, tensor: Tensor) -> None:
        """Rank 0's tensor becomes everybody's; the others wait for it."""
        with self._blaming():
            dist.broadcast(tensor, 0, group=self._words)

    def _assemble(self) -> None:
        """Before something that one may not notice the end of another in: who is gone by now is missed here, at once.

        torch waits for its store when it makes a group, and nccl for everybody where gradients first meet.
        """
        with self._blaming():
            dist.barrier(group=self._words)

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        """Around whatever needs the others: where a connection breaks, say whose end it was.

        Raises:
            TrainingError: that, in one line.
        """
        try:
            yield
        except RuntimeError as error:
            said = " ".join(str(error).split())
            if not any(word in said.lower() for word in BROKEN):
                raise
            lost = self._children.wait_for_loss() if self._children is not None else None
            lost = lost or f"lost contact with another process, whose own error says why ({said[:120]})"
            raise TrainingError(lost + self._advice) from None

    @property
    def _advice(self) -> str:
        return "; the run can be resumed where it was saved" if self._stepped else ""

    def _free_the_device(self) -> None:
        """Once a process is gone: where its gradients are waited for on a GPU, nothing else would end the waiting."""
        assert self._children is not None
        assert self._data is not None
        while self._open:  # again and again: the waiting may begin after the loss
            if self._children.lost is not None:
                with contextlib.suppress(RuntimeError):
                    self._data.abort()
            time.sleep(0.5)


def joined(rank: int) -> str:
    """The key under which a rank says that it is there."""
    return f"minigpt/joined/{rank}"


def open_world(place: Place, children: Children | None) -> World:
    """Rank 0's world: alone, with the children that it has started, or with those that torchrun did."""
    if children is not None:
        return Group.spawned(place, children)
    return Group(place) if place.size > 1 else World()
