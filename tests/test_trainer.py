"""The training loop on real text: it learns, counts, evaluates and resumes exactly."""

import copy
import itertools
import math

import msgspec
import pytest
import torch

from minigpt_core import CharTokenizer, ModelConfig, TrainConfig, Trainer, checkpoint
from minigpt_core.best import overfits, verdict
from minigpt_core.errors import TrainingError, UserError
from minigpt_core.length import watch_the_clock
from minigpt_core.model import GPT
from minigpt_core.optim import Muon, learning_rate, orthogonal
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.train_state import TrainState
from minigpt_core.trainer import MAX_ROWS
from tests.conftest import TINY


def make(text, run=None, **settings):
    tokenizer = CharTokenizer.from_text(text)
    model = {name: settings.pop(name) for name in ("dropout", "seq_len") if name in settings}
    torch.manual_seed(1)
    config = TrainConfig(**{"steps": 20, "batch_size": 4, "device": "cpu", "threads": 1, "warmup_steps": 5, **settings})
    model_config = ModelConfig(vocab_size=tokenizer.vocab_size, **TINY | model)
    return Trainer(GPT(model_config), tokenizer, text, config, run=run)


def test_it_learns(text):
    trainer = make(text, steps=300, eval_every=100)
    rows = list(trainer)
    assert len(rows) == 300
    assert rows[0].train_loss == pytest.approx(math.log(trainer.tokenizer.vocab_size), abs=0.2)
    assert trainer.state.val_loss < 2.0
    assert trainer.state.final_val_loss == pytest.approx(trainer.state.val_loss, abs=0.05)
    assert [row.step for row in rows if row.val_loss is not None] == [100, 200, 300]


def test_epochs_steps_and_minutes_say_how_long(text):
    assert make(text, steps=7).state.total_steps == 7
    trainer = make(text, steps=None, epochs=2)
    rows = list(trainer)
    assert rows[-1].epoch == pytest.approx(2, abs=0.01)
    assert rows[-1].tokens == pytest.approx(2 * 0.9 * len(text), rel=0.01)

    trainer = make(text, steps=None, minutes=0.05)
    assert trainer.state.total_steps is None
    rows = list(trainer)
    assert trainer.state.total_steps == len(rows) >= 50


@pytest.mark.parametrize(("seconds", "made"), [(0.01, 6000), (0.5, 120), (10.0, 6), (100.0, 1)])
def test_minutes_hold_whatever_a_step_takes(seconds, made):
    """One minute; a step that is not worth another is still made, since one is the least."""
    state = TrainState()
    while state.step != state.total_steps:
        state.step, state.elapsed = state.step + 1, state.elapsed + seconds
        watch_the_clock(state, 1.0)
    assert state.step == made


def test_slow_first_steps_do_not_shorten_a_run_of_many():
    state = TrainState()
    while state.step != state.total_steps:
        state.step, state.elapsed = state.step + 1, state.elapsed + (0.5 if state.step < 10 else 0.1)
        watch_the_clock(state, 2.0)
    assert state.elapsed == pytest.approx(120, abs=0.2)


def test_a_row_covers_the_steps_since_the_one_before(text):
    every, third = list(make(text, steps=12, log_every=1)), list(make(text, steps=12, log_every=3))
    assert [row.step for row in third] == [1, 3, 6, 9, 12]
    for before, row in itertools.pairwise(third):
        covered = [r.train_loss for r in every if before.step < r.step <= row.step]
        assert row.train_loss == pytest.approx(sum(covered) / len(covered), abs=1e-5)


