"""What was typed at the prompt, this time and the times before: one file of JSON lines in the user's state folder.

Several apps may be open: each appends its own prompts, and those of the others come with the next start. All reading
and writing is done by a thread. A file that cannot be used costs the history across runs, nothing else.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import platformdirs

from minigpt_core.atomic import write_atomic
from minigpt_core.errors import UserError
from minigpt_core.reading import encode_json, read_bytes
from minigpt_tui.preferences import APP

VARIABLE = "MINIGPT_TUI_HISTORY"
"""The environment variable that names another file."""
MAX_PROMPTS = 200
"""Of the times before, remembered at a time."""
MAX_BYTES = 256 * 1024
"""Of the file: a longer one is written anew with its newest prompts, as many as fit half of it."""
MAX_PROMPT = 16 * 1024
"""Bytes of a line: a longer prompt is remembered until the app is left."""


def path() -> Path:
    """The file, whether it is there or not."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path(platformdirs.user_state_dir(APP, appauthor=False)) / "prompts.jsonl"


class PromptHistory:
    """Prompts, the newest last.

    Args:
        file: where they are kept; None keeps them until the app is left.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._earlier: list[str] = []
        """From the times before, once they are read."""
        self._own: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def __len__(self) -> int:
        return len(self._earlier) + len(self._own)

    def back(self, steps: int) -> str:
        """The prompt so many steps back; 1 is the newest."""
        return self._own[-steps] if steps <= len(self._own) else self._earlier[len(self._own) - steps]

    def start(self) -> None:
        """Begin reading the file; returns at once. Called once."""
        if self._file is not None:
            self._thread.start()

    def add(self, prompt: str) -> None:
        """Remember a prompt, unless it is the newest one again."""
        if not len(self) or self.back(1) != prompt:
            self._own.append(prompt)
            self._queue.put(prompt)

    def close(self, timeout: float | None = None) -> None:
        """Wait until what was added is in the file."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout)

    # --- its thread ---

    def _run(self) -> None:
        assert self._file is not None
        with suppress(UserError):
            self._earlier = read(read_bytes(self._file, 16 * MAX_BYTES))
        while (prompt := self._queue.get()) is not None:
            with suppress(OSError):
                append(self._file, prompt)


def read(data: bytes) -> list[str]:
    """The prompts in a file's content; lines that are none are skipped."""
    prompts = []
    for line in data.splitlines():
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            prompts.append(msgspec.json.decode(line, type=str))
    return prompts[-MAX_PROMPTS:]


def append(file: Path, prompt: str) -> None:
    """Add a line to the file, which others may be doing at the same moment.

    Raises:
        OSError: it cannot be written.
    """
    line = encode_json(prompt) + b"\n"
    if len(line) > MAX_PROMPT:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file) as opened:
        opened.write(line)
        opened.flush()
        if opened.tell() > MAX_BYTES:
            shorten(file, opened)


def locked(file: Path) -> BinaryIO:
    """The file opened for appending and locked until it is closed; readable by its owner only.

    Whoever held the lock before may have replaced the file: then the new one is opened.
    """
    while True:
        opened = os.fdopen(os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b")
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            opened.seek(0, os.SEEK_END)
            if os.path.samestat(os.fstat(opened.fileno()), os.stat(file)):
                return opened
        except OSError:
            opened.close()
            raise
        opened.close()


def shorten(file: Path, opened: BinaryIO) -> None:
    """Keep the newest prompts of a file that has grown too long; `opened` holds its lock."""
    opened.seek(0)
    lines = opened.read().splitlines(keepends=True)
    while sum(map(len, lines)) > MAX_BYTES // 2:
        del lines[: max(1, len(lines) // 8)]
    write_atomic(file, b"".join(lines))
    file.chmod(0o600)
