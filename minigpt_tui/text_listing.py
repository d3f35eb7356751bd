"""`minigpt-tui data`: the texts at hand and what is in one, as tables."""

from __future__ import annotations

import time
from typing import Any

from rich.table import Table
from rich.text import Text

from minigpt_core.cache import budget, cache_folder, gigabytes
from minigpt_core.downloads import DOWNLOADS
from minigpt_tui.listing import show
from minigpt_tui.safetext import safe, token_label


def print_texts(found: dict[str, list[dict[str, Any]]]) -> None:
    """The names, then what the cache holds."""
    table = _table("name", "state", "text")
    for text in found["names"]:
        built_in = text["name"] not in DOWNLOADS
        state = "built in" if built_in else "here" if text["here"] else f"to download, {gigabytes(text['bytes'])}"
        table.add_row(text["name"], state, "" if built_in else text["about"])
    show(table)
    cached = found["cache"]
    used = sum(item["bytes"] for item in cached)
    folder = safe(str(cache_folder()), newlines=False)
    print(f"\ncache {folder}: {gigabytes(used)} of {gigabytes(budget())}")
    if not cached:
        return
    table = _table("entry", "kind", "size", "tokens", "used", "text", right=("size", "tokens"))
    for item in cached:
        table.add_row(
            Text(safe(item["entry"], newlines=False)),
            item["tokenizer"] or item["kind"],
            gigabytes(item["bytes"]),
            f"{item['tokens']:,}" if item["tokens"] is not None else "",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(item["used"])),
            Text(safe(item["source"] or "", newlines=False)),
        )
    show(table)


def print_text(said: dict[str, Any]) -> None:
    """All that is known of a text."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def add(name: str, value: str) -> None:
        table.add_row(name, Text(value))

    add("text", safe(str(said["source"]), newlines=False))
    add("sha256", said["sha256"])
    if said["encoding"]:
        add("encoding", f"{safe(said['encoding'], newlines=False)}, counted below in UTF-8")
    add("size", f"{gigabytes(said['bytes'])} ({said['bytes']:,} bytes)")
    add("characters", f"{said['characters']:,}, {said['distinct_characters']:,} different")
    rarest = (f"{token_label(rare['character'])} {rare['times']:,}×" for rare in said["rarest"])
    add("rarest", "  ".join(rarest))
    add("tokenizer", f"{said['tokenizer']}, {said['vocab_size']:,} tokens in the vocabulary")
    add("tokens", f"{said['tokens']:,}: {said['train_tokens']:,} to train on, {said['val_tokens']:,} to validate")
    for i, rung in enumerate(said["ngrams"] or ()):
        name = "counting alone" if i == 0 else ""
        add(name, f"{rung['name']:8} {rung['loss']:7.4f} nats a token  {rung['bits_per_byte']:7.4f} bits a byte")
    if said["cache"]:
        add("cache", said["cache"])
    show(table)


def _table(*headings: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return table