def test_evaluation_repeats_itself_and_touches_nothing(text):
    trainer = make(text, dropout=0.2)
    next(iter(trainer))
    state = torch.get_rng_state()
    assert trainer.evaluate() == trainer.evaluate()
    assert torch.equal(state, torch.get_rng_state())
    assert trainer.model.training


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_decay_is_on_matrices_only_and_every_parameter_is_in_one_group(text, optimizer):
    trainer = make(text, optimizer=optimizer, weight_decay=0.1)
    model = trainer.model
    assert len(trainer.update.optimizers) == {"adamw": 1, "muon": 2}[optimizer]
    groups = [group for each in trainer.update.optimizers for group in each.param_groups]
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    for group in groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_the_schedule_warms_up_then_follows_a_cosine_to_its_floor():
    config = TrainConfig(learning_rate=1.0, warmup_steps=10, min_lr_fraction=0.1)
    rates = [learning_rate(step, 110, config) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert all(b <= a for a, b in itertools.pairwise(rates[10:]))


def test_gradients_are_clipped_and_the_norm_is_the_one_before(text):
    rows = list(make(text, steps=5, grad_clip=0.01))
    assert all(row.clipped == 1 and row.grad_norm > 0.01 for row in rows)
    assert all(row.clipped == 0 for row in make(text, steps=5, grad_clip=0))


def test_a_loss_that_is_not_finite_is_one_clear_line(text):
    trainer = make(text, learning_rate=1e9, warmup_steps=0, grad_clip=0)
    with pytest.raises(TrainingError, match="smaller --learning-rate") as error:
        list(trainer)
    assert "\n" not in str(error.value)


def test_the_linear_schedule_stays_at_the_peak_and_ends_at_its_floor():
    config = TrainConfig(learning_rate=1.0, warmup_steps=10, min_lr_fraction=0.0, schedule="linear")
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[9:31]) == {1.0}
    assert rates[65] == pytest.approx(0.5)
    assert rates[100] == 0


def test_muon_is_torchs_muon_but_for_precision():
    """`torch.optim.Muon` works in bf16, one matrix at a time, and scales as `adjust_lr_fn` says; here all is fp32."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(*shape)) for shape in ((32, 32), (128, 32), (32, 128), (32, 32))]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    ours = Muon(dict.fromkeys(weights, 1), lr=0.1, momentum=0.9, weight_decay=0.1)
    twin = torch.optim.Muon(theirs, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    for _ in range(3):
        for a, b in zip(weights, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        ours.step()
        twin.step()
    for a, b in zip(weights, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=3e-2, rtol=0)


def test_an_orthogonal_update_has_singular_values_near_one_and_a_stack_is_split():
    torch.manual_seed(0)
    gradient = torch.randn(5, 24, 48)
    values = torch.linalg.svdvals(orthogonal(gradient))
    assert values.min() > 0.6
    assert values.max() < 1.3
    stacked, single = torch.nn.Parameter(torch.zeros(72, 24)), torch.nn.Parameter(torch.zeros(24, 24))
    stacked.grad = torch.randn(72, 24)
    single.grad = stacked.grad[24:48].clone()
    for weight, n in ((stacked, 3), (single, 1)):
        Muon({weight: n}, lr=1.0, momentum=0.9, weight_decay=0).step()
    torch.testing.assert_close(stacked[24:48], single.detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dropout", "optimizer"), [(0.0, "adamw"), (0.3, "adamw"), (0.3, "muon")])
def test_a_run_cut_in_two_is_the_same_run(text, dropout, optimizer):
    """Weights, optimizer, dropout's randomness, batches and rows continue to the bit, in the middle of an epoch."""
    settings = {"steps": 30, "dropout": dropout, "optimizer": optimizer, "log_every": 4, "eval_every": 10}
    whole = make(text, **settings)
    rows = list(whole)

    first = make(text, **settings)
    first.boundary = lambda trainer: trainer.stop() if trainer.state.step == 13 else None
    list(first)
    saved = copy.deepcopy(first.state_dict())
    torch.manual_seed(999)
    second = make(text, **settings)
    second.load_state_dict(saved)
    later = list(second)

    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)

    def timeless(row):
        return msgspec.structs.replace(row, time=0, tok_s=0)

    assert [timeless(r) for r in later] == [timeless(r) for r in rows if r.step > 13]
    assert second.state.final_val_loss == whole.state.final_val_loss


def test_a_longer_resume_stretches_the_schedule(text):
    first = make(text, steps=10)
    list(first)
    second = make(text, steps=20)
    second.load_state_dict(first.state_dict())
    rows = list(second)
    assert [rows[0].step, rows[-1].step] == [11, 20]
    assert rows[0].lr == learning_rate(10, 20, second.config) > first.config.learning_rate * 0.1


def test_text_shorter_than_a_block_is_refused(text):
    with pytest.raises(UserError, match="--seq-len"):
        make(text[:200], seq_len=64)


def new_log(folder):
    """A run directory for a trainer, as `Plan` makes it."""
    run = RunDir(folder)
    run.path.mkdir()
    run.config.write_text("{}")
    return RunLog(run)


