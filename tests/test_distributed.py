"""Several processes train as one would: on the CPU, over gloo."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import psutil
import pytest
import torch

from minigpt_core import checkpoint, distributed
from minigpt_core.config import TrainConfig
from minigpt_core.devices import Facts, decide
from minigpt_core.distributed import Group
from minigpt_core.errors import TrainingError, UsageError, UserError
from minigpt_core.follower import at
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.ranks import Children, Place, check_batch, ending, launched, leading
from minigpt_core.rundir import RunDir
from minigpt_core.stored import read_config
from minigpt_core.tail import read_metrics
from tests.conftest import TINY

STEPS = 20
SETTINGS = {"batch_size": 12, "eval_every": 10, "device": "cpu", "threads": 1, "precision": "fp32"}


def plan(text_file, folder, name, nproc, *, dropout=0.0, **train):
    settings = SETTINGS | {"steps": STEPS} | train
    model = {**TINY, "dropout": dropout}
    return prepare(Request(data=str(text_file), model=model, train=settings, name=name, out=str(folder), nproc=nproc))


def losses(run):
    return {row.step: row.train_loss for row in read_metrics(run)}


def test_two_processes_train_as_one_and_again_from_a_checkpoint(text_file, tmp_path):
    """With what makes it hard: two optimizers, a batch in pieces, and everybody goes back to a checkpoint half way."""
    alone = plan(text_file, tmp_path, "alone", 1, accumulate=3)
    trainer = alone.build()
    list(trainer)
    alone.release()

    both = plan(text_file, tmp_path, "both", 2, accumulate=3, save_every=10)
    twin = both.build()
    meeting, passes = [], []
    twin.model.register_forward_pre_hook(
        lambda model, _: meeting.append(twin.update.forward.require_backward_grad_sync) if model.training else None
    )
    for row in twin:
        twin.saver.wait()
        if row.step == STEPS - 5 and not passes:
            passes.append(losses(both.run))
            twin.resume(checkpoint.load(both.run.checkpoint))
    passes.append(losses(both.run))
    both.release()
    assert losses(alone.run) == {step: pytest.approx(passes[1][step], abs=1e-5) for step in range(1, STEPS + 1)}
    assert passes[0].items() <= passes[1].items()
    assert twin.state.final_val_loss == pytest.approx(trainer.state.final_val_loss, abs=1e-4)
    assert meeting == [False, False, True] * (STEPS + 5)  # gradients travel once a step
    assert twin.state_dict()["model"].keys() == trainer.state_dict()["model"].keys()
    assert read_config(both.run)["devices"]["nproc"] == 2


def test_dropout_and_unfinished_rows_continue_to_the_bit(text_file, tmp_path):
    """From a checkpoint between two rows, with as many processes: each has the masks that it had. And it ends alone."""
    run = plan(text_file, tmp_path, "run", 2, dropout=0.3, log_every=4, eval_every=STEPS, save_every=10)
    trainer = run.build()
    first = []

    def watch(trainer):
        trainer.saver.wait()
        if trainer.state.step == STEPS - 2 and not first:
            first.append(losses(run.run))
            trainer.resume(checkpoint.load(run.run.checkpoint))
            assert trainer.state.step == 10

    trainer.boundary = watch
    list(trainer)
    children = psutil.Process().children()
    run._children._processes[0].stdin.close()  # as the end of this process would
    assert len(children) == 1
    assert gone(children, 5)
    run.release()
    assert sorted(first[0]) == [1, 4, 8, 12, 16]
    assert first[0].items() <= losses(run.run).items()


# --- the program ---


def program(text_file, folder, *words, **env):
    """It trains without end, in a process group of its own."""
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in (SETTINGS | TINY).items()]
    command = [sys.executable, "-m", "minigpt_tui", "train", f"--data={text_file}", f"--out={folder}", *settings]
    command += ["--steps=100000", "--save-every=20", "--name=run", "--headless", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command, env=os.environ | env, **pipes)


def wait_step(run, step, *processes):
    deadline = time.monotonic() + 60
    while not (run.metrics.exists() and (rows := read_metrics(run)) and rows[-1].step >= step):
        ended = [process.stderr.read() for process in processes if process.poll() is not None]
        assert not ended, ended
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(processes, seconds):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_a_killed_process_ends_the_run_and_one_alone_goes_on_with_it(text_file, tmp_path):
    run = RunDir(tmp_path / "run")
    with program(text_file, tmp_path, "--nproc=2") as first:
        wait_step(run, 50, first)
        children = psutil.Process(first.pid).children()
        assert len(children) == 1
        children[0].kill()
        said = first.communicate(timeout=30)[1]
        assert first.returncode == 1
    last = said.strip().splitlines()[-1]
    assert last == "minigpt-tui: rank 1 was ended by SIGKILL; the run can be resumed where it was saved"
    assert "Traceback" not in said

    saved = checkpoint.load(run.checkpoint)["state"]["step"]
    assert saved >= 40
    plan = prepare_resume("run", {}, str(tmp_path), nproc=1)
    trainer = plan.build(lambda trainer: trainer.stop() if trainer.state.step >= saved + 20 else None)
    list(trainer)
    plan.release()
    assert trainer.state.step == saved + 20
    alone = prepare(Request(data=str(text_file), model=TINY, train=SETTINGS | {"steps": 100_000}, out=str(tmp_path)))
    list(alone.build(lambda trainer: trainer.stop() if trainer.state.step >= saved + 20 else None))
    alone.release()
    assert losses(run) == {step: pytest.approx(loss, abs=0.01) for step, loss in losses(alone.run).items()}


def test_processes_that_torchrun_started_save_together(text_file, tmp_path):
    """When they are told to end by Ctrl-C, which reaches them all."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    run = RunDir(tmp_path / "run")
    with (
        program(text_file, tmp_path, RANK="0", LOCAL_RANK="0", **world) as first,
        program(text_file, tmp_path, RANK="1", LOCAL_RANK="1", **world) as second,
    ):
        wait_step(run, 30, first, second)
        for process in (second, first):
            os.killpg(process.pid, signal.SIGINT)
        outputs = [process.communicate(timeout=30) for process in (first, second)]
        assert (first.returncode, second.returncode) == (130, 0), outputs
    assert outputs[1] == ("", "")
    step = losses(run)
    assert checkpoint.load(run.checkpoint)["state"]["step"] == max(step)
    assert read_config(run)["devices"]["nproc"] == 2


