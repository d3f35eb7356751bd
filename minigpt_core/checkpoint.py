"""Checkpoints: saved atomically, read with suspicion, and a finished run opened as a whole.

A checkpoint is a zip of tensors and plain values. `archive` checks the file itself, `verify` what it holds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from minigpt_core.archive import another, read_archive
from minigpt_core.atomic import atomic_file
from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.errors import TrainingError, UserError
from minigpt_core.model import GPT
from minigpt_core.reading import brief, check_format
from minigpt_core.rundir import RunDir, find_checkpoint
from minigpt_core.status import MetricsRow
from minigpt_core.tail import read_metrics
from minigpt_core.tokenizer import Tokenizer, load_tokenizer
from minigpt_core.verify import check_state

FORMAT = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `Trainer.state_dict()` so that `path` is at every moment either the old checkpoint or the new one.

    Raises:
        UserError: the disk refuses; what was there before is untouched.
        TrainingError: the state has diverged, and is not worth keeping.
    """
    skipped = state["meter"]["steps"] - state["meter"]["good"].item()
    if skipped or not all(weight.isfinite().all() for weight in state["model"].values()):
        raise TrainingError(f"training diverged before step {state['state']['step']:,}: not saved")
    try:
        with atomic_file(path) as file:
            torch.save({"format": FORMAT, **state}, file)
    except OSError as error:
        raise UserError(f"cannot save {path}: {error.strerror or error}") from None
    except RuntimeError as error:  # what torch's writer makes of a disk that fills up under it
        raise UserError(f"cannot save {path}: is the disk full? ({str(error).splitlines()[0]})") from None


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU, checked through and through.

    Raises:
        UserError: there is no such file, it is damaged, or it is no checkpoint of this program.
    """
    state = read_archive(path)
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f"{str(path)!r} is not a minigpt-tui checkpoint")
    check_format(state["format"], FORMAT, path)
    try:
        check_state(state)
    except UserError as error:
        raise UserError(
            f"checkpoint {str(path)!r} is damaged: {brief(error)}; use another one{another(path)}"
        ) from None
    return state


def load_model(state: dict[str, Any]) -> GPT:
    """The model of a loaded checkpoint, in evaluation mode on the CPU."""
    model = GPT.empty(ModelConfig.from_dict(state["model_config"]))
    model.load_state_dict(state["model"])
    return model


class Run:
    """A run opened from its directory.

    Attributes:
        dir: where its files lie.
        path: the checkpoint.
        model: in evaluation mode on the CPU, with the checkpoint's weights.
        tokenizer: its vocabulary.
        config: how it was trained.
        state: progress at the checkpoint (`TrainState` as a dict).
        history: the logged metrics, oldest first.
    """

    def __init__(self, run: RunDir, path: Path) -> None:
        state = load(path)
        self.dir = run
        self.path = path
        self.model = load_model(state)
        self.tokenizer: Tokenizer = load_tokenizer(state["tokenizer"])
        self.config: TrainConfig = TrainConfig.from_dict(state["train_config"])
        self.state: dict[str, Any] = state["state"]
        self.history: list[MetricsRow] = read_metrics(run)


def load_run(ref: str | os.PathLike[str] | None = None, parent: str | os.PathLike[str] = "runs") -> Run:
    """Open a run by name, directory or checkpoint file; None is the newest under `parent`.

    >>> run = load_run("runs/my-run")
    >>> run.dir.name, run.model.config.n_layers, run.history[0].step
    ('my-run', 2, 1)
    >>> load_run("my-rum")
    Traceback (most recent call last):
    minigpt_core.errors.UsageError: no run 'my-rum' in runs; did you mean 'my-run'?

    Raises:
        UsageError: there is no such run.
        UserError: its checkpoint cannot be used.
    """
    return Run(*find_checkpoint(None if ref is None else os.fspath(ref), Path(parent)))