def test_a_stop_during_an_evaluation_leaves_it_to_the_resume(text, monkeypatch):
    monkeypatch.setattr("minigpt_core.validation.CHUNK_TOKENS", 64)
    settings = {"steps": 20, "eval_every": 5}
    whole = make(text, **settings)
    rows = [(r.step, r.train_loss, r.val_loss) for r in whole]

    first = make(text, **settings)
    first.boundary = lambda t: t.stop() if t.phase == "evaluating" and t.state.step == 10 else None
    early = list(first)
    assert early[-1].step == 9
    second = make(text, **settings)
    second.load_state_dict(first.state_dict())
    assert [(r.step, r.train_loss, r.val_loss) for r in early + list(second)] == rows


def test_diverged_weights_never_replace_a_good_checkpoint(text, tmp_path):
    settings = {"steps": 60, "log_every": 50, "save_every": 5, "learning_rate": 1e9, "warmup_steps": 20}
    trainer = make(text, new_log(tmp_path / "run"), grad_clip=0, **settings)
    with pytest.raises(TrainingError):
        list(trainer)
    saved = checkpoint.load(trainer.log.run.checkpoint)
    assert all(w.isfinite().all() for w in saved["model"].values())


def test_a_run_can_be_resumed_from_its_first_moment(text, tmp_path):
    trainer = make(text, new_log(tmp_path / "run"))
    next(iter(trainer))
    assert checkpoint.load(trainer.log.run.checkpoint)["state"]["step"] == 0


def test_minutes_count_from_the_resume(text):
    first = make(text, steps=10)
    list(first)
    second = make(text, steps=None, minutes=0.05)
    second.load_state_dict(first.state_dict())
    rows = list(second)
    assert len(rows) >= 50
    assert rows[-1].step == second.state.total_steps


def test_rows_stay_under_the_limit(text):
    trainer = make(text, steps=199_999)
    assert 199_999 / trainer.log_every <= MAX_ROWS


def test_a_loaded_model_can_be_trained_on(text):
    tokenizer = CharTokenizer.from_text(text)
    model = GPT.empty(ModelConfig(vocab_size=tokenizer.vocab_size, **TINY))
    model.copy_weights(GPT(model.config))
    rows = list(Trainer(model, tokenizer, text, TrainConfig(steps=3, batch_size=2, device="cpu", threads=1)))
    assert len(rows) == 3
    assert torch.get_num_threads() == 1


def test_a_meaningless_factor_never_reaches_the_learning_rate(text):
    trainer = make(text)
    for factor in (0.0, -1.0, math.nan, math.inf):
        trainer.scale_learning_rate(factor)
    assert trainer.state.lr_scale == 1.0
    trainer.scale_learning_rate(0.5)
    assert trainer.state.lr_scale == 0.5


def test_more_tokens_than_the_context_holds_are_refused(text):
    with pytest.raises(ValueError, match="context of 16"):
        make(text).model(torch.zeros(1, 17, dtype=torch.long))


def test_overfitting_ends_the_run_and_the_best_weights_come_back(text):
    """A short text, learned by heart: the run ends early, with the weights and the loss of its best evaluation."""
    trainer = make(text[:700], steps=5000, eval_every=10, patience=3, learning_rate=1e-2, seq_len=16)
    kept = {}

    def watch(trainer):
        if trainer.state.best_step == trainer.state.step:
            kept.update({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})

    trainer.boundary = watch
    rows = list(trainer)
    state = trainer.state
    assert state.step == rows[-1].step < 1000
    assert state.step - state.best_step >= 30
    assert rows[-1].val_loss > state.best_val_loss * 1.02
    assert trainer.evaluate() == state.best_val_loss == state.final_val_loss
    assert all(torch.equal(tensor, kept[name]) for name, tensor in trainer.model.state_dict().items())


def test_who_overfits_without_dropout_is_told_of_it():
    state = TrainState(step=1500, best_step=1400)
    assert verdict(state, 0.0).endswith("step 1,400 since: overfitting; a new run with --dropout 0.1 may get further")
    assert verdict(state, 0.2).endswith("overfitting")


def test_a_plateau_is_not_overfitting_and_no_patience_never_ends_a_run():
    state = TrainState(step=500, best_step=400, best_val_loss=2.0)
    assert overfits(state, 2.1, 10, 10)
    assert not overfits(state, 2.01, 10, 10)
    assert not overfits(state, 2.1, 11, 10)
    assert not overfits(state, 2.1, 0, 10)
