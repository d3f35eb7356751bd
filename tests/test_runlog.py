"""The run directory: names, finding runs, logs that survive a kill and readers that follow them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minigpt_core.errors import UsageError, UserError
from minigpt_core.history import RunHistory
from minigpt_core.rundir import RunDir, find_run, list_runs, new_run_dir
from minigpt_core.runlog import RunLog
from minigpt_core.status import Event, MetricsRow
from minigpt_core.tail import MAX_LINE, Tail, read_events, read_metrics


def row(step: int, train_loss: float = 2.0, **fields: float) -> MetricsRow:
    values = {"epoch": step / 10, "tokens": step * 64, "time": step / 2, "lr": 1e-3} | fields
    return MetricsRow(step=step, train_loss=train_loss, grad_norm=1.0, clipped=0.5, tok_s=1e4, **values)


def event(step: int, message: str = "saved") -> Event:
    return Event(kind="save", step=step, time=1.0, message=message, data={"val_loss": 1.5})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return new_run_dir(tmp_path / "runs", "one", "text")


def make_run(parent: Path, name: str, age: float = 0.0) -> RunDir:
    run = new_run_dir(parent, name, "text")
    run.config.write_text("{}")
    when = time.time() - age
    os.utime(run.config, (when, when))
    return run


# --- making runs ---


def test_an_automatic_name_is_date_time_and_corpus_and_never_taken_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260102-030405")
    names = [new_run_dir(tmp_path, None, "my corpus/é.txt").name for _ in range(3)]
    assert names == [f"20260102-030405-my-corpus-.txt{suffix}" for suffix in ("", "-2", "-3")]


def test_a_name_that_is_taken_offers_resume(run: RunDir) -> None:
    run.config.write_text("mine")
    with pytest.raises(UsageError, match=r"'one' already exists in .*--resume one .*--name"):
        new_run_dir(run.path.parent, "one", "text")
    assert run.config.read_text() == "mine"


UNPRINTABLE = ["a\nb", "a\x1b[2Jb", "a\u202eb", "a\x00", "\ud800"]
RESERVED = ["CON", "nul.txt", "Com1", "lpt9.x.y", "a.", "a ", " a", "-rf", "-", ".deleted-1", ".hidden"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../x", "/x", "a\\b", *UNPRINTABLE, "x" * 101, "x" * 300, "é" * 51, *RESERVED],
)
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name") as caught:
        new_run_dir(tmp_path, name, "text")
    assert str(caught.value).isprintable()
    assert os.listdir(tmp_path) == []


def test_the_longest_name_is_100_bytes(tmp_path: Path) -> None:
    assert new_run_dir(tmp_path, "é" * 50, "text").path.is_dir()


@pytest.mark.parametrize("below", [".", "runs"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot create a run in .*--out") as caught:
        new_run_dir(tmp_path / "file" / below, None, "text")
    assert "\n" not in str(caught.value)


# --- finding runs ---


def test_find_by_name_by_folder_and_by_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tmp_path / "runs"
    run = make_run(parent, "one")
    run.best.write_bytes(b"")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for ref in ("one", str(run.path), str(run.best), "one/best.pt"):
        assert find_run(ref, parent) == run
    assert find_run(str(run.path), elsewhere) == run
    monkeypatch.chdir(run.path)
    for ref in (".", "best.pt", "../one"):
        assert find_run(ref, elsewhere).name == "one"


def test_the_newest_run_comes_first_and_is_the_default(tmp_path: Path) -> None:
    for name, age in (("b", 300.0), ("c", 100.0), ("a", 200.0)):
        make_run(tmp_path, name, age)
    (tmp_path / "not a run").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.name for run in list_runs(tmp_path)] == ["c", "a", "b"]
    RunLog(RunDir(tmp_path / "b")).close()  # its metrics are now the newest file
    assert find_run(None, tmp_path).name == "b"


def test_no_such_run(tmp_path: Path) -> None:
    for ref in (None, "anything"):
        with pytest.raises(UsageError, match=r"no runs in .* yet; start one with minigpt-tui train"):
            find_run(ref, tmp_path / "nowhere")
    make_run(tmp_path, "shakespeare-small")
    with pytest.raises(UsageError, match="did you mean 'shakespeare-small'"):
        find_run("shakespear-smal", tmp_path)
    with pytest.raises(UsageError, match="the newest is 'shakespeare-small'"):
        find_run("zzz", tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "model.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a run directory"):
        find_run(str(tmp_path / "empty"), tmp_path)
    with pytest.raises(UsageError, match="does not lie in a run directory"):
        find_run(str(tmp_path / "empty" / "model.pt"), tmp_path)
    for ref in ("", "x" * 5000, "\x00"):
        with pytest.raises(UsageError):
            find_run(ref, tmp_path)


# --- writing and reading back ---


def test_rows_and_events_make_the_round_trip(run: RunDir) -> None:
    rows = [row(1), row(2, val_loss=1.9), row(3, math.inf), row(4, -math.inf, val_loss=0.1)]
    events = [event(1, 'a "quoted" line\r\n\u2028 ⏎ 中'), event(2)]
    log = RunLog(run)
    for r in rows:
        log.metrics(r)
    for e in events:
        log.event(e)
    log.flush()
    log.close()
    assert read_metrics(run) == rows
    assert read_events(run) == events
    assert b"val_loss" not in run.metrics.read_bytes().splitlines()[0]


def test_a_loss_that_is_no_number_is_not_lost(run: RunDir) -> None:
    log = RunLog(run)
    log.metrics(row(1, math.nan, val_loss=math.nan))
    log.close()
    (back,) = read_metrics(run)
    assert math.isnan(back.train_loss)
    assert back.val_loss is not None
    assert math.isnan(back.val_loss)


def test_lines_are_in_the_file_at_once(run: RunDir) -> None:
    log = RunLog(run)
    log.metrics(row(1))
    assert read_metrics(run) == [row(1)]
    log.close()


def test_half_a_line_left_by_a_kill_swallows_nothing(run: RunDir) -> None:
    run.events.write_bytes(b'{"kind":"info","step":1,"time":1.0,"message":"ok"}\n{"kind":"inf')
    log = RunLog(run)
    log.event(event(2))
    log.close()
    assert [e.step for e in read_events(run)] == [1, 2]


def test_truncate_cuts_metrics_to_the_step_and_keeps_every_event(run: RunDir) -> None:
    log = RunLog(run)
    for step in range(1, 11):
        log.metrics(row(step))
        log.event(event(step))
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 3, "hal')
    log.truncate(6)
    assert [r.step for r in read_metrics(run)] == [1, 2, 3, 4, 5, 6]
    log.metrics(row(7, 9.0))  # the log goes on in the new file
    log.close()
    assert read_metrics(run)[-1] == row(7, 9.0)
    assert len(read_events(run)) == 10
    assert sorted(os.listdir(run.path)) == ["events.jsonl", "metrics.jsonl"]


def test_two_threads_write_whole_lines(run: RunDir) -> None:
    log = RunLog(run)

    def write(first: int) -> None:
        for i in range(300):
            log.event(event(first + i, "x" * 200))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    steps = [e.step for e in read_events(run)]
    assert sorted(steps) == [*range(300), *range(1000, 1300)]
    assert [s for s in steps if s < 1000] == list(range(300))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_rows_that_a_full_disk_refuses_wait_in_order(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt_core.runlog.RETRY_SECONDS", 0.0)
    run.metrics.symlink_to("/dev/full")
    log = RunLog(run)
    for step in (1, 2, 3):
        log.metrics(row(step))
    with pytest.raises(UserError, match=r"cannot write .*metrics.jsonl: No space left on device"):
        log.flush()
    assert log.failure is not None
    run.metrics.unlink()  # there is room again
    run.metrics.touch()
    log.metrics(row(4))
    log.flush()
    assert log.failure is None
    assert read_metrics(run) == [row(step) for step in (1, 2, 3, 4)]
    assert [e.kind for e in read_events(run)] == ["warning", "info"]  # said once, however often it was tried
    log.close()


def test_rows_survive_a_folder_that_vanishes_and_comes_back(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt_core.runlog.RETRY_SECONDS", 0.0)
    log = RunLog(run)
    log.metrics(row(1))
    run.metrics.unlink()
    run.events.unlink()
    away = run.path.rename(run.path.with_name("away"))
    log.metrics(row(2))
    assert "No such file" in (log.failure or "")
    away.rename(run.path)
    log.metrics(row(3))
    assert log.failure is None
    assert read_metrics(run) == [row(2), row(3)]
    log.close()


def test_a_disk_that_fills_up_within_a_line_leaves_no_half_of_it(run: RunDir) -> None:
    code = f"""
