"""Train, sample and inspect a small GPT: everything of minigpt-tui that needs no terminal.

The names below resolve on first use (PEP 562), so importing a part that needs no torch does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt_core.checkpoint import load_run
    from minigpt_core.config import ModelConfig, SampleConfig, TrainConfig
    from minigpt_core.model import GPT
    from minigpt_core.sampler import sample
    from minigpt_core.tokenizer import CharTokenizer
    from minigpt_core.trainer import Trainer

__all__ = ["GPT", "CharTokenizer", "ModelConfig", "SampleConfig", "TrainConfig", "Trainer", "load_run", "sample"]

_HOME = {
    "GPT": "model",
    "CharTokenizer": "tokenizer",
    "ModelConfig": "config",
    "SampleConfig": "config",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "load_run": "checkpoint",
    "sample": "sampler",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
