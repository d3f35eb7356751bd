"""Saves that go on while training does, and disks that refuse: nothing stops training, nothing good is lost."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from minigpt_core import atomic, checkpoint, runlog, saver
from minigpt_core.config import TrainConfig, interval
from minigpt_core.errors import UsageError, UserError
from minigpt_core.host_copy import HostCopy
from minigpt_core.tail import read_events, read_metrics
from tests.test_trainer import make, new_log


@pytest.fixture
def at_once(monkeypatch):
    """What failed is tried again at the next step."""
    for module in (runlog, saver):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


def test_steps_go_on_while_a_checkpoint_is_written_and_only_one_is(text, tmp_path, monkeypatch):
    """The disk is held up until training has made ten more steps; the checkpoint is that of the step it began at."""
    log = new_log(tmp_path / "run")
    trainer = make(text, log, steps=40, save_every=10, eval_every=1000)
    writers, moved_on, write = [], threading.Event(), checkpoint.save

    def slow(path, state):
        writers.append((threading.current_thread().name, state["state"]["step"]))
        if len(writers) == 2:  # the first is the one before step 1, for which training waits
            assert moved_on.wait(20)
            write(tmp_path / "second.pt", state)
        write(path, state)

    monkeypatch.setattr(checkpoint, "save", slow)
    for row in trainer:
        if row.step == 25:
            moved_on.set()
    assert writers[:2] == [("MainThread", 0), ("saver", 10)]
    assert writers[2][1] > 25  # the one that fell due meanwhile
    second = checkpoint.load(tmp_path / "second.pt")
    assert second["state"]["step"] == 10
    twin = make(text, steps=40)
    next(row for row in twin if row.step == 10)
    for name, weight in twin.model.state_dict().items():
        assert torch.equal(weight, second["model"][name])


def test_a_copy_is_of_one_moment_and_keeps_tied_tensors_one():
    weight = torch.ones(3)
    copy = HostCopy({"model": {"a": weight, "b": weight}, "list": [weight[:2], 1, None]}).state()
    weight.zero_()
    assert copy["model"]["a"] is copy["model"]["b"]
    assert copy["model"]["a"].tolist() == [1, 1, 1]
    assert copy["list"][0].tolist() == [1, 1]


def test_the_best_weights_are_written_at_most_once_a_save(text, tmp_path, monkeypatch):
    log, written, write = new_log(tmp_path / "run"), [], checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda path, s: (written.append((path.name, s["state"]["step"])), write(path, s))
    )
    trainer = make(text, log, steps=40, eval_every=2, save_every=20)
    for _ in trainer:
        trainer.saver.wait()  # so that none is put off
    best = [step for name, step in written if name == "best.pt"]
    assert len(best) <= 2
    assert checkpoint.load(log.run.best)["state"]["step"] == trainer.state.best_step == best[-1]
    assert [step for name, step in written if name == "model_checkpoint.pt"] == [0, 20, 40]


def test_rows_are_on_the_disk_before_the_checkpoint_that_covers_them(text, tmp_path, monkeypatch):
    log = new_log(tmp_path / "run")
    trainer, synced = make(text, log, steps=9, save_every=3), []
    fsync = os.fsync

    def noting(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    trainer.save()
    assert synced == ["metrics.jsonl", "events.jsonl", synced[2], "run"]
    assert atomic.TEMPORARY.fullmatch(synced[2])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_for_a_while_costs_no_step(text, tmp_path, monkeypatch, at_once, number):
    log = new_log(tmp_path / "run")
    trainer = make(text, log, steps=30, save_every=5, eval_every=10)
    replace, seen = os.replace, set()

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    for row in trainer:
        trainer.saver.wait()
        if row.step == 7:
            good = log.run.checkpoint.read_bytes()
            monkeypatch.setattr(os, "replace", refuse)
        if 7 < row.step < 18:
            seen.add(trainer.trouble)
            assert log.run.checkpoint.read_bytes() == good
            assert not [name for name in os.listdir(log.run.path) if atomic.TEMPORARY.fullmatch(name)]
        if row.step == 18:
            monkeypatch.setattr(os, "replace", replace)
    assert trainer.trouble is None
    assert any(os.strerror(number) in (line or "") and "\n" not in line for line in seen)
    assert checkpoint.load(log.run.checkpoint)["state"]["step"] == 30
    messages = [(event.kind, event.message) for event in read_events(log.run)]
    assert sum(kind == "warning" for kind, _ in messages) == 1  # said once, however often it was tried
    assert any(message.startswith("saving works again") for _, message in messages)
    assert [row.step for row in read_metrics(log.run)] == list(range(1, 31))


def test_a_folder_that_vanishes_and_comes_back_costs_no_step(text, tmp_path, at_once):
    log = new_log(tmp_path / "run")
    trainer = make(text, log, steps=30, save_every=5)
    for row in trainer:
        trainer.saver.wait()
        if row.step == 7:
            away = log.run.path.rename(tmp_path / "away")
        if row.step == 12:
            assert "No such file" in trainer.trouble
        if row.step == 18:
            away.rename(log.run.path)
    assert checkpoint.load(log.run.checkpoint)["state"]["step"] == 30
    assert [row.step for row in read_metrics(log.run)] == list(range(1, 31))


def test_only_at_the_end_a_disk_that_refuses_is_an_error(text, tmp_path, monkeypatch):
    log = new_log(tmp_path / "run")
    trainer = make(text, log, steps=20, save_every=5)

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rows = iter(trainer)
    next(rows)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match=r"cannot save .*: No space left") as error:
        list(rows)
    assert "\n" not in str(error.value)
    assert trainer.state.step == 20
    monkeypatch.undo()
    assert checkpoint.load(log.run.checkpoint)["state"]["step"] == 0


def test_what_goes_wrong_in_the_writer_is_told_and_training_goes_on(text, tmp_path, monkeypatch, at_once):
    log = new_log(tmp_path / "run")
    trainer, write = make(text, log, steps=20, save_every=5), checkpoint.save
    for row in trainer:
        trainer.saver.wait()
        monkeypatch.setattr(checkpoint, "save", lambda *_: 1 / 0 if 4 < row.step < 9 else write(*_))  # noqa: B023
    assert "ZeroDivisionError" in log.run.train_log.read_text()
    assert any(event.kind == "warning" and "ZeroDivisionError" in event.message for event in read_events(log.run))
    assert checkpoint.load(log.run.checkpoint)["state"]["step"] == 20


def test_saves_by_the_clock(text, tmp_path):
    log = new_log(tmp_path / "run")
    trainer = make(text, log, steps=80, save_every="0.001m")
    started = time.monotonic()
    list(trainer)
    saves = sum(event.kind == "save" for event in read_events(log.run))
    assert 3 <= saves <= 2 + (time.monotonic() - started) / 0.06  # two are those of the beginning and of the end


def test_steps_or_minutes():
    assert interval(500) == (500, None)
    assert interval("10m") == (None, 600)
    for wrong in (0, -5, "10", "m", "0m", "-1m", "10 m", "nanm", "1e9m", "10s", True - 1):
        with pytest.raises(UsageError, match=r"--save-every .*10m"):
            TrainConfig(save_every=wrong)
    config = TrainConfig(save_every="2.5m")
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_temporary_files_of_a_killed_process_are_removed_by_the_next(text, tmp_path):
    log = new_log(tmp_path / "run")
    (log.run.path / f".{'0' * 16}.tmp").write_bytes(b"half")
    (log.run.path / ".mine.tmp").write_bytes(b"not ours")
    make(text, log)
    assert sorted(name for name in os.listdir(log.run.path) if name.endswith(".tmp")) == [".mine.tmp"]


@pytest.mark.parametrize("program", [["saves", "--count", "6"], ["kill", "--count", "5"]])
def test_faults(program):
    result = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{program[0]}", *program[1:]], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
