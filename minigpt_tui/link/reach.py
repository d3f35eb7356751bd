"""From the shell to a run that trains in another process: which one is meant, and what it is told."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

from minigpt_core.errors import UsageError, UserError
from minigpt_core.lock import Holder, holder
from minigpt_core.rundir import RunDir, find_run, list_runs
from minigpt_core.status import Command, Status
from minigpt_tui.link import places
from minigpt_tui.link.remote import AttachedSession

POLL_SECONDS = 0.02
CONNECT_SECONDS = 30.0
"""How long a run that is just starting may take until it can be attached to."""


def find_live(ref: str | None, parent: Path) -> RunDir:
    """The run that `ref` means, which trains on this machine; without one, the only one that does.

    It lies in `parent`, or wherever it was started.

    Raises:
        UsageError: there is no such run, or several train and none was named.
        UserError: it does not train, or not here; the message says what to do instead.
    """
    elsewhere = {run.path.resolve(): held for run, held in places.live()}
    if ref is None:
        here = {run.path.resolve(): held for run in list_runs(parent) if (held := holder(run)) is not None}
        found = here or elsewhere
        if len(found) > 1:
            names = ", ".join(sorted(path.name for path in found))
            raise UsageError(f"{len(found)} runs are training: {names}; name one")
        if not found:
            raise UserError("no run is training; start one with: minigpt-tui train, or talk to one: minigpt-tui chat")
        ((path, held),) = found.items()
        return _checked(RunDir(path), held)
    try:
        run = find_run(ref, parent)
    except UsageError:
        by_name = [path for path in elsewhere if path.name == ref]
        if len(by_name) > 1:
            paths = ", ".join(shlex.quote(str(path)) for path in sorted(by_name))
            raise UsageError(f"{len(by_name)} runs of this name are training; name one by its path: {paths}") from None
        if not by_name:
            raise
        return RunDir(by_name[0])
    if (held := holder(run)) is None:
        name = shlex.quote(ref)
        raise UserError(
            f"run {run.name!r} is not training; go on with: minigpt-tui train --resume {name}, "
            f"or talk to it: minigpt-tui chat {name}"
        )
    return _checked(run, held)


def _checked(run: RunDir, held: Holder) -> RunDir:
    if not held.here:
        name, host = shlex.quote(run.name), shlex.quote(held.host)
        raise UserError(f"run {run.name!r} is training on {held.host!r}; use: ssh {host} -t minigpt-tui attach {name}")
    return run


def connected(run: RunDir) -> AttachedSession:
    """A connection to the process that trains a run.

    Raises:
        UserError: there is none to be had.
    """
    session = AttachedSession(run)
    session.listen()
    deadline = time.monotonic() + CONNECT_SECONDS
    while not session.connected or session.live_status().phase == "starting":
        if holder(run) is None:
            raise UserError(f"run {run.name!r} has ended")
        if time.monotonic() > deadline:
            raise UserError(f"cannot reach run {run.name!r}: {session.problem}")
        time.sleep(POLL_SECONDS)
    return session


def tell(run: RunDir, command: Command, until: Callable[[Status], bool] | None) -> Status:
    """Have a run obey, and wait until it has; the status it then has.

    Args:
        until: whether it has obeyed; None waits until the run has ended and its lock is free.

    Raises:
        UserError: it cannot be reached, has failed, or has ended without having obeyed.
    """
    session = connected(run)
    told = None
    try:
        while True:
            trainer = session.trainer
            assert trainer is not None
            if trainer is not told:  # the first, or after a connection with which the command may be lost
                told = trainer
                session.send(command)
            status = session.live_status()
            held = holder(run)
            left = (status.finished or not session.connected) and (held is None or held.pid != told.pid)
            if status.phase == "failed" and (left or until is not None):
                raise UserError(status.message)
            if left if until is None else until(status):
                return status
            if until is not None and (status.finished or left):
                raise UserError(f"run {run.name!r} has ended before it obeyed")
            time.sleep(POLL_SECONDS)
    finally:
        session.close()
        session.join(1.0)


def forwarded(socket: str) -> Path:
    """A socket that leads to another machine.

    Raises:
        UsageError: there is none at that path.
    """
    path = Path(socket)
    if not path.is_socket():
        raise UsageError(
            f"--socket {socket!r} is no socket; forward one with: "
            f"ssh -o StreamLocalBindUnlink=yes -NL {shlex.quote(socket)}:SOCKET HOST"
        )
    return path
