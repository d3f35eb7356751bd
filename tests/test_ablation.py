"""The ablation lab: the statistics by hand, the pairing, swapped and transposed attention, and what a stop leaves."""

import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from minigpt_core.attention import explicit_attention
from minigpt_core.checkpoint import load_run
from minigpt_core.config import ABLATIONS
from minigpt_core.errors import UsageError, UserError
from minigpt_core.hardware import cpu_count
from minigpt_core.lab.design import Design, find_experiment, parse_variant
from minigpt_core.lab.expectations import expected
from minigpt_core.lab.experiment import Experiment, write_difference
from minigpt_core.lab.overlay import attention_difference, mean_curve, paired_curves
from minigpt_core.lab.paired import BASELINE, T_975, TRANSPOSED, Outcome, cells, interval, markdown, spread, tabulate
from minigpt_core.lab.trial import transposed_loss
from minigpt_core.stored import read_config
from minigpt_core.tail import read_metrics
from minigpt_tui import cli
from tests.conftest import TINY

STEPS = 24
TRAIN = {"steps": STEPS, "batch_size": 4, "warmup_steps": 4, "eval_every": 8, "device": "cpu", "threads": 1}


@pytest.fixture
def lab(tmp_path, text):
    """Makes experiments on a short text, all in one folder."""
    path = tmp_path / "text.txt"
    path.write_text(text[:3000], encoding="utf-8")

    def make(*variants, name="lab", jobs=1, seeds=1, train=None, **asked):
        design = Design(
            variants=variants, seeds=seeds, data=str(path), model=TINY, train=TRAIN | (train or {}), **asked
        )
        return Experiment(design, name, str(tmp_path / "runs"), jobs)

    return make


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("minigpt_core.lab.overlay.overlay", lambda *_: None)
    monkeypatch.setattr("minigpt_core.lab.experiment.write_difference", lambda *_: None)


def finish(experiment):
    *_, last = experiment.run()
    assert (last.finished, last.share, last.running) == (last.total, 1.0, ())
    return {trial.run.name: trial.outcome() for trial in experiment.trials}


def losses(run):
    return [row.train_loss for row in read_metrics(run)]


# --- statistics ---


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 29, 30])
def test_the_t_table_holds_975_of_the_probability(degrees):
    t = np.linspace(0, T_975[degrees - 1], 200_001)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    density = np.exp(log_scale) * (1 + t**2 / degrees) ** (-(degrees + 1) / 2)
    assert np.trapezoid(density, t) == pytest.approx(0.475, abs=2e-5)
    assert list(T_975) == sorted(T_975, reverse=True)


def test_an_interval_by_hand():
    three = interval([1.0, 2.0, 3.0])  # mean 2, standard deviation 1, t(0.975, 2) = 4.303
    assert (three.mean, three.n) == (2.0, 3)
    assert three.half_width == pytest.approx(4.303 / math.sqrt(3))
    assert interval([5.0]).half_width is None


def outcome(variant, seed, val_loss, rate=1e-3, **more):
    diverged = "inf" if val_loss is None else None
    values = {"n_params": 10, "steps": 5, "train_loss": 1.0, "diverged": diverged, **more}
    return Outcome(variant=variant, seed=seed, val_loss=val_loss, learning_rate=rate, **values)


def test_the_table_pairs_seeds_and_never_drops_a_divergence():
    base = [
        outcome(BASELINE, seed, loss, transposed_val_loss=loss + 2) for seed, loss in ((1, 2.0), (2, 2.4), (3, 2.2))
    ]
    other = [outcome("x", 1, 2.1), outcome("x", 2, None), outcome("x", 3, 2.5), outcome("gone", 1, None)]
    table = tabulate(other + base, ["x", "gone", "not yet"])
    assert [row.variant for row in table.rows] == [BASELINE, "x", "gone", TRANSPOSED]
    baseline, x, gone, transposed = table.rows
    assert table.baseline_spread == pytest.approx(0.2)
    assert baseline.difference is None
    assert x.difference.mean == pytest.approx((0.1 + 0.3) / 2)
    assert (x.difference.n, x.seeds, x.diverged, x.val_loss) == (2, 3, (2,), pytest.approx(2.3))
    assert (gone.val_loss, gone.difference, gone.diverged) == (None, None, (1,))
    assert transposed.difference.mean == pytest.approx(2)
    assert transposed.difference.half_width == pytest.approx(0)
    assert "1 of 3 (seed 2)" in cells(x, table)
    assert markdown(table).count("\n") == 2 + 4


