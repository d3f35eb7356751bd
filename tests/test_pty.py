"""The whole program in a real pseudo-terminal, training for real: what a person sees, types, and is left with."""

import json
import os
import random
import re
import shlex
import signal
import sys
import time

import pytest

from tests.terminal import Terminal

MAIN = [sys.executable, "-c", "from minigpt_tui.cli import main; main()"]
SIZES = {"--n-layers": 2, "--num-heads": 2, "--embed-dim": 32, "--seq-len": 16, "--batch-size": 4}
SMALL = [str(part) for option in (SIZES | {"--threads": 1, "--device": "cpu"}).items() for part in option]
ENDLESS = ["--steps", "100000", "--eval-every", "100000"]
MODES_OFF = [
    b"\x1b[?1049l",
    b"\x1b[?25h",
    b"\x1b[?1000l",
    b"\x1b[?1003l",
    b"\x1b[?1006l",
    b"\x1b[?2004l",
    b"\x1b[?1004l",
]
ESCAPE, CTRL_C, CTRL_Q, CTRL_Z = "\x1b", "\x03", "\x11", "\x1a"
ARROW_RIGHT = "\x1b[C"


def train(folder, *options, text=None, **terminal):
    """The app, training a small model on sentences for as long as anybody looks."""
    if "--resume" not in options:
        options = ("--data", text or folder / "text.txt", "--name", "run", *SMALL, *options)
        if "--steps" not in options:
            options += tuple(ENDLESS)
    return app(folder, "train", *options, **terminal)


def app(folder, *arguments, **terminal):
    return Terminal([*MAIN, *map(str, arguments)], cwd=folder, **terminal)


@pytest.fixture
def folder(tmp_path, text):
    (tmp_path / "text.txt").write_text(text)
    return tmp_path


def step(terminal):
    """The step on the status line; None while something else is said there."""
    found = re.search(r"step ([\d,]+)", terminal.line(0))
    return int(found[1].replace(",", "")) if found else None


def samples(terminal):
    """What the samples pane shows."""
    first = next(n for n, line in enumerate(terminal.screen.display) if "3 samples" in line)
    last = next(n for n, line in enumerate(terminal.screen.display) if "prompt · T" in line)
    return [line[:74] for line in terminal.screen.display[first:last]]


def wait_step(terminal, at_least):
    terminal.wait(lambda: (step(terminal) or 0) >= at_least)
    return step(terminal)


def steps_logged(run):
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def events(run):
    """All so far: none while torch is still being loaded."""
    path = run / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_answer(terminal, prompt):
    """The newest answer to a prompt that somebody typed and that begins so, once it is complete and written down."""
    found = []

    def there():
        logged = [event["data"] for event in events(terminal.folder / "runs/run") if event["kind"] == "sample"]
        found[:] = [answer for answer in logged if answer["prompt"] and answer["prompt"].startswith(prompt)]
        return bool(found)

    terminal.wait(there)
    return found[-1]


def assert_intact(terminal):
    """All that the app had switched on is off again, and the keyboard is as it was."""
    for mode in MODES_OFF:
        on = mode[:-1] + (b"h" if mode.endswith(b"l") else b"l")
        assert terminal.bytes.rfind(on) < terminal.bytes.rfind(mode), mode
    assert terminal.attributes_after == terminal.attributes_before


def said(terminal):
    """What the shell shows after the app has left the alternate screen."""
    after = terminal.bytes.rpartition(b"\x1b[?1049l")[2].decode()
    unseen = r"\x1b\[[?\d;]*[a-z]|\x07"  # a bell may ring on either side of the switch
    return re.sub(unseen, "", after).replace("\r\n", "\n").strip()


def resume_command(terminal):
    return re.search(r"minigpt-tui (train --resume \S+)", said(terminal))[1].split()


# --- while it trains ---


