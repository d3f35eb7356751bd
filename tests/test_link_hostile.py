"""What a viewer may do to a trainer: nothing, whatever it sends, and whoever it is."""

import contextlib
import math
import os
import socket
import subprocess
import sys
import threading
import time

import msgspec
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import unix_connect

from minigpt_core.status import Note, ScaleLearningRate, SetEvalEvery, SetSampleEvery
from minigpt_tui.link import messages as m
from minigpt_tui.link.remote import AttachedSession
from tests.links import plan, served, socket_of, until

CASES = int(os.environ.get("MINIGPT_TUI_CASES", "40"))
"""10,000 when it matters."""
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, text):
    """A run that trains while all this happens."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "text.txt").write_text(text)
    the_plan = plan(folder / "text.txt", folder / "runs", eval_every=10**6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minigpt_tui.link.server.HANDSHAKE_SECONDS", 0.0)
        patch.setattr("minigpt_tui.link.viewer.STALL_SECONDS", 0.5)
        with served(the_plan) as session:
            yield the_plan, session


@contextlib.contextmanager
def connection(the_plan):
    with unix_connect(str(socket_of(the_plan)), compression=None, max_size=None) as there:
        assert isinstance(m.read_reply(there.recv()), m.Welcome)
        yield there


def close_code(there, seconds=5.0):
    """The code with which the trainer closes the connection."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            there.recv(timeout=seconds)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
    raise AssertionError("it was not closed")


def assert_at_work(run):
    """It trains on, and whoever comes is told so."""
    the_plan, session = run
    at = session.status().step
    there = AttachedSession(the_plan.run)
    there.listen()
    until(lambda: there.live_status().step > at)
    there.close()
    assert there.join(5)


commands = st.sampled_from(["Do", "Prompt", "Cancel", "Watch", "Look", "Ask", "Welcome", "News", "Stop", ""])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
messages = (
    st.binary(max_size=300)
    | values.map(msgspec.msgpack.encode)
    | st.builds(
        lambda tag, fields: msgspec.msgpack.encode({"type": tag, **fields}),
        commands,
        st.dictionaries(
            st.sampled_from(["command", "number", "prompt", "config", "text", "wanted", "step", "question", "shown"]),
            values,
            max_size=4,
        ),
    )
)


def is_request(data):
    with contextlib.suppress(m.MalformedError):
        return bool(m.read_request(data))
    return False


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=messages.filter(lambda data: not is_request(data)))
def test_a_message_that_is_none_ends_the_connection_and_nothing_else(run, data):
    with connection(run[0]) as there:
        there.send(data)
        assert close_code(there) == 1007


@pytest.mark.parametrize(
    "command",
    [
        ScaleLearningRate(math.nan),
        ScaleLearningRate(math.inf),
        ScaleLearningRate(0.0),
        SetEvalEvery(-1),
        SetEvalEvery(2**62),
        SetSampleEvery(-1),
        Note("x" * 20_000),
    ],
    ids=lambda command: str(command)[:40],
)
def test_a_command_out_of_bounds_is_none(run, command):
    with connection(run[0]) as there:
        there.send(m.encode(m.Do(command)))
        assert close_code(there) == 1007


def test_the_run_trains_on_after_all_that_in_the_same_memory(run):
    before = psutil.Process().memory_info().rss
    for _ in range(min(CASES, 1000)):
        with connection(run[0]) as there:
            there.send(b"\xc1" * 1000)
            assert close_code(there) == 1007
    assert psutil.Process().memory_info().rss - before < 64 * 2**20
    assert_at_work(run)


