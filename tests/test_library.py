"""Runs summed up without reading them whole, laid over one another, and deleted."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_core import summary
from minigpt_core.config import ABLATIONS, ModelConfig, TrainConfig
from minigpt_core.errors import UserError
from minigpt_core.library import Library, delete_run
from minigpt_core.lock import RunLock
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.sizes import count_parameters
from minigpt_core.status import Event, MetricsRow
from minigpt_core.stored import write_config
from minigpt_core.summary import CURVE_POINTS, Marked, Reader
from minigpt_core.tail import read_metrics


def row(step: int, loss: float = 2.0, val_loss: float | None = None) -> MetricsRow:
    return MetricsRow(
        step=step,
        epoch=step / 500,
        tokens=step * 768,
        time=step / 20,
        lr=3e-3,
        train_loss=loss,
        grad_norm=0.5,
        clipped=0.0,
        tok_s=15_000.0,
        val_loss=val_loss,
    )


def config(**train: Any) -> dict[str, Any]:
    return {
        "model": ModelConfig(vocab_size=65).to_dict(),
        "train": TrainConfig(steps=5000, **train).to_dict(),
        "corpus": {"name": "sentences", "source": "sentences.txt", "sha256": "", "n_bytes": 20_000},
        "devices": {"device": "cpu", "precision": "fp32", "reasons": {}},
        "decided": {"steps": 5000},
    }


def loss_at(step: int) -> float:
    return 1.5 + 3 * math.exp(-step / 800)


def write_run(parent: Path, name: str, steps: int = 100, every: int = 25, done: int | None = None) -> RunDir:
    """A run that trained for so many steps and validated every so many; `done` is the step at which it ended."""
    run = RunDir(parent / name)
    run.path.mkdir(parents=True)
    write_config(run, config())
    log = RunLog(run)
    for step in range(1, steps + 1):
        log.metrics(row(step, loss_at(step), loss_at(step) + 0.1 if step % every == 0 else None))
    if done is not None:
        log.event(Event(kind="done", step=done, time=0.0, message="final"))
        log.event(Event(kind="info", step=done, time=0.0, message="wrote pictures"))
    log.close()
    return run


def wait(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


# --- a summary ---


def test_a_summary_says_what_the_whole_log_says(tmp_path):
    run = write_run(tmp_path, "long", steps=5000, every=250, done=5000)
    rows = read_metrics(run)
    found = Reader(run).read()
    losses = [each.val_loss for each in rows if each.val_loss is not None]
    assert (found.name, found.state, found.problem) == ("long", "done", "")
    assert found.last == rows[-1]
    assert (found.val_loss, found.best_val_loss) == (losses[-1], min(losses))
    assert found.total_steps == 5000
    assert found.corpus == "sentences"
    assert found.settings["learning_rate"] == "0.003"
    assert found.n_bytes == sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    assert len(found.curve) == CURVE_POINTS
    part = len(rows) / CURVE_POINTS
    for i, mean in enumerate(found.curve):
        whole = [each.train_loss for each in rows[round(i * part) : round((i + 1) * part)]]
        assert mean == pytest.approx(sum(whole) / len(whole), abs=0.05)


def test_of_a_long_log_few_rows_are_decoded_and_none_twice(tmp_path, monkeypatch):
    decoded = []
    original = summary._decoded
    monkeypatch.setattr(summary, "_decoded", lambda *args: decoded.append(1) or original(*args))
    reader = Reader(write_run(tmp_path, "long", steps=5000, every=500))
    first = reader.read()
    assert 0 < len(decoded) < 200
    decoded.clear()
    assert reader.read() is first
    assert not decoded
    RunLog(reader.run).metrics(row(5001, 1.0, 0.5))
    assert reader.read().best_val_loss == 0.5
    assert len(decoded) < 200


@given(st.lists(st.none() | st.floats(0, 9), max_size=30), st.lists(st.integers(0, 4000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_marked_lines_are_found_once_however_the_log_grows(tmp_path_factory, losses, cuts):
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    lines = [{"step": i} | ({} if loss is None else {"val_loss": loss}) for i, loss in enumerate(losses)]
    common = {"epoch": 0, "tokens": 0, "time": 0, "lr": 0, "train_loss": 1, "grad_norm": 0, "clipped": 0, "tok_s": 0}
    data = b"".join(json.dumps(common | line, separators=(",", ":")).encode() + b"\n" for line in lines)
    marked = Marked(path, b'"val_loss":', MetricsRow)
    for cut in [*sorted(cuts), len(data)]:  # a writer's buffer may end anywhere
        path.write_bytes(data[:cut])
        marked.read()
    assert [found.val_loss for found in marked.found] == [loss for loss in losses if loss is not None]


def test_a_log_that_a_resume_cut_is_read_anew(tmp_path):
    reader = Reader(write_run(tmp_path, "run", steps=100, every=25))
    assert reader.read().best_val_loss == pytest.approx(loss_at(100) + 0.1)
    log = RunLog(reader.run)
    log.truncate(60)
    log.close()
    found = reader.read()
    assert found.step == 60
    assert found.best_val_loss == pytest.approx(loss_at(50) + 0.1)


def test_what_state_a_run_is_in(tmp_path):
    assert Reader(write_run(tmp_path, "stopped")).read().state == "stopped"
    assert Reader(write_run(tmp_path, "done", done=100)).read().state == "done"
    assert Reader(write_run(tmp_path, "went-on", done=50)).read().state == "stopped"
    assert Reader(write_run(tmp_path, "empty", steps=0)).read().state == "empty"
    reader = Reader(write_run(tmp_path, "training"))
    lock = RunLock(reader.run)
    assert reader.read().state == "training"
    lock.release()
    assert reader.read().state == "stopped"


def test_a_run_that_is_being_made_is_not_called_broken(tmp_path):
    run = RunDir(tmp_path / "new")
    run.path.mkdir()
    run.checkpoint.write_bytes(b"")
    lock = RunLock(run)
    found = Reader(run).read()
    assert (found.state, found.problem) == ("training", "")
    lock.release()


def test_half_a_last_line_and_losses_that_are_no_numbers(tmp_path):
    run = write_run(tmp_path, "run", steps=10, every=100)
    log = RunLog(run)
    log.metrics(row(11, math.nan, math.nan))
    log.metrics(row(12, 2.5, 2.25))
    log.metrics(row(13, math.inf, math.inf))
    log.close()
    with open(run.metrics, "ab") as file:
        file.write(b'{"step":14,"ep')
    found = Reader(run).read()
    assert found.step == 13
    assert (found.val_loss, found.best_val_loss) == (math.inf, 2.25)
    assert math.isnan(found.curve[10])
    assert found.curve[11] == 2.5


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[RunDir], object]] = {
    "no configuration": lambda run: run.config.unlink(),
    "half a configuration": lambda run: run.config.write_text(run.config.read_text()[:200]),
    "another program's": lambda run: run.config.write_text('{"name": "left-pad", "version": "1.0.0"}'),
    "a list": lambda run: run.config.write_text("[1, 2]"),
    "an impossible model": lambda run: run.config.write_text(json.dumps(config() | {"model": {"vocab_size": "many"}})),
    "no metrics but noise": lambda run: run.metrics.write_bytes(bytes(range(256)) * 600),
    "noise without a line": lambda run: run.metrics.write_bytes(b"\xff" * 100_000),
    "a folder for a file": lambda run: _as_folder(run.config),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_listed_as_broken_in_one_line(tmp_path, damage):
    write_run(tmp_path, "good", done=100)
    DAMAGE[damage](write_run(tmp_path, "bad"))
    found = {each.name: each for each in Library(tmp_path).read()}
    assert found["good"].state == "done"
    assert found["bad"].state == "broken"
    assert found["bad"].problem
    assert "\n" not in found["bad"].problem


def test_parameters_are_counted_as_the_model_has_them():
    sizes = {"vocab_size": 11, "seq_len": 8, "n_layers": 3, "num_heads": 2, "embed_dim": 16}
    assert ModelConfig(vocab_size=65).n_layers == 4
    assert summary.parameters(ModelConfig(vocab_size=65)) == 809_856
    for changes in ({}, {"ff_mult": 2}, {"tied_head": False}, {"n_layers": 1}, *ABLATIONS.values()):
        model = ModelConfig(**(sizes | changes))
        assert summary.parameters(model) == count_parameters(model), changes


# --- the library ---


def names(library: Library) -> list[str]:
    return [each.name for each in library.summaries()]


def test_the_library_follows_its_folder(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        run = write_run(tmp_path, name)
        for path in (run.config, run.metrics):
            os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "not a run").mkdir()
    (tmp_path / "a file").write_text("")
    library = Library(tmp_path)
    assert not library.ready
    assert library.summaries() == ()
    library.refresh()
    wait(lambda: all(each.state != "unread" for each in library.summaries()) and library.ready)
    assert names(library) == ["new", "middle", "old"]
    assert {each.state for each in library.summaries()} == {"stopped"}
    delete_run(RunDir(tmp_path / "middle"))
    write_run(tmp_path, "newest")
    library.refresh()
    wait(lambda: names(library) == ["newest", "new", "old"])
    library.close()
    assert library._thread is not None
    library._thread.join(5)
    assert not library._thread.is_alive()


def test_names_are_told_before_their_runs_are_read(tmp_path, monkeypatch):
    write_run(tmp_path, "run")
    library = Library(tmp_path)
    seen = []
    original = Reader.read
    monkeypatch.setattr(Reader, "read", lambda reader: seen.append(library.summaries()) or original(reader))
    assert library.read()[0].state == "stopped"
    assert [(each.name, each.state, each.last) for each in seen[0]] == [("run", "unread", None)]


def test_a_folder_that_is_not_there_is_empty_and_one_that_is_none_says_so(tmp_path):
    library = Library(tmp_path / "nowhere")
    library.refresh()
    wait(lambda: library.ready)
    assert (library.summaries(), library.problem) == ((), "")
    library.close()
    (tmp_path / "file").write_text("")
    library = Library(tmp_path / "file")
    library.refresh()
    wait(lambda: library.problem)
    assert "cannot list the runs" in library.problem
    library.close()
    library.refresh()  # whoever still polls does no harm


def test_an_overlay_is_loaded_and_followed(tmp_path):
    run = write_run(tmp_path, "run", steps=50)
    library = Library(tmp_path)
    overlay = library.overlay("run")
    assert overlay is library.overlay("run")
    assert library.overlay("nothing") is None
    wait(lambda: overlay.last_step == 50)
    assert overlay.series("train_loss").mean == pytest.approx([loss_at(step) for step in range(1, 51)])
    assert list(overlay.series("val_loss", 30, None).step) == [50]
    log = RunLog(run)
    log.metrics(row(51, 0.25))
    log.close()
    wait(lambda: overlay.last_step == 51)
    overlay.smooth(0.0)
    assert overlay.series("smoothed").mean[-1] == 0.25
    library.close()
    assert library.overlay("other") is None


# --- deleting ---


def test_a_deleted_run_is_gone_and_nothing_else(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    run, other = write_run(tmp_path, "run"), write_run(tmp_path, "other")
    (run.path / "link").symlink_to(precious)
    (run.path / "assets").mkdir()
    (run.path / "assets" / "loss.png").write_bytes(b"x")
    delete_run(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "precious"]
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert len(read_metrics(other)) == 100


def test_what_is_no_run_of_ours_is_never_deleted(tmp_path):
    run = write_run(tmp_path, "run")
    link = tmp_path / "link"
    link.symlink_to(run.path)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"name": "left-pad"}')
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, why in ((link, "is a link"), (foreign, "by hand"), (empty, "by hand"), (tmp_path / "no", "by hand")):
        with pytest.raises(UserError, match=why):
            delete_run(RunDir(path))
    assert {path.name for path in tmp_path.iterdir()} == {"run", "link", "foreign", "empty"}
    assert run.is_run
    run.config.write_text("{")
    delete_run(run)  # damaged, but its metrics tell what it is
    assert not run.path.exists()


def test_a_run_that_trains_is_not_deleted(tmp_path):
    run = write_run(tmp_path, "run")
    lock = RunLock(run)
    with pytest.raises(UserError, match="being trained already"):
        delete_run(run)
    lock.release()
    assert run.is_run


def test_what_is_left_of_a_run_that_could_not_be_deleted_whole_is_no_longer_listed(tmp_path, monkeypatch):
    run = write_run(tmp_path, "run")

    def refuse(path: Path) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("minigpt_core.library.shutil.rmtree", refuse)
    with pytest.raises(UserError, match=r"Permission denied; what is left of it is .*\.deleted-"):
        delete_run(run)
    assert Library(tmp_path).read() == ()
