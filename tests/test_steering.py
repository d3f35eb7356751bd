"""Steering is part of the run: obeyed at a boundary, written to the log with its step, kept by a resume."""

import time

import pytest

from minigpt_core.engine import MAX_NOTE, Engine
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.status import Note, ScaleLearningRate, SetEvalEvery, SetSampleEvery, Stop
from minigpt_core.tail import read_events, read_metrics
from tests.conftest import TINY


@pytest.fixture
def engine(text_file, tmp_path):
    train = {"steps": 100_000, "batch_size": 4, "eval_every": 1000, "device": "cpu", "threads": 1}
    engine = Engine(prepare(Request(data=str(text_file), model=TINY, train=train, name="run", out=str(tmp_path))))
    yield engine
    engine.send(Stop())
    engine.join(30)
    engine.prober.close()
    engine.prober.join(30)


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def evaluations(run):
    return [row.step for row in read_metrics(run) if row.val_loss is not None]


def test_each_command_is_obeyed_logged_and_shown(engine):
    engine.start()
    until(lambda: engine.status().step > 5)
    assert engine.status().eval_every == 1000
    for command in (SetEvalEvery(20), SetSampleEvery(15), ScaleLearningRate(0.5), Note("lr halved\nhere " + "x" * 300)):
        engine.send(command)
    until(lambda: engine.status().lr_scale == 0.5 and engine.status().step > 60)
    status = engine.status()
    assert (status.eval_every, status.sample_every) == (20, 15)
    steps = evaluations(engine.plan.run)
    assert len(steps) >= 2
    assert all(step % 20 == 0 for step in steps)

    engine.send(Stop())
    assert engine.join(30)
    told = {event.message: event for event in read_events(engine.plan.run)}
    assert told["evaluating every 20 steps"].kind == "cadence"
    assert told["writing by itself every 15 steps"].kind == "cadence"
    assert any(event.kind == "lr" and event.step > 5 for event in told.values())
    note = next(event for event in told.values() if event.kind == "note")
    assert note.message.startswith("lr halved here x")
    assert len(note.message) == MAX_NOTE

    resumed = prepare_resume("run", {}, str(engine.plan.run.path.parent)).build()
    assert (resumed.eval_every, resumed.state.sample_every, resumed.state.lr_scale) == (20, 15, 0.5)


def test_an_option_of_the_resume_goes_before_what_was_steered(engine):
    engine.start()
    engine.send(SetEvalEvery(20))
    until(lambda: engine.status().eval_every == 20)
    engine.send(Stop())
    assert engine.join(30)
    plan = prepare_resume("run", {"eval_every": 30}, str(engine.plan.run.path.parent))
    assert plan.build().eval_every == 30
    plan.release()


@pytest.mark.parametrize("steps", [0, -5])
def test_a_meaningless_cadence_is_refused_and_said(engine, steps):
    engine.start()
    engine.send(SetEvalEvery(steps))
    until(lambda: any(event.kind == "warning" for event in read_events(engine.plan.run)))
    assert engine.status().eval_every == 1000
