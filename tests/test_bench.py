"""The benchmarks' arithmetic, their lock, and one small run of each section that needs no program."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import psutil
import pytest

from minigpt_core import bench
from minigpt_core.bench import sample, step, time_to_loss
from minigpt_core.bench.lock import TimingLock
from minigpt_core.bench.machine import facts, model_name
from minigpt_core.bench.result import Comparison
from minigpt_core.bench.screen import Metrics
from minigpt_core.bench.time_to_loss import MAX_PARAMETERS, OURS, first_at, target
from minigpt_core.bench.timing import alternate, median, ratios
from minigpt_core.bench.workbench import Workbench
from minigpt_core.config import PRESETS, ModelConfig, TrainConfig
from minigpt_core.errors import UsageError, UserError
from minigpt_core.rundir import RunDir
from minigpt_core.status import MetricsRow
from minigpt_core.summary import parameters
from tests.links import until

TINY = {"n_layers": 1, "num_heads": 2, "embed_dim": 16}


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    path = tmp_path_factory.mktemp("bench") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 200, encoding="utf-8")
    return Workbench(data=str(path))


def test_a_ratio_above_one_is_always_good_for_ours() -> None:
    assert ratios([10.0], [20.0], "less") == [2.0]
    assert ratios([30.0], [10.0], "more") == [3.0]
    assert ratios([None, 5.0], [10.0, None], "less") == [0.0, math.inf]
    assert median([1.0, None, 3.0], "less") == 3.0
    assert median([None, None, 3.0], "less") is None


def test_sides_alternate_and_every_second_round_runs_backwards() -> None:
    order: list[tuple[str, int]] = []
    sides = {name: lambda n, name=name: order.append((name, n)) for name in "ab"}
    alternate(sides, 3, lambda line: None)
    assert order == [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]


def test_the_target_is_the_peers_loss_and_on_tiny_shakespeare_no_less_than_published() -> None:
    curve = ((50, 1.0, 2.5), (100, 2.0, 1.8), (150, 3.0, 1.7))
    assert target(curve, published=False) == 1.7
    assert target(curve, published=True) == 1.8857
    assert first_at(curve, 1.8857) == (100, 2.0)
    assert first_at(curve, 1.0) is None
    assert first_at(((50, 1.0, math.nan),), 9.0) is None


@pytest.mark.parametrize("preset", OURS)
def test_our_recipes_keep_to_the_rules(preset: str) -> None:
    recipe = OURS[preset]
    config = ModelConfig(vocab_size=65, **PRESETS[preset] | recipe["model"])
    TrainConfig(**recipe["train"])
    assert config.seq_len == 64
    assert parameters(config) <= MAX_PARAMETERS


def test_only_one_measures_at_a_time(tmp_path: Path) -> None:
    waited: list[str] = []
    entered = threading.Event()
    path = tmp_path / "lock"

    def second() -> None:
        with TimingLock(waited.append, path):
            entered.set()

    with TimingLock(waited.append, path):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
    thread.join(10)
    assert entered.is_set()
    assert len(waited) == 1
    assert "has finished its benchmark" in waited[0]


def test_a_lock_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot open the benchmarks' lock"),
        TimingLock(print, tmp_path / "no" / "lock"),
    ):
        pass


def test_the_machine_is_named() -> None:
    assert model_name("processor: 0\nmodel name\t: Fast CPU\nmodel name: other") == "Fast CPU"
    assert model_name("") == ""
    assert facts()["torch"]


def test_a_step_is_compared_with_the_peers(workbench: Workbench) -> None:
    result = step.measure(workbench, step.Settings(pairs=2, steps=2, warm_up=1, seq_len=16, batch_size=2, **TINY))
    assert all(len(each.ours) == len(each.peer) == 2 for each in result.comparisons)
    assert result.comparisons[0].ratio > 0  # type: ignore[operator]


def test_both_sides_are_trained_until_the_peers_loss(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"model": TINY | {"seq_len": 64}, "train": OURS["modern"]["train"] | {"steps": 80, "batch_size": 4}}
    monkeypatch.setitem(OURS, "modern", recipe)
    settings = time_to_loss.Settings(pairs=1, eval_every=20, peer_steps=40, batch_size=4, **TINY)
    result = time_to_loss.measure(workbench, settings)
    assert result.details["targets"] == [result.details["curves"]["peer"][0][-1][2]]
    steps = result.comparisons[1]
    assert steps.peer[0] in (20, 40)
    assert steps.ours[0] in (20, 40, 60, 80)
    printed = json.loads(json.dumps(result.to_dict(facts())))
    assert printed["ratio"] == pytest.approx(printed["peer"][0] / printed["ours"][0], rel=1e-3)


def test_sampling_is_compared_and_measured_past_the_context(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sample.SHAPES, "tiny", TINY | {"seq_len": 16})
    settings = sample.Settings(pairs=1, tokens=12, shapes=("tiny",), prompts=0)
    result = sample.measure(workbench, settings)
    assert result.comparisons[0].ratio > 0  # type: ignore[operator]
    assert len(result.comparisons) > 1


def test_an_unreached_goal_is_no_number_in_json() -> None:
    found = Comparison(what="x", unit="s", better="less", ours=(None,), peer=(1.0,))
    assert found.to_dict()["ratio"] == 0
    assert msgspec.json.encode(found.to_dict())


def test_an_unknown_section_is_one_line() -> None:
    with pytest.raises(UsageError, match="did you mean 'startup'"):
        bench.check(["startp"])
    ended = subprocess.run(
        [sys.executable, "-m", "minigpt_tui.cli", "bench", "--json"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["terminated", "hung up"])
def test_a_benchmark_that_a_signal_ends_ends_what_it_had_started(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "minigpt_tui", "bench", "ui-tax", "--quick"]
    bench_itself = subprocess.Popen(words, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE)
    until(lambda: psutil.Process(bench_itself.pid).children(recursive=True), 60)
    started = psutil.Process(bench_itself.pid).children(recursive=True)
    bench_itself.send_signal(number)
    assert bench_itself.communicate(timeout=30)[1].count(b"Traceback") == 0
    assert bench_itself.returncode == 128 + number
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert list(tmp_path.glob("minigpt-tui-bench-*")) == []


def test_a_row_of_a_long_run_covers_several_steps_and_all_of_them_count(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    metrics = Metrics(tmp_path)
    assert metrics.steps() == 0
    rest = {
        "epoch": 0,
        "tokens": 0,
        "time": 0,
        "lr": 0.1,
        "train_loss": 1.0,
        "grad_norm": 1.0,
        "clipped": 0,
        "tok_s": 1,
    }
    rows = [MetricsRow(step=step, **rest) for step in (1, 10, 20)]
    RunDir(tmp_path / "run").metrics.write_bytes(msgspec.json.Encoder().encode_lines(rows))
    assert metrics.steps() == 20
