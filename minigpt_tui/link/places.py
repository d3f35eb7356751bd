"""Where the sockets of the runs lie: a folder that only their user can enter.

Beside each socket a small file names its run, so that a user who is in another folder finds what trains. Both are named
after the run and stay the same when another process goes on with it, so that a forwarded socket does too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from minigpt_core.atomic import write_atomic
from minigpt_core.errors import UserError
from minigpt_core.lock import Holder, holder, is_locked
from minigpt_core.rundir import RunDir

FOLDER = "minigpt-tui"
MAX_PATH = 103
"""Bytes of a socket's path: the least that a system allows (macOS, with its closing zero)."""
SHORTEST_NAME = len("/-12345678.sock")
LOCAL_PEERCRED = 0x001
"""macOS and the BSDs: of `getsockopt` at level 0, fills a `struct xucred`."""


class Named(msgspec.Struct):
    """What the file beside a socket says."""

    run: str


def folders() -> list[Path]:
    """Where sockets may lie, the best first. The system removes the first when its user logs out for good."""
    fallback = Path(tempfile.gettempdir(), f"{FOLDER}-{os.getuid()}")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [Path(runtime, FOLDER), fallback] if os.path.isdir(runtime) else [fallback]


def make_folder() -> Path:
    """The first folder that can be made and is ours alone.

    Raises:
        UserError: there is none; the message says what is wrong with the last.
    """
    problem = ""
    for folder in folders():
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            problem = f"cannot make {str(folder)!r}: {error.strerror or error}"
            continue
        if len(os.fsencode(folder)) > MAX_PATH - SHORTEST_NAME:
            problem = f"the path {str(folder)!r} is too long for a socket"
        elif not (problem := _not_ours(folder)):
            return folder
    raise UserError(problem)


def _not_ours(folder: Path) -> str:
    """Why a folder cannot be trusted with a socket, in a line; empty if it can."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return f"{str(folder)!r} is not a folder of this user's; remove it"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"others may enter {str(folder)!r}; close it with: chmod 700 {folder}"
    return ""


def socket_path(run: RunDir, folder: Path) -> Path:
    """A short name with the run's own in it where there is room, the same for every process that trains it."""
    where = os.fsencode(run.path.resolve())
    digest = hashlib.sha256(where).hexdigest()[:8]
    room = MAX_PATH - len(os.fsencode(folder)) - SHORTEST_NAME
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.name)[: max(0, min(room, 40))]
    return folder / f"{name}-{digest}.sock"


def listen(run: RunDir) -> tuple[socket.socket, Path]:
    """A listening socket for a run that this process trains. Whoever holds the run's lock may replace what lies there.

    Raises:
        UserError: there is nowhere to put it.
    """
    folder = make_folder()
    path = socket_path(run, folder)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o600)
        write_atomic(path.with_suffix(".json"), msgspec.json.encode(Named(str(run.path.resolve()))))
    except OSError as error:
        listening.close()
        raise UserError(f"cannot listen at {str(path)!r}: {error.strerror or error}") from None
    return listening, path


def forget(path: Path, own: int | None = None) -> None:
    """Remove a socket and the file beside it; with an inode number, only if that is the socket's, and nobody else's."""
    with contextlib.suppress(OSError):
        if own is not None and path.stat().st_ino != own:
            return
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)


def live() -> Iterator[tuple[RunDir, Holder]]:
    """This user's runs that train on this machine and can be attached to; what dead processes left is removed."""
    for folder in folders():
        if not folder.is_dir() or _not_ours(folder):
            continue
        for note in sorted(folder.glob("*.json")):
            try:
                run = RunDir(Path(msgspec.json.decode(note.read_bytes(), type=Named).run))
            except (OSError, msgspec.DecodeError):
                continue
            if not is_locked(run):
                forget(note.with_suffix(".sock"))
            elif (held := holder(run)) is not None and held.socket == str(note.with_suffix(".sock")):
                yield run, held


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end of a Unix socket, as the kernel knows; None where it does not tell."""
    try:
        if sys.platform == "linux":
            _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return uid
        return struct.unpack("2I", connection.getsockopt(0, LOCAL_PEERCRED, 76)[:8])[1]
    except OSError:
        return None
