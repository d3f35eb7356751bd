"""A run cut anywhere and resumed is the same run, to the bit; and one that diverges keeps what was good."""

import math
import signal

import pytest
import torch

from minigpt_core import checkpoint
from minigpt_core.config import TrainConfig
from minigpt_core.divergence import DivergenceError, Guard
from minigpt_core.errors import TrainingError, UsageError, UserError
from minigpt_core.host_copy import HostCopy
from minigpt_core.lock import RunLock
from minigpt_core.optim import clip_gradients
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.sizes import complete_sizes
from minigpt_core.tail import read_events, read_metrics
from minigpt_core.train_state import Meter
from minigpt_core.validation import mean_loss
from tests.conftest import TINY
from tests.faults.kill import rows, same
from tests.test_trainer import make, new_log

STEPS, CUT, SAVED = 24, 17, 15
"""Training is cut at a step that is neither saved, nor evaluated, nor at an epoch's beginning."""


def plan(text_file, folder, name, **train):
    settings = {"steps": STEPS, "batch_size": 8, "eval_every": 6, "save_every": 5, "device": "cpu", "threads": 1}
    request = {"model": {**TINY, "dropout": 0.2}, "train": settings | train, "name": name, "out": str(folder)}
    return prepare(Request(data=str(text_file), **request))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "muon", "accumulate": 2},
        {"optimizer": "adamw", "accumulate": 4, "precision": "bf16"},
        {"optimizer": "muon", "precision": "bf16", "log_every": 4},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_a_run_killed_and_resumed_is_the_same_run_to_the_bit(text_file, tmp_path, settings):
    """Weights, both optimizers, dropout's randomness and every row; and its text is gone."""
    whole = plan(text_file, tmp_path, "whole", **settings)
    list(whole.build())

    cut = plan(text_file, tmp_path, "cut", **settings)
    trainer = cut.build()
    row_at = {row.step for row in read_metrics(whole.run)}
    for row in trainer:
        trainer.saver.wait()  # a save that is put off comes later, and SAVED would not be the last
        if row.step >= CUT:
            break
    cut.release()
    assert checkpoint.load(cut.run.checkpoint)["state"]["step"] >= SAVED
    text_file.unlink()
    torch.manual_seed(7)
    again = prepare_resume("cut", {}, str(tmp_path)).build()
    step = again.state.step
    assert 0 < again.batches.epoch(step) % 1 < 1
    assert {row.step for row in read_metrics(cut.run)} == {n for n in row_at if n <= step}  # what lies past it is cut
    list(again)
    assert rows(cut.run) == rows(whole.run)
    assert same(checkpoint.load(cut.run.checkpoint), checkpoint.load(whole.run.checkpoint))
    assert same(checkpoint.load(cut.run.best)["model"], checkpoint.load(whole.run.best)["model"])


def test_the_best_weights_come_back_after_a_resume(text, tmp_path):
    """A run whose last weights are not its best ends with those of its best evaluation: from before the kill."""

    def spoil(trainer):
        if trainer.state.step == 12 and trainer.state.lr_scale == 1:
            trainer.scale_learning_rate(3000)

    whole, first = (make(text, new_log(tmp_path / name), steps=24, eval_every=5, save_every=7) for name in "ab")
    for trainer in (whole, first):
        trainer.boundary = spoil
    list(whole)
    assert whole.state.best_step == 10
    for row in first:
        first.saver.wait()
        if row.step == 17:
            break
    second = make(text, first.log, steps=24, eval_every=5, save_every=7)
    second.resume(checkpoint.load(first.log.run.checkpoint))
    assert second.state.step == 14
    list(second)
    assert second.state.final_val_loss == whole.state.final_val_loss
    assert same(dict(second.model.state_dict()), dict(whole.model.state_dict()))


# --- a batch in pieces ---


