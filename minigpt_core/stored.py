"""What a run's directory keeps for good: its configuration, its vocabulary and its encoded text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from minigpt_core.atomic import atomic_file, write_atomic
from minigpt_core.corpus import load_encoded, split
from minigpt_core.errors import UserError
from minigpt_core.rundir import RunDir
from minigpt_core.token_store import open_entry
from minigpt_core.tokenizer import Tokenizer, load_tokenizer

STORED_TOKENS = 64 * 2**20
"""Bytes of encoded text that a run keeps, so that it can be resumed without its text."""

TOKENS_FILE = "tokens.npy"

RECORDED: dict[str, set[str]] = {
    "model": set(),
    "train": set(),
    "corpus": {"source", "sha256", "n_bytes"},
    "devices": {"device", "precision", "reasons"},
}
"""What the parts of `config.json` hold at least, or it is no configuration."""


def write_run(run: RunDir, config: dict[str, Any], tokenizer: Tokenizer, tokens: np.ndarray, keep: bool) -> None:
    """Write everything that a new run keeps.

    Args:
        tokens: (n,) the encoded text.
        keep: store the text however long it is, since it cannot be read again.

    Raises:
        UserError: the disk refuses.
    """
    try:
        write_config(run, config)
        write_atomic(run.tokenizer, msgspec.json.encode(tokenizer.to_dict()))
        if keep or tokens.nbytes <= STORED_TOKENS:
            run.tokens.mkdir(exist_ok=True)
            with atomic_file(run.tokens / TOKENS_FILE) as file:
                np.save(file, tokens)
    except OSError as error:
        raise UserError(f"cannot write {str(run.path)!r}: {error.strerror or error}") from None


def write_config(run: RunDir, config: dict[str, Any]) -> None:
    """Replace `config.json`."""
    write_atomic(run.config, msgspec.json.format(msgspec.json.encode(config), indent=2))


def update_config(run: RunDir, **parts: dict[str, Any]) -> None:
    """Add to parts of `config.json` what was decided, or decided anew, after the run was made.

    Raises:
        UserError: the disk refuses.
    """
    try:
        config = msgspec.json.decode(run.config.read_bytes())
        write_config(run, config | {name: config.get(name, {}) | part for name, part in parts.items()})
    except OSError as error:
        raise UserError(f"cannot write {str(run.config)!r}: {error.strerror or error}") from None


def read_config(run: RunDir) -> dict[str, Any]:
    """`config.json` of a run.

    Raises:
        UserError: it is missing or broken.
    """
    try:
        config = msgspec.json.decode(run.config.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {str(run.config)!r}: {error.strerror}") from None
    except msgspec.DecodeError:
        raise UserError(f"{str(run.config)!r} is damaged: not JSON") from None
    if not isinstance(config, dict) or not all(
        isinstance(config.get(part), dict) and keys <= config[part].keys() for part, keys in RECORDED.items()
    ):
        raise UserError(f"{str(run.config)!r} is no run's configuration")
    return config


def read_tokenizer(run: RunDir) -> Tokenizer:
    """`tokenizer.json` of a run."""
    try:
        return load_tokenizer(msgspec.json.decode(run.tokenizer.read_bytes(), type=dict))
    except OSError as error:
        raise UserError(f"cannot read {str(run.tokenizer)!r}: {error.strerror}") from None
    except msgspec.DecodeError:
        raise UserError(f"{str(run.tokenizer)!r} is damaged: not JSON") from None


def read_tokens(run: RunDir, tokenizer: Tokenizer, corpus: dict[str, Any]) -> np.ndarray:
    """The encoded text of a run: (n,), from the run itself or, where it was too large to keep, from the cache or
    else from its source.

    Raises:
        UserError: neither is there, or the source is no longer the same text.
    """
    stored = stored_tokens(run)
    if stored is not None:
        return stored if stored.nbytes > STORED_TOKENS else np.array(stored)
    try:
        text = load_encoded(corpus["source"], tokenizer.vocab_size if tokenizer.to_dict().get("has_unknown") else None)
    except UserError as error:
        raise UserError(f"run {run.name!r} kept no copy of its text, and {error}") from None
    if text.identity["sha256"] != corpus["sha256"]:
        raise UserError(f"run {run.name!r} kept no copy of its text, and {corpus['source']!r} has changed since")
    if text.tokenizer.to_dict() != tokenizer.to_dict():
        raise UserError(f"run {run.name!r} kept no copy of its text, and its vocabulary is not that of the text")
    return text.tokens


def stored_tokens(run: RunDir) -> np.ndarray | None:
    """The encoded text that the run keeps, or the cache for it: (n,), read as needed; None if neither does."""
    path = run.tokens / TOKENS_FILE
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return _cached_tokens(run)
    except (OSError, ValueError, EOFError) as error:  # what numpy makes of a damaged file
        raise UserError(f"cannot read {str(path)!r}: {error}") from None


def _cached_tokens(run: RunDir) -> np.ndarray | None:
    """The cache's entry that a run names, if it still is that of the run's vocabulary."""
    try:
        name, tokenizer = read_config(run)["corpus"].get("cache"), read_tokenizer(run)
    except UserError:  # whoever needs these files says so
        return None
    found = open_entry(name) if isinstance(name, str) and Path(name).name == name else None
    return found[1] if found and found[0].to_dict() == tokenizer.to_dict() else None


def validation_text(run: RunDir, length: int) -> str | None:
    """The beginning of the validation split as text; None if the run kept no tokens."""
    tokens = stored_tokens(run)
    if tokens is None:
        return None
    _, val = split(tokens, 1)
    return read_tokenizer(run).decode(val[:length])