@pytest.fixture(scope="module")
def training(tmp_path_factory, text):
    """One app that trains on while several tests look at it."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "text.txt").write_text(text)
    with train(folder, columns=100, rows=60) as terminal:
        terminal.wait_for("loading torch")
        terminal.send("i", "Early bird", "\r")
        yield terminal


def test_a_prompt_before_torch_is_ready_is_queued_and_answered(training):
    training.wait_for("queued: waiting for the first weights")
    assert "starting" in training.line(0)
    answer = wait_answer(training, "Early bird")
    training.send(ESCAPE)
    assert answer["finish_reason"] == "length"


def ask_for_a_long_answer(terminal, prompt):
    terminal.send("i", "/tokens 10000", "\r")
    terminal.wait_for("prompt · T 0.8 · 10,000 tokens")
    before = samples(terminal)
    terminal.send(prompt, "\r")
    terminal.wait(lambda: samples(terminal) != before)


def assert_stopped(terminal, prompt):
    """The answer to `prompt` is complete, and was cut short."""
    answer = wait_answer(terminal, prompt)
    assert answer["finish_reason"] == "cancelled"
    terminal.pump(0.3)
    shown = samples(terminal)
    terminal.pump(0.3)
    assert samples(terminal) == shown


def test_an_answer_streams_while_training_goes_on_and_escape_stops_it(training):
    ask_for_a_long_answer(training, "The cat")
    for _ in range(3):
        before, shown = wait_step(training, 1), samples(training)
        wait_step(training, before + 5)
        assert samples(training) != shown
    training.send(ESCAPE)
    assert_stopped(training, "The cat")
    training.send(ESCAPE)


def test_pause_stops_the_steps_n_makes_one_and_space_resumes(training):
    training.wait(lambda: step(training))
    training.send(" ")
    training.wait(lambda: "‖ paused" in training.line(0) and step(training), 10)
    at = step(training)
    training.pump(0.5)
    assert step(training) == at
    for more in (1, 2):
        training.send("n")
        training.wait(lambda more=more: step(training) == at + more, 10)
        training.pump(0.3)
    assert step(training) == at + 2
    training.send(" ")
    wait_step(training, at + 10)


def test_ctrl_c_stops_an_answer_and_else_says_how_to_quit(training):
    ask_for_a_long_answer(training, "The dog")
    training.send(CTRL_C)
    training.wait_for("stopping the answer", 5)
    assert_stopped(training, "The dog")
    training.send(CTRL_C)
    training.wait_for("quits (it saves first)", 5)
    training.send(ESCAPE)
    training.wait(lambda: step(training), 10)


def test_a_second_trainer_is_refused_in_one_line(training):
    training.send("s")
    training.wait((training.folder / "runs/run/model_checkpoint.pt").exists)
    with app(training.folder, "train", "--resume", "run") as second:
        assert second.wait_exit() == 1
    refused = rb"minigpt-tui: run 'run' is being trained already \(.*\); watch it with: minigpt-tui attach run, .*\r\n"
    assert re.fullmatch(refused, second.bytes)


def test_a_storm_of_resizes_ends_in_a_correct_screen(training):
    rng = random.Random(0)
    for _ in range(100):
        training.resize(rng.randint(1, 220), rng.randint(1, 60))
        training.pump(0.005)
    for columns, rows in ((20, 5), (100, 60)):
        training.resize(columns, rows)
        training.wait(lambda: training.line(0).startswith(" ▶ training"), 10)
        training.pump(0.6)
        assert "loss" in training.line(1)
    assert step(training)
    assert re.match(r"╭─ 1 loss.*─╮╭─ stats ─+╮$", training.line(2))
    assert training.line(58).startswith("╰─")
    assert "q quit" in training.line(59)


# --- leaving ---


def test_quitting_leaves_the_terminal_intact_and_a_run_that_goes_on(folder):
    run = folder / "runs/run"
    with train(folder) as first:
        seen = wait_step(first, 20)
        first.send("i", "The", "\r")  # leaving while an answer is on its way
        first.send(CTRL_Q)
        assert first.wait_exit() == 0
        assert_intact(first)
    saved = steps_logged(run)[-1]
    assert saved >= seen
    assert said(first) == f"saved at step {saved:,}. Go on: minigpt-tui train --resume runs/run"

    with app(folder, *resume_command(first)) as second:
        wait_step(second, saved + 20)
        second.send("q")
        assert second.wait_exit() == 0
        assert_intact(second)
    steps = steps_logged(run)
    assert steps == list(range(1, steps[-1] + 1))
    assert f"resumed from step {saved:,}" in [event["message"] for event in events(run)]


@pytest.mark.parametrize(
    ("numbers", "code"),
    [((signal.SIGTERM, signal.SIGTERM, signal.SIGHUP), 143), ((signal.SIGINT,), 130)],
    ids=["terminate, over and over", "interrupt"],
)
def test_a_signal_saves_and_leaves_the_terminal_intact(folder, numbers, code):
    with train(folder) as terminal:
        wait_step(terminal, 5)
        for number in numbers:
            terminal.child.kill(number)
        assert terminal.wait_exit() == code
        assert_intact(terminal)
    saved = steps_logged(folder / "runs/run")[-1]
    assert f"saved at step {saved:,}" in said(terminal)
    assert (folder / "runs/run/model_checkpoint.pt").exists()


def test_ctrl_z_suspends_and_fg_brings_the_screen_back(folder):
    command = shlex.join([*MAIN, "train", "--data", "text.txt", "--name", "run", *SMALL, *ENDLESS])
    with Terminal(["/bin/bash", "--norc", "--noediting"], cwd=folder) as shell:
        shell.wait_for("$ " if os.geteuid() else "# ")
        before = shell.attributes()
        shell.send(f"{command}\n")
        wait_step(shell, 5)
        shell.send(CTRL_Z)
        shell.wait(lambda: b"Stopped" in shell.bytes.rpartition(b"\x1b[?1049l")[2], 10)
        assert shell.attributes() == before
        saved = steps_logged(folder / "runs/run")[-1]
        shell.pump(0.3)
        assert steps_logged(folder / "runs/run")[-1] == saved  # a stopped process trains nothing
        mark = len(shell.bytes)
        shell.send("fg\n")
        shell.wait(lambda: b"\x1b[?1049h" in shell.bytes[mark:], 10)
        shell.wait(lambda: "q quit" in shell.line(23), 10)
        wait_step(shell, saved + 5)
        shell.send("q")
        shell.wait(lambda: "saved at step" in shell.text(), 15)
        assert shell.attributes() == before
        shell.send("echo code $?\n")
        shell.wait_for("code 0")


def test_a_continue_signal_out_of_the_blue_changes_nothing(folder):
    with train(folder) as terminal:
        wait_step(terminal, 5)
        terminal.child.kill(signal.SIGSTOP)
        terminal.child.kill(signal.SIGCONT)
        terminal.child.kill(signal.SIGCONT)
        wait_step(terminal, step(terminal) + 10)
        terminal.send(CTRL_Z)  # no shell could continue us, so the screen comes back by itself
        wait_step(terminal, step(terminal) + 10)
        terminal.send("q")
        assert terminal.wait_exit() == 0
        assert_intact(terminal)


# --- going wrong ---


@pytest.mark.parametrize(
    ("options", "message"), [(["--device", "cuda"], r"minigpt-tui: --device cuda: .*; use --device cpu")]
)
def test_a_run_that_cannot_begin_closes_the_app_and_says_why(folder, options, message):
    with train(folder, *options) as terminal:
        assert terminal.wait_exit() == 1
        assert_intact(terminal)
    assert re.fullmatch(message, said(terminal))
    assert not list(folder.glob("runs/*"))


def test_a_run_that_diverges_stays_on_the_screen_and_exits_with_1(folder):
    with train(folder, "--learning-rate", "1e9", "--grad-clip", "0") as terminal:
        terminal.wait_for("training diverged")
        terminal.pump(0.5)
        assert "✗ failed" in terminal.line(0)
        terminal.send("q")
        assert terminal.wait_exit() == 1
        assert_intact(terminal)
    assert re.fullmatch(r"minigpt-tui: the loss is \w+ at step \d+: training diverged; .*", said(terminal))


# --- a finished run ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text):
    """A run trained to its end in the app; what the screen showed is kept for a test."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text(text)
    with train(folder, "--steps", "30", "--eval-every", "15", columns=120, rows=40) as terminal:
        terminal.wait(lambda: "✓ done" in terminal.line(0), 60)
        terminal.status_at_the_end = terminal.line(0)
        terminal.send("i", "The end", "\r")
        wait_answer(terminal, "The end")
        terminal.send(ESCAPE, "q")
        asked = time.monotonic()
        terminal.code = terminal.wait_exit()
        terminal.seconds_to_leave = time.monotonic() - asked
    return terminal


