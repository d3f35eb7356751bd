"""What a run's directory keeps for good: its configuration, its vocabulary and its encoded text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from minigpt_core.atomic import atomic_file, write_atomic
from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.corpus import NO_TEXT, as_data, load_encoded, split
from minigpt_core.errors import UserError
from minigpt_core.reading import brief, check_format, decode_json, encode_json, read_bytes
from minigpt_core.rundir import RunDir
from minigpt_core.token_store import open_entry
from minigpt_core.tokenizer import Tokenizer, excerpt, load_tokenizer
from minigpt_core.tokenizer_spec import CHARACTERS, TokenizerSpec

STORED_TOKENS = 64 * 2**20
"""Bytes of encoded text that a run keeps, so that it can be resumed without its text."""

TOKENS_FILE = "tokens.npy"

CONFIG_FORMAT = TOKENIZER_FORMAT = 1
MAX_CONFIG, MAX_TOKENIZER = 2**20, 2**25
"""Bytes of `config.json` and `tokenizer.json`; all of Unicode's characters are 5 MB."""
DTYPES = (np.uint8, np.uint16, np.uint32)
Size = Annotated[int, Meta(ge=0, le=10**15)]


class Identity(msgspec.Struct, forbid_unknown_fields=True):
    """Where a text came from."""

    source: str
    sha256: str
    n_bytes: Size
    name: str = ""
    cache: str | None = None
    encoding: str | None = None
    text_field: str | None = None


class Origin(msgspec.Struct, forbid_unknown_fields=True):
    """Where a run's first weights came from, if it did not make them."""

    source: str
    """The checkpoint of another run or, for people, what was imported."""
    imported: bool = False
    step: Size | None = None
    """At which the other run stood."""


class Decisions(msgspec.Struct, forbid_unknown_fields=True):
    """What was decided for a machine: `devices.Devices`, which needs torch, as a file holds it."""

    device: str
    precision: Literal["fp32", "bf16"]
    reasons: dict[str, str]
    attention: Literal["explicit", "fused"] = "explicit"
    compile: bool = False
    threads: Annotated[int, Meta(ge=1, le=4096)] = 1
    nproc: Annotated[int, Meta(ge=1, le=4096)] = 1
    warning: str | None = None
    gpu: str | None = None
    gpu_uuid: str | None = None


class Recorded(msgspec.Struct, forbid_unknown_fields=True):
    """`config.json`; its model and training settings check themselves."""

    model: dict[str, Any]
    train: dict[str, Any]
    corpus: Identity
    devices: Decisions
    format: int = CONFIG_FORMAT
    name: str = ""
    created: float = 0.0
    command: list[str] = []
    versions: dict[str, str] = {}
    tokenizer: TokenizerSpec = CHARACTERS
    """What was asked for; absent before there was a choice."""
    tokens_per_byte: Annotated[float, Meta(gt=0, le=10)] | None = None
    """Of the validation split: makes bits a byte of a loss."""
    decided: dict[str, Annotated[int, Meta(ge=0, le=10**12)]] = {}
    origin: Origin | None = None


def write_run(run: RunDir, config: dict[str, Any], tokenizer: Tokenizer, tokens: np.ndarray | None, keep: bool) -> None:
    """Write everything that a new run keeps.

    Args:
        tokens: (n,) the encoded text; None: it has none.
        keep: store the text however long it is, since it cannot be read again.

    Raises:
        UserError: the disk refuses.
    """
    try:
        write_config(run, config)
        write_atomic(run.tokenizer, encode_json({"format": TOKENIZER_FORMAT} | tokenizer.to_dict()))
        if tokens is not None and (keep or tokens.nbytes <= STORED_TOKENS):
            run.tokens.mkdir(exist_ok=True)
            with atomic_file(run.tokens / TOKENS_FILE) as file:
                np.save(file, tokens)
    except OSError as error:
        raise UserError(f"cannot write {str(run.path)!r}: {error.strerror or error}") from None


def write_config(run: RunDir, config: dict[str, Any]) -> None:
    """Replace `config.json`."""
    config = {"format": CONFIG_FORMAT} | config
    write_atomic(run.config, msgspec.json.format(encode_json(config), indent=2))


def update_config(run: RunDir, **parts: dict[str, Any]) -> None:
    """Add to parts of `config.json` what was decided, or decided anew, after the run was made.

    Raises:
        UserError: the disk refuses.
    """
    try:
        config = decode_json(read_bytes(run.config, MAX_CONFIG), run.config)
        write_config(run, config | {name: config.get(name, {}) | part for name, part in parts.items()})
    except OSError as error:
        raise UserError(f"cannot write {str(run.config)!r}: {error.strerror or error}") from None


