"""GPT-2's vocabulary from files: a Hugging Face folder, named or found in the local Hugging Face cache; offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minigpt_core.bpe import BPETokenizer
from minigpt_core.errors import UserError
from minigpt_core.hub import cached_snapshot
from minigpt_core.reading import brief, decode_json, read_bytes

REPOSITORIES = ("openai-community/gpt2", "gpt2")
"""Where it is published; the second is the name it had before."""
ONE_FILE, TWO_FILES = ("tokenizer.json",), ("vocab.json", "merges.txt")
MAX_BYTES = 2**26
"""Of a file; GPT-2's largest is 1.4 MB."""
PRE_TOKENIZER = {"type": "ByteLevel", "add_prefix_space": False}


def vocabulary_files(path: str | None) -> list[Path]:
    """The files of the vocabulary: `tokenizer.json`, else `vocab.json` and `merges.txt`.

    Args:
        path: their folder; None: the snapshot of GPT-2 in the local Hugging Face cache.

    Raises:
        UserError: they are not there.
    """
    found = [Path(path)] if path is not None else [s for name in REPOSITORIES if (s := cached_snapshot(name))]
    for folder in found:
        for names in (TWO_FILES, ONE_FILE):
            if all((folder / name).is_file() for name in names):
                return [folder / name for name in names]
    if path is not None:
        raise UserError(f"{path!r} holds no GPT-2 vocabulary: it needs tokenizer.json, or vocab.json and merges.txt")
    raise UserError(
        "GPT-2's vocabulary is not in the local Hugging Face cache; fetch it where there is a network with "
        "'hf download openai-community/gpt2 vocab.json merges.txt', or give --tokenizer the path of its folder"
    )


def load_gpt2(path: str | None) -> BPETokenizer:
    """The vocabulary in a folder.

    Raises:
        UserError: it is not there, or not byte-level BPE of GPT-2's kind.
    """
    files = vocabulary_files(path)
    try:
        if len(files) == 1:
            vocab, merges = _from_tokenizer_json(decode_json(read_bytes(files[0], MAX_BYTES), files[0]))
        else:
            vocab = decode_json(read_bytes(files[0], MAX_BYTES), files[0])
            lines = read_bytes(files[1], MAX_BYTES).decode().replace("\r\n", "\n").split("\n")
            merges = [line for line in lines[lines[0].startswith("#version") :] if line]
        return BPETokenizer(_in_order(vocab), tuple(merges))
    except UnicodeDecodeError:
        raise UserError(f"{str(files[-1])!r} is not UTF-8; fetch it again") from None
    except UserError as error:
        raise UserError(f"{str(files[0])!r} is no GPT-2 vocabulary: {brief(error)}") from None


def _from_tokenizer_json(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Ids by token, and merges, of the format of the `tokenizers` library.

    Raises:
        UserError: it is another kind of tokenizer.
    """
    pre_tokenizer, model = values.get("pre_tokenizer") or {}, values.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise UserError("its model is not BPE")
    plain = values.get("normalizer") is None and isinstance(pre_tokenizer, dict)
    if not plain or not PRE_TOKENIZER.items() <= pre_tokenizer.items() or not pre_tokenizer.get("use_regex", True):
        raise UserError("it cuts or changes the text in another way than GPT-2")
    added = values.get("added_tokens") or []
    extra = {t["content"]: t["id"] for t in added if isinstance(t, dict) and {"content", "id"} <= t.keys()}
    return model["vocab"] | extra, [m if isinstance(m, str) else " ".join(map(str, m)) for m in _list(model["merges"])]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _in_order(vocab: dict[Any, Any]) -> tuple[str, ...]:
    ids = [i for i in vocab.values() if type(i) is int]
    if len(ids) != len(vocab) or sorted(ids) != list(range(len(ids))):
        raise UserError("its ids are not 0, 1, 2 and so on")
    return tuple(sorted(vocab, key=vocab.__getitem__))