def test_a_run_that_ends_in_the_app(finished):
    assert re.match(r" ✓ done │ final val \d\.\d+ │ step 30/30 │", finished.status_at_the_end)
    assert "The end" in finished.text()
    assert finished.code == 0
    assert finished.seconds_to_leave < 5  # generous: the machine may be busy
    assert_intact(finished)
    loss, goodbye = said(finished).splitlines()
    assert re.fullmatch(r"final_val_loss \d\.\d{4} \(\d\.\d{3} bits/byte\)", loss)
    assert goodbye == "done at step 30. Talk to it: minigpt-tui chat runs/run"
    assert "sampled 200 tokens after 'The end'" in [e["message"] for e in events(finished.folder / "runs/run")]


def test_chat_shows_answers_and_looks_but_does_not_steer(finished):
    with app(finished.folder, "chat", "run", columns=120, rows=40) as chat:
        chat.wait_for("layer 0 head 0")
        chat.wait_for("━ smoothed")
        assert "no loss yet" not in chat.text()
        assert "pause" not in chat.line(39)
        chat.wait(lambda: re.match(r" ✓ done │ final val \d", chat.line(0)), 10)
        chat.send("i", "Hello", "\r")
        wait_answer(chat, "Hello")
        chat.send(ESCAPE, "q")
        assert chat.wait_exit() == 0
        assert_intact(chat)
    assert len(colours(chat.bytes) & {"38;5", "48;5"}) == 2  # 256 colours, and nothing else
    assert not colours(chat.bytes) & {"38;2", "48;2"}


