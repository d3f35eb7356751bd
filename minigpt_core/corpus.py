"""The text a model learns from: found by path or name, read, checked, and split into training and validation."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minigpt_core.documents import joined, reading, standard_input
from minigpt_core.downloads import DOWNLOADS, download
from minigpt_core.errors import UsageError, UserError
from minigpt_core.repeats import repeats
from minigpt_core.sources import Document, documents, name_and_source
from minigpt_core.text_facts import TextFacts, facts_of
from minigpt_core.token_store import Encoded, Progress, encode_documents, known
from minigpt_core.tokenizer import Tokenizer, token_dtype
from minigpt_core.tokenizer_spec import CHARACTERS, TokenizerSpec, fit

STDIN = "standard input"
NO_TEXT = "no text"
"""The source of the text of a run that was imported without one."""
UNREPEATABLE = (STDIN,)
"""Sources that cannot be read a second time."""
LARGE = 16 * 2**20
"""Bytes from which on a text is encoded piece by piece and kept in the cache; below, encoding takes no time."""


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from."""

    name: str
    """Short, lower-case and safe in a file name: runs are named after it."""
    source: str
    """For people: the path, or what else it is."""
    text: str = field(repr=False)
    sha256: str
    """Of the text in UTF-8 as trained on: for a file without byte order mark and \\r\\n, the file's own."""
    n_bytes: int
    """Length of the text in UTF-8."""

    @property
    def identity(self) -> dict[str, Any]:
        """As a run records it."""
        return {"name": self.name, "source": self.source, "sha256": self.sha256, "n_bytes": self.n_bytes}

    @classmethod
    def from_text(cls, text: str, name: str, source: str) -> Corpus:
        data = text.encode()
        return cls(slug(name), source, text, hashlib.sha256(data).hexdigest(), len(data))


def load_corpus(
    data: str | None,
    *,
    stdin: BinaryIO | None = None,
    cwd: Path | None = None,
    encoding: str | None = None,
    text_field: str | None = None,
) -> Corpus:
    """Find and read the text that `--data` asks for.

    Args:
        data: the name of a text (which wins over a file of that name: write `./pydocs` for the file), the path of a
            file or of a folder (every .txt, .md and .jsonl file below it, packed by gzip or not, sorted by path), a
            pattern (`docs/**/*.md`), `-` for standard input, or None: `input.txt` in `cwd` if there is one, else the
            text `pydocs`. Several files, and several lines of JSON, are joined by newlines.
        stdin: what `-` reads, to its end; the process's own standard input by default.
        cwd: what relative paths start from; the working directory by default.
        encoding: of the files; UTF-8 by default.
        text_field: which field of a line of a .jsonl file is the text; `text` by default.

    A byte order mark is dropped and \\r\\n becomes \\n.

    Raises:
        UsageError: no such file, name or encoding.
        UserError: it cannot be read or fetched, is damaged, empty, binary or not of that encoding.
    """
    found = _find(data, cwd, stdin)
    if isinstance(found, Corpus):
        return found
    text = b"".join(joined(found.documents, reading(encoding, text_field))).decode()
    return Corpus.from_text(_nonempty(text, found), found.name, found.source)


@dataclass(frozen=True)
class EncodedCorpus:
    """A text as a model reads it.

    Attributes:
        tokens: (n,) in memory, or mapped from the cache.
        identity: that of the `Corpus`; `cache`, the name of the entry in the cache, if it is there; and how it was
            read, where that is not the usual way.
    """

    tokenizer: Tokenizer
    tokens: np.ndarray
    identity: dict[str, Any]
    facts: TextFacts


def load_encoded(
    data: str | None,
    spec: TokenizerSpec = CHARACTERS,
    *,
    cwd: Path | None = None,
    progress: Progress | None = None,
    encoding: str | None = None,
    text_field: str | None = None,
    keep: bool = False,
) -> EncodedCorpus:
    """What `load_corpus` finds, encoded by a tokenizer made for it; a large text is never in memory as a whole.

    Args:
        keep: encode a short text as a long one, so that it is in the cache as well.

    Raises:
        UsageError, UserError: as `load_corpus`.
    """
    how = reading(encoding, text_field)
    found = _find(data, cwd, None, progress)
    said = {name: value for name, value in (("encoding", encoding), ("text_field", text_field)) if value}
    if isinstance(found, Corpus):
        return _encoded(found, spec, said)
    once = found.once
    if not once and (encoded := known(found.documents, how, spec)):
        return _stored(encoded, found, said)
    limit = 0 if keep else LARGE
    size = sum(document.path.stat().st_size for document in found.documents if document.plain)
    text = joined(found.documents, how) if once or size < limit else None
    head: list[bytes] = []
    if text is not None:
        left = limit
        for piece in text:
            head.append(piece)
            if (left := left - len(piece)) <= 0:
                break
        else:
            corpus = Corpus.from_text(_nonempty(b"".join(head).decode(), found), found.name, found.source)
            return _encoded(corpus, spec, said)
    stream = chain(head, text) if once and text else None
    return _stored(
        encode_documents(found.documents, how, spec, progress, source=found.source, stream=stream), found, said
    )


