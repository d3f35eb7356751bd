"""A run's weights as a folder for other programs: safetensors of our own names, or a model that transformers loads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from minigpt_core.checkpoint import Run
from minigpt_core.config import lookup
from minigpt_core.errors import UsageError, UserError
from minigpt_core.interchange import gpt2
from minigpt_core.interchange.hf_tokenizer import tokenizer_files
from minigpt_core.interchange.model_card import model_card
from minigpt_core.interchange.tensors import ONE, write_tensors
from minigpt_core.rundir import find_run

CARD = "README.md"
Parts = tuple[dict[str, Tensor], dict[str, bytes]]
"""The tensors, and the other files by name."""


def plain(run: Run) -> Parts:
    """Our own state, each tensor once, with settings and vocabulary as a run keeps them."""
    weights = run.model.state_dict()
    if run.model.config.tied_head:
        del weights["head.weight"]  # which is the embedding
    files = {"config.json": run.model.config.to_dict(), "tokenizer.json": run.tokenizer.to_dict()}
    return weights, {name: _json(values) for name, values in files.items()}


def hugging_face(run: Run) -> Parts:
    """A `GPT2LMHeadModel` and its tokenizer.

    Raises:
        UserError: the model is none.
    """
    config = run.model.config
    if reason := gpt2.why_not(config):
        raise UserError(
            f"run {run.dir.name!r} cannot become a Hugging Face model, since transformers has none like it: {reason}; "
            "use --format safetensors, or train with --preset classic"
        )
    no_ends = {"bos_token_id": None, "eos_token_id": None}  # it goes on for as long as it is asked to, as it does here
    settings = {"config.json": gpt2.write_config(config) | no_ends, "generation_config.json": no_ends}
    files = {name: _json(values) for name, values in settings.items()}
    return gpt2.to_theirs(run.model.state_dict(), config), files | tokenizer_files(run.tokenizer, config.seq_len)


FORMATS: dict[str, Callable[[Run], Parts]] = {"safetensors": plain, "hf": hugging_face}


def export(
    ref: str | None,
    parent: Path,
    format: str,
    *,
    best: bool = False,
    output: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a run's weights into a folder, by default `export-<format>` in its own; returns the folder.

    Args:
        best: those of the lowest validation loss, and not the last.
        overwrite: replace files of these names that are there.

    Raises:
        UsageError: no such run or format, or something is there already.
        UserError: the weights cannot be used, or not in this format; nothing was written.
    """
    make = lookup(FORMATS, format, "format")
    run = _open(ref, parent, best)
    folder = output or run.dir.path / f"export-{format}"
    if not overwrite and (folder.is_symlink() or folder.exists()) and not _empty(folder):
        raise UsageError(
            f"{str(folder)!r} is there already; choose another --output, or replace its files with --force"
        )
    weights, files = make(run)
    try:
        files[CARD] = model_card(run, format).encode()
    except UnicodeEncodeError:
        raise UserError("its settings hold half a surrogate pair, which no file can hold") from None
    try:
        _write(folder, weights, files)
    except OSError as error:
        raise UserError(f"cannot write {str(folder)!r}: {error.strerror or error}; choose another --output") from None
    return folder


def _open(ref: str | None, parent: Path, best: bool) -> Run:
    from minigpt_core.checkpoint import load_run

    if not best:
        return load_run(ref, parent)
    if ref is not None and os.path.isfile(ref):
        raise UsageError("--best and a checkpoint file contradict each other: give the run's name, or leave out --best")
    run = find_run(ref, parent)
    if not run.best.is_file():
        raise UserError(f"run {run.name!r} has no best.pt: nothing was better than its last weights; leave out --best")
    return load_run(run.best)


def _write(folder: Path, weights: dict[str, Tensor], files: dict[str, bytes]) -> None:
    """All files are whole before the first one shows."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".export-", dir=folder.parent))
    try:
        write_tensors(made / ONE, weights)
        for name, content in files.items():
            (made / name).write_bytes(content)
        folder.mkdir(exist_ok=True)
        for path in sorted(made.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _json(values: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n"
    except UnicodeEncodeError:
        raise UserError("its vocabulary holds half a surrogate pair, which no other program can read") from None
