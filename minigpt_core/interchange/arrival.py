"""Weights from elsewhere become a run: one that stands at step 0, and can be talked to, looked into and trained on."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from minigpt_core import checkpoint
from minigpt_core.bits import tokens_per_byte
from minigpt_core.config import DEFAULT_STEPS, FINE_TUNING, RECIPES, ModelConfig, TrainConfig
from minigpt_core.corpus import NO_TEXT, Corpus, encode
from minigpt_core.devices import decide, survey
from minigpt_core.errors import UserError
from minigpt_core.model import GPT
from minigpt_core.optim import make_optimizers
from minigpt_core.rundir import RunDir, new_run_dir
from minigpt_core.runlog import RunLog
from minigpt_core.status import Event
from minigpt_core.stored import write_run
from minigpt_core.tokenizer import Tokenizer
from minigpt_core.train_state import Meter, TrainState

GPT2_VOCABULARY = 50257
MOST_PADDING = 128
"""Rows of an embedding beyond the vocabulary: sizes are rounded up to a multiple of 64 or 128, which is faster."""


@dataclass(frozen=True)
class Arrival:
    """A model from elsewhere, with its vocabulary.

    Attributes:
        name: what the run is called after, where it gets no name.
        source: for people: what it is and where it came from.
        state: of a `GPT` of this configuration.
    """

    name: str
    source: str
    config: ModelConfig
    state: dict[str, Tensor]
    tokenizer: Tokenizer
    remarks: tuple[str, ...] = ()


def without_padding(
    config: ModelConfig, state: dict[str, Tensor], vocab_size: int
) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    """The model without the rows of its embedding that stand for no token, and a remark if there were some.

    Raises:
        UserError: the vocabulary has more tokens than the model, or is another model's.
    """
    rows = config.vocab_size - vocab_size
    if not 0 <= rows < MOST_PADDING:
        raise UserError(
            f"its vocabulary has {vocab_size:,} tokens and its embedding {config.vocab_size:,}: "
            "they do not belong together"
        )
    if not rows:
        return config, state, ()
    state = dict(state)
    for name in ("token_embedding.weight", "head.weight"):
        state[name] = state["token_embedding.weight" if config.tied_head else name][:vocab_size].clone()
    said = f"the last {rows} of {config.vocab_size:,} rows of its embedding stand for no token and were left out"
    return config.replace(vocab_size=vocab_size), state, (said,)


def make_run(arrival: Arrival, text: Corpus | None, parent: Path, name: str | None = None) -> RunDir:
    """Write the directory of a new run: all that one has which trained no step yet.

    Args:
        text: what it may be trained on by `train --resume`; without one, `train --from` brings one.

    Raises:
        UserError, UsageError: it cannot be made; nothing is left of it.
    """
    train = TrainConfig(**RECIPES["adamw"] | FINE_TUNING | {"steps": DEFAULT_STEPS})
    tokens = None if text is None else encode(arrival.tokenizer, text.text)
    measured = {} if tokens is None else {"tokens_per_byte": tokens_per_byte(arrival.tokenizer, tokens)}
    run = new_run_dir(parent, name, arrival.name)
    try:
        write_run(run, _config(run, arrival, train, text) | measured, arrival.tokenizer, tokens, keep=True)
        checkpoint.save(run.checkpoint, first_state(arrival, train))
        log = RunLog(run)
        for message in (f"imported {arrival.source}", *arrival.remarks):
            log.event(Event(kind="info", step=0, time=time.time(), message=message))
        log.close()
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)  # made above for this import alone
        raise
    return run


def first_state(arrival: Arrival, train: TrainConfig) -> dict[str, Any]:
    """What `Trainer.state_dict` is before the first step."""
    model = GPT.empty(arrival.config).requires_grad_(True)
    model.load_state_dict(arrival.state)
    return {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in make_optimizers(model, train)],
        "random": {"cpu": torch.Generator().manual_seed(train.seed).get_state(), "device": None},
        "meter": Meter("cpu").state_dict(),
        "state": msgspec.to_builtins(TrainState(total_steps=train.steps)),
        "model_config": arrival.config.to_dict(),
        "train_config": train.to_dict(),
        "tokenizer": arrival.tokenizer.to_dict(),
    }


def _config(run: RunDir, arrival: Arrival, train: TrainConfig, text: Corpus | None) -> dict[str, Any]:
    from importlib.metadata import version

    kind = arrival.tokenizer.to_dict()["type"]
    kind = "gpt2" if kind == "bpe" and arrival.tokenizer.vocab_size == GPT2_VOCABULARY else kind
    nothing = {"name": arrival.name, "source": NO_TEXT, "sha256": "", "n_bytes": 0}
    return {
        "name": run.name,
        "created": time.time(),
        "command": sys.argv,
        "model": arrival.config.to_dict(),
        "train": train.to_dict(),
        "devices": msgspec.to_builtins(decide(survey(), train, arrival.config.seq_len)),
        "corpus": text.identity if text else nothing,
        "tokenizer": {"kind": kind},
        "origin": {"imported": True, "source": arrival.source},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("minigpt-tui", "torch", "numpy")},
    }
