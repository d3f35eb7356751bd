"""Train, sample and inspect a small GPT: everything of minigpt-tui that needs no terminal.

>>> from minigpt_core import GPT, CharTokenizer, ModelConfig, TrainConfig, Trainer, attention_maps, load_run, sample
>>> text = "the cat sat on the mat and the dog sat on the log\\n" * 60
>>> tokenizer = CharTokenizer.from_text(text)
>>> model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, seq_len=32, n_layers=2, num_heads=2, embed_dim=32))
>>> trainer = Trainer(model, tokenizer, text, TrainConfig(steps=200, eval_every=100, batch_size=8))
>>> losses = {row.step: row.val_loss for row in trainer if row.val_loss is not None}
>>> losses[100] > losses[200]
True
>>> sample(model, tokenizer, "the cat", max_new_tokens=15, temperature=0)
' sat on the mat'
>>> attention_maps(model, tokenizer.encode("the cat")).shape  # layers, heads, queries, keys
(2, 2, 7, 7)

A run that the program trained opens by its name, its directory or one of its checkpoints:

>>> run = load_run("runs/my-run")
>>> sample(run.model, run.tokenizer, "the cat", max_new_tokens=3, seed=1) == sample(
...     run.model, run.tokenizer, "the cat", max_new_tokens=3, seed=1)
True
>>> run.config.steps == run.state["step"] == run.history[-1].step
True

These names are all of it, and stay as they are; what else the package holds may change:

- `CharTokenizer`: one token a character; `from_text`, `encode`, `decode`.
- `ModelConfig`, `TrainConfig`, `SampleConfig`: the settings, by the names of the command line's options.
- `GPT`: the model; (B, T) tokens to (B, T, vocab_size) logits.
- `Trainer`: trains it; iterating yields a row of metrics for each logged step.
- `sample`: text that a model writes.
- `attention_maps`: what each head looks at.
- `load_run`: a `Run` from its directory: model, tokenizer, configuration, history.
- `Run`: what it returns.
- `UserError`: every foreseeable mistake, with one line that names it and the way out.

They resolve on first use (PEP 562), so importing a part that needs no torch does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt_core.checkpoint import Run, load_run
    from minigpt_core.config import ModelConfig, SampleConfig, TrainConfig
    from minigpt_core.errors import UserError
    from minigpt_core.model import GPT
    from minigpt_core.probe import attention_maps
    from minigpt_core.sampler import sample
    from minigpt_core.tokenizer import CharTokenizer
    from minigpt_core.trainer import Trainer

__all__ = [
    "GPT",
    "CharTokenizer",
    "ModelConfig",
    "Run",
    "SampleConfig",
    "TrainConfig",
    "Trainer",
    "UserError",
    "attention_maps",
    "load_run",
    "sample",
]

_HOME = {
    "GPT": "model",
    "CharTokenizer": "tokenizer",
    "ModelConfig": "config",
    "Run": "checkpoint",
    "SampleConfig": "config",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "UserError": "errors",
    "attention_maps": "probe",
    "load_run": "checkpoint",
    "sample": "sampler",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
