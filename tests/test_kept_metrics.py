"""A long run's metrics kept as numbers: the same history as its log gives, up to rounding, and never another log's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minigpt_core import history as history_module
from minigpt_core.history import RunHistory
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.series import METRICS, Series
from minigpt_core.status import Envelope, MetricsRow


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MANY_ROWS", 100)


def row(step: int) -> MetricsRow:
    loss = math.nan if step % 97 == 0 else 4 - step / 1000
    val_loss = (math.inf if step == 300 else 4.5 - step / 1000) if step % 100 == 0 else None
    return MetricsRow(
        step=step,
        epoch=step / 50,
        tokens=768 * step,
        time=step / 10,
        lr=1e-3,
        train_loss=loss,
        grad_norm=1.5,
        clipped=0.25,
        tok_s=1e4,
        val_loss=val_loss,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    write(run, range(1, 801))
    return run


def write(run: RunDir, steps: range) -> None:
    log = RunLog(run)
    for step in steps:
        log.metrics(row(step))
    log.close()


def opened(run: RunDir) -> RunHistory:
    history = RunHistory(run)
    history.refresh()
    history.close()
    return history


def by_the_log(run: RunDir) -> RunHistory:
    run.kept_metrics.unlink(missing_ok=True)
    return opened(run)


def assert_same(history: RunHistory, expected: RunHistory) -> None:
    for metric in METRICS:
        ours, theirs = history.series.envelope(metric), expected.series.envelope(metric)
        for part in Envelope.__slots__:
            np.testing.assert_allclose(getattr(ours, part), getattr(theirs, part), rtol=1e-12, err_msg=metric)
    assert repr(history.last) == repr(expected.last)  # a loss may be no number


def count_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each reading of a log brings, from now on."""
    counts: list[int] = []
    extend = Series.extend
    monkeypatch.setattr(Series, "extend", lambda self, rows: (counts.append(len(rows)), extend(self, rows))[1])
    return counts


def test_a_long_run_opens_from_its_numbers_and_is_followed(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_the_log(run)
    counts = count_rows(monkeypatch)
    assert_same(opened(run), expected)
    history = RunHistory(run)
    history.refresh()
    write(run, range(801, 811))
    history.refresh()
    history.close()
    assert counts == [0, 0, 10]
    assert_same(history, by_the_log(run))


def test_a_short_run_keeps_nothing_beside_its_log(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write(run, range(1, 50))
    opened(run)
    assert not run.kept_metrics.exists()


def resume(run: RunDir) -> None:
    log = RunLog(run)
    log.truncate(600)
    log.close()


def resume_and_go_on(run: RunDir) -> None:
    resume(run)
    log = RunLog(run)
    for step in range(601, 900):
        log.metrics(MetricsRow(**{name: getattr(row(step), name) for name in row(1).__struct_fields__} | {"lr": 5e-4}))
    log.close()


def change_in_place(run: RunDir) -> None:
    data = run.metrics.read_bytes()
    run.metrics.write_bytes(data[:-30] + data[-30:].replace(b"0", b"1"))


@pytest.mark.parametrize("change", [resume, resume_and_go_on, change_in_place])
def test_another_log_is_read_itself(run: RunDir, change: Callable[[RunDir], None]) -> None:
    opened(run)
    change(run)
    history = opened(run)
    assert_same(history, by_the_log(run))


def test_a_resume_while_it_is_followed_starts_over(run: RunDir) -> None:
    opened(run)
    history = RunHistory(run)
    history.refresh()
    resume(run)
    history.refresh()
    history.close()
    assert_same(history, by_the_log(run))


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_passed_over_or_harmless(run: RunDir, seed: int) -> None:
    expected = opened(run)
    data, rng = bytearray(run.kept_metrics.read_bytes()), np.random.default_rng(seed)
    for place in rng.integers(0, 60, 3) if seed % 2 else rng.integers(0, len(data), 3):
        data[place] = rng.integers(256)
    run.kept_metrics.write_bytes(data[: rng.integers(1, len(data))] if seed % 4 == 0 else data)
    history = opened(run)
    assert history.last is not None
    if seed % 2 or seed % 4 == 0:  # its head, or a piece of it
        assert history.last.step == expected.last.step  # type: ignore[union-attr]


@pytest.mark.parametrize("content", [b"", b"\x80", b"x" * 50])
def test_a_foreign_file_is_passed_over(run: RunDir, content: bytes) -> None:
    expected = by_the_log(run)
    run.kept_metrics.write_bytes(content)
    assert_same(opened(run), expected)


def test_a_folder_that_is_not_ours_to_write_is_read(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("minigpt_core.kept_metrics.write_atomic", refuse)
    assert opened(run).last == row(800)
    assert not run.kept_metrics.exists()