def test_pieces_add_up_to_the_batch(text):
    whole, pieces = make(text, batch_size=8), make(text, batch_size=8, accumulate=4)
    starts = whole.batches.starts(3)
    assert (pieces.batches.starts(3) == starts).all()
    losses = [trainer.update.backward(starts) for trainer in (whole, pieces)]
    assert losses[0] == mean_loss(whole.model, *whole.update.windows(starts), whole.devices)
    torch.testing.assert_close(*losses)
    norms = [clip_gradients(trainer.model, 0) for trainer in (whole, pieces)]
    torch.testing.assert_close(*norms)
    for a, b in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_pieces_must_be_equal():
    with pytest.raises(UsageError, match=r"--batch-size 8 .* --accumulate 3 .*--batch-size 9"):
        TrainConfig(batch_size=8, accumulate=3)
    assert TrainConfig(batch_size=8, accumulate=4).micro_batch == 2
    assert complete_sizes("cpu", {}, {"accumulate": 8}, 10)[1].batch_size == 16  # nobody asked for another
    with pytest.raises(UsageError, match="--accumulate 0"):
        complete_sizes("cpu", {}, {"accumulate": 0}, 10)


# --- divergence ---


def poison(trainer, at):
    """From the step after `at` on every loss is nan, until a rollback has halved the learning rate."""
    forward = trainer.update.forward
    trainer.update.forward = lambda x: (
        forward(x) * (math.nan if trainer.state.step >= at and trainer.state.lr_scale == 1 else 1)
    )


def test_a_loss_that_is_no_number_changes_nothing_and_says_what_to_do(text, tmp_path):
    trainer = make(text, new_log(tmp_path / "run"), save_every=5, optimizer="muon")
    poison(trainer, 12)
    states = {}

    def watch(trainer):
        trainer.saver.wait()
        states[trainer.state.step] = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}

    trainer.boundary = watch
    with pytest.raises(TrainingError) as error:
        list(trainer)
    said = str(error.value)
    for part in (
        "the loss is nan",
        "at step 13",
        "checkpoint of step 10",
        "--learning-rate",
        "--on-divergence rollback",
    ):
        assert part in said
    assert "\n" not in said
    assert trainer.state.step == 12
    assert same(dict(trainer.model.state_dict()), states[12])
    saved = checkpoint.load(trainer.log.run.checkpoint)
    assert saved["state"]["step"] == 10
    assert same(dict(saved["model"]), states[10])


