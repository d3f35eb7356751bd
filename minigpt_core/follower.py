"""A process of a run that is not its first: it computes its share of each step, and does nothing of its own accord.

It writes nothing. What it computes from is rank 0's directory, which it must be able to read, and rank 0's words. Its
dropout is a function of (seed, rank, step): a checkpoint need not hold it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
import torch

from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.corpus import split
from minigpt_core.devices import Devices, enter_thread
from minigpt_core.distributed import Group, Verb
from minigpt_core.divergence import DivergenceError
from minigpt_core.errors import UserError
from minigpt_core.model import GPT
from minigpt_core.ranks import Address, Place
from minigpt_core.rundir import RunDir
from minigpt_core.stored import read_config, read_tokenizer, read_tokens
from minigpt_core.train_state import Meter
from minigpt_core.update import Update


def follow(world: Group) -> None:
    """Do what rank 0 says until it says that this is the end.

    Raises:
        UserError: what is to be trained cannot be read or computed here.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever tells all processes to end: rank 0 saves first, with our help
    job = world.invited()
    train = TrainConfig.from_dict(job["train"])
    devices = at(world.place, msgspec.convert(job["devices"], Devices))
    enter_thread(devices.device, devices.threads, deterministic=train.deterministic)
    world.connect(devices.device)
    model = GPT(ModelConfig.from_dict(job["model"]))
    update = Update(model, read_training_tokens(Path(job["run"]), model.config.seq_len), train, devices, world)
    meter = Meter(devices.device)
    while (word := world.hear()).verb is not Verb.END:
        if word.verb is Verb.STEP:
            torch.manual_seed(dropout_seed(train.seed, world.place.rank, word.number))
            try:
                loss, norm = update.gradients(word.number, word.lr)
            except DivergenceError:  # as for everybody: rank 0 knows what to do
                continue
            update.apply()
            meter.add(loss, norm, train.grad_clip, update.guard.skip)
        elif word.verb is Verb.COLLECT:
            world.add_up(meter.sums[0])
            meter.reset()
        elif word.verb is Verb.LOAD:
            state = world.loaded(word.number)
            model.load_state_dict(state["model"])
            for optimizer, saved in zip(update.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            update.guard.reset()
            meter.reset()


def at(place: Place, devices: Devices) -> Devices:
    """Rank 0's decisions, on this process's device.

    Raises:
        UserError: there is no GPU for it.
    """
    if not devices.device.startswith("cuda"):
        return devices
    visible = torch.cuda.device_count()
    if (index := place.gpu(visible)) is None:
        raise UserError(f"there is no GPU {place.local_rank} here: this process sees {visible}")
    return msgspec.structs.replace(devices, device=f"cuda:{index}")


def read_training_tokens(path: Path, seq_len: int) -> np.ndarray:
    """(n,) the training split of the run at this path."""
    run = RunDir(path)
    if not path.is_dir():
        raise UserError(f"cannot see the run's folder {str(path)!r}: it must lie where all machines can read it")
    return split(read_tokens(run, read_tokenizer(run), read_config(run)["corpus"]), seq_len)[0]


def dropout_seed(seed: int, rank: int, step: int) -> int:
    """The seed of a rank's dropout in the step after `step` completed ones."""
    return int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0])


def run(rank: int, meet: Callable[[], Group]) -> NoReturn:
    """Meet the others, follow, and end this process: with 0, or with 1 and an error in one line."""
    code = 1
    try:
        follow(meet())
        code = 0
    except UserError as error:
        print(f"rank {rank}: {error}", file=sys.stderr)
    except Exception as error:
        traceback.print_exc()
        print(f"rank {rank}: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)  # native threads of the others' connections would only complain


def run_launched(place: Place) -> NoReturn:
    """As the process that torchrun started."""
    run(place.rank, lambda: Group(place))


def main() -> NoReturn:
    """As the process that rank 0 started."""
    line = sys.stdin.buffer.readline()
    if not line:  # rank 0 has ended before it began
        os._exit(1)
    address = msgspec.json.decode(line, type=Address)
    threading.Thread(target=leave_with_rank_0, name="rank 0", daemon=True).start()
    run(address.place.rank, lambda: Group.joining(address.place, address.port))


def leave_with_rank_0() -> NoReturn:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
