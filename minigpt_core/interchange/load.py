"""`minigpt-tui import`: whatever holds weights that we can read, made a run."""

from __future__ import annotations

from pathlib import Path

from minigpt_core.corpus import load_corpus
from minigpt_core.interchange import hf_folder, nanogpt
from minigpt_core.interchange.arrival import make_run
from minigpt_core.rundir import RunDir


def import_run(
    source: str,
    data: str | None = None,
    tokenizer: str | None = None,
    parent: Path = Path("runs"),
    name: str | None = None,
) -> RunDir:
    """Make a run of weights from elsewhere.

    Args:
        source: a Hugging Face folder or id, a nanoGPT checkpoint, or the folder that it lies in.
        data: a text as `--data` names it.
        tokenizer: a folder with GPT-2's vocabulary, where it does not lie with the weights.

    Raises:
        UserError, UsageError: it cannot be imported; nothing was created.
    """
    path = hf_folder.locate(source)
    text = load_corpus(data) if data is not None else None
    inside = path / nanogpt.CHECKPOINT
    if path.is_dir() and not (inside.exists() and not (path / hf_folder.CONFIG).exists()):
        arrival = hf_folder.read(path, tokenizer)
    else:
        arrival = nanogpt.read(inside if path.is_dir() else path, text, tokenizer)
    return make_run(arrival, text, parent, name)
