"""Whether a run fits into the memory of a CPU, before its first step: a system that runs out kills without a word."""

from __future__ import annotations

from collections.abc import Callable

from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.devices import Devices, training_bytes
from minigpt_core.errors import UserError
from minigpt_core.summary import parameters

OVERHEAD = 1.5
"""What a step takes on a CPU, measured from 0.8 to 25 M parameters, over what its tensors would fill: 1.3 to 2.1."""
COPIES = 3 * 4 + 16
"""Bytes a parameter: the replicas that are sampled and looked into, and the copy that is being saved."""


def needed_bytes(model: ModelConfig, micro_batch: int, devices: Devices) -> int:
    """Roughly what training takes beside the text."""
    n_params = parameters(model)
    return int(OVERHEAD * training_bytes(model, n_params, micro_batch, devices)) + COPIES * n_params


def check_memory(
    model: ModelConfig, train: TrainConfig, devices: Devices, free: int, resumed: bool = False, fixed: bool = False
) -> None:
    """Refuse a run on a CPU that needs more than the `free` bytes.

    Args:
        fixed: its weights are given, so their number cannot change.

    Raises:
        UserError: it does not fit; names a size that does, which a resumed run could not take.
    """
    needed = needed_bytes(model, train.micro_batch, devices)
    if devices.kind != "cpu" or needed <= free:
        return

    message = f"training takes about {gib(needed)} of memory, and {gib(free)} are free"
    raise UserError(f"{message}; {'free some first' if resumed else way_out(model, train, devices, free, fixed)}")


def way_out(model: ModelConfig, train: TrainConfig, devices: Devices, free: int, fixed: bool = False) -> str:
    """The largest batch that fits, or for a single window of text the widest model, as options; where its weights
    are fixed, the longest window."""

    def fits(model: ModelConfig, micro_batch: int) -> bool:
        return needed_bytes(model, micro_batch, devices) <= free

    batch = largest(train.batch_size, lambda n: fits(model, n))
    if batch:
        divisors = (n for n in range(1, train.batch_size + 1) if train.batch_size % n == 0)
        pieces = next(n for n in divisors if train.batch_size // n <= batch)
        return f"--batch-size {batch} fits, or --accumulate {pieces}"
    if fixed:
        length = largest(model.seq_len, lambda n: fits(model.replace(seq_len=n), 1))
        return f"--seq-len {length} --batch-size 1 fits" if length else "free some first"
    step = 2 * model.num_heads  # rotary positions need an even number of dimensions a head
    width = step * largest(model.embed_dim // step, lambda n: fits(model.replace(embed_dim=step * n), 1))
    return f"--embed-dim {width} --batch-size 1 fits" if width else "use a smaller --n-layers and --embed-dim"


def largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n up to `limit` that fits, where every smaller one does as well; 0 if not even 1 does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB"
