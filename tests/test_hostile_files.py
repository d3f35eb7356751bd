"""Files that chance damaged or an enemy wrote: read rightly or refused in one line, and no code in them is run."""

import fcntl
import os
import random
import shutil

import pytest

from minigpt_core import checkpoint
from minigpt_core.errors import UserError
from minigpt_core.lock import holder
from minigpt_core.rundir import RunDir
from minigpt_core.stored import read_config, read_tokenizer, stored_tokens
from minigpt_core.summary import Reader
from minigpt_core.tail import read_events, read_metrics
from tests.faults import hostile_checkpoint
from tests.faults.corrupt import Faults, corrupt_checkpoints, corrupt_files
from tests.faults.hostile_checkpoint import Original, saved
from tests.faults.small_run import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made.path, tmp_path / "run")
    return RunDir(tmp_path / "run")


def refused(path):
    with pytest.raises(UserError) as error:
        checkpoint.load(path)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_corrupted_checkpoints(run):
    faults = Faults()
    corrupt_checkpoints(run, 84, seed=2, faults=faults)
    assert faults.wrong == []


def test_malformed_files(run):
    faults = Faults()
    corrupt_files(run, 42, seed=2, faults=faults)
    assert faults.wrong == []


def test_code_in_a_checkpoint_is_named_and_not_run(run, tmp_path):
    marker = tmp_path / "executed"

    class Code:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    run.checkpoint.write_bytes(saved({"model": Code()}))
    assert "'posix system', which is code; nothing of it was run" in refused(run.checkpoint)
    assert not marker.exists()


def test_what_is_wrong_is_said_with_the_way_out(run, tmp_path):
    state = checkpoint.load(run.checkpoint)
    original = Original(run.checkpoint.read_bytes(), state, tmp_path / "executed")
    best = repr(str(run.best))
    assert run.best.is_file()

    run.checkpoint.write_bytes(original.data[: len(original.data) // 2])
    assert refused(run.checkpoint).endswith(
        f"is damaged (it is cut short, or its end is lost); use another one, such as {best}"
    )
    middle = original.data.index(b"cpu") if b"cpu" in original.data[:9] else len(original.data) // 2
    run.checkpoint.write_bytes(original.data[:middle] + bytes(200) + original.data[middle + 200 :])
    assert "fails its checksum); use another one, such as" in refused(run.checkpoint)
    run.checkpoint.write_bytes(saved(state | {"format": 7}))
    assert "has format 7, and this version of minigpt-tui reads up to 1; use a newer one" in refused(run.checkpoint)
    name = next(iter(state["model"]))
    run.checkpoint.write_bytes(saved(state | {"model": state["model"] | {name: state["model"][name] * float("nan")}}))
    assert f"model: {name!r} holds numbers that are not finite; use another one" in refused(run.checkpoint)
    for size, value in (("vocab_size", 10**12), ("n_layers", 10**9), ("embed_dim", 10**12), ("seq_len", 10**12)):
        run.checkpoint.write_bytes(saved(state | {"model_config": state["model_config"] | {size: value}}))
        assert "is damaged: " in refused(run.checkpoint)
    run.checkpoint.write_bytes(hostile_checkpoint.bomb(original, random.Random(1)))
    assert refused(run.checkpoint).endswith("is not a minigpt-tui checkpoint: compressed")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "metrics.jsonl", "events.jsonl"])
def test_a_newer_format_is_refused_by_name(run, name):
    read = {"config": read_config, "tokenizer": read_tokenizer, "metrics": read_metrics, "events": read_events}
    path = run.path / name
    data = path.read_bytes()
    assert b'"format":1' in data.replace(b" ", b"")
    path.write_bytes(data.replace(b'"format":1', b'"format":2').replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(UserError, match=rf"{name}' has .*format 2, and this version .* reads up to 1"):
        read[name.partition(".")[0]](run)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "control.json",
        "tokenizer.json",
        "metrics.jsonl",
        "events.jsonl",
        "model_checkpoint.pt",
        "tokens/tokens.npy",
    ],
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(run, name):
    path = run.path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    Reader(run).read()
    read_metrics(run), read_events(run), holder(run)  # as if there were none
    readers = {
        "config.json": read_config,
        "tokenizer.json": read_tokenizer,
        "tokens/tokens.npy": stored_tokens,
        "model_checkpoint.pt": lambda run: checkpoint.load(run.checkpoint),
    }
    if name in readers:
        with pytest.raises(UserError, match="not a regular file"):
            readers[name](run)


def test_a_lock_without_end_tells_of_nobody(run):
    with open(run.control, "wb") as file:
        file.write(b" " * 2**17)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(run) is None
        fcntl.flock(file, fcntl.LOCK_UN)
        os.unlink(run.control)
        os.mkfifo(run.control)
        pipe = os.open(run.control, os.O_RDWR)
        fcntl.flock(pipe, fcntl.LOCK_EX)
        assert holder(run) is None
        os.close(pipe)
