"""`runs export`: every row arrives, by a name that says its unit, in each format; nothing is overwritten unasked."""

import csv
import io
import json
import math
import sys

import pytest

from minigpt_core.metrics_export import COLUMNS, EVENT_FILE, TAGS
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.status import MetricsRow
from minigpt_core.stored import read_config
from minigpt_core.tail import read_events, read_metrics
from tests.made_runs import caller, make_run, one_line


@pytest.fixture(scope="module")
def place(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("place")
    (folder / "text.txt").write_text(text[:3000], encoding="utf-8")
    path = make_run(folder / "text.txt", folder / "runs", "run")
    log = RunLog(RunDir(path))  # one row more, of a run that diverged
    last = read_metrics(RunDir(path))[-1]
    log.metrics(MetricsRow(**{name: getattr(last, name) for name in COLUMNS.values()} | DIVERGED))
    log.close()
    return folder


DIVERGED = {"step": 21, "train_loss": math.nan, "val_loss": None, "grad_norm": math.inf}


@pytest.fixture
def call(monkeypatch, capsys, place):
    return caller(monkeypatch, capsys, place)


@pytest.fixture
def rows(place):
    return read_metrics(RunDir(place / "runs" / "run"))


def same(told, value):
    return told == value or (math.isnan(told) and math.isnan(value))


def test_csv_in_a_pipe_has_every_number_exactly(call, rows):
    code, out, err = call("runs", "export")
    assert (code, err) == (0, "")
    told = list(csv.DictReader(io.StringIO(out, newline="")))
    assert list(told[0]) == list(COLUMNS)
    assert len(told) == len(rows) == 21
    for line, row in zip(told, rows, strict=True):
        for column, field in COLUMNS.items():
            value = getattr(row, field)
            assert line[column] == "" if value is None else same(float(line[column]), value), (column, row)
    assert sum(line["val_loss_nats"] != "" for line in told) == 2
    assert "\r" not in out


def test_help_tells_every_column(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = call("runs", "export", "--help")
    words = set(out.replace(",", " ").replace(".", " ").split())
    assert set(COLUMNS) <= words


def test_json_has_rows_configuration_and_events(call, place, rows):
    code, out, _ = call("runs", "export", "run", "--format", "json")
    assert code == 0
    told = json.loads(out, parse_constant=pytest.fail)  # NaN is no JSON
    run = RunDir(place / "runs" / "run")
    assert told["run"] == "run"
    assert told["config"] == read_config(run)
    assert [event["message"] for event in told["events"]] == [event.message for event in read_events(run)]
    assert [line["step"] for line in told["metrics"]] == [row.step for row in rows]
    assert [line["train_loss_nats"] for line in told["metrics"][:-1]] == [row.train_loss for row in rows[:-1]]
    assert told["metrics"][-1]["train_loss_nats"] == "nan"
    assert told["metrics"][-1]["grad_norm"] == "inf"


@pytest.mark.parametrize("format", ["csv", "json"])
def test_a_file_is_written_once(call, place, format):
    path = place / f"metrics.{format}"
    code, out, _ = call("runs", "export", "--format", format, "--output", path.name)
    assert (code, out) == (0, f"{path.name}\n")
    content = path.read_text(encoding="utf-8")
    assert content == call("runs", "export", "--format", format)[1]
    path.write_text("mine")
    assert "--force" in one_line(call("runs", "export", "--format", format, "--output", path.name))
    assert path.read_text() == "mine"
    assert call("runs", "export", "--format", format, "--output", path.name, "--force")[0] == 0
    assert path.read_text(encoding="utf-8") == content


def test_what_cannot_be_is_one_line(call, place):
    assert "did you mean 'csv'?" in one_line(call("runs", "export", "--format", "cvs"))
    assert "no run 'rum'" in one_line(call("runs", "export", "rum"))
    assert "cannot write 'none/x.csv'" in one_line(call("runs", "export", "--output", "none/x.csv"))
    assert "cannot write 'text.txt/" in one_line(
        call("runs", "export", "--format", "tensorboard", "--output", "text.txt")
    )


def test_a_run_that_trains_and_has_half_a_line_is_exported(call, place, text):
    path = make_run(place / "text.txt", place / "live", "live", steps=3)
    with open(path / "metrics.jsonl", "ab") as file:
        file.write(b'{"format":1,"step":4,')
    (path / "model_checkpoint.pt").unlink()
    code, out, _ = call("runs", "export", "live", "--out", "live")
    assert code == 0
    assert len(out.splitlines()) == 1 + 3
    (path / "metrics.jsonl").unlink()  # it has only just begun
    assert call("runs", "export", "live", "--out", "live")[1].splitlines() == [",".join(COLUMNS)]


def test_tensorboard_reads_back_every_value(call, place, rows):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code, out, _ = call("runs", "export", "--format", "tensorboard")
    assert code == 0
    folder = place / "runs" / "run" / "tensorboard"
    assert out.strip().endswith(f"tensorboard/{EVENT_FILE}")
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    assert set(found.Tags()["scalars"]) == set(TAGS)
    assert [event.step for event in found.Scalars("loss/validation")] == [10, 20]
    assert len(found.Scalars("loss/train")) == 21
    created = read_config(RunDir(folder.parent))["created"]
    for tag, field in TAGS.items():
        want = [row for row in rows if getattr(row, field) is not None]
        told = found.Scalars(tag)
        assert [event.step for event in told] == [row.step for row in want]
        assert [event.value for event in told] == pytest.approx(
            [getattr(row, field) for row in want], rel=1e-6, nan_ok=True
        )
        assert [event.wall_time - created for event in told] == pytest.approx([row.time for row in want], abs=1e-3)
    before = (folder / EVENT_FILE).read_bytes()
    assert "--force" in one_line(call("runs", "export", "--format", "tensorboard"))
    assert call("runs", "export", "--format", "tensorboard", "--force")[0] == 0
    assert (folder / EVENT_FILE).read_bytes() == before
    assert len(list(folder.iterdir())) == 1


def test_without_the_package_one_line_says_how_to_get_it(call, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    said = one_line(call("runs", "export", "--format", "tensorboard", "--output", str(tmp_path / "logs")))
    assert "pip install 'minigpt-tui[tensorboard]'" in said
    assert not (tmp_path / "logs").exists()
