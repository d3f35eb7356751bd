"""`train --config`: the options in a file, and `runs show --toml`, which writes one that repeats a run to the bit."""

import tomllib
from inspect import signature

import pytest

from minigpt_core.recipe import steered
from minigpt_core.rundir import RunDir
from minigpt_core.status import Event
from minigpt_core.stored import update_config
from minigpt_core.tail import read_metrics
from minigpt_tui import launch, run_file
from minigpt_tui.commands.training import train
from tests.made_runs import caller, make_run, one_line

TINY = "n_layers = 1\nnum_heads = 2\nembed_dim = 16\nseq_len = 16\nbatch_size = 4\ndevice = 'cpu'\nthreads = 1\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("place")
    (folder / "text.txt").write_text(text[:3000], encoding="utf-8")
    return folder


@pytest.fixture
def call(monkeypatch, capsys, place):
    return caller(monkeypatch, capsys, place)


@pytest.fixture
def planned(monkeypatch, call, place):
    """Call `train` with a file of this content; the plan it makes, which is not begun."""
    plans = []
    monkeypatch.setattr(launch, "train", lambda plan, **how: plans.append((plan, how)) or 0)

    def run(content, *words):
        (place / "run.toml").write_text(content, encoding="utf-8")
        code, _, err = call("train", "--config", "run.toml", *words)
        assert code == 0, err
        plan, how = plans.pop()
        plan.discard()
        return plan, how

    return run


def test_a_file_says_what_options_say_and_options_win(planned):
    file = f'data = "text.txt"\nsteps = 7\nlearning_rate = 1\nsave_every = "10m"\nablate = ["swap-qk"]\n{TINY}'
    plan, how = planned(file + "compile = false\nheadless = true\nname = 'from-file'\n")
    assert plan.model | {"n_layers": 1, "swap_qk": True, "seq_len": 16} == plan.model
    assert plan.train | {"steps": 7, "learning_rate": 1.0, "save_every": "10m", "compile": "off"} == plan.train
    assert plan.run.name == "from-file"
    assert how["headless"] is True

    plan, how = planned(file, "--n-layers", "3", "--learning_rate=0.5", "--ablate", "no-positions", "--name", "mine")
    assert (plan.model["n_layers"], plan.model["positions"], plan.model["swap_qk"]) == (3, "none", False)
    assert plan.train["learning_rate"] == 0.5
    assert plan.train["steps"] == 7
    assert how["headless"] is False
    assert plan.run.name == "mine"


def test_a_length_on_the_command_line_replaces_another_kind_of_length_in_the_file(planned):
    plan, _ = planned(f'data = "text.txt"\nsteps = 7\n{TINY}', "--epochs", "2")
    assert plan.train["epochs"] == 2
    assert "steps" not in plan.train


def test_dashes_will_do(planned):
    plan, _ = planned(f'data = "text.txt"\ngrad-clip = 0.5\n{TINY}')
    assert plan.train["grad_clip"] == 0.5