def test_of_several_rates_each_variant_counts_at_its_best_and_all_are_kept():
    runs = [outcome(BASELINE, 1, 2.0, 1e-3), outcome(BASELINE, 1, 1.9, 1e-2)]
    runs += [outcome("x", 1, 2.2, 1e-3), outcome("x", 1, 2.5, 1e-2), outcome("x", 1, None, 1e-1)]
    table = tabulate(runs, ["x"])
    assert [(row.variant, row.learning_rate) for row in table.rows] == [(BASELINE, 1e-2), ("x", 1e-3)]
    assert table.rows[1].difference.mean == pytest.approx(0.3)
    assert len(table.all_rates) == 5
    assert "Every learning rate" in markdown(table)


def test_one_seed_has_no_interval_and_says_so():
    table = tabulate([outcome(BASELINE, 1, 2.0), outcome("x", 1, 2.1)], ["x"])
    assert table.rows[1].difference.half_width is None
    assert "±" not in markdown(table)
    assert "no interval" in spread(table)


# --- what is asked ---


def test_a_variant_is_an_ablation_settings_or_both():
    both = parse_variant("no-positions, embed_dim=64,learning-rate=1e-2")
    assert both.name == "no-positions,embed-dim=64,learning-rate=1e-2"
    assert both.model == {"positions": "none", "embed_dim": 64}
    assert both.train == {"learning_rate": 0.01}
    assert both.same_batches
    assert not parse_variant("seq-len=8").same_batches
    assert parse_variant("residual=false").model == {"residual": False}


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("no-residul", "did you mean 'no-residual'?"),
        ("n-layer=2", "did you mean 'n-layers'?"),
        ("n-layers=two", "--n-layers 'two': expected a whole number"),
        ("n-layers=0", "--n-layers"),
        ("num-heads=3", "not divisible by --num-heads 3"),
        ("norm=batch", "unknown norm 'batch'"),
        ("seed=3", "unknown setting of a variant"),
    ],
)
def test_a_variant_that_is_none_is_refused_and_nothing_is_made(lab, tmp_path, variant, message):
    with pytest.raises(UsageError) as error:
        lab(variant)
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_every_row_has_an_expectation():
    for variant in (BASELINE, TRANSPOSED, *ABLATIONS, "n-layers=2", "no-positions,learning-rate=1e-2,n-layers=1"):
        assert expected(variant)
    assert [name for name, _ in expected("no-residual,n-layers=2")] == ["no-residual", "n-layers=2"]


# --- running ---


def test_runs_differ_in_what_their_variant_changes_and_in_nothing_else(lab, no_pictures):
    experiment = lab("no-positions", "learning-rate=1e-2", seeds=2)
    outcomes = finish(experiment)
    assert list(outcomes) == [
        f"{variant}-seed{seed}" for seed in (1, 2) for variant in (BASELINE, "no-positions", "learning-rate=1e-2")
    ]
    configs = [read_config(trial.run) for trial in experiment.trials]
    flat = [config["model"] | config["train"] for config in configs]
    assert {name for name in flat[0] if flat[0][name] != flat[1][name]} == {"positions"}
    assert {name for name in flat[0] if flat[0][name] != flat[2][name]} == {"learning_rate"}
    assert {name for name in flat[0] if flat[0][name] != flat[3][name]} == {"seed"}
    rows = experiment.table().rows
    assert rows[1].n_params == rows[0].n_params - TINY["seq_len"] * TINY["embed_dim"]
    assert all(row.val_loss > 0 and row.gap is not None for row in rows[:3])
    text = (experiment.path / "table.md").read_text()
    assert "standard deviation over 2 seeds" in text
    assert json.loads((experiment.path / "results.json").read_bytes())["table"]["rows"][1]["variant"] == "no-positions"
    assert find_experiment("lab", experiment.path.parent) == experiment.path


