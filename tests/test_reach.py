"""What the shell tells a run that trains in another process, and when it says that it was obeyed."""

import contextlib
import os
import threading

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import unix_serve

from minigpt_core.errors import UsageError, UserError
from minigpt_core.lock import RunLock
from minigpt_core.rundir import RunDir
from minigpt_core.status import Pause, Reading, Status, Stop
from minigpt_tui.link import messages as m
from minigpt_tui.link import places, reach


def say(connection, phase):
    connection.send(m.encode(m.News(Status(phase=phase), Reading(), None)))


def told(connection):
    """The next command."""
    while not isinstance(request := m.read_request(connection.recv()), m.Do):
        pass
    return request.command


@contextlib.contextmanager
def trained(folder, trainer):
    """A locked run, and its lock, whose trainer does this with each connection once it has said that it trains."""

    def serve(connection):
        connection.send(m.encode(m.Welcome(m.PROTOCOL, str(folder), "box", os.getpid())))
        say(connection, "training")
        with contextlib.suppress(ConnectionClosed):
            trainer(connection)

    run = RunDir(folder)
    lock = RunLock(run)
    with unix_serve(serve, str(folder / "s"), compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        lock.announce(str(folder / "s"))
        try:
            yield run, lock
        finally:
            lock.release()
            server.shutdown()
            thread.join()


def paused(status):
    return status.phase == "paused"


def test_a_run_is_stopped_once_its_lock_is_free(tmp_path):
    said = threading.Event()

    def trainer(connection):
        assert told(connection) == Stop()
        say(connection, "stopped")
        said.set()
        connection.recv()

    with trained(tmp_path, trainer) as (run, lock):
        found = []
        thread = threading.Thread(target=lambda: found.append(reach.tell(run, Stop(), None)))
        thread.start()
        assert said.wait(5)
        thread.join(0.3)
        assert not found
        lock.release()
        thread.join(5)
        assert found[0].phase == "stopped"


def test_a_command_that_was_lost_with_its_connection_is_said_again(tmp_path):
    heard = []

    def trainer(connection):
        heard.append(told(connection))
        if len(heard) > 1:
            say(connection, "paused")
            connection.recv()

    with trained(tmp_path, trainer) as (run, _):
        assert reach.tell(run, Pause(), paused).phase == "paused"
    assert heard == [Pause(), Pause()]


def test_a_run_that_ends_instead_of_pausing_has_not_obeyed(tmp_path):
    def trainer(connection):
        told(connection)
        say(connection, "stopped")
        connection.recv()

    with trained(tmp_path, trainer) as (run, _), pytest.raises(UserError, match="has ended before it obeyed"):
        reach.tell(run, Pause(), paused)


def test_two_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with contextlib.ExitStack() as held:
        for parent in ("one", "two"):
            run = RunDir(tmp_path / parent / "same")
            run.path.mkdir(parents=True)
            (run.path / "config.json").write_text("{}")
            lock = RunLock(run)
            held.callback(lock.release)
            listening, path = places.listen(run)
            held.callback(listening.close)
            lock.announce(str(path))
        with pytest.raises(UsageError, match=r"2 runs of this name are training.*one/same.*two/same"):
            reach.find_live("same", tmp_path / "runs")
        assert reach.find_live(str(tmp_path / "two" / "same"), tmp_path / "runs").path.parent.name == "two"