def test_a_gradient_that_is_no_number_is_caught_too(text):
    trainer = make(text, grad_clip=0)
    next(trainer.model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(DivergenceError, match=r"the gradient norm is (inf|nan) at step 1"):
        list(trainer)
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


def test_a_rollback_goes_on_from_the_checkpoint_at_half_the_rate(text, tmp_path):
    log = new_log(tmp_path / "run")
    trainer = make(text, log, save_every=5, on_divergence="rollback")
    poison(trainer, 12)
    seen = []
    for row in trainer:
        trainer.saver.wait()
        seen.append(row.step)
    assert seen == [*range(1, 13), *range(11, 21)]
    logged = read_metrics(log.run)
    assert [row.step for row in logged] == list(range(1, 21))
    twin = list(make(text))
    assert logged[9].lr == twin[9].lr
    assert logged[10].lr == pytest.approx(twin[10].lr / 2)
    (event,) = (event for event in read_events(log.run) if event.kind == "resumed")
    assert event.step == 10
    assert "× 0.5" in event.message
    saved = checkpoint.load(log.run.checkpoint)["state"]
    assert (saved["lr_scale"], saved["rollbacks"]) == (0.5, 1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_rollback_may_go_back_to_where_no_step_was_made(text, tmp_path, optimizer):
    log = new_log(tmp_path / "run")
    trainer = make(text, log, save_every=100, on_divergence="rollback", optimizer=optimizer)
    trainer.saver.save_soon(0, wait=True)
    poison(trainer, 3)
    assert [row.step for row in trainer] == [1, 2, 3, *range(1, 21)]


def test_the_fourth_divergence_ends_the_run(text, tmp_path):
    log = new_log(tmp_path / "run")
    trainer = make(text, log, save_every=5, on_divergence="rollback")
    forward = trainer.update.forward
    trainer.update.forward = lambda x: forward(x) * (math.nan if trainer.state.step >= 7 else 1)
    with pytest.raises(TrainingError, match="after 3 rollbacks"):
        list(trainer)
    scales = [
        event.message.partition("× ")[2].split(",")[0] for event in read_events(log.run) if event.kind == "resumed"
    ]
    assert scales == ["0.5", "0.25", "0.125"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_on_a_device_that_is_not_asked_the_update_is_masked(text, tmp_path, monkeypatch, optimizer):
    """As on CUDA, played on a CPU: from the bad step on nothing changes, no checkpoint is written, the row tells."""
    trainer = make(text, new_log(tmp_path / "run"), log_every=10, save_every=1, optimizer=optimizer, weight_decay=0.1)
    poison(trainer, 13)
    trainer.update.guard = Guard(torch.zeros(()), trainer.update.optimizers)
    states = {}
    step = trainer.step

    def noting():
        trainer.saver.wait()
        step()
        optimizers = [optimizer.state_dict()["state"] for optimizer in trainer.update.optimizers]
        states[trainer.state.step] = HostCopy({"model": trainer.model.state_dict(), "optimizers": optimizers}).state()

    monkeypatch.setattr(trainer, "step", noting)
    with pytest.raises(TrainingError, match=r"not finite at step 14.*checkpoint of step 13"):
        list(trainer)
    assert trainer.state.step == 13
    assert same(states[20], states[13])
    assert checkpoint.load(trainer.log.run.checkpoint)["state"]["step"] == 13


def test_the_meter_leaves_out_what_was_skipped():
    meter, skip = Meter("cpu"), torch.zeros(())
    meter.add(torch.tensor(2.0), torch.tensor(3.0), 1.0, skip)
    meter.add(torch.tensor(math.nan), torch.tensor(math.inf), 1.0, torch.ones(()))
    means, good = meter.means()
    assert means == [1.0, 1.5, 0.5]
    assert (good, meter.steps) == (1, 2)


def test_weights_that_are_no_numbers_are_never_saved(text, tmp_path):
    trainer = make(text, new_log(tmp_path / "run"))
    trainer.save()
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(math.inf)
    with pytest.raises(TrainingError, match="not saved"):
        trainer.save()
    assert all(weight.isfinite().all() for weight in checkpoint.load(trainer.log.run.checkpoint)["model"].values())


# --- the end of a run; two processes ---


def test_a_long_split_is_judged_by_a_fair_share_and_that_is_said(text, tmp_path, monkeypatch):
    monkeypatch.setattr("minigpt_core.validation.FINAL_TOKENS", 320)
    log = new_log(tmp_path / "run")
    trainer = make(text, log, steps=2)
    list(trainer)
    starts = trainer.validation.final_starts
    assert len(starts) == 20
    (done,) = (event for event in read_events(log.run) if event.kind == "done")
    assert f"over 20 of {trainer.validation.n_windows:,} windows" in done.message
    assert (starts == make(text).validation.final_starts).all()


def test_a_second_process_is_refused_and_a_dead_one_holds_nothing(text_file, tmp_path):
    import os

    first = plan(text_file, tmp_path, "run")
    next(iter(first.build()))
    with pytest.raises(UserError, match=rf"trained already \(process {os.getpid()} on .*\); watch it with") as error:
        prepare_resume("run", {}, str(tmp_path))
    assert "\n" not in str(error.value)
    first.release()
    child = os.fork()
    if child == 0:
        RunLock(first.run)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    prepare_resume("run", {}, str(tmp_path)).release()
