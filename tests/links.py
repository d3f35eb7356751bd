"""A run that trains in this process and is served on a socket, for the tests of the link."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from minigpt_core.lock import holder
from minigpt_core.plan import Plan, Request, prepare
from minigpt_tui.link.server import LinkServer
from minigpt_tui.local import LocalSession
from tests.conftest import TINY


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not become true"
        time.sleep(0.01)


def plan(text: Path, out: Path, **train: object) -> Plan:
    settings = {"steps": 100_000, "eval_every": 50, "batch_size": 4, "device": "cpu", "threads": 1, **train}
    return prepare(Request(data=str(text), model=TINY, train=settings, name="run", out=str(out)))


@contextlib.contextmanager
def served(plan: Plan) -> Iterator[LocalSession]:
    """A session on it, once viewers can attach."""
    session = LocalSession.training(plan)
    try:
        with LinkServer(session, plan.announce):
            session.start()
            until(lambda: (held := holder(plan.run)) is not None and held.socket)
            yield session
            session.close()
            session.join()
    finally:
        session.close()
        session.join()


def socket_of(plan: Plan) -> Path:
    held = holder(plan.run)
    assert held is not None
    return Path(held.socket)