def test_a_damaged_checkpoint_is_refused_in_one_line(finished, tmp_path):
    run = tmp_path / "runs/run"
    run.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "metrics.jsonl"):
        (run / name).write_bytes((finished.folder / "runs/run" / name).read_bytes())
    (run / "tokens").mkdir()
    (run / "tokens/tokens.npy").write_bytes((finished.folder / "runs/run/tokens/tokens.npy").read_bytes())
    checkpoint = bytearray((finished.folder / "runs/run/model_checkpoint.pt").read_bytes())
    checkpoint[len(checkpoint) // 2] ^= 1
    (run / "model_checkpoint.pt").write_bytes(checkpoint)
    files = sorted(path.name for path in run.iterdir())
    with app(tmp_path, "train", "--resume", "run", "--steps", "60") as terminal:
        assert terminal.wait_exit() == 1
        assert_intact(terminal)
    assert re.fullmatch(r"minigpt-tui: checkpoint '.*' is damaged .*; use another one", said(terminal))
    assert (run / "model_checkpoint.pt").read_bytes() == checkpoint
    assert set(files) <= {path.name for path in run.iterdir()}


# --- how it looks ---


def colours(data):
    """The kinds of colour in all SGR sequences: "38;5", "48;2", or "30" for any of the 16."""
    kinds = set()
    for sequence in re.findall(rb"\x1b\[([\d;]*)m", data):
        codes = [int(code) for code in sequence.split(b";") if code]
        while codes:
            code = codes.pop(0)
            if code in (38, 48):
                depth = codes.pop(0)
                del codes[: 3 if depth == 2 else 1]
                kinds.add(f"{code};{depth}")
            elif (code != 39 and 30 <= code <= 47) or 90 <= code <= 107:
                kinds.add("16")
    return kinds


def test_a_terminal_that_knows_neither_utf8_nor_colour(finished):
    with app(finished.folder, "chat", "run", columns=120, rows=40, env={"LANG": "C", "NO_COLOR": "1"}) as chat:
        chat.wait_for("layer 0 head 0")
        chat.pump(0.5)
        assert set(":-=+*#%@") & set("".join(line[75:] for line in chat.screen.display[5:30]))  # the heatmap's glyphs
        chat.send("?")
        chat.pump(0.5)
        chat.send(ESCAPE, "i", "é", "\r")
        chat.pump(0.5)
        chat.send(ESCAPE, ESCAPE, "q")
        assert chat.wait_exit() == 0
    assert chat.bytes.isascii()
    assert colours(chat.bytes) == set()


@pytest.mark.parametrize(("depth", "kinds"), [("16", {"16"}), ("truecolor", {"38;2", "48;2"})])
def test_each_colour_depth_uses_only_its_own_codes(finished, depth, kinds):
    with app(finished.folder, "chat", "run", "--color", depth, columns=120, rows=40) as chat:
        chat.wait_for("layer 0 head 0")
        chat.pump(0.3)
        chat.send("q")
        chat.wait_exit()
    assert colours(chat.bytes) == kinds


def test_a_dumb_terminal_gets_lines_and_no_escape_sequence(folder):
    with train(folder, "--steps", "20", env={"TERM": "dumb"}) as terminal:
        assert terminal.wait_exit() == 0
    assert b"training headless, since TERM=dumb" in terminal.bytes
    assert b"final_val_loss" in terminal.bytes
    assert b"\x1b" not in terminal.bytes


HOSTILE = ["\x1b[2J", "\x1b]52;c;ZXZpbA==\x07", "\x9b31m", "\u202e", "\u2066", "\x08", "\x7f"]


def test_hostile_text_from_standard_input_cannot_steer_the_terminal(tmp_path):
    symbols = [chr(code) for code in range(0x21, 0x21 + 94)] + list("\n äöüß")
    assert len({*symbols, *"".join(HOSTILE)}) >= 104
    rng = random.Random(0)
    text = "".join(rng.choice([*symbols, *HOSTILE * 4]) for _ in range(20_000))
    (tmp_path / "text.txt").write_bytes(text.encode())
    command = shlex.join([*MAIN, "train", "--data", "-", "--name", "run", *SMALL, *ENDLESS])
    with Terminal(["/bin/sh", "-c", f"cat text.txt | {command}"], columns=120, rows=40, cwd=tmp_path) as terminal:
        terminal.wait_for("layer 0 head 0")
        terminal.send("i", "\x1b[200~", "".join(HOSTILE), "\x1b[201~", "\r")  # pasted
        wait_answer(terminal, "")
        terminal.send(ESCAPE, "2", *[ARROW_RIGHT] * 8, CTRL_Q)
        assert terminal.wait_exit() == 0
        assert_intact(terminal)
    answers = [event["data"]["answers"][0] for event in events(tmp_path / "runs/run") if event["kind"] == "sample"]
    assert "\x1b" in "".join(answers)  # the model did write them
    for attack in ("\x1b[2J", "\x1b]52", "\x9b", "\u202e", "\u2066", "\x08", "\x7f"):
        assert attack.encode() not in terminal.bytes, attack
    assert b"ZXZpbA==\x07" not in terminal.bytes


def test_a_terminal_of_20_by_5(folder):
    with train(folder, columns=20, rows=5) as terminal:
        terminal.wait(lambda: terminal.line(0).startswith(" ▶ training"))
        terminal.wait(lambda: re.search(r"loss \d", terminal.line(1)))
        terminal.send("i", "The", "\r")
        terminal.wait(lambda: "The" in terminal.text(), 15)
        terminal.send(CTRL_Q)
        assert terminal.wait_exit() == 0
        assert_intact(terminal)


def test_quitting_before_torch_is_there(folder):
    with train(folder) as terminal:
        terminal.wait_for("loading torch")
        terminal.send("q")
        assert terminal.wait_exit() == 0
        assert_intact(terminal)
