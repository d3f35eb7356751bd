"""The command line as a user meets it: every error one line, every command helpful, nothing damaged."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import pytest

from minigpt_core.config import RECIPES, TrainConfig
from minigpt_tui import cli

PROGRAM = [sys.executable, "-m", "minigpt_tui.cli"]
SIZES = {"n-layers": 1, "num_heads": 2, "embed_dim": 16, "seq_len": 16, "batch_size": 4}
TINY = [*(f"--{name}={size}" for name, size in SIZES.items()), "--device=cpu", "--threads=1"]
COMMANDS = [
    ["train"],
    ["generate"],
    ["chat"],
    ["runs"],
    ["runs", "show"],
    ["report"],
    ["ablate"],
    ["tour"],
    ["notebook"],
    ["doctor"],
    ["data"],
    *(["data", name] for name in ("list", "prepare", "show", "remove")),
]


@pytest.fixture(scope="session")
def place(tmp_path_factory, text):
    """A folder with a text and a finished run whose name needs quoting: 10 epochs, as the README shows."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "text.txt").write_text(text[:3000], encoding="utf-8")
    words = ["train", "--data", "text.txt", "--epochs", "10", *TINY, "--name", "été 1", "--headless"]
    result = start(words, folder, text=True)
    out, err = result.communicate(timeout=60)
    assert result.returncode == 0, err
    (folder / "said.txt").write_text(out, encoding="utf-8")
    return folder


def start(words, folder, **options):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*PROGRAM, *words], cwd=folder, env=env, **streams)


@pytest.fixture
def call(monkeypatch, capsys, place):
    """Run the program in this process, standing in `place`: (exit code, output, errors)."""

    def run(*words):
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["minigpt-tui", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, *capsys.readouterr()

    return run


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


# --- errors ---

BAD = [
    (["train", "--data", "nope.txt"], 2, "no such file or corpus: 'nope.txt'"),
    (["train", "--data", "pydoc"], 2, "did you mean 'pydocs'?"),
    (["train", "--out", "text.txt"], 1, "choose another folder with --out"),
    (["train", "--embed-dim", "10", "--num-heads", "3"], 2, "--embed-dim 10 is not divisible by --num-heads 3"),
    *[
        (["train", f"--{name}", value], 2, f"--{name} {value}: expected a")
        for name in ("steps", "epochs", "minutes", "batch-size", "seq-len", "n-layers", "num-heads", "vocab-size")
        for value in ("0", "-1")
    ],
    (["train", "--learning_rate", "nan"], 2, "--learning-rate nan: expected a number > 0"),
    (["train", "--steps", "5", "--epochs", "1"], 2, "--steps 5 and --epochs 1 contradict"),
    (["train", "--steps", "many"], 2, "'--steps'"),
    (["train", "--preset", "clasic"], 2, "did you mean 'classic'?"),
    (["train", "--ablate", "no-layernrm"], 2, "did you mean 'no-layernorm'?"),
    (["train", "--device", "cud"], 2, "did you mean 'cuda'?"),
    (["train", "--precision", "bf17"], 2, "did you mean 'bf16'?"),
    (["train", "--headless", "--color", "trucolor"], 2, "did you mean 'truecolor'?"),
    (["train", "--name", "été 1"], 2, "--resume 'été 1' or choose another --name"),
    (["train", "--resume", "nope"], 2, "no run 'nope'"),
    (["train", "--resume", "été 1", "--n-layers", "3"], 2, "--n-layers cannot change"),
    (["train", "--resume", "été 1", "--preset", "classic"], 2, "--preset cannot change"),
    (["train", "--bach-size", "3"], 2, "--batch-size"),
    (["train", "--batch-size"], 2, "'--batch-size' requires an argument"),
    (["trian"], 2, "Did you mean 'train'?"),
    (["generate", "nope", "--prompt", "x"], 2, "no run 'nope'"),
    (["generate", "--prompt", "x", "--temperature", "-1"], 2, "--temperature -1: expected a number >= 0"),
    (["generate", "--prompt", "x", "--out", "none"], 2, "no runs in none yet"),
    (["chat", "nope"], 2, "no run 'nope'"),
    (["runs", "show", "nope"], 2, "no run 'nope'"),
    (["report", "nope"], 2, "no run 'nope'"),
    (["doctor", "--color", "pink"], 2, "unknown colour depth 'pink'"),
]


@pytest.mark.parametrize(("words", "code", "message"), BAD, ids=[" ".join(words) for words, _, _ in BAD])
def test_bad_input_is_one_clear_line_and_changes_nothing(call, place, words, code, message):
    before = contents(place)
    data = ["--data", "text.txt"] if words[0] == "train" and not {"--data", "--resume"} & set(words) else []
    left, out, err = call(words[0], *data, *words[1:])
    assert (left, out) == (code, "")
    assert err.startswith("minigpt-tui: ")
    assert err.count("\n") == 1
    assert message in err
    assert contents(place) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"Too short.\n", "the text is too short"),
        (b"text" * 100 + b"\0" * 9, "is binary (NUL byte at offset 400)"),
        (b"text" * 100 + b"\xe9t\xe9", "is not UTF-8 (byte 0xe9 at offset 400)"),
    ],
)
def test_a_text_that_is_none_is_refused(call, place, tmp_path, content, message):
    (tmp_path / "bad.txt").write_bytes(content)
    before = contents(place)
    code, out, err = call("train", "--data", str(tmp_path / "bad.txt"), "--headless")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert contents(place) == before