def _encoded(corpus: Corpus, spec: TokenizerSpec, said: dict[str, Any]) -> EncodedCorpus:
    tokenizer = fit(spec, lambda: [corpus.text])
    return EncodedCorpus(tokenizer, encode(tokenizer, corpus.text), corpus.identity | said, facts_of(corpus.text))


def _stored(encoded: Encoded, found: Found, said: dict[str, Any]) -> EncodedCorpus:
    identity: dict[str, Any] = {"name": slug(found.name), "source": found.source}
    identity |= {"sha256": encoded.text.sha256, "n_bytes": encoded.text.n_bytes} | said
    identity |= {"cache": encoded.entry} if encoded.entry else {}
    return EncodedCorpus(encoded.tokenizer, encoded.tokens, identity, encoded.text)


def as_data(identity: dict[str, Any]) -> str:
    """What `--data` names the text by that an identity is of."""
    source: str = identity["source"]
    if source == STDIN:
        return "-"
    return source.split(" (")[0] if source.split(" (")[0] in NAMES else source


def split(tokens: np.ndarray, seq_len: int, val_fraction: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(train, val): views of the first and the last part of `tokens`, without overlap.

    Raises:
        UsageError: `val_fraction` is not between 0 and 1.
        UserError: a part is shorter than one block, which is `seq_len` inputs and the last one's target.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"val_fraction={val_fraction}: must be between 0 and 1")
    cut = int(len(tokens) * (1 - val_fraction))
    train, val = tokens[:cut], tokens[cut:]
    block = seq_len + 1
    if min(len(train), len(val)) >= block:
        return train, val
    part, share, there = "validation", val_fraction, len(val)
    if len(train) < len(val):
        part, share, there = "training", 1 - val_fraction, len(train)
    enough = math.ceil(block / share)
    way_out = f"use --seq-len {there - 1} or less, or a text" if there > 1 else "use a text"
    raise UserError(
        f"the text is too short: of its {len(tokens):,} tokens the {part} part has {there:,}, but --seq-len {seq_len} "
        f"needs {block:,} there; {way_out} of {enough:,} tokens or more"
    )


def encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The whole text as tokens, in the smallest type that holds the vocabulary: (n,) uint8, uint16 or uint32."""
    return tokenizer.encode(text).astype(token_dtype(tokenizer.vocab_size))


def _pydocs() -> Corpus:
    """The language reference that `help()` shows: about 465 KB of English, part of every Python, offline."""
    from pydoc_data.topics import topics  # 0.7 MB of source, needed by this corpus alone

    text = "\n".join(topics[name] for name in sorted(topics))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Corpus.from_text(text, "pydocs", f"pydocs (the language reference of Python {version})")


def _repeats() -> Corpus:
    return Corpus.from_text(repeats(), "repeats", "repeats (random segments that come back)")


BUILT_IN: dict[str, Callable[[], Corpus]] = {"pydocs": _pydocs, "repeats": _repeats}
"""The corpora that are always there."""
NAMES = (*BUILT_IN, *DOWNLOADS)
"""What `--data` may name besides files."""


class Found(NamedTuple):
    """Where a text is."""

    documents: list[Document]
    name: str
    source: str

    @property
    def once(self) -> bool:
        """It can be read only once: standard input, or a pipe."""
        document = self.documents[0]
        return document.stream is not None or not (document.plain or document.path.is_file())


def _find(
    data: str | None, cwd: Path | None, stdin: BinaryIO | None, progress: Progress | None = None
) -> Found | Corpus:
    """Where the text is that `--data` asks for, or the text itself; a download is fetched."""
    cwd = cwd or Path.cwd()
    if data is None:
        data = "input.txt" if (cwd / "input.txt").is_file() else "pydocs"
    if data == "-":
        return Found([standard_input(stdin)], "stdin", STDIN)
    if data in BUILT_IN:
        return BUILT_IN[data]()
    if data in DOWNLOADS:
        return Found([download(data, progress)], data, f"{data} ({DOWNLOADS[data].url})")
    if not data:
        raise UsageError(f"the name of the text is empty; give a file, a folder, - or one of: {', '.join(NAMES)}")
    return Found(documents(data, cwd, NAMES), *name_and_source(data, cwd))


def _nonempty(text: str, found: Found) -> str:
    if text:
        return text
    document = found.documents[0]
    if document.stream is None and str(document.path.resolve()) != found.source:
        raise UserError(f"{found.source!r} holds only empty .txt or .md or .jsonl files; name another")
    raise UserError(f"{document.what} is empty; give a text to learn from")


def slug(name: str) -> str:
    """At most 40 characters of a-z, 0-9 and single hyphens; "text" where a name has none of these."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "text"