def test_a_frame_that_is_too_large_is_not_read(run):
    before = psutil.Process().memory_info().rss
    with connection(run[0]) as there, contextlib.suppress(ConnectionClosed):
        there.send(b"x" * (m.MAX_REQUEST + 1))
        assert close_code(there) == 1009
    raw = socket.socket(socket.AF_UNIX)
    with raw:
        raw.settimeout(5)
        raw.connect(str(socket_of(run[0])))
        raw.sendall(HANDSHAKE)
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        raw.sendall(b"\x82\xff" + (2**40).to_bytes(8, "big") + b"mask")  # a header that promises a terabyte
        while raw.recv(4096):
            pass
    assert psutil.Process().memory_info().rss - before < 64 * 2**20
    assert_at_work(run)


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", b"A" * 100_000, HANDSHAKE[:-2]])
def test_what_speaks_another_protocol_is_let_go_of(run, data):
    with socket.socket(socket.AF_UNIX) as raw, contextlib.suppress(OSError):
        raw.connect(str(socket_of(run[0])))
        raw.sendall(data)
    assert_at_work(run)
    assert "Traceback" not in run[0].run.train_log.read_text() if run[0].run.train_log.exists() else True


def test_a_viewer_that_takes_nothing_is_dropped(run):
    the_plan, session = run
    with socket.socket(socket.AF_UNIX) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(str(socket_of(the_plan)))
        raw.sendall(HANDSHAKE)
        time.sleep(0.2)
        body = m.encode(m.Ask(1, m.EventsFrom(0)))
        for _ in range(3000):  # each asks for more than it is
            session.send(Note("x" * 200))
        until(lambda: len(session.events()) > 1000)
        frame = b"\x82" + bytes([0x80 | len(body)]) + b"\0\0\0\0" + body
        dropped = False
        for _ in range(500):
            try:
                raw.sendall(frame)
            except OSError:  # the pipe is broken, or the connection reset
                dropped = True
                break
            time.sleep(0.02)
        assert dropped
    assert_at_work(run)


def test_a_viewer_that_asks_all_the_time_is_slowed_down(run):
    with connection(run[0]) as there:
        began = time.monotonic()
        for number in range(300):
            there.send(m.encode(m.Ask(number, m.Excerpt(1))))
        answered = 0
        while answered < 300:
            answered += isinstance(m.read_reply(there.recv(timeout=20)), m.Answer)
        assert time.monotonic() - began > 1.5  # a hundred a second, and a hundred at once
    assert_at_work(run)


OTHER_USER = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as there:
    try:
        there.connect(sys.argv[1])
    except PermissionError:
        print("refused")
    else:
        there.sendall(sys.argv[2].encode())
        print(there.recv(100).decode().splitlines()[0])
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect_even_where_the_folder_is_open(run):
    path = socket_of(run[0])

    def try_it():
        words = [sys.executable, "-c", OTHER_USER, str(path), HANDSHAKE.decode()]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    assert try_it() == "refused"
    opened = [path, path.parent, *(folder for folder in path.parents if folder.stat().st_mode & 0o005 != 0o005)]
    modes = {item: item.stat().st_mode for item in opened}
    try:
        for item in opened:
            item.chmod(0o777)
        assert try_it() == "HTTP/1.1 403 Forbidden"
    finally:
        for item, mode in modes.items():
            item.chmod(mode & 0o7777)
    assert_at_work(run)


def test_too_many_viewers_are_told_so(run, monkeypatch):
    monkeypatch.setattr("minigpt_tui.link.server.MAX_VIEWERS", 2)
    with connection(run[0]), connection(run[0]):
        with pytest.raises(InvalidStatus) as refused, connection(run[0]):
            pass
        assert refused.value.response.status_code == 503
        there = AttachedSession(run[0].run)
        there.listen()
        until(lambda: there.problem == "too many viewers")
        there.close()
        assert there.join(5)


def test_viewers_that_looked_at_the_past_leave_nothing_behind(run):
    def look_back():
        with connection(run[0]) as there:
            there.send(m.encode(m.Ask(1, m.RecordedSteps())))
            while not isinstance(m.read_reply(there.recv(timeout=20)), m.Answer):
                pass

    def kept():
        return len(threading.enumerate()), psutil.Process().num_fds()

    look_back()
    time.sleep(0.5)  # whatever is made once
    before = kept()
    for _ in range(3):
        look_back()
    until(lambda: all(now <= then for now, then in zip(kept(), before, strict=True)), 5)
    assert_at_work(run)