def test_a_checkpoint_that_is_none_is_refused(call, place, tmp_path):
    good = (place / "runs" / "été 1" / "best.pt").read_bytes()
    flipped = bytearray(good)
    middle = len(good) // 2
    flipped[middle : middle + 200] = bytes(200)  # more than the padding between two tensors
    (tmp_path / "text").write_text("not a checkpoint")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.write(tmp_path / "text")
    foreign = (tmp_path / "other.zip").read_bytes()
    for content in (b"", os.urandom(1000), good[: len(good) // 2], bytes(flipped), foreign):
        path = tmp_path / "bad.pt"
        path.write_bytes(content)
        code, out, err = call("generate", str(path), "--prompt", "x")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "is not a minigpt-tui checkpoint" in err or "is damaged" in err


def test_a_prompt_is_asked_for_on_a_terminal_and_must_be_text(call, monkeypatch, tmp_path):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    code, _, err = call("generate")
    assert code == 2
    assert "--prompt" in err
    (tmp_path / "prompt").write_bytes(b"caf\xe9")
    with open(tmp_path / "prompt", encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, _, err = call("generate")
    assert code == 1
    assert "not UTF-8 (byte offset 3)" in err


# --- help ---


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_in_80_columns(call, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(*command, "--help")
    assert code == 0
    examples = out[out.index("Examples") :]
    assert f"minigpt-tui {' '.join(command)}" in examples
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_help_tells_the_true_defaults(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = call("train", "--help")
    for name in ("learning_rate", "warmup_steps", "weight_decay", "grad_clip", "eval_every", "save_every", "seed"):
        line = next(line for line in out.splitlines() if f"--{name.replace('_', '-')} " in line)
        told = re.search(r"\(([\d.]+(?:,\d+)*)(?:, adamw [\d.]+)?\)", line)
        assert told, line
        assert float(told[1].replace(",", "")) == (TrainConfig().to_dict() | RECIPES["muon"])[name]


def test_help_version_and_a_bad_option_need_no_torch(place):
    program = """
import sys
from minigpt_tui import cli
for words in (["--help"], ["train", "--help"], ["--version"], ["train", "--steps", "0"], ["runs"], ["runs", "show"]):
    sys.argv = ["minigpt-tui", *words]
    try:
        cli.main()
    except SystemExit:
        pass
    heavy = {"torch", "matplotlib", "textual.app"} & set(sys.modules)
    if "--help" in words or "--version" in words:
        assert not heavy, (words, heavy)
    assert "torch" not in sys.modules, words
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "minigpt-tui 0." in result.stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], ["train"]),
        (["--data", "a_b.txt"], ["train", "--data", "a_b.txt"]),
        (["train", "--batch_size=3"], ["train", "--batch-size=3"]),
        (["generate", "--top_k", "3", "--prompt=a_b"], ["generate", "--top-k", "3", "--prompt=a_b"]),
        (["--version"], ["--version"]),
        (["train", "--", "--a_b"], ["train", "--", "--a_b"]),
    ],
)
def test_underscores_will_do_and_train_is_the_default(typed, meant):
    assert cli.normalised(typed) == meant


# --- the commands on a finished run ---


def test_training_headless_tells_how_it_goes_and_how_to_go_on(place):
    said = (place / "said.txt").read_text(encoding="utf-8")
    assert re.search(r"^run runs/été 1$", said, re.M)
    assert re.search(r"^step \d+/\d+  loss \d", said, re.M)
    assert re.search(r"^final_val_loss \d\.\d{4} \(\d\.\d{3} bits/byte\)$", said, re.M)
    assert "minigpt-tui chat 'runs/été 1'" in said
    assert (place / "runs" / "été 1" / "assets" / "loss_curve.png").stat().st_size > 1000


def test_runs_and_show_are_whole_lines_in_a_pipe(call, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    code, out, _ = call("runs")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["run", "été"]
    assert "done" in out
    code, out, _ = call("runs", "show", "été 1")
    assert code == 0
    assert "minigpt-tui train --resume 'runs/été 1'" in out
    assert not any(line.endswith(" ") for line in out.splitlines())
    made_by = next(line for line in out.splitlines() if line.startswith("made by"))
    assert made_by.endswith("--name 'été 1' --headless")


def test_generate_streams_repeats_and_speaks_json(call):
    words = ["generate", "--prompt", "The ☃", "--max-new-tokens", "12", "--seed", "7"]
    code, streamed, err = call(*words)
    assert code == 0
    assert "'☃'" in err
    assert streamed.startswith("The ☃")
    _, whole, _ = call(*words, "--no-stream")
    assert whole == streamed
    _, out, _ = call(*words, "--json", "--temperature", "0", "--temperature", "1.5", "--num-samples", "2")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["settings"]["temperature"], row["sample"]) for row in rows] == [(0, 0), (0, 1), (1.5, 0), (1.5, 1)]
    assert rows[0]["answer"] == rows[1]["answer"] != rows[2]["answer"]
    assert all(len(row["answer"]) == 12 for row in rows)
    stop = rows[0]["answer"][3:5]
    _, out, _ = call(*words, "--json", "--temperature", "0", "--stop", stop)
    row = json.loads(out)
    assert row["finish_reason"] == "stop"
    assert row["answer"] == rows[0]["answer"].partition(stop)[0]


def test_a_prompt_may_come_from_a_pipe(call, monkeypatch, tmp_path):
    (tmp_path / "prompt").write_text("The cat\n")
    with open(tmp_path / "prompt", encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        _, out, _ = call("generate", "--json", "--max-new-tokens", "3")
    assert json.loads(out)["prompt"] == "The cat"


def test_report_and_doctor(call, monkeypatch):
    code, out, err = call("report", "été 1")
    assert code == 0
    assert "sample_generation.txt" in out
    assert "writing" in err
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("doctor")
    assert code == 0
    assert all(word in out for word in ("Machine", "Training", "Terminal", "threads", "colours"))
    assert max(map(len, out.splitlines())) <= 80


# --- signals and pipes ---


def read_until(process, mark):
    for line in process.stdout:
        if mark in line:
            return
    raise AssertionError(process.stderr.read())


def test_a_signal_saves_and_the_run_can_go_on(place, tmp_path):
    here = ["--steps", "1000000", "--out", str(tmp_path), "--headless"]
    steps = []
    for number, code, words in (
        (signal.SIGINT, 130, ["--data", "text.txt", "--name", "run", *TINY]),
        (signal.SIGTERM, 143, ["--resume", "run"]),
    ):
        process = start(["train", *words, *here], place, text=True)
        read_until(process, "run ")
        process.send_signal(number)
        said, err = process.communicate(timeout=30)
        assert process.returncode == code, err
        assert f"--resume {tmp_path / 'run'}" in said
        steps.append(int(re.search(r"saved at step ([\d,]+)", said)[1].replace(",", "")))
    assert 0 < steps[0] < steps[1]
    assert (tmp_path / "run" / "model_checkpoint.pt").is_file()
    assert not (tmp_path / "run" / "assets").exists()


def test_a_reader_that_leaves_is_no_traceback(place, tmp_path):
    words = ["train", "--data", "text.txt", "--steps", "1000000", *TINY, "--out", str(tmp_path), "--headless"]
    process = start(words, place, text=True)
    read_until(process, "run ")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(30) == 1
    assert "Traceback" not in err
    assert [run.name for run in tmp_path.glob("*/model_checkpoint.pt")] == ["model_checkpoint.pt"]
