"""`runs compare`: true numbers, only the settings that differ, curves, and texts that each run writes for itself."""

import json
import re

import numpy as np
import pytest

from minigpt_core.checkpoint import load_run
from minigpt_core.comparison import compare
from minigpt_core.rundir import RunDir
from minigpt_core.sampler import sample
from minigpt_core.series import Smoother
from minigpt_core.stored import read_config, write_config
from minigpt_core.tail import read_metrics
from minigpt_tui import comparing, plain_chart
from tests.made_runs import caller, make_run, one_line


@pytest.fixture(scope="module")
def place(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("place")
    (folder / "text.txt").write_text(text[:3000], encoding="utf-8")
    (folder / "other.txt").write_text(text[:3000].upper() + "\x1b[2J", encoding="utf-8")
    runs = folder / "runs"
    make_run(folder / "text.txt", runs, "one")
    make_run(folder / "text.txt", runs, "two", {"n_layers": 1}, seed=2, steps=30)
    make_run(folder / "other.txt", runs, "loud", {"swap_qk": True})
    return folder


@pytest.fixture
def call(monkeypatch, capsys, place):
    return caller(monkeypatch, capsys, place)


def table(out):
    """The rows of the first table: label to cells."""
    lines = out.split("\n\nAll ")[0].splitlines()
    return {cells[0]: cells[1:] for line in lines if (cells := re.split(r" {2,}", line.strip()))[1:]}


def test_numbers_are_those_of_the_runs_and_settings_only_those_that_differ(call, place):
    code, out, err = call("runs", "compare", "one", "two", "--no-samples")
    assert (code, err) == (0, "")
    told = table(out)
    for i, name in enumerate(("one", "two")):
        run, rows = load_run(place / "runs" / name), read_metrics(RunDir(place / "runs" / name))
        smoother = Smoother()
        for row in rows:
            smoother.update(row.train_loss)
        assert told["step"][i] == f"{rows[-1].step}/{rows[-1].step}"
        assert told["train loss"][i] == f"{smoother.value:.4f}"
        assert told["last val loss"][i] == f"{rows[-1].val_loss:.4f}"
        assert told["best val loss"][i] == f"{run.state['best_val_loss']:.4f}"
        assert told["final val loss"][i] == f"{run.state['final_val_loss']:.4f}"
        assert told["parameters"][i] == f"{run.model.num_parameters():,}"
    settings = {label: cells for label, cells in told.items() if label.startswith("--")}
    assert settings == {"--n-layers": ["2", "1"], "--steps": ["20", "30"], "--seed": ["1337", "2"]}
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_runs_that_are_the_same_but_for_chance_say_so(call, place):
    make_run(place / "text.txt", place / "twins", "one")
    code, out, _ = call("runs", "compare", "one", "twins/one", "--no-samples")
    assert code == 0
    assert "All settings are the same." in out
    assert out.splitlines()[0].split() == ["one", "twins/one"]  # told apart by their paths


def test_the_curves_are_drawn_with_a_letter_for_each_run(call):
    _, out, _ = call("runs", "compare", "one", "two", "--no-samples")
    assert "validation loss, nats a token" in out
    assert "a one" in out
    assert "b two" in out
    assert out.count("bb") > 2
    assert "\x1b" not in out


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_nothing_is_wider_than_the_terminal_however_many_runs(call, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    names = ["one", "two", "loud", "runs/one/best.pt", "runs/two/best.pt", "runs/loud/best.pt"]
    code, out, _ = call("runs", "compare", *names, "--no-samples")
    assert code == 0
    assert max(map(len, out.splitlines())) <= columns
    assert out.count("parameters") == out.count("--n-layers") >= 1
    assert sum(len(re.findall(r"\d/\d\d", line)) for line in out.splitlines() if line.startswith("step")) == 6
    assert (out.count("parameters") > 1) == (columns < 200)


def test_samples_are_what_each_run_writes_after_the_same_words(call, place):
    words = ["--prompt", "the cat", "--seed", "5", "--max-new-tokens", "12"]
    code, out, _ = call("runs", "compare", "one", "two", "--json", *words)
    assert code == 0
    told = json.loads(out)
    for row in told["runs"]:
        run = load_run(place / "runs" / row["run"])
        assert row["sample"]["text"] == sample(run.model, run.tokenizer, "the cat", seed=5, max_new_tokens=12)
        assert row["settings"]["n_layers"] == run.model.config.n_layers
    assert told["differences"] == {"n_layers": [2, 1], "steps": [20, 30], "seed": [1337, 2]}
    _, out, _ = call("runs", "compare", "one", "two", *words)
    assert f"--- one ---\nthe cat{told['runs'][0]['sample']['text']}" in out


def test_on_a_terminal_texts_stand_side_by_side_and_cannot_steer_it(place, monkeypatch, capsys):
    found = compare(["one", "loud"], place / "runs")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    settings = comparing.SampleConfig(seed=1)
    for columns, beside in ((80, True), (40, False)):
        monkeypatch.setenv("COLUMNS", str(columns))
        comparing.print_samples(found, "so ", [("left \x1b[2J" * 9, ""), ("right " * 9, "")], settings)
        out = capsys.readouterr().out
        plain = re.sub(r"\x1b\[[\d;]*m", "", out)
        assert "\x1b" not in plain
        assert not beside or max(map(len, plain.splitlines())) <= columns
        assert any("left" in line and "right" in line for line in plain.splitlines()) == beside


def test_different_vocabularies_compare_in_bits_a_byte_where_that_is_known(call, place):
    _, out, err = call("runs", "compare", "one", "loud", "--max-new-tokens", "3", "--prompt", "é")
    assert "The vocabularies differ: compare in bits a byte." in out
    assert "best, bits a byte" in out
    assert "loud: not in this model's vocabulary" in err
    assert table(out)["--ablate"] == ["—", "swap-qk"]
    assert "text (" in table(out)["--data"][0]

    one = compare(["one", "loud"], place / "runs").runs[0]
    loss, scale = one.summary.best_val_loss, one.tokens_per_byte / np.log(2)
    assert 0.5 < one.tokens_per_byte <= 1
    assert one.bits_per_byte(loss) == pytest.approx(loss * scale)
    drawn, raw = one.curve("val_loss", 50, per_byte=True), one.curve("val_loss", 50)
    assert drawn.mean == pytest.approx(raw.mean * scale)

    path = RunDir(place / "runs" / "one")  # as runs were before they noted it
    before = path.config.read_bytes()
    write_config(path, {name: value for name, value in read_config(path).items() if name != "tokens_per_byte"})
    found = compare(["one", "loud"], place / "runs")
    assert not found.per_byte
    assert comparing.notes(found, True)[-1] == "The vocabularies differ, so their losses a token do not compare."
    path.config.write_bytes(before)


def test_the_picture_is_written_once(call, place):
    code, out, _ = call("runs", "compare", "one", "two", "--no-samples", "--output", "curves.png")
    assert code == 0
    assert "picture: curves.png" in out
    assert (place / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = ("runs", "compare", "one", "two", "--no-samples", "--output", "curves.png")
    assert "--force" in one_line(call(*again))
    assert call(*again, "--force")[0] == 0
    assert "cannot write" in one_line(call(*again[:-1], "none/curves.png"))


def test_a_run_that_cannot_be_compared_is_one_line(call, place, tmp_path):
    assert "two runs or more" in one_line(call("runs", "compare", "one"))
    assert "'one' is given twice" in one_line(call("runs", "compare", "one", "one"))
    assert "no run 'tow' in runs; did you mean 'two'?" in one_line(call("runs", "compare", "one", "tow"))
    broken = make_run(place / "text.txt", tmp_path, "broken", steps=1)
    (broken / "config.json").write_text("{}")
    assert "config.json' is no run's configuration" in one_line(call("runs", "compare", "one", str(broken)))


def test_a_run_without_a_checkpoint_says_so_where_its_text_would_be(call, place, tmp_path):
    live = make_run(place / "text.txt", tmp_path, "live", steps=2)
    (live / "model_checkpoint.pt").unlink()
    (live / "metrics.jsonl").write_bytes(b"")
    code, out, _ = call("runs", "compare", "one", str(live), "--max-new-tokens", "3")
    assert code == 0
    assert re.search(r"--- live ---\nno checkpoint ", out)
    assert table(out)["last val loss"][1] == "—"


def test_a_chart_of_nothing_is_no_error(capsys):
    empty = np.array([])
    drawn = plain_chart.draw("nothing", [plain_chart.Line("none", empty, empty)])
    assert "nothing" in drawn
    nan = plain_chart.Line("nan", np.array([1.0, 2.0]), np.array([np.nan, np.nan]))
    assert "nan" not in plain_chart.draw("nothing", [nan]).replace("nothing", "")


@pytest.mark.parametrize("command", ["compare", "export"])
def test_help_has_examples_in_80_columns(call, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("runs", command, "--help")
    assert code == 0
    assert f"minigpt-tui runs {command}" in out[out.index("Examples") :]
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