BAD = [
    ("n_layer = 2", "unknown entry 'n_layer'; did you mean 'n_layers'?"),
    ("qqqq = 2", "unknown entry 'qqqq'\n"),
    ('n_layers = "two"', 'n_layers = "two": expected a whole number, got text'),
    ("n_layers = 2.5", "n_layers = 2.5: expected a whole number, got a number"),
    ("n_layers = true", "n_layers = true: expected a whole number, got true or false"),
    ("n_layers = 0", "n_layers = 0: expected a whole number >= 1"),
    ("learning_rate = nan", "learning_rate = NaN: expected a number"),
    ("data = 5", "data = 5: expected text, got a whole number"),
    ('compile = "on"', 'compile = "on": expected true or false, got text'),
    ("ablate = 'swap-qk'", 'ablate = "swap-qk": expected a list, got text'),
    ("ablate = [1]", "ablate = [1]: expected text"),
    ("save_every = []", "save_every = []: expected a whole number or text, got a list"),
    ("steps = 1979-05-27", 'steps = "1979-05-27": expected a whole number'),
    ('optimizer = "moun"', "did you mean 'muon'?"),
    ("[model]\nn_layers = 2", "[model] is a table; write its entries alone"),
    ('resume = "x"', "resume cannot be in a file"),
    ("grad-clip = 1\ngrad_clip = 1", "grad_clip is there twice"),
    ("n_layers = = 2", "is not a TOML file: Invalid value (at line 1"),
    ("steps = 5\nepochs = 1", "--steps 5 and --epochs 1 contradict"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[content for content, _ in BAD])
def test_a_bad_file_is_one_line_that_names_file_entry_and_value(call, place, content, message):
    (place / "bad.toml").write_text(content + "\n", encoding="utf-8")
    said = one_line(call("train", "--config", "bad.toml", "--headless", "--data", "text.txt"))
    assert message in said
    assert "'bad.toml'" in said or "contradict" in message
    assert not (place / "runs").exists() or not list((place / "runs").iterdir())


def test_a_file_that_is_none_is_one_line(call, place):
    assert "cannot read 'none.toml'" in one_line(call("train", "--config", "none.toml"))
    (place / "latin.toml").write_bytes(b'data = "\xe9"')
    assert "is not a TOML file" in one_line(call("train", "--config", "latin.toml"))
    (place / "run.toml").write_text("steps = 3\n", encoding="utf-8")
    assert "--config and --resume contradict" in one_line(call("train", "--config", "run.toml", "--resume", "x"))


def test_every_option_may_be_in_the_file():
    assert (
        run_file.kinds(train).keys() | {"config", "detach", "resume", "context"} == signature(train).parameters.keys()
    )


def outcome(path):
    return [(row.step, row.train_loss, row.val_loss, row.grad_norm, row.lr) for row in read_metrics(RunDir(path))]


def test_the_file_that_show_prints_makes_the_same_run_to_the_bit(call, place, monkeypatch):
    """Settings of every kind, a length in epochs, an ablation, a text with a limited vocabulary; trained for real."""
    monkeypatch.setattr("minigpt_core.report.write_assets", lambda *_: [])  # pictures are tested elsewhere
    options = "--data text.txt --vocab-size 20 --epochs 2 --preset classic --ablate swap-qk --dropout 0.1 --headless"
    sizes = "--n-layers 2 --embed-dim 16 --num-heads 2 --seq-len 16 --batch-size 8 --accumulate 2 --seed 5 --patience 0"
    rest = "--optimizer adamw --eval-every 10 --save-every 10m --device cpu --threads 1 --name first"
    code, _, err = call("train", *f"{options} {sizes} {rest}".split())
    assert code == 0, err
    code, file, _ = call("runs", "show", "first", "--toml")
    assert code == 0
    told = tomllib.loads(file)
    assert told["epochs"] == 2
    assert told["ablate"] == ["swap-qk"]
    assert "name" not in told
    (place / "again.toml").write_text(file, encoding="utf-8")
    code, _, err = call("train", "--config", "again.toml", "--headless", "--name", "second")
    assert code == 0, err
    first = outcome(place / "runs" / "first")
    assert len(first) > 20
    assert first == outcome(place / "runs" / "second")


def test_a_run_that_patience_ended_is_repeated_with_the_length_it_was_planned_for(call, place):
    path = make_run(place / "text.txt", place / "runs", "short", steps=60, eval_every=10)
    update_config(RunDir(path), decided={"steps": 30})  # as the trainer does where it stops early
    assert tomllib.loads(call("runs", "show", "short", "--toml")[1])["steps"] == 60


def test_what_a_file_cannot_repeat_is_said_in_it():
    def event(kind, message, step=10):
        return Event(kind=kind, step=step, time=0.0, message=message)

    assert steered([event("save", "saved"), event("resumed", "resumed from step 10")]) is None
    assert "step 30" in (steered([event("save", "saved"), event("lr", "learning rate × 0.5", 30)]) or "")
    assert "--steps 80" in (steered([event("resumed", "resumed from step 10, with --steps 80 (was 60)")]) or "")


def test_text_from_a_pipe_and_a_hostile_name_are_harmless(call, place, tmp_path):
    path = make_run(place / "text.txt", place / "runs", "piped", steps=1)
    config = (path / "config.json").read_text(encoding="utf-8")
    said = config.replace(str(place / "text.txt"), "standard input")
    (path / "config.json").write_text(said, encoding="utf-8")
    hostile = path.rename(path.with_name("a\nsteps = 9\x1b[2J"))
    code, out, _ = call("runs", "show", str(hostile), "--toml")
    assert code == 0
    assert tomllib.loads(out)["steps"] == 1
    assert tomllib.loads(out)["data"] == "-"
    assert "standard input" in out
    assert "\x1b" not in out
