"""The other files of a run, malformed, and everything that reads them."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt_core import recording
from minigpt_core.errors import UserError
from minigpt_core.history import RunHistory
from minigpt_core.landmarks import Landmarks
from minigpt_core.prober import born
from minigpt_core.recording import Recorder, Recording
from minigpt_core.rundir import RunDir
from minigpt_core.series import METRICS
from minigpt_core.stored import read_config, read_tokenizer, read_tokens, stored_tokens
from minigpt_core.summary import Reader
from minigpt_core.tail import read_events, read_metrics, standing
from minigpt_tui.local import stored_status
from minigpt_tui.widgets.log import line
from minigpt_tui.widgets.past import past_answers
from tests.faults.damage import HOSTILE, STRANGE, bytes_damaged, value_damaged

if TYPE_CHECKING:
    from tests.faults.corrupt import Faults

NUMBERS = [b"1e999", b"-1e999", b"9" * 5000, b"NaN", b"Infinity", b"0x10", b"1e-999"]
DEEP = [b"[" * 200_000, b'{"a":' * 100_000, b'{"format":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"]
PROGRAM = 60.0
"""Seconds for a whole program, which loads torch and may train."""
BOMB = zlib.compress(bytes(100 * 2**20), 1)
"""Half a megabyte that is a hundred."""

# --- malformed files ---


def json_damaged(data: bytes, rng: random.Random) -> bytes:
    match rng.randrange(8):
        case 0 | 1:
            return bytes_damaged(data, rng)
        case 2:
            return rng.choice(DEEP)
        case 3:
            number = rng.choice(NUMBERS)
            digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
            at = rng.choice(digits) if digits else 0
            return data[:at] + number + data[at + 1 :]
        case 4:
            return json.dumps(json.loads(data) | {"format": rng.choice((2, 99, 10**30, *STRANGE))}).encode()
        case 5:
            return rng.choice((b"null", b"[]", b"{}", b'"x"', b"1", b"\xff\xfe", b"\x00" * 100, b" " * 2**22))
        case _:
            return json.dumps(value_damaged(json.loads(data), rng)).encode()


def lines_damaged(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            return bytes_damaged(data, rng)
        case 1:
            lines[at:at] = [rng.choice((b"x" * 3_000_000, b"\x00" * 1000, HOSTILE.encode(), b"", b"{}", *DEEP))]
        case 2:
            rng.shuffle(lines)
        case _:
            lines[at] = json_damaged(lines[at], rng).replace(b"\n", b" ")
    return b"\n".join(lines) + b"\n"


def tokens_damaged(data: bytes, rng: random.Random) -> bytes:
    import io

    tokens = np.load(io.BytesIO(data))
    file = io.BytesIO()
    match rng.randrange(5):
        case 0 | 1:
            return bytes_damaged(data, rng)
        case 2:
            np.save(file, rng.choice((tokens + 100, tokens.astype(np.float32), tokens[None], tokens[:0], tokens[:9])))
        case 3:
            np.savez(file, tokens)
        case _:
            np.save(file, np.array([{"a": 1}] * 3, dtype=object), allow_pickle=True)
    return file.getvalue()


def frames_damaged(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return bytes_damaged(data, rng)
    huge, bomb = [10**6, 10**6, 10**6, 10**6], BOMB
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i"
    changes: list[tuple[str, tuple[Any, ...]]] = [
        ("UPDATE frames SET stamp = ?", (rng.choice(("", "{}", "[1]", HOSTILE, "[" * 10**5, 5, None, b"\xff")),)),
        ("UPDATE frames SET stamp = json_set(stamp, '$.shape', json(?))", (json.dumps(huge),)),
        ("UPDATE frames SET stamp = json_set(stamp, '$.shape', ?)", (rng.choice(("x", 5, "[-1,0,0,0]")),)),
        ("UPDATE frames SET stamp = json_set(stamp, '$.val_loss', ?)", (rng.choice(("x", -1, 2**62)),)),
        ("UPDATE frames SET attention = ?", (rng.choice((bomb, b"", b"x", None, 7, "text")),)),
        ("UPDATE frames SET rest = ?", (rng.choice((bomb, b"", zlib.compress(b"x"), None)),)),
        ("UPDATE frames SET scores = ?", (rng.choice((b"", b"abc", bytes(10**6), None, "text")),)),
        ("UPDATE frames SET step = step + ?", (rng.choice((2**62, -100)),)),
        ("UPDATE texts SET tokens = ?", (rng.choice(("", "[]", "[1e99]", '["x"]', "[999999]", "{}", "[" * 10**5)),)),
        ("UPDATE samples SET text = ?, prompt = ?", rng.choice(((None, 5), (b"\xff", HOSTILE), (HOSTILE, None)))),
        ("DELETE FROM texts", ()),
        ("DROP TABLE samples", ()),
        ("ALTER TABLE frames RENAME COLUMN rest TO remainder", ()),
        (f"CREATE TRIGGER more AFTER INSERT ON frames BEGIN INSERT INTO samples {endless}, '', '' FROM n; END", ()),
        (f"CREATE TRIGGER less AFTER DELETE ON frames BEGIN INSERT INTO samples {endless}, '', '' FROM n; END", ()),
        (f"CREATE VIEW v AS {endless} FROM n", ()),
        ("PRAGMA user_version = 99", ()),
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "frames.sqlite")
        file.write_bytes(data)
        with closing(sqlite3.connect(file)) as db:
            if rng.random() < 0.1:
                db.execute("ALTER TABLE frames RENAME TO old")
                columns = ", ".join(f"i AS {name}" for name in ("stamp", "scores", "rest", "attention"))
                db.execute(f"CREATE VIEW frames AS {endless} AS step, {columns} FROM n")
            else:
                statement, values = rng.choice(changes)
                db.execute(statement, values)
            db.commit()
        return file.read_bytes()


FILES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "config.json": json_damaged,
    "tokenizer.json": json_damaged,
    "metrics.jsonl": lines_damaged,
    "events.jsonl": lines_damaged,
    "probe/frames.sqlite": frames_damaged,
    "tokens/tokens.npy": tokens_damaged,
    "ladder.json": json_damaged,
}

# --- everything that reads them ---


def listed(run: RunDir) -> str:
    """In `runs`, and shown before the app opens."""
    summary = Reader(run).read()
    for message in (summary.problem, stored_status(run).message):
        assert len(message) < 1000, message[:100]
        assert len(message.splitlines()) <= 1, message
    return "listed"


def drawn(run: RunDir) -> str:
    """In an app that opens on it."""
    history = RunHistory(run)
    try:
        history.refresh()
        for metric in METRICS:
            history.series.envelope(metric, None, None, 50)
        past_answers(history.events)
        for event in history.events:
            line(event)
            if event.kind == "birth":
                born(event)
    finally:
        history.close()
    return "drawn"


def kept(run: RunDir) -> str:
    """By a resume, before torch is loaded."""
    config, tokenizer = read_config(run), read_tokenizer(run)
    tokens = read_tokens(run, tokenizer, config["corpus"])
    tokenizer.decode(tokens)
    stored = stored_tokens(run)
    landmarks = Landmarks(run, tokens, tokenizer.vocab_size)
    landmarks.resume(standing(read_events(run)), read_metrics(run))
    landmarks._fit()
    return "kept" if stored is not None else "read again"


def replayed(run: RunDir) -> str:
    """By time travel and the report."""
    tokenizer, film = read_tokenizer(run), Recording(run)
    try:
        for step in film.steps().tolist()[:5]:
            film.frame(step, tokenizer.token_labels)
            film.nearest(step)
            film.sample(step)
        film.head_history()
        film.samples()
    finally:
        film.close()
    return "replayed"


def recorded(run: RunDir) -> str:
    """By a resume: what lies after its step goes, and recording goes on."""
    from tests.test_recording import TOKENS, frame

    good = run.frames.read_bytes()
    try:
        recording.truncate(run, 3)
        recorder = Recorder(run, TOKENS)
        try:
            recorder.write(frame(9))
        finally:
            recorder.close()
    finally:
        for file in run.frames.parent.iterdir():
            file.unlink()
        run.frames.write_bytes(good)
    return "recorded"


READERS = (listed, drawn, kept, replayed, recorded)


def go_on(state: dict[str, Any]) -> str:
    """Train on from a loaded state: one step, or refused in one line."""
    from minigpt_core.config import ModelConfig, TrainConfig
    from minigpt_core.model import GPT
    from minigpt_core.tokenizer import load_tokenizer
    from minigpt_core.trainer import Trainer
    from tests.faults.small_run import TEXT

    tokenizer = load_tokenizer(state["tokenizer"])
    config = TrainConfig.from_dict(state["train_config"])
    assert (config.threads or 1) < 5000, "absurd number of threads"
    if config.batch_size > 1000:
        return "too large for this machine"
    trainer = Trainer(GPT(ModelConfig.from_dict(state["model_config"])), tokenizer, TEXT, config.replace(threads=1))
    trainer.load_state_dict(state)
    trainer.step()
    return "trains on"


# --- through the command line ---


def corrupt_commands(run: RunDir, count: int, seed: int, faults: Faults) -> None:
    """The program itself on copies of the run that have one bad file."""
    from tests.faults import hostile_checkpoint

    rng = random.Random(seed)
    original = None
    names = ["model_checkpoint.pt", *FILES]
    for i in range(count):
        draw, name = random.Random(rng.random()), names[i % len(names)]
        with tempfile.TemporaryDirectory() as folder:
            copy = RunDir(Path(folder, "run"))
            shutil.copytree(run.path, copy.path)
            path = copy.path / name
            if name in FILES:
                path.write_bytes(FILES[name](path.read_bytes(), draw))
                command = (
                    ["runs", "show"] if draw.random() < 0.5 else ["train", "--steps", "8", "--headless", "--resume"]
                )
            else:
                import torch

                state = torch.load(path, weights_only=True)
                original = hostile_checkpoint.Original(path.read_bytes(), state, Path(folder, "executed"))
                builder = draw.choice(list(hostile_checkpoint.BUILDERS.values()))
                path.write_bytes(builder(original, draw))
                command = ["generate", "--prompt", "The", "--max-new-tokens", "3"]
            command.append(str(copy.path))
            faults.attempt(f"command {i} ({' '.join(command)}, {name})", partial(_command, command), PROGRAM)
            if original is not None and original.marker.exists():
                faults.wrong.append(f"command {i}: code was run")


def _command(arguments: list[str]) -> str:
    main = [sys.executable, "-W", "error::UserWarning", "-c", "from minigpt_tui.cli import main; main()"]
    done = subprocess.run([*main, *arguments], capture_output=True, text=True, errors="replace", check=False)
    said = done.stderr.replace("minigpt-tui: ", "", 1).strip()
    if done.returncode == 0:
        return "worked"
    if done.returncode not in (1, 2) or "Traceback" in said:
        raise AssertionError(f"exit {done.returncode}: {said[-300:]}")
    raise UserError(said)
