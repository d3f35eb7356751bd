"""The four laws, each with the test that would notice it broken."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from minigpt_core.checkpoint import load, load_run
from minigpt_core.config import SampleConfig
from minigpt_core.engine import Engine
from minigpt_core.history import RunHistory
from minigpt_core.observers import Sampler
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.recording import Recording
from minigpt_core.status import Pause, Resume, StepOnce, Stop
from minigpt_core.tail import read_metrics
from tests.conftest import TINY


def plan(text_file, tmp_path, name, **train):
    settings = {"steps": 120, "batch_size": 4, "eval_every": 40, "device": "cpu", "threads": 2, **train}
    model = {**TINY, "dropout": 0.1}
    request = Request(data=str(text_file), model=model, train=settings, name=name, out=str(tmp_path))
    return prepare(request)


def outcome(run):
    """What a run must repeat: every row but its times, and every weight."""
    rows = [(r.step, r.train_loss, r.grad_norm, r.val_loss, r.lr) for r in read_metrics(run)]
    return rows, load(run.checkpoint)["model"]


def assert_same(a, b):
    assert a[0] == b[0]
    for name, weight in a[1].items():
        assert torch.equal(weight, b[1][name]), name


@pytest.fixture
def quick_assets(monkeypatch):
    """Pictures are tested elsewhere."""
    monkeypatch.setattr("minigpt_core.report.write_assets", lambda *_: [])


def test_law_1_only_the_trainer_thread_runs_the_model_and_snapshots_are_whole(text_file, tmp_path, quick_assets):
    engine = Engine(plan(text_file, tmp_path, "run"))
    engine.start()
    replica = engine.replica()
    users = set()
    engine._trainer.model.register_forward_pre_hook(lambda *_: users.add(threading.current_thread().name))
    sampler, probe = Sampler(engine), engine.prober
    seen = {}
    while not engine.join(0):
        stamp = engine.snapshot(replica)
        total = sum(p.double().sum().item() for p in replica.parameters())
        assert seen.setdefault(stamp.step, total) == total  # one step, one set of weights
        sampler.generate("The ", SampleConfig(max_new_tokens=3)).wait(10)
        probe.frame()
    assert users == {"trainer"}
    assert len(seen) > 5
    sampler.close()
    probe.close()


@pytest.fixture
def restless(monkeypatch):
    """A prober that looks, compares, samples and records without a pause."""
    for name, value in (("RESTS", 0), ("IDLE_SECONDS", 0), ("SAMPLE_EVERY", 2)):
        monkeypatch.setattr(f"minigpt_core.prober.{name}", value)


def test_law_2_looking_changes_nothing(text_file, tmp_path, quick_assets, restless):
    quiet = plan(text_file, tmp_path, "quiet")
    for row in quiet.build():
        assert row.step
    quiet.release()

    watched = plan(text_file, tmp_path, "watched")
    engine = Engine(watched)
    sampler, probe = Sampler(engine), engine.prober
    engine.start()
    probe.watch("the cat")
    answers = []
    while not engine.join(0.002):
        probe.frame()
        answers.append(sampler.generate("The ", SampleConfig(max_new_tokens=5, temperature=1.0)))
        answers[-1].wait(10)
        if len(answers) in (3, 6):
            engine.send(Pause())
            engine.send(StepOnce())
            engine.send(Resume())
    assert engine.status().phase == "done"
    assert probe.frame() is not None
    recording = Recording(watched.run)
    assert len(recording.steps()) > 20
    assert recording.steps()[-1] == 120
    assert len(recording.samples()) > 5
    recording.close()
    assert sum(answer.finish_reason == "length" for answer in answers) >= 3
    sampler.close()
    probe.close()
    assert_same(outcome(quiet.run), outcome(watched.run))


def test_law_2_each_thread_keeps_its_own_thread_count(text_file, tmp_path, quick_assets):
    counts = {}
    engine = Engine(plan(text_file, tmp_path, "run", threads=2, steps=30))

    class Noting(Sampler):
        def _answer(self, generation):
            super()._answer(generation)
            counts["sampler"] = torch.get_num_threads()

    sampler = Noting(engine)
    engine.start()
    sampler.generate("a", SampleConfig(max_new_tokens=2)).wait(20)
    boundary = engine._trainer.boundary
    engine._trainer.boundary = lambda t: (counts.setdefault("trainer", torch.get_num_threads()), boundary(t))
    engine.join()
    assert counts == {"sampler": 1, "trainer": 2}
    sampler.close()


def test_law_3_a_run_is_its_directory(text_file, tmp_path, quick_assets):
    """Killed between two saves and without its text, a run goes on from its directory as if nothing had happened."""
    whole = plan(text_file, tmp_path, "whole", save_every=30)
    list(whole.build())

    cut = plan(text_file, tmp_path, "cut", save_every=30)
    for row in cut.build():  # as a kill does it: no goodbye, steps 31 to 47 are lost
        if row.step == 47:
            break
    cut.release()
    text_file.unlink()
    resumed = prepare_resume("cut", {}, str(tmp_path))
    trainer = resumed.build()
    assert trainer.state.step == 30
    assert read_metrics(resumed.run)[-1].step == 30
    list(trainer)
    assert_same(outcome(whole.run), outcome(resumed.run))

    history = RunHistory(resumed.run)
    history.refresh()
    assert len(history.series.envelope("train_loss", buckets=500)) == 120
    assert {"save", "resumed", "done"} <= {event.kind for event in history.events}
    assert load_run("cut", tmp_path).state["step"] == 120


def test_law_3_stop_saves_and_resume_goes_on(text_file, tmp_path, quick_assets):
    engine = Engine(plan(text_file, tmp_path, "run", steps=100_000))
    engine.start()
    while engine.status().step < 20:
        time.sleep(0.01)
    engine.send(Stop())
    assert engine.join(20)
    status = engine.status()
    assert status.phase == "stopped"
    assert status.saved_step == status.step
    again = prepare_resume("run", {"steps": status.step + 5}, str(tmp_path)).build()
    assert next(iter(again)).step == status.step + 1


CORE_ALONE = """
import sys
for name in ("config", "status", "generation", "rundir", "runlog", "series", "corpus", "tokenizer", "batches", "plan"):
    __import__("minigpt_core." + name)
bad = {"torch", "textual", "rich", "typer", "plotext", "matplotlib"} & set(sys.modules)
assert not bad, bad
import minigpt_core.report, minigpt_core.engine, minigpt_core.trainer, minigpt_core.probe
bad = {"textual", "rich", "typer", "plotext"} & set(sys.modules)
assert not bad, bad
"""
APP_ALONE = """
import sys
import minigpt_tui.app, minigpt_tui.cli, minigpt_tui.launch, minigpt_tui.local
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("program", [CORE_ALONE, APP_ALONE])
def test_law_4_the_core_knows_no_terminal_and_the_app_no_torch(program):
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
