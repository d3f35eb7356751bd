"""Texts that have a name and are fetched when first asked for: cached, and checked by SHA-256 at every use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from minigpt_core.cache import cache_folder
from minigpt_core.errors import UserError
from minigpt_core.sources import Document

MIRROR = "MINIGPT_TUI_MIRROR"
"""The environment variable that names another place to download from: the address of a folder with the same files."""
TIMEOUT = 20
"""Seconds without an answer, or without another byte."""
CHUNK = 2**16
STALE = 3600
"""Seconds without a change after which a temporary file is that of a process that was killed."""


class Download(NamedTuple):
    file: str
    """In the cache, and below the mirror."""
    url: str
    sha256: str
    n_bytes: int
    about: str
    packed: Literal["", "zip"] = ""


DOWNLOADS = {
    "shakespeare": Download(
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        1_115_394,
        "tiny Shakespeare: 40,000 lines of his plays",
    ),
    # http://mattmahoney.net/dc/textdata.html describes it. The checksum of the archive is the one that data loaders of
    # several projects pin independently of each other; the file in it has the SHA-256 2b49720ec4d78c3c9fabaee6e4179a5e
    # 997302b3a70029f30f2d582218c024a8.
    "enwik8": Download(
        "enwik8.zip",
        "http://mattmahoney.net/dc/enwik8.zip",
        "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
        36_445_475,
        "the first 100 MB of the English Wikipedia of 2006, as XML",
        "zip",
    ),
}
"""By the name that `--data` gives."""


def download(name: str, say: Callable[[float], None] | None = None) -> Document:
    """The text of that name: from the cache, or fetched and put there.

    Args:
        say: is told which share has arrived, 0 to 1; whoever must stop raises from it.

    Raises:
        UserError: it cannot be fetched, or is not what it must be; nothing of it is kept.
    """
    import pooch
    from requests import RequestException

    what, folder = DOWNLOADS[name], cache_folder() / "downloads"
    url = f"{mirror.rstrip('/')}/{what.file}" if (mirror := os.environ.get(MIRROR)) else what.url
    pooch.get_logger().setLevel("WARNING")
    _remove_stale(folder)
    # Identity: with a packed transfer neither the length nor a cut would be seen.
    fetch = pooch.HTTPDownloader(
        progressbar=_Arrival(what, url, say), chunk_size=CHUNK, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
    )
    try:
        path = pooch.retrieve(url, f"sha256:{what.sha256}", what.file, folder, downloader=fetch)
    except RequestException as error:
        raise UserError(f"cannot download {name!r} from {url}: {_reason(error)}; try again, {_way_out(name)}") from None
    except ValueError:  # pooch's word for a wrong checksum; requests' errors of that kind are caught above
        raise UserError(
            f"what {url} sends is not {name!r}: its SHA-256 must be {what.sha256[:16]}…; try again later, "
            f"{_way_out(name)}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot keep {name!r} in {str(folder)!r}: {error.strerror or error}") from None
    return Document(Path(path), packed=what.packed)


def here(name: str) -> bool:
    """Whether it has been downloaded."""
    return (cache_folder() / "downloads" / DOWNLOADS[name].file).is_file()


class _Arrival:
    """What pooch tells of a download, which is meant for tqdm, as a share; and an end to one that has none."""

    def __init__(self, what: Download, url: str, say: Callable[[float], None] | None) -> None:
        self.what, self.url, self.say = what, url, say
        self.total = self.arrived = 0

    def update(self, n_bytes: int) -> None:
        self.arrived += n_bytes
        if self.arrived > self.what.n_bytes + CHUNK:  # counted in whole chunks
            raise UserError(f"{self.url} sends more than the {self.what.n_bytes:,} bytes it must; try again later")
        if self.say:
            self.say(min(1.0, self.arrived / self.what.n_bytes))

    def reset(self) -> None:
        self.arrived = 0

    def close(self) -> None:
        pass


def _reason(error: Any) -> str:
    from requests import exceptions

    if error.response is not None:
        return f"the server says {error.response.status_code} {error.response.reason or ''}".rstrip()
    if isinstance(error, exceptions.Timeout):
        return f"no answer in {TIMEOUT} seconds"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke off before the end"
    if isinstance(error, exceptions.ConnectionError):
        return "no connection"
    return type(error).__name__


def _way_out(name: str) -> str:
    return f"or get {DOWNLOADS[name].file} some other way and give its path: --data {DOWNLOADS[name].file}"


def _remove_stale(folder: Path) -> None:
    """The temporary files of downloads that were killed: pooch names them by `tempfile`."""
    with suppress(OSError):
        for path in folder.glob("tmp*"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