import resource
from pathlib import Path
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.status import Event
log = RunLog(RunDir(Path({str(run.path)!r})))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for step in range(100):
    log.event(Event(kind="info", step=step, time=0.0, message="x" * 100))
    if log.failure:
        print(step, log.failure)
        break
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    failed = int(output.split()[0])
    assert "File too large" in output
    assert run.events.read_bytes().endswith(b"\n")
    assert [e.step for e in read_events(run)] == list(range(failed))


# --- following ---


def test_a_tail_waits_for_the_rest_of_a_line(run: RunDir) -> None:
    tail = Tail(run.metrics, MetricsRow)
    assert tail.read() == []  # no file yet
    log = RunLog(run)
    log.metrics(row(1))
    log.metrics(row(2))
    whole = run.metrics.read_bytes()
    first_line = whole.index(b"\n") + 1
    for cut in (first_line - 1, first_line + 1, len(whole) - 1):
        run.metrics.write_bytes(whole[:cut])
        fresh = Tail(run.metrics, MetricsRow)
        before = fresh.read()
        assert len(before) == (0 if cut < first_line else 1)
        with run.metrics.open("ab") as file:
            file.write(whole[cut:])
        assert before + fresh.read() == [row(1), row(2)]
        assert fresh.read() == []
        assert (fresh.generation, fresh.skipped) == (0, 0)
        fresh.close()
    assert tail.read() == [row(1), row(2)]
    tail.close()
    log.close()


