"""Whether what a checkpoint holds can be what this program saved: its parts, their sizes and their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor

from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.errors import UserError
from minigpt_core.model import GPT
from minigpt_core.tokenizer import load_tokenizer
from minigpt_core.train_state import TrainState

PARTS = {
    "model": dict,
    "optimizers": list,
    "random": dict,
    "meter": dict,
    "state": dict,
    "model_config": dict,
    "train_config": dict,
    "tokenizer": dict,
}
MAX_SEQ_LEN = 2**20
"""Tokens of context: with rotary positions no weight's size tells of it."""
MAX_THREADS = 4096


def check_state(state: Mapping[str, Any]) -> None:
    """Check what `Trainer.state_dict` made, before anything is built after it.

    Raises:
        UserError: in one line, what is wrong.
    """
    for part, kind in PARTS.items():
        if not isinstance(state.get(part), kind):
            raise UserError(f"it has no part {part!r}")
    config = ModelConfig.from_dict(state["model_config"])
    train = TrainConfig.from_dict(state["train_config"])
    if config.seq_len > MAX_SEQ_LEN or (train.threads or 1) > MAX_THREADS:
        raise UserError(f"a context of {config.seq_len:,} tokens on {train.threads or 1:,} threads is absurd")
    _check_weights(state["model"], config)
    if load_tokenizer(state["tokenizer"]).vocab_size != config.vocab_size:
        raise UserError("its vocabulary is not its model's")
    _check_progress(state["state"])
    _check_randomness(state["random"], state["meter"])
    for index, optimizer in enumerate(state["optimizers"]):
        _check_finite(optimizer, f"optimizer {index}")
    _check_finite(state["meter"], "meter")


def _check_weights(weights: Mapping[str, Any], config: ModelConfig) -> None:
    misfit = UserError("its weights do not fit its own configuration")
    if config.n_layers > len(weights):  # a billion layers would take memory even without any weights
        raise misfit
    try:
        with torch.device("meta"):
            expected = GPT(config).state_dict()
    except (RuntimeError, TypeError, OverflowError):  # sizes whose product is no number any more
        raise misfit from None
    if expected.keys() != weights.keys():
        raise misfit
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or weight.shape != expected[name].shape or not weight.is_floating_point():
            raise misfit
    _check_finite(dict(weights), "model")


def _check_progress(values: Mapping[str, Any]) -> None:
    try:
        state = msgspec.convert(dict(values), TrainState)
    except msgspec.ValidationError as error:
        raise UserError(f"its progress makes no sense ({error})") from None
    counts = (state.step, state.total_steps or 0, state.val_step or 0, state.best_step or 0, state.clock_step)
    if values.keys() - set(TrainState.__struct_fields__) or not all(0 <= n <= 10**15 for n in counts):
        raise UserError("its progress makes no sense")
    times = (state.lr, state.lr_scale, state.elapsed, state.clock_elapsed, state.clock_warm)
    if not all(math.isfinite(x) and x >= 0 for x in times):
        raise UserError("its progress makes no sense")


def _check_randomness(random: Mapping[str, Any], meter: Mapping[str, Any]) -> None:
    generators = random.get("cpu"), random.get("device")
    if any(each is not None and not (isinstance(each, Tensor) and each.dtype == torch.uint8) for each in generators):
        raise UserError("its random states are none")
    sums, steps, seconds = (meter.get(name) for name in ("sums", "steps", "seconds"))
    if not isinstance(sums, Tensor) or sums.shape != (3,) or type(steps) is not int or type(seconds) is not float:
        raise UserError("its sums since the last metrics row make no sense")


def _check_finite(values: Any, where: str) -> None:
    """Whether all numbers of a small tree are finite."""
    for name, value in values.items() if isinstance(values, Mapping) else enumerate(values):
        if isinstance(value, Mapping | list | tuple):
            _check_finite(value, where)
        elif isinstance(value, Tensor):
            if value.is_floating_point() and not value.isfinite().all():
                raise UserError(f"{where}: {str(name)[:80]!r} holds numbers that are not finite")
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {str(name)[:80]!r} is not a finite number")


def check_optimizers(optimizers: Sequence[torch.optim.Optimizer], saved: Sequence[Any]) -> None:
    """Whether saved states are those of such optimizers. Torch itself finds out at the next step, or writes beyond the
    end of a tensor that is too small.

    Raises:
        UserError: in one line, what is wrong.
    """
    misfit = UserError("its optimizer states do not fit its own configuration")
    if len(saved) != len(optimizers):
        raise misfit
    for optimizer, values in zip(optimizers, saved, strict=True):
        if not isinstance(values, dict) or not {"state", "param_groups"} <= values.keys():
            raise misfit
        own = optimizer.state_dict()
        if not _same_groups(own["param_groups"], values["param_groups"]) or not isinstance(values["state"], dict):
            raise misfit
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        entries = values["state"]
        names = {key for entry in own["state"].values() for key in entry} or {"step", "exp_avg", "exp_avg_sq"}
        lazy = "exp_avg" in names  # AdamW makes its state at its first step, so before it there is none
        if entries.keys() != set(range(len(parameters))) and not (lazy and not entries):
            raise misfit
        for index, entry in entries.items():
            if not isinstance(entry, dict) or entry.keys() != names:
                raise misfit
            for name, value in entry.items():
                shape = torch.Size() if name == "step" else parameters[index].shape
                if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
                    raise misfit


def _same_groups(own: list[dict[str, Any]], saved: Any) -> bool:
    """Whether groups hold the same parameters and settings, all but the learning rate, which the schedule sets."""
    if not isinstance(saved, list) or len(saved) != len(own):
        return False
    return all(
        isinstance(group, dict)
        and "lr" in group
        and all(group.get(name, default) == default for name, default in mine.items() if name != "lr")
        and group.keys() >= {name for name, value in mine.items() if isinstance(value, float | list | tuple)}
        for mine, group in zip(own, saved, strict=True)
    )