# --- a process that never gets to the first step ---


def job(**change):
    devices = decide(Facts(), TrainConfig(device="cpu", threads=1), 64, Place(size=2, local_size=2))
    model = {"vocab_size": 9, **TINY}
    return {"train": {}, "model": model, "devices": msgspec.to_builtins(devices), "run": "nowhere"} | change


@pytest.mark.parametrize(
    ("change", "error"),
    [({"train": {"bogus": 1}}, "rank 1: .*bogus"), ({}, "rank 1: cannot see the run's folder 'nowhere'")],
    ids=["before there is a group for gradients", "after"],
)
def test_a_process_that_cannot_do_its_part_ends_the_run_at_once(tmp_path, change, error):
    children = Children(2, tmp_path / "train.log")
    world = Group.spawned(Place(size=2, local_size=2), children)

    def begin():
        world.invite(job(**change), "cpu")
        world.wrap(torch.nn.Linear(1, 1))

    began = time.monotonic()
    try:
        with pytest.raises(TrainingError, match=error):
            begin()
        assert time.monotonic() - began < 20
    finally:
        children.close()
        world.close()


def test_what_is_waited_for_on_a_gpu_is_given_up_whenever_the_waiting_began():
    class Gradients:
        aborted = 0

        def abort(self):
            self.aborted += 1
            world._open = self.aborted < 2
            raise RuntimeError("there is no communicator yet")

    world = object.__new__(Group)
    world._open, world._data, world._children = True, Gradients(), SimpleNamespace(lost="rank 1: no room")
    world._free_the_device()
    assert world._data.aborted == 2


