"""The text a model learns from: found by path or name, read, checked, and split into training and validation."""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from minigpt_core.errors import UsageError, UserError
from minigpt_core.repeats import repeats
from minigpt_core.text_stream import decode
from minigpt_core.token_store import Progress, encode_files
from minigpt_core.tokenizer import Tokenizer, token_dtype
from minigpt_core.tokenizer_spec import CHARACTERS, TokenizerSpec, fit

UNREPEATABLE = ("standard input",)
"""Sources that cannot be read a second time."""
TEXT_SUFFIXES = (".txt", ".md")
"""The files that a folder contributes."""
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
        return cls(_slug(name), source, text, hashlib.sha256(data).hexdigest(), len(data))


def load_corpus(data: str | None, *, stdin: BinaryIO | None = None, cwd: Path | None = None) -> Corpus:
    """Find and read the text that `--data` asks for.

    Args:
        data: the name of a built-in corpus (which wins over a file of that name: write `./pydocs` for the file), the
            path of a UTF-8 file or of a folder (every .txt and .md file below it, sorted by path, joined by newlines),
            `-` for standard input, or None: `input.txt` in `cwd` if there is one, else the corpus `pydocs`.
        stdin: what `-` reads, to its end; the process's own standard input by default.
        cwd: what relative paths start from; the working directory by default.

    A byte order mark is dropped and \\r\\n becomes \\n.

    Raises:
        UsageError: no such file or corpus.
        UserError: it cannot be read, or is empty, binary or not UTF-8.
    """
    cwd = cwd or Path.cwd()
    if data is None:
        data = "input.txt" if (cwd / "input.txt").is_file() else "pydocs"
    if data == "-":
        what = "standard input"
        return Corpus.from_text(_nonempty(_decode(_read_stdin(stdin), what), what), "stdin", what)
    if data in BUILT_IN:
        return BUILT_IN[data]()
    if not data:
        raise UsageError(f"the name of the text is empty; give a file, a folder, - or one of: {', '.join(BUILT_IN)}")
    path = cwd / os.path.expanduser(data)
    text = _read_folder(path) if _is_folder(path, data) else _nonempty(_read_file(path), repr(str(path)))
    return Corpus.from_text(text, *_identity(path))


@dataclass(frozen=True)
class EncodedCorpus:
    """A text as a model reads it.

    Attributes:
        tokens: (n,) in memory, or mapped from the cache.
        identity: that of the `Corpus`; and `cache`, the name of the entry in the cache, if it is there.
    """

    tokenizer: Tokenizer
    tokens: np.ndarray
    identity: dict[str, Any]


def load_encoded(
    data: str | None,
    spec: TokenizerSpec = CHARACTERS,
    *,
    cwd: Path | None = None,
    progress: Progress | None = None,
) -> EncodedCorpus:
    """What `load_corpus` finds, encoded by a tokenizer made for it; a large text is never in memory as a whole.

    Raises:
        UsageError, UserError: as `load_corpus`.
    """
    cwd = cwd or Path.cwd()
    if data is None and (cwd / "input.txt").is_file():
        data = "input.txt"
    if data and data != "-" and data not in BUILT_IN:
        path = cwd / os.path.expanduser(data)
        files = _text_files(path) if _is_folder(path, data) else [path]
        if _size(files) >= LARGE and spec.kind == "char":
            encoded = encode_files(files, spec.vocab_size, progress)
            name, source = _identity(path)
            identity = {"name": _slug(name), "source": source} | msgspec.to_builtins(encoded.text)
            identity |= {"cache": encoded.entry} if encoded.entry else {}
            return EncodedCorpus(encoded.tokenizer, encoded.tokens, identity)
    corpus = load_corpus(data, cwd=cwd)
    tokenizer = fit(spec, lambda: [corpus.text])
    return EncodedCorpus(tokenizer, encode(tokenizer, corpus.text), corpus.identity)


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
"""The corpora that have a name."""


def _is_folder(path: Path, data: str) -> bool:
    """Whether `path` is a folder rather than a file.

    Raises:
        UsageError: it is neither; the message calls it `data`, as it was asked for.
        UserError: it cannot be told, for want of permission.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        near = difflib.get_close_matches(data, BUILT_IN, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"built-in: {', '.join(map(repr, BUILT_IN))}"
        raise UsageError(f"no such file or corpus: {data!r}; {hint}") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _read_folder(folder: Path) -> str:
    """The text of every text file below `folder`; files without text add nothing."""
    files = _text_files(folder)
    texts = [text for file in files if (text := _read_file(file))]
    if not texts:
        what = "only empty" if files else "no"
        raise UserError(
            f"{str(folder)!r} holds {what} {' or '.join(TEXT_SUFFIXES)} files; name a file or another folder"
        )
    return "\n".join(texts)


def _text_files(folder: Path) -> list[Path]:
    """Every text file below `folder`, by path."""

    def fail(error: OSError) -> None:
        raise _unreadable(Path(error.filename), error) from None

    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=fail)
        for name in names
        if name.lower().endswith(TEXT_SUFFIXES)
    )


def _size(files: list[Path]) -> int:
    """Bytes of all files; what cannot be read is found out by who reads it."""
    with suppress(OSError):
        return sum(file.stat().st_size for file in files)
    return 0


def _identity(path: Path) -> tuple[str, str]:
    """A corpus's name and source, by its path."""
    path = path.resolve()
    source = os.fsencode(path).decode(errors="replace")  # a file name may be any bytes; what is logged must be text
    return path.stem if path.suffix in TEXT_SUFFIXES else path.name, source


def _read_file(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return _decode(data, repr(str(path)))


def _read_stdin(stdin: BinaryIO | None) -> bytes:
    if stdin is None and sys.stdin is None:  # started with its standard input closed
        raise UserError("standard input is closed; give the text with: cat FILE | minigpt-tui train --data -")
    try:
        return (stdin or sys.stdin.buffer).read()
    except OSError as error:
        raise UserError(f"cannot read standard input: {error.strerror or error}") from None


def _decode(data: bytes, what: str) -> str:
    """UTF-8 to text, without byte order mark and carriage returns; `what` names it in errors."""
    text, _ = decode(data, 0, what, final=True)
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _nonempty(text: str, what: str) -> str:
    if not text:
        raise UserError(f"{what} is empty; give a text to learn from")
    return text


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {str(path)!r}: {error.strerror or error}")


def _slug(name: str) -> str:
    """At most 40 characters of a-z, 0-9 and single hyphens; "text" where a name has none of these."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "text"
