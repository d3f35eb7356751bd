"""How large a model and a batch: what the user asked for, completed to fit the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigpt_core.config import DEFAULT_OPTIMIZER, DEFAULT_SIZES, RECIPES, ModelConfig, TrainConfig, lookup, round_up
from minigpt_core.ranks import ALONE, Place

if TYPE_CHECKING:
    from minigpt_core.devices import Devices, Facts

GPU_SHARE = 0.8
"""Of a GPU's free memory that an automatic size may take."""
SMALLEST_BATCH = 8
"""Below this a smaller model trains better than a smaller batch."""


def complete_sizes(
    kind: str, model: dict[str, Any], train: dict[str, Any], vocab_size: int
) -> tuple[ModelConfig, TrainConfig]:
    """Fill in what the user left open: the sizes for this kind of device ("cpu", "gpu"), the optimizer's recipe.

    Raises:
        UsageError: a setting is out of range, or two contradict each other.
    """
    sizes = dict(DEFAULT_SIZES[kind])
    batch_size = round_up(sizes.pop("batch_size"), train.get("accumulate") or 1)
    optimizer = train.get("optimizer", DEFAULT_OPTIMIZER)
    recipe = lookup(RECIPES, optimizer, "optimizer")
    heads, width = model.get("num_heads"), model.get("embed_dim")
    if isinstance(width, int) and width > 0 and heads is None:
        sizes["num_heads"] = max(n for n in range(1, sizes["num_heads"] + 1) if width % n == 0)
    elif isinstance(heads, int) and heads > 0 and width is None:
        sizes["embed_dim"] = round_up(sizes["embed_dim"], heads)
    return (
        ModelConfig(**{"vocab_size": vocab_size, **sizes, **model}),
        TrainConfig(**{"batch_size": batch_size, "optimizer": optimizer, **recipe, **train}),
    )


def decide_sizes(
    facts: Facts, model: dict[str, Any], train: dict[str, Any], vocab_size: int, place: Place = ALONE
) -> tuple[ModelConfig, TrainConfig, Devices]:
    """Settle device and sizes together.

    On a GPU, what nobody asked for shrinks until it fits: first the batch, then the model, to the size for a CPU.
    """
    from minigpt_core.devices import decide, training_bytes

    kind = decide(facts, TrainConfig(**train), 1, place).kind
    model_config, train_config = complete_sizes(kind, model, train, vocab_size)
    devices = decide(facts, train_config, model_config.seq_len, place)
    if not devices.device.startswith("cuda"):
        return model_config, train_config, devices
    limit = GPU_SHARE * facts.cuda_free[int(devices.device.partition(":")[2])]
    for size in ("gpu", "cpu"):
        model_config, train_config = complete_sizes(size, model, train, vocab_size)
        n_params = count_parameters(model_config)
        while training_bytes(model_config, n_params, -(-train_config.micro_batch // place.size), devices) > limit:
            if {"batch_size", "accumulate"} & train.keys() or train_config.batch_size // 2 < SMALLEST_BATCH:
                break
            train_config = train_config.replace(batch_size=train_config.batch_size // 2)
        else:
            break
    return model_config, train_config, devices


def count_parameters(config: ModelConfig) -> int:
    """Parameters of a model, without making it."""
    import torch

    from minigpt_core.model import GPT

    with torch.device("meta"):
        return GPT(config).num_parameters()