def test_one_waits_for_a_first_process_that_never_comes_only_so_long(monkeypatch):
    """It may have ended over a bad option, and then nobody else says so where torchrun is not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    monkeypatch.setattr(distributed, "MEET_TIMEOUT", timedelta(seconds=1))
    with pytest.raises(TrainingError, match="lost contact with another process"):
        Group(Place(rank=1, size=2, local_rank=1, local_size=2))


# --- what is refused, and what is decided ---


def test_a_batch_that_cannot_be_shared_is_refused_in_one_line(text_file, tmp_path):
    with pytest.raises(UsageError, match=r"--batch-size 12 .* 5 processes; try --batch-size 15"):
        plan(text_file, tmp_path, "run", 5)
    with pytest.raises(UsageError, match=r"2 processes x --accumulate 4; try --batch-size 16"):
        plan(text_file, tmp_path, "run", 2, accumulate=4)
    with pytest.raises(UsageError, match="--nproc 0"):
        plan(text_file, tmp_path, "run", 0)
    assert not (tmp_path / "run").exists()
    whole = plan(text_file, tmp_path, "run", 1, steps=1)
    list(whole.build())
    whole.release()
    with pytest.raises(UsageError, match="8 processes; try --batch-size 16"):
        prepare_resume("run", {}, str(tmp_path), nproc=8)
    check_batch(TrainConfig(batch_size=12, accumulate=3), 4)


def test_each_process_has_a_gpu_of_its_own_or_its_share_of_the_cores():
    gpus = Facts(cores=16, cuda_free=(1, 2), cuda_bf16=(True, True), cuda_names=("a", "b"), cuda_uuids=("A", "B"))

    def decided(facts, n, **settings):
        return decide(facts, TrainConfig(**settings), 64, Place(size=n, local_size=n))

    devices = decided(gpus, 2)
    assert (devices.device, devices.gpu, devices.threads, devices.nproc) == ("cuda:0", "a", 8, 2)
    assert decided(gpus, 1).device == "cuda:1"  # alone: the one with most memory
    with pytest.raises(UserError, match=r"--nproc 3: this process sees 2 CUDA GPU\(s\); use --nproc 2"):
        decided(gpus, 3)
    with pytest.raises(UsageError, match="--device cuda:1 is one GPU"):
        decided(gpus, 2, device="cuda:1")
    with pytest.raises(UserError, match="one Apple GPU"):
        decided(Facts(cores=8, mps=True), 2)
    assert decided(gpus, 3, device="cpu").threads == 5
    assert decided(Facts(cores=2), 4).threads == 1


def test_a_launcher_may_show_each_process_one_gpu_only(monkeypatch):
    def facts(n):
        return Facts(cores=16, cuda_free=(1,) * n, cuda_bf16=(True,) * n)

    first, last = (Place(rank=rank, size=8, local_rank=rank, local_size=8, launched=True) for rank in (0, 7))
    devices = decide(facts(1), TrainConfig(), 64, first)
    assert devices.device == "cuda:0"
    for visible, own in ((1, "cuda:0"), (8, "cuda:7")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda n=visible: n)
        assert at(last, devices).device == own
    with pytest.raises(UserError, match=r"8 processes were started .* sees 2 CUDA GPU\(s\); start one for each GPU"):
        decide(facts(2), TrainConfig(), 64, first)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="there is no GPU 7 here"):  # where this program started it, all see the same
        at(Place(rank=7, size=8, local_rank=7, local_size=8), devices)


def test_what_torchrun_says(monkeypatch):
    env = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "host"}
    assert launched(env) == Place(rank=3, size=4, local_rank=1, local_size=2, launched=True)
    assert launched(env | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}) is None
    assert launched({"RANK": "3"}) is None
    for nonsense in ({"RANK": "4"}, {"RANK": "x"}):
        with pytest.raises(UserError):
            launched(env | nonsense)
    assert leading(None, before=2) == Place(size=2, local_size=2)
    assert leading(1, before=2).size == 1
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert leading(None).size == 4
    with pytest.raises(UsageError, match="torchrun has started 4 processes already"):
        leading(2)


def test_how_a_process_ended():
    assert ending(2, -9, "") == "rank 2 was ended by SIGKILL"
    assert ending(1, 1, "rank 1: no room") == "rank 1: no room"
    assert ending(1, 3, "") == "rank 1 ended with exit code 3"
    assert ending(1, 3, "oops") == "rank 1 ended with exit code 3: oops"


def test_a_loss_that_is_no_number_on_one_process_spoils_everybodys_gradient():
    weight = torch.ones(1, requires_grad=True)
    for value, spoilt in ((2.0, False), (math.inf, True), (math.nan, True)):
        weight.grad = None
        loss = weight.sum() + value  # its gradient alone would not tell
        loss.backward(Group.loss_gradient(object.__new__(Group), loss))
        assert weight.grad.isnan().all() == spoilt
