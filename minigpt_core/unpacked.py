"""Documents that are no plain UTF-8 as files that are: only such can be cut into parts and read from any place.

They lie in the cache for as long as they are needed, and those of a process that was killed are used again.
"""

from __future__ import annotations

import fcntl
import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from minigpt_core.atomic import atomic_file
from minigpt_core.cache import BUDGET, FOLDER, budget, cache_folder, gigabytes
from minigpt_core.documents import Reading, utf8
from minigpt_core.errors import UserError
from minigpt_core.sources import Document
from minigpt_core.token_index import Look


@contextmanager
def as_plain_files(
    documents: Sequence[Document],
    looks: Sequence[Look | None],
    how: Reading,
    stream: Iterator[bytes] | None,
    say: Callable[[int], None],
) -> Iterator[list[Path]]:
    """Each document's own file, or one with the same text.

    Args:
        looks: what tells whether a document is still the same; None where that cannot be told.
        stream: the text of all documents, where it can be read only once.
        say: is told how many bytes of the documents' files have been read since it was told last.

    Raises:
        UserError: a document cannot be read, or its text is larger than the cache may be.
    """
    with ExitStack() as stack:
        files = []
        if stream is not None:
            files.append(stack.enter_context(_unpacked(None, documents[0].what, lambda: stream)))
        else:
            for document, look in zip(documents, looks, strict=True):
                if document.plain and how.encoding == "utf-8":
                    files.append(document.path)
                    continue

                def read(document: Document = document) -> Iterator[bytes]:
                    return utf8(document, how, say)

                key = look and hashlib.sha256(repr((tuple(look), tuple(how), document.lines)).encode()).hexdigest()[:32]
                files.append(stack.enter_context(_unpacked(key, document.what, read)))
        yield files


@contextmanager
def _unpacked(key: str | None, what: str, read: Callable[[], Iterator[bytes]]) -> Iterator[Path]:
    """The file with that text, found or written. An error removes it; Ctrl-C leaves it, by its key."""
    path = cache_folder() / f"unpacked-{key or secrets.token_hex(16)}.txt"
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, what, read())
        lock = path.open("rb")
    except OSError as error:
        raise UserError(
            f"cannot unpack {what} into the cache {str(path.parent)!r}: {error.strerror or error}; make room, or name "
            f"another folder: {FOLDER}"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # whoever makes room leaves it
        try:
            yield path
        except (KeyboardInterrupt, SystemExit):
            if key is None:
                path.unlink(missing_ok=True)
            raise
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


def _write(path: Path, what: str, stream: Iterator[bytes]) -> None:
    most, size = budget(), 0
    with atomic_file(path) as file:
        for piece in stream:
            size += len(piece)
            if size > most:  # a packed file may hold a thousand times its size
                raise UserError(
                    f"{what} unpacks to more than the {gigabytes(most)} that the cache may hold; allow more: {BUDGET}"
                )
            file.write(piece)
