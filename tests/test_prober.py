"""The thread that looks and records beside a real engine."""

import time

import numpy as np
import pytest

from minigpt_core import prober
from minigpt_core.engine import Engine
from minigpt_core.ladder import load_ladder
from minigpt_core.landmarks import Landmarks
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.recording import Recorder, Recording
from minigpt_core.replay import Replay
from minigpt_core.status import Stop
from minigpt_core.tail import read_events
from tests.conftest import TINY


@pytest.fixture
def busy_prober(monkeypatch):
    """Pictures are tested elsewhere; the prober does not rest."""
    monkeypatch.setattr("minigpt_core.report.write_assets", lambda *_: [])
    for name, value in (("RESTS", 0), ("IDLE_SECONDS", 0.001), ("SAMPLE_EVERY", 2)):
        monkeypatch.setattr(prober, name, value)


def engine_for(text_file, tmp_path, **train):
    settings = {"steps": 200, "batch_size": 4, "eval_every": 100, "device": "cpu", "threads": 1, **train}
    return Engine(prepare(Request(data=str(text_file), model=TINY, train=settings, name="run", out=str(tmp_path))))


def until(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def test_a_run_records_itself_and_can_be_replayed(text_file, tmp_path, busy_prober):
    engine = engine_for(text_file, tmp_path)
    engine.start()
    assert engine.join(60)
    run = engine.plan.run
    recording = Recording(run)
    steps = recording.steps()
    assert len(steps) >= 10
    assert steps[-1] == 200  # the last weights, however the clock stood
    first = recording.frame(int(steps[0]), engine.tokenizer.token_labels)
    last = recording.frame(200, engine.tokenizer.token_labels)
    assert first.tokens == last.tokens
    assert "".join(last.tokens) == engine.tokenizer.decode(engine.validation(16))
    assert np.nanmean(last.lens.losses[-1]) < np.nanmean(first.lens.losses[-1]) - 0.5  # it has learned
    assert -6 < last.health.update_ratio < 0
    assert {sample.prompt for sample in recording.samples()} == {engine.tokenizer.decode(engine.validation(16))}
    assert recording.samples()[-1].step == 200

    replay = Replay(run)
    replay.start()
    until(lambda: len(replay.steps()) == len(steps))
    replay.look_back(int(steps[3]) + 1)
    frame = until(replay.frame)
    assert frame.stamp.step in steps[3:5]
    replay.look_back(10**9)
    until(lambda: replay.frame().stamp.step == 200)
    assert replay.sample().step == 200
    replay.look_back(None)
    until(lambda: replay.frame() is None)
    assert replay.head_history() is None  # asked for the first time
    until(lambda: replay.head_history() is not None)
    assert replay.head_history().scores.shape == (len(steps), 4, 2, 2)
    replay.close()
    assert replay.join(5)
    engine.prober.close()
    assert engine.prober.join(5)


def test_watching_a_text_beside_the_runs_own(text_file, tmp_path, busy_prober):
    engine = engine_for(text_file, tmp_path, steps=100_000)
    engine.start()
    engine.prober.watch("the cat")
    frame = until(lambda: (f := engine.prober.frame()) and "".join(f.tokens) == "the cat" and f)
    assert frame.weights.shape == (2, 2, 7, 7)
    engine.prober.watch(None)
    until(lambda: len(engine.prober.frame().tokens) == 16)
    engine.send(Stop())
    assert engine.join(20)
    recording = Recording(engine.plan.run)
    assert all(len(recording.frame(int(s), engine.tokenizer.token_labels).tokens) == 16 for s in recording.steps())
    stopped = engine.status().step
    assert recording.steps()[-1] == stopped
    engine.prober.watch("a dog")  # looking goes on after training
    until(lambda: "".join(engine.prober.frame().tokens) == "a dog")
    engine.prober.close()


def test_a_resumed_run_cuts_frames_and_tells_nothing_twice(text_file, tmp_path, busy_prober):
    engine = engine_for(text_file, tmp_path, steps=120)
    engine.start()
    assert engine.join(60)
    run = engine.plan.run
    engine.prober.close()
    recorder = Recorder(run, engine.validation(16).tolist())
    frame = Recording(run).frame(120, engine.tokenizer.token_labels)
    object.__setattr__(frame, "stamp", type(frame.stamp)(step=5000))  # of a branch that was abandoned
    recorder.write(frame)
    recorder.close()
    before = [event.data["rung"] for event in read_events(run) if event.kind == "rung"]
    assert before[0] == "uniform"

    again = Engine(prepare_resume("run", {"steps": 160}, str(tmp_path)))
    again.start()
    assert again.join(60)
    again.prober.close()
    steps = Recording(run).steps()
    assert steps[-1] == 160
    assert 120 in steps
    after = [event.data["rung"] for event in read_events(run) if event.kind == "rung"]
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)


def test_births_are_told_with_their_step(text_file, tmp_path, busy_prober, monkeypatch):
    monkeypatch.setattr("minigpt_core.heads.BORN", 0.01)  # every head is born at once
    engine = engine_for(text_file, tmp_path, steps=60)
    engine.start()
    assert engine.join(60)
    engine.prober.close()
    births = [event for event in read_events(engine.plan.run) if event.kind == "birth"]
    assert {prober.born(event) for event in births} >= {(layer, head, "sink") for layer in (0, 1) for head in (0, 1)}
    assert len({prober.born(event) for event in births}) == len(births)
    assert "became an induction head" in " ".join(event.message for event in births)


def test_a_disk_that_refuses_costs_frames_only(text_file, tmp_path, busy_prober, monkeypatch):
    engine = engine_for(text_file, tmp_path, steps=50)
    (engine.plan.run.path / "probe").write_text("in the way")
    engine.start()
    assert engine.join(60)
    assert engine.status().phase == "done"
    warnings = [event.message for event in read_events(engine.plan.run) if event.kind == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("no more frames for time travel: cannot record frames")
    assert engine.prober.frame() is not None or engine.prober.failure is None
    engine.prober.close()


def test_the_prober_rests_fifty_times_its_work(text_file, tmp_path, monkeypatch):
    monkeypatch.setattr("minigpt_core.report.write_assets", lambda *_: [])
    engine = engine_for(text_file, tmp_path, steps=100_000)
    rests = []
    monkeypatch.setattr(engine.prober._hurry, "wait", lambda seconds: rests.append(seconds) or time.sleep(0.01))
    engine.start()
    until(lambda: len(rests) >= 20)
    engine.send(Stop())
    assert engine.join(20)
    engine.prober.close()
    assert any(rest > prober.IDLE_SECONDS for rest in rests)
    assert all(rest >= prober.IDLE_SECONDS for rest in rests)


def test_landmarks_of_a_text_too_short_for_a_ladder(tmp_path):
    from minigpt_core.rundir import RunDir

    landmarks = Landmarks(RunDir(tmp_path), np.array([0, 1, 0, 1, 0, 1], dtype=np.uint8), 2)
    landmarks.start()
    landmarks.join(10)
    assert landmarks.ladder is None
    assert load_ladder(RunDir(tmp_path)) is None
