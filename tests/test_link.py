"""A run seen over the link: what it shows is what its own process shows, whoever else looks."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError, UserError
from minigpt_core.lock import holder
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.status import Note, Pause, Resume, StepOnce, Stop
from minigpt_tui import write
from minigpt_tui.link import messages as m
from minigpt_tui.link import places, reach
from minigpt_tui.link.remote import AttachedSession, ForwardedSession
from minigpt_tui.link.server import LinkServer
from minigpt_tui.local import LocalSession
from tests.links import plan, served, socket_of, until

KINDS = ("attached", "forwarded")


@contextlib.contextmanager
def viewer(kind, the_plan):
    session = AttachedSession(the_plan.run) if kind == "attached" else ForwardedSession(socket_of(the_plan))
    session.connect()
    try:
        until(lambda: session.connected)
        yield session
    finally:
        session.close()
        assert session.join(5)


def rounded(status):
    """The average is summed up in another order where it is computed for many steps at once."""
    return msgspec.structs.replace(status, smoothed_loss=status.smoothed_loss and round(status.smoothed_loss, 9))


@pytest.fixture(scope="module")
def here(tmp_path_factory, text):
    """A run that stands still after step 120, and the session of the process that trains it."""
    folder = tmp_path_factory.mktemp("link")
    (folder / "text.txt").write_text(text)
    the_plan = plan(folder / "text.txt", folder / "runs")
    with served(the_plan) as session:
        until(lambda: session.status().step >= 120)
        session.send(Pause())
        until(lambda: session.status().phase == "paused" and session.ladder() and len(session.recorded()))
        yield the_plan, session


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_viewer_sees_is_what_the_trainers_own_process_sees(here, kind):
    the_plan, session = here
    with viewer(kind, the_plan) as there:
        until(lambda: there.status().phase == "paused")
        until(lambda: rounded(there.status()) == rounded(session.status()))
        for arguments in ({}, {"lo": 10, "hi": 60, "buckets": 7}):
            expected = session.series("train_loss", **arguments)
            until(lambda e=expected, a=arguments: len(there.series("train_loss", **a)) == len(e))
            found = there.series("train_loss", **arguments)
            for column in ("step", "low", "high", "mean", "broken"):
                np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
        until(lambda: len(there.events()) >= len(session.events()))
        assert there.events()[:3] == session.events()[:3]
        assert there.events(2)[0] == there.events()[2]
        until(lambda: there.ladder() == session.ladder())
        until(lambda: there.excerpt(1) == session.excerpt(1) is not None)
        until(lambda: np.array_equal(there.recorded(), session.recorded()))
        until(lambda: there.head_history() is not None and session.head_history() is not None)
        np.testing.assert_array_equal(there.head_history().scores, session.head_history().scores)
        until(lambda: there.reading().cores > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_viewer_sees_into_the_weights_now_and_then(here, kind):
    the_plan, session = here
    with viewer(kind, the_plan) as there:
        until(lambda: there.frame() is not None and session.frame() is not None)
        found, expected = there.frame(), session.frame()
        assert (found.tokens, found.stamp.step) == (expected.tokens, expected.stamp.step)
        np.testing.assert_allclose(found.weights, expected.weights, atol=0.01)  # as coarse as a recorded frame
        np.testing.assert_array_equal(found.lens.tokens, expected.lens.tokens)

        there.watch("the cat sat")
        until(lambda: "".join(there.frame().tokens) == "the cat sat")
        there.watch(None)

        until(lambda: len(there.recorded()))
        first = int(there.recorded()[0])
        there.look_back(first)
        until(lambda: there.frame() is not None and there.frame().stamp.step == first)
        assert session.frame().stamp.step != first
        there.look_back(None)
        until(lambda: there.frame() is not None and there.frame().stamp.step != first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_answered_as_in_the_trainers_own_process(here, kind):
    the_plan, session = here
    config = SampleConfig(max_new_tokens=30, seed=7, temperatures=(0.5, 1.0))
    expected = session.generate("the ", config)
    with viewer(kind, the_plan) as there:
        found = there.generate("the ", config)
        assert expected.wait(20)
        assert found.wait(20)
        assert [found.text(row) for row in (0, 1)] == [expected.text(row) for row in (0, 1)]
        assert (found.stamp, found.n_tokens, found.finish_reason) == (expected.stamp, 60, "length")
        assert "".join(piece.text for piece in found.take() if piece.sample == 0) == found.text(0)

        endless = there.generate("the ", SampleConfig(max_new_tokens=900_000))
        until(lambda: endless.n_tokens)
        endless.cancel()
        assert endless.wait(5)
        assert endless.finish_reason == "cancelled"

        assert there.generate("a", SampleConfig(num_samples=65)).wait(5)
        too_much = there.generate("a", SampleConfig(max_new_tokens=10**9))
        assert too_much.wait(5)
        assert too_much.error.startswith("at most 64 samples and 1,000,000 tokens")


def test_any_viewer_steers_and_all_see_it(here):
    the_plan, session = here
    with viewer("attached", the_plan) as one, viewer("forwarded", the_plan) as two:
        until(lambda: one.status().phase == two.status().phase == "paused")
        at = session.status().step
        one.send(StepOnce())
        until(lambda: two.status().step == at + 1)
        two.send(Note("seen from afar"))
        two.send(Resume())
        until(lambda: one.status().step > at + 20)
        one.send(Pause())
        until(lambda: two.status().phase == "paused")
        until(lambda: "seen from afar" in [event.message for event in one.events()])


def test_the_socket_is_its_users_alone_and_the_run_is_found_from_anywhere(here, tmp_path):
    the_plan, _ = here
    path = socket_of(the_plan)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert reach.find_live(None, tmp_path).path == the_plan.run.path.resolve()
    assert reach.find_live("run", tmp_path).path == the_plan.run.path.resolve()
    with pytest.raises(UsageError, match="no runs in"):
        reach.find_live("another", tmp_path)


def test_a_viewer_outlives_its_trainer_and_finds_the_next(tmp_path, text_file):
    first = plan(text_file, tmp_path)
    with contextlib.ExitStack() as stack:
        with served(first) as session:
            until(lambda: session.status().step >= 3)
            path = socket_of(first)
            there = stack.enter_context(viewer("attached", first))
            afar = stack.enter_context(viewer("forwarded", first))
            asked = there.generate("the ", SampleConfig(max_new_tokens=900_000))
            until(lambda: asked.n_tokens)
            session.send(Stop())
            until(lambda: session.ended(0))
        until(lambda: there.status().phase == afar.status().phase == "stopped")
        until(lambda: not there.connected and not afar.connected)
        assert asked.wait(5)
        assert asked.finish_reason in ("failed", "cancelled")
        assert not path.exists()
        late = there.generate("the ", SampleConfig(max_new_tokens=3))
        assert late.done
        assert "has ended" in late.error
        with pytest.raises(UserError, match="is not training; go on with: minigpt-tui train --resume run"):
            reach.find_live("run", tmp_path)
        again = prepare_resume("run", {}, str(tmp_path))
        with served(again) as session:
            assert socket_of(again) == path  # so that what is forwarded still leads to it
            until(lambda: there.connected and afar.connected)
            until(lambda: there.status().phase == afar.status().phase == "training")
            answer = there.generate("the ", SampleConfig(max_new_tokens=3))
            assert answer.wait(20)
            assert answer.finish_reason == "length"


def test_a_run_that_has_ended_is_served_no_longer_though_its_process_lives(tmp_path, text_file, monkeypatch):
    monkeypatch.setattr("minigpt_core.engine.Engine._write_assets", lambda engine: None)
    the_plan = plan(text_file, tmp_path, steps=300)
    with served(the_plan) as session, viewer("attached", the_plan) as there:
        path = socket_of(the_plan)
        until(lambda: session.status().phase == "done")
        until(lambda: there.status().phase == "done")
        until(lambda: not path.exists())
        assert holder(the_plan.run) is None
        assert there.status().final_val_loss == session.status().final_val_loss


def test_a_socket_that_somebody_removed_comes_back(tmp_path, text_file, monkeypatch):
    monkeypatch.setattr("minigpt_tui.link.server.GUARD_SECONDS", 0.1)
    the_plan = plan(text_file, tmp_path)
    with served(the_plan):
        path = socket_of(the_plan)
        path.unlink()
        until(path.exists)
        with viewer("attached", the_plan) as there:
            until(lambda: there.status().phase == "training")


def test_a_folder_that_others_may_enter_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for folder in places.folders():
        folder.mkdir()
        folder.chmod(0o750)
    with pytest.raises(UserError, match=r"others may enter .*; close it with: chmod 700"):
        places.make_folder()


def test_what_a_dead_process_left_is_recognised(tmp_path, text_file, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    the_plan = plan(text_file, tmp_path)
    listening, path = places.listen(the_plan.run)
    listening.close()
    the_plan.announce(str(path))
    assert [run.path for run, _ in places.live()] == [the_plan.run.path.resolve()]
    there = AttachedSession(the_plan.run)
    there.connect()
    until(lambda: "Connection refused" in (there.problem or ""))
    the_plan.release()
    assert list(places.live()) == []
    assert not path.exists()
    until(lambda: there.problem == "nobody trains this run now")
    there.close()
    assert there.join(5)


def test_a_folder_too_deep_for_a_socket_is_passed_over(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr("tempfile.gettempdir", lambda: short)
        assert places.make_folder().parent == Path(short)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(deep))
    with pytest.raises(UserError, match="is too long for a socket"):
        places.make_folder()


def test_a_socket_that_another_process_has_put_there_meanwhile_is_left(tmp_path, text_file, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    the_plan = plan(text_file, tmp_path)
    listening, path = places.listen(the_plan.run)
    own = path.stat().st_ino
    successor, _ = places.listen(the_plan.run)
    places.forget(path, own)
    assert path.exists()
    assert path.with_suffix(".json").exists()
    places.forget(path, path.stat().st_ino)
    assert not path.exists()
    assert not path.with_suffix(".json").exists()
    listening.close()
    successor.close()


def test_a_run_whose_holder_cannot_be_read_keeps_its_socket(tmp_path, text_file, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    the_plan = plan(text_file, tmp_path)
    listening, path = places.listen(the_plan.run)
    the_plan.announce(str(path))
    the_plan.run.control.write_bytes(b"{")
    assert list(places.live()) == []
    assert path.exists()
    there = AttachedSession(the_plan.run)
    there.connect()
    until(lambda: "does not say who trains this run" in (there.problem or ""))
    the_plan.announce("")
    until(lambda: "cannot be attached to yet" in (there.problem or ""))
    there.close()
    assert there.join(5)
    listening.close()


def test_why_nobody_can_attach_is_in_the_log(tmp_path, text_file, monkeypatch):
    monkeypatch.setattr(places, "folders", lambda: [Path("/proc/minigpt-tui")])
    the_plan = plan(text_file, tmp_path)
    session = LocalSession.training(the_plan, watched=False)
    with LinkServer(session, the_plan.announce):
        session.start()
        until(lambda: any("nobody can attach: cannot make '/proc/" in event.message for event in session.events()))
        session.close()
        assert session.join(30)


def test_a_long_name_still_fits_a_sockets_path(tmp_path, text_file, monkeypatch):
    deep = tmp_path / ("x" * 60)
    path = places.socket_path(plan(text_file, tmp_path).run, deep)
    assert len(os.fsencode(path)) <= max(places.MAX_PATH, len(os.fsencode(deep)) + len("/-12345678.sock"))


@pytest.mark.parametrize(
    "value",
    [
        m.Array("<f8", (3,), b"123"),
        m.Array("O", (1,), b"12345678"),
        m.Array("<f8", (-1,), b""),
        m.Array("<f8", (2**40, 2**40), b""),
        m.Array("what", (1,), b"1"),
    ],
)
def test_an_array_that_is_none_is_refused(value):
    with pytest.raises(m.MalformedError):
        m.read_array(value)
    with pytest.raises(m.MalformedError):
        m.read_envelope(m.Envelopes((value,) * 5))


def test_nobody_is_found_where_nobody_trains(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="no run is training; start one with"):
        reach.find_live(None, tmp_path)


def test_two_runs_that_train_have_to_be_told_apart(tmp_path, text_file):
    one = plan(text_file, tmp_path)
    two = prepare(Request(data=str(text_file), name="other", out=str(tmp_path), model={"seq_len": 16}))
    try:
        one.run.config.write_text("{}")
        two.run.config.write_text("{}")
        with pytest.raises(UsageError, match="2 runs are training: other, run; name one"):
            reach.find_live(None, tmp_path)
        assert holder(one.run).here
    finally:
        one.discard()
        two.discard()


def test_a_prompt_from_the_shell_does_not_wait_for_a_trainer_that_has_died(tmp_path, text_file):
    the_plan = plan(text_file, tmp_path)
    the_plan.release()
    session = AttachedSession(the_plan.run)  # as it is once its connection was lost
    with pytest.raises(UserError, match="run 'run' has ended before it answered"):
        write.prompt(session, "run", "the ", [SampleConfig()], stream=False, json=False)
