"""How to train a run once more: its command line, with every decision spelled out."""

from __future__ import annotations

from typing import Any

from minigpt_core.checkpoint import Run
from minigpt_core.recipe import recipe, words


def again(run: Run, config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The command that trains the same run once more, quoted for a shell, and in sentences what it cannot say.

    Args:
        config: the run's `config.json`; empty if it cannot be read.
    """
    model, train, tokenizer = run.model.config.to_dict(), run.config.to_dict(), run.tokenizer.to_dict()
    steps = run.state["total_steps"] or run.state["step"]
    found = recipe(model, train, tokenizer, config, steps)
    return ["minigpt-tui train", *words(found.needed)], found.remarks
