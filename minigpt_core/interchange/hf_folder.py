"""A GPT-2 in a Hugging Face folder: found on this machine or fetched by its id, and read into our own model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from minigpt_core.errors import UsageError, UserError
from minigpt_core.gpt2_files import load_gpt2
from minigpt_core.hub import cached_snapshot
from minigpt_core.interchange import gpt2
from minigpt_core.interchange.arrival import Arrival, without_padding
from minigpt_core.interchange.hf_tokenizer import OURS, TOKENIZER_CONFIG
from minigpt_core.interchange.tensors import INDEX, ONE, TensorFiles
from minigpt_core.reading import brief, decode_json, read_bytes
from minigpt_core.tokenizer import Tokenizer, load_tokenizer

CONFIG = "config.json"
MAX_CONFIG, MAX_TOKENIZER = 2**20, 2**26
"""Bytes."""
ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""owner/name, or the name alone of models that are older than owners."""
WANTED = [CONFIG, "model*.safetensors", INDEX, "tokenizer.json", TOKENIZER_CONFIG, "vocab.json", "merges.txt"]
"""Files that are fetched: the weights once, and not in every format that there is."""
EXTRA = "pip install 'minigpt-tui[hf]'"


def locate(source: str) -> Path:
    """The file or folder that a path or an id means; what is neither here nor in the cache is fetched.

    Raises:
        UsageError: it is no path, and cannot be an id.
        UserError: it cannot be fetched.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if not ID.fullmatch(source) or source.endswith((".pt", ".safetensors")):
        raise UsageError(f"no such file or folder: {source!r}")
    cached = cached_snapshot(source)
    if cached and (cached / CONFIG).exists() and ((cached / ONE).exists() or (cached / INDEX).exists()):
        return cached
    nowhere = f"{source!r} is no folder here and not in the local Hugging Face cache"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError:
        raise UserError(f"{nowhere}; fetching it needs huggingface_hub: {EXTRA}") from None
    try:
        return Path(snapshot_download(source, allow_patterns=WANTED))
    except RepositoryNotFoundError:
        raise UserError(f"{nowhere}, and huggingface.co knows no public model of that name") from None
    except Exception as error:  # the library's own, its HTTP client's, the system's
        raise UserError(f"{nowhere}, and cannot be fetched ({brief(error, 80)}); give a folder instead") from None


def read(folder: Path, tokenizer: str | None = None) -> Arrival:
    """The model in a folder.

    Args:
        tokenizer: a folder with its vocabulary; None: it lies with the model.

    Raises:
        UserError: it is damaged, or no GPT-2 that our model can be; names the file and the reason.
    """
    path = folder / CONFIG
    if not path.exists():
        raise UserError(f"{str(folder)!r} holds no {CONFIG}: it is no Hugging Face model")
    values = decode_json(read_bytes(path, MAX_CONFIG), path)
    try:
        config = gpt2.read_config(values)
    except UserError as error:
        raise UserError(f"{str(path)!r} is no GPT-2 that can be imported: {error}") from None
    with TensorFiles(folder) as files:
        try:
            bare = {gpt2.bare(name): name for name in files.shapes}
            gpt2.check({name: files.shapes[full] for name, full in bare.items()}, config, conv1d=True)
            vocabulary = read_tokenizer(folder) if tokenizer is None else load_gpt2(tokenizer)
            state = gpt2.to_ours(lambda name: files.read(bare[name]), config, conv1d=True)
            config, state, remarks = without_padding(config, state, vocabulary.vocab_size)
        except UserError as error:
            raise UserError(f"{str(folder)!r} cannot be imported: {error}") from None
    name = _name(folder)
    return Arrival(name, f"GPT-2 {name!r} from a Hugging Face folder", config, state, vocabulary, remarks)


def read_tokenizer(folder: Path) -> Tokenizer:
    """The vocabulary that lies with a model: our own if we exported it, else one of GPT-2's kind.

    Raises:
        UserError: there is none, or it is of another kind.
    """
    own: Any = None
    path = folder / TOKENIZER_CONFIG
    if path.exists():
        own = decode_json(read_bytes(path, MAX_TOKENIZER), path).get(OURS)
    if not isinstance(own, dict):
        return load_gpt2(str(folder))
    try:
        return load_tokenizer(own)
    except UserError as error:
        raise UserError(f"{str(path)!r} holds no vocabulary: {brief(error)}") from None


def _name(folder: Path) -> str:
    """What to call it: in the cache, folders are called after commits, and the model's name lies above."""
    folder = folder.resolve()
    above = folder.parent.parent.name
    return (
        above.rpartition("--")[2] if folder.parent.name == "snapshots" and above.startswith("models--") else folder.name
    )
