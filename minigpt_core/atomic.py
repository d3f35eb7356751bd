"""Files that are either the old content or the new, never half of one: whatever is killed, and whenever."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""Names of files that are being written."""


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing; the content appears there, durably, when the block ends well.

    If the block raises, or the disk is full, `path` stays as it was and nothing is left behind. A symbolic link is
    followed, so that a file kept on another disk stays there.
    """
    target = Path(os.path.realpath(path))
    # In the same folder, since a rename is atomic only within one file system; opened by "xb" and not by `tempfile`,
    # so that the permissions follow the user's umask.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")  # as in TEMPORARY
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt too must not leave the temporary file
        with suppress(OSError):  # what went wrong first is what matters
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files of killed processes; for whoever alone writes there."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                os.unlink(entry.path)


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Replace the content of `path`; text is written as UTF-8."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; some file systems cannot sync a folder, and the content is already safe there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
