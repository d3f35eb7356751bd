"""What a trainer may do to a viewer: end, break, or say what makes no sense, and it goes on."""

import contextlib
import threading

import numpy as np
import pytest
from websockets.sync.server import unix_serve

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.status import Note, Piece, Reading, Stamp, Status
from minigpt_tui.link import messages as m
from minigpt_tui.link.remote import ForwardedSession
from tests.links import until


def say(connection, message):
    connection.send(m.encode(message))


def welcome(connection, phase="training"):
    say(connection, m.Welcome(m.PROTOCOL, "/runs/run", "box", 1))
    say(connection, m.News(Status(phase=phase), Reading(), None))


def heard(connection, kind):
    """The next request of a kind."""
    while True:
        request = m.read_request(connection.recv())
        if isinstance(request, kind):
            return request


@contextlib.contextmanager
def viewer_of(path, trainer, process_request=None):
    """A session on whatever `trainer` says to each connection."""
    with unix_serve(trainer, str(path), compression=None, process_request=process_request) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        session = ForwardedSession(path)
        session.connect()
        try:
            yield session
        finally:
            session.close()
            assert session.join(5)
            server.shutdown()
            thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s"


def begun(number, *pieces):
    return m.Pieces(number, list(pieces), len(pieces), Stamp(step=1), (), None, None)


def test_an_answer_whose_trainer_dies_ends_at_once_and_one_that_has_not_begun_is_asked_for_again(path):
    asked = []
    again = threading.Event()

    def trainer(connection):
        if asked:
            assert again.wait(5)
        welcome(connection)
        first = heard(connection, m.Prompt)
        asked.append(first.prompt)
        if len(asked) == 1:
            asked.append(heard(connection, m.Prompt).prompt)
            say(connection, begun(first.number))

    with viewer_of(path, trainer) as session:
        until(lambda: session.connected)
        one, two = session.generate("one", SampleConfig()), session.generate("two", SampleConfig())
        assert one.wait(5)
        assert one.error == "the connection was lost before the answer was complete"
        assert not two.done
        again.set()
        until(lambda: asked[2:3] == ["two"])


def test_no_answer_is_awaited_from_a_run_that_has_ended(path):
    def trainer(connection):
        welcome(connection)
        heard(connection, m.Prompt)
        say(connection, m.News(Status(phase="stopped"), Reading(), None))

    with viewer_of(path, trainer) as session:
        until(lambda: session.connected)
        answer = session.generate("one", SampleConfig())
        assert answer.wait(5)
        assert "the run has ended" in answer.error


def test_what_is_too_long_is_refused_here_and_the_connection_stays(path):
    watched = []

    def trainer(connection):
        welcome(connection)
        watched.append(heard(connection, m.Watch).text)
        connection.recv()

    with viewer_of(path, trainer) as session:
        until(lambda: session.connected)
        answer = session.generate("ü" * 2**18, SampleConfig())
        assert answer.done
        assert answer.error.startswith("the prompt is too long to be sent: 524,")
        for text in ("x" * 10_001, "x" * 2**18):
            with pytest.raises(UserError, match="sent"):
                session.send(Note(text))
        session.watch("ü" * 2**18 + "the end")  # of which only the last tokens are looked at
        until(lambda: watched)
        assert watched[0].endswith("üthe end")
        assert session.connected


@pytest.mark.parametrize("code", [1007, 1009])
def test_what_a_trainer_refused_is_not_said_again(path, code):
    said = []

    def trainer(connection):
        welcome(connection)
        said.append(heard(connection, m.Prompt | m.Watch))
        connection.close(code)

    with viewer_of(path, trainer) as session:
        until(lambda: session.connected)
        session.watch("the text")
        until(lambda: session.problem == "the trainer refused what it was told")
        until(lambda: session.connected)
        answer = session.generate("one", SampleConfig())
        assert answer.wait(5)
        assert answer.error == "the trainer refused what it was told"
        until(lambda: session.connected)
        assert [type(request) for request in said] == [m.Watch, m.Prompt]


def test_who_looks_back_still_does_so_over_the_next_connection(path):
    looked = []

    def trainer(connection):
        welcome(connection)
        looked.append(heard(connection, m.Look).step)

    with viewer_of(path, trainer) as session:
        until(lambda: session.connected)
        session.look_back(7)
        until(lambda: looked == [7, 7])


NO_STEPS = m.pack_array(np.zeros((2, 2)))


@pytest.mark.parametrize(
    "value",
    [NO_STEPS, m.Envelopes((NO_STEPS,) * 5), m.HeadScores(NO_STEPS, NO_STEPS), m.Array("<i8", (2,), b"1")],
    ids=["steps", "envelope", "heads", "bytes"],
)
def test_an_answer_that_makes_no_sense_ends_the_connection_and_not_the_screen(path, value):
    connections = []

    def trainer(connection):
        connections.append(connection)
        welcome(connection)
        while True:
            say(connection, m.Answer(heard(connection, m.Ask).number, value))

    with viewer_of(path, trainer) as session:
        until(lambda: len(connections) > 1)
        assert len(session.recorded()) == len(session.series("loss")) == 0
        assert session.head_history() is None


def test_a_piece_of_no_sample_fails_the_answer(path):
    def trainer(connection):
        welcome(connection)
        say(connection, begun(heard(connection, m.Prompt).number, Piece(5, "text")))

    with viewer_of(path, trainer) as session:
        until(lambda: session.connected)
        answer = session.generate("one", SampleConfig())
        assert answer.wait(5)
        assert answer.finish_reason == "failed"
        until(lambda: session.connected)


def test_whatever_else_goes_wrong_is_said_in_a_line(path):
    def elsewhere(connection, request):
        response = connection.respond(301, "")
        response.headers["Location"] = "wss://example.org/"
        return response

    with viewer_of(path, lambda connection: None, elsewhere) as session:
        until(lambda: session.problem.startswith("the connection failed: cannot follow cross-origin redirect"))