def test_swapped_query_and_key_with_swapped_initialisation_train_as_the_baseline(lab, no_pictures, monkeypatch):
    """To floating-point order: the same numbers are summed in another order, which long training would amplify."""
    experiment = lab("swap-qk")
    finish(experiment)
    baseline, swapped = (losses(trial.run) for trial in experiment.trials)
    assert swapped == pytest.approx(baseline, abs=1e-4)
    assert abs(experiment.table().rows[1].difference.mean) < 1e-4

    monkeypatch.setattr("minigpt_core.lab.trial.swap_initialisation", lambda model: None)  # the control
    plain = lab("swap-qk", name="plain")
    finish(plain)
    assert losses(plain.trials[1].run) != pytest.approx(baseline, abs=1e-4)


def test_transposed_scores_are_the_trained_model_with_query_and_key_exchanged(lab, no_pictures):
    experiment = lab("single-head", train={"steps": 150, "learning_rate": 1e-2})
    outcome = finish(experiment)["baseline-seed1"]
    trainer = experiment.trials[0].plan(experiment._source).build()
    assert transposed_loss(trainer) == pytest.approx(outcome.transposed_val_loss, abs=1e-5)
    for block in trainer.model.layers:
        block.attention.attend = lambda q, k, v, dropout: explicit_attention(k, q, v, dropout)
    starts = trainer.validation.final_starts
    inputs, targets = trainer.validation.windows(starts)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(trainer.model(inputs).flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(outcome.transposed_val_loss, abs=1e-4)
    assert outcome.transposed_val_loss > outcome.val_loss + 0.01


def test_a_stopped_experiment_goes_on_as_if_nothing_had_happened(lab, no_pictures, monkeypatch):
    monkeypatch.setattr("minigpt_core.lab.schedule.POLL_SECONDS", 0)
    whole = finish(lab("no-positions", name="whole"))
    cut = lab("no-positions", name="cut")
    for progress in cut.run():
        if progress.finished == 1 and progress.running and progress.running[0].step == 10:
            cut.stop()
    assert not cut.finished
    done, halfway = (trial.run for trial in cut.trials)
    assert read_metrics(halfway)[-1].step < STEPS
    assert not (cut.path / "results.json").exists()
    before = {path: path.read_bytes() for path in done.path.rglob("*") if path.is_file()}

    (cut.path.parent.parent / "text.txt").write_text("The text is another one by now. " * 50)
    again = Experiment(Design(), "cut", str(cut.path.parent))  # all that was asked is in the folder
    assert finish(again) == whole
    assert {path: path.read_bytes() for path in done.path.rglob("*") if path.is_file()} == before
    assert load_run(halfway.path).state["step"] == STEPS


def test_an_experiment_can_grow_and_cannot_become_another(lab, no_pictures):
    first = lab("no-positions")
    finish(first)
    with pytest.raises(UsageError, match="--steps cannot change"):
        lab("no-positions", train={"steps": 30})
    with pytest.raises(UsageError, match="--n-layers cannot change"):
        Experiment(Design(model={"n_layers": 3}), "lab", str(first.path.parent))
    grown = lab("single-head", seeds=2)
    names = [trial.run.name for trial in grown.trials]
    assert names[:3] == ["baseline-seed1", "no-positions-seed1", "single-head-seed1"]
    assert [trial.outcome() is not None for trial in grown.trials] == [True, True, False, False, False, False]


def test_a_divergence_is_an_outcome(lab, no_pictures):
    experiment = lab("no-layernorm,learning-rate=1e9")
    outcomes = finish(experiment)
    lost = outcomes["no-layernorm,learning-rate=1e9-seed1"]
    assert "diverged" in lost.diverged
    assert (lost.val_loss, experiment.table().rows[1].diverged) == (None, (1,))
    assert finish(lab("no-layernorm,learning-rate=1e9")) == outcomes  # counted once, and not tried again


def test_a_sweep_keeps_every_run(lab, no_pictures):
    outcomes = finish(lab("no-positions", "learning-rate=1e-2", learning_rates=(1e-3, 3e-3), train={"steps": 8}))
    names = [f"{variant}-lr{rate}-seed1" for variant in (BASELINE, "no-positions") for rate in ("0.001", "0.003")]
    assert list(outcomes) == [*names, "learning-rate=1e-2-seed1"]


def test_the_same_experiment_twice_at_once_is_refused(lab, no_pictures):
    first = lab("no-positions")
    running = first.run()
    next(running)
    with pytest.raises(UserError, match="is being trained already"):
        next(lab("no-positions").run())
    running.close()


def test_jobs_are_within_the_cores(lab):
    with pytest.raises(UsageError, match="--jobs 1000"):
        lab(jobs=1000)


# --- pictures ---


def test_curves_are_averaged_and_paired_step_by_step():
    curves = {BASELINE: [{1: 2.0, 2: 1.0}, {1: 4.0, 2: 2.0}], "x": [{1: 2.5, 2: 1.5}, {1: 4.1}]}
    mean = mean_curve(curves["x"])  # the second seed diverged
    assert (mean.steps.tolist(), mean.mean.tolist()) == ([1, 2], [3.3, 1.5])
    assert (mean.low.tolist(), mean.high.tolist()) == ([2.5, 1.5], [4.1, 1.5])
    assert [list(run.values()) for run in paired_curves(curves)["x"]] == [[0.5, 0.5], [pytest.approx(0.1)]]


def test_pictures_are_written_and_heads_that_do_not_match_are_named(lab):
    experiment = lab("no-positions", "single-head", train={"steps": 8})
    finish(experiment)
    made = {path.name for path in experiment.path.glob("*.png")}
    assert made == {"overlay.png", "attention-no-positions.png"}
    assert all(imread(experiment.path / name).shape[0] > 300 for name in made)
    a, b = experiment.path / "baseline-seed1", experiment.path / "single-head-seed1"
    with pytest.raises(UsageError, match="baseline-seed1 has 2 layers of 2 heads, single-head-seed1 has 2 layers of 1"):
        write_difference(a, b)
    assert write_difference(a, a).name == "attention_minus_baseline-seed1.png"


def test_the_difference_is_the_first_minus_the_second(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("minigpt_core.lab.overlay.mosaic", lambda tiles: drawn.append(tiles) or tiles[0, 0])
    a, b = np.tile(np.eye(3), (1, 1, 1, 1)), np.tril(np.ones((1, 1, 3, 3))) / 3
    attention_difference(a, b, ("a", "b"), tmp_path / "x.png")
    red, _, blue, _ = drawn[2][0, 0, 1, 1]  # 1 - 1/3: the violet end of the scale
    assert blue > red
    red, _, blue, _ = drawn[2][0, 0, 1, 0]  # 0 - 1/3: the orange end
    assert red > blue


# --- the command ---


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["no-residul"], 2, "did you mean 'no-residual'?"),
        (["--learning-rates", "fast"], 2, "expected numbers with commas between"),
        (["--learning-rates", "-1"], 2, "--learning-rates"),
        (["--seeds", "0"], 2, "--seeds 0: expected a whole number >= 1"),
        (["--jobs", "0"], 2, "--jobs 0"),
        (["--steps", "0"], 2, "--steps 0"),
        (["--name", "a/b"], 2, "holds a path separator"),
        (["--data", "nope.txt"], 2, "no such file or corpus"),
        (["--resume", "nope"], 2, "no experiments in runs yet"),
        (["--diff", "x", "y"], 2, "no runs in runs yet"),
    ],
)
def test_bad_input_is_one_clear_line(monkeypatch, capsys, tmp_path, words, code, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["minigpt-tui", "ablate", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    assert (left.value.code, out, err.count("\n")) == (code, "", 1)
    assert message in err
    assert not list(tmp_path.rglob("*.json"))


def test_ctrl_c_saves_and_names_the_way_on_with_parallel_processes(tmp_path, text):
    """Two jobs need two cores; on one the same is tried with one."""
    (tmp_path / "text.txt").write_text(text[:3000], encoding="utf-8")
    words = [sys.executable, "-m", "minigpt_tui.cli", "ablate", "no-positions", "--name", "lab"]
    words += ["--jobs", str(min(2, cpu_count())), "--seeds", "1", "--steps", "100000", "--batch-size", "4"]
    words += ["--device", "cpu", "--threads", "1", "--data", "text.txt"]
    words += [f"--{name}={value}" for name, value in TINY.items()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    program = subprocess.Popen(words, **pipes)
    first = tmp_path / "runs" / "lab" / "baseline-seed1"
    deadline = time.monotonic() + 60
    while not (first / "metrics.jsonl").exists() or not (first / "metrics.jsonl").stat().st_size:
        assert program.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, "")
    assert "0 of 2 runs are finished; what was under way is saved. Go on: minigpt-tui ablate --resume runs/lab" in err
    assert load_run(first).state["step"] > 0
    assert not (tmp_path / "runs" / "lab" / "results.json").exists()