def read_config(run: RunDir) -> dict[str, Any]:
    """`config.json` of a run, checked: no unknown keys, every value of its kind and within bounds.

    Raises:
        UserError: it is missing or broken, or a newer version of this program wrote it.
    """
    config = decode_json(read_bytes(run.config, MAX_CONFIG), run.config)
    check_format(config.get("format", CONFIG_FORMAT), CONFIG_FORMAT, run.config)
    try:
        found = msgspec.convert(config, Recorded)
        ModelConfig.from_dict(found.model)
        TrainConfig.from_dict(found.train)
        if unknown := found.devices.reasons.keys() - set(Decisions.__struct_fields__):
            raise UserError(f"a reason for {min(unknown)!r}, which nobody decides")
    except (msgspec.ValidationError, UserError) as error:
        raise UserError(f"{str(run.config)!r} is no run's configuration: {brief(error)}") from None
    return config


def read_tokenizer(run: RunDir) -> Tokenizer:
    """`tokenizer.json` of a run.

    Raises:
        UserError: it is missing or broken, or a newer version of this program wrote it.
    """
    values = decode_json(read_bytes(run.tokenizer, MAX_TOKENIZER), run.tokenizer)
    check_format(values.pop("format", TOKENIZER_FORMAT), TOKENIZER_FORMAT, run.tokenizer)
    try:
        return load_tokenizer(values)
    except UserError as error:
        raise UserError(f"{str(run.tokenizer)!r} is no vocabulary: {brief(error)}") from None


def read_tokens(run: RunDir, tokenizer: Tokenizer, corpus: dict[str, Any]) -> np.ndarray:
    """The encoded text of a run: (n,), from the run itself or, where it was too large to keep, from the cache or
    else from its source.

    Raises:
        UserError: neither is there, or the source is no longer the same text.
    """
    stored = stored_tokens(run)
    if stored is not None:
        if stored.nbytes > STORED_TOKENS:
            return stored
        if len(stored) and stored.max() >= tokenizer.vocab_size:
            raise UserError(f"{str(run.tokens / TOKENS_FILE)!r} is damaged: it holds tokens outside the vocabulary")
        return np.array(stored)
    if corpus["source"] == NO_TEXT:
        raise UserError(
            f"run {run.name!r} was imported without a text to train on; "
            f"give it one: minigpt-tui train --from {run.path} --data TEXT"
        )
    source, data = Path(corpus["source"]), as_data(corpus)
    if source.name == "-" or data == "-" or (source.exists() and not source.is_file() and not source.is_dir()):
        # Standard input, a pipe or a device would be waited for.
        raise UserError(f"run {run.name!r} kept no copy of its text, and {str(source)!r} cannot be read again")
    try:
        text = load_encoded(
            data,
            _spec(run, tokenizer),
            encoding=corpus.get("encoding"),
            text_field=corpus.get("text_field"),
        )
    except UserError as error:
        raise UserError(f"run {run.name!r} kept no copy of its text, and {error}") from None
    if text.identity["sha256"] != corpus["sha256"]:
        raise UserError(f"run {run.name!r} kept no copy of its text, and {corpus['source']!r} has changed since")
    if text.tokenizer.to_dict() != tokenizer.to_dict():
        raise UserError(f"run {run.name!r} kept no copy of its text, and its vocabulary is not that of the text")
    return text.tokens


def _spec(run: RunDir, tokenizer: Tokenizer) -> TokenizerSpec:
    """What makes a run's tokenizer again; old runs say nothing and have characters."""
    if asked := read_config(run).get("tokenizer"):
        return msgspec.convert(asked, TokenizerSpec)
    return TokenizerSpec("char", tokenizer.vocab_size if tokenizer.to_dict().get("has_unknown") else None)


def stored_tokens(run: RunDir) -> np.ndarray | None:
    """The encoded text that the run keeps, or the cache for it: (n,), read as needed; None if neither does."""
    path = run.tokens / TOKENS_FILE
    if not path.exists():
        return _cached_tokens(run)
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is not a regular file")
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype not in DTYPES:
            raise ValueError("it holds no tokens")
        return tokens
    except Exception as error:  # numpy makes all kinds of a damaged file
        raise UserError(f"cannot read {str(path)!r}: {brief(error)}; restore it from a copy") from None


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
    return excerpt(read_tokenizer(run), val[:length])