def test_a_tail_notices_a_resume(run: RunDir) -> None:
    log, tail = RunLog(run), Tail(run.metrics, MetricsRow)
    for step in (1, 2, 3):
        log.metrics(row(step))
    assert len(tail.read()) == 3
    log.truncate(2)
    for step in (3, 4, 5):  # longer than before: only the inode tells
        log.metrics(row(step, 7.0))
    assert [(r.step, r.train_loss) for r in tail.read()] == [(1, 2.0), (2, 2.0), (3, 7.0), (4, 7.0), (5, 7.0)]
    assert tail.generation == 1
    tail.close()
    log.close()


def test_a_tail_notices_a_file_cut_in_place(run: RunDir) -> None:
    log, tail = RunLog(run), Tail(run.metrics, MetricsRow)
    for step in (1, 2, 3):
        log.metrics(row(step))
    tail.read()
    os.truncate(run.metrics, 0)
    log.metrics(row(9))
    assert tail.read() == [row(9)]
    assert tail.generation == 1
    run.metrics.unlink()
    assert tail.read() == []
    tail.close()
    log.close()


def test_damaged_lines_are_skipped_and_counted(run: RunDir) -> None:
    log, tail = RunLog(run), Tail(run.metrics, MetricsRow)
    log.metrics(row(1))
    with run.metrics.open("ab") as file:
        file.write(b'\xff\xfe\n{"step": "x"}\n[]\n{"step": 1}\nnull\n\n')
    log.metrics(row(2))
    assert tail.read() == [row(1), row(2)]
    assert tail.skipped == 6
    tail.close()
    log.close()


def test_lines_of_a_later_version_are_refused_by_name(run: RunDir) -> None:
    log = RunLog(run)
    log.metrics(row(1))
    before = run.metrics.read_bytes()
    log.metrics(row(2))
    later = before + run.metrics.read_bytes()[len(before) :].replace(b'"format":1', b'"format":2,"from_the_future":[1]')
    run.metrics.write_bytes(later)
    for refused in (lambda: read_metrics(run), lambda: log.truncate(1)):
        with pytest.raises(UserError, match=r"metrics\.jsonl' has lines of format 2, and this version .* up to 1"):
            refused()
    assert run.metrics.read_bytes() == later
    log.close()
    history = RunHistory(run)
    for _ in range(2):
        history.refresh()
    assert history.last == row(1)
    assert [(event.kind, "format 2" in event.message) for event in history.events] == [("error", True)]
    history.close()


def test_unknown_fields_and_absurd_numbers_are_left_out(run: RunDir) -> None:
    log, tail = RunLog(run), Tail(run.metrics, MetricsRow)
    log.metrics(row(1))
    log.close()
    good = run.metrics.read_bytes()
    for old, new in ((b'"step":1', b'"step":1,"x":1'), (b'"step":1', b'"step":-1'), (b'"step":1', b'"step":1e40')):
        assert old in good
        run.metrics.write_bytes(good + good.replace(old, new))
        assert read_metrics(run) == [row(1)]
    run.metrics.write_bytes(good + b"x" * (2 * MAX_LINE + 5) + b"\n" + good)
    assert tail.read() == [row(1)] * 2
    assert tail.skipped == 1
    tail.close()


def test_reading_a_run_loads_no_torch() -> None:
    code = (
        "import sys, minigpt_core.runlog, minigpt_core.series, minigpt_core.plots; "
        "assert not {'torch', 'matplotlib', 'textual', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
