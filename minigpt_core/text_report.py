"""What there is to know of a text before a model sees it, and of the texts that are at hand."""

from __future__ import annotations

import math
from typing import Any

from minigpt_core.cache import Item, items, remove, remove_index
from minigpt_core.corpus import BUILT_IN, EncodedCorpus, split
from minigpt_core.downloads import DOWNLOADS, here
from minigpt_core.errors import UsageError, UserError
from minigpt_core.ladder import fit_ladder
from minigpt_core.token_store import read_entry

LABEL = 8
"""Characters of a SHA-256 that tell the texts of a cache apart."""
SHORTEST = 4
"""Characters that name an entry, where there is no other that begins with them."""


def describe(text: EncodedCorpus) -> dict[str, Any]:
    """A text in numbers, as plain JSON types.

    `ngrams` are the losses of counting alone, which training must beat, each in nats a token and in bits a byte of the
    text; None where the text is too short to count.
    """
    facts, tokens, vocab_size = text.facts, text.tokens, text.tokenizer.vocab_size
    train, val = tokens[: (cut := int(len(tokens) * 0.9))], tokens[cut:]
    try:
        train, val = split(tokens, 1)
        rungs = fit_ladder(train, val, vocab_size).rungs
    except UserError:
        rungs = ()
    bits_per_byte = len(tokens) / facts.n_bytes / math.log(2)
    return {
        **{name: text.identity.get(name) for name in ("name", "source", "sha256", "encoding", "cache")},
        "bytes": facts.n_bytes,
        "characters": facts.n_characters,
        "distinct_characters": facts.n_distinct,
        "rarest": [{"character": character, "times": times} for character, times in facts.rarest],
        "tokenizer": text.tokenizer.to_dict()["type"],
        "vocab_size": vocab_size,
        "tokens": len(tokens),
        "train_tokens": len(train),
        "val_tokens": len(val),
        "ngrams": [{"name": rung.name, "loss": rung.loss, "bits_per_byte": rung.loss * bits_per_byte} for rung in rungs]
        or None,
    }


def texts() -> dict[str, list[dict[str, Any]]]:
    """What `--data` may name, and what the cache holds, as plain JSON types."""
    named: list[dict[str, Any]] = [
        {"name": name, "about": "built in", "bytes": None, "here": True} for name in BUILT_IN
    ]
    for name, what in DOWNLOADS.items():
        named.append({"name": name, "about": what.about, "bytes": what.n_bytes, "here": here(name)})
    cached = []
    for item in items():
        entry = read_entry(item.name) if item.kind == "tokens" else None
        cached.append(
            {
                "entry": label(item),
                "kind": item.kind,
                "bytes": item.n_bytes,
                "used": item.used,
                "source": entry and entry.source,
                "tokenizer": entry and entry.tokenizer.get("type"),
                "tokens": entry and entry.n_tokens,
            }
        )
    return {"names": named, "cache": cached}


def label(item: Item) -> str:
    """What people call something in the cache."""
    if item.kind == "download":
        return item.name
    digest, dash, rest = item.name.removeprefix("unpacked-").partition("-")
    return digest[:LABEL] + dash + rest


def remove_named(name: str) -> list[str]:
    """Remove what the cache calls so, or begins so, or that is of a text from there: what was removed.

    Raises:
        UserError: nothing is called so, more than one thing begins so, or it is in use.
    """
    found = [item for item in items() if name in (label(item), _source(item))]
    if name in DOWNLOADS:
        found += [item for item in items() if item.name == DOWNLOADS[name].file]
    if not found and len(name) >= SHORTEST:
        found = [item for item in items() if item.name.startswith(name)]
        if len(found) > 1:
            raise UsageError(f"{name!r} begins several entries: {', '.join(map(label, found))}; give more of one")
    if not found:
        raise UsageError(f"the cache holds no {name!r}; list what it holds: minigpt-tui data")
    return [_removed(item) for item in found]


def remove_all() -> list[str]:
    """Empty the cache: what was removed.

    Raises:
        UserError: something is in use.
    """
    remove_index()
    return [_removed(item) for item in items()]


def _removed(item: Item) -> str:
    if not remove(item):
        raise UserError(f"{label(item)} is in use; end what works on it first")
    return label(item)


def _source(item: Item) -> str | None:
    entry = read_entry(item.name) if item.kind == "tokens" else None
    return entry.source if entry else None
