"""From a request to a run: what is refused, what is left behind, what a resume may change."""

import json
import math

import msgspec
import numpy as np
import pytest

from minigpt_core.config import DEFAULT_SIZES, ModelConfig, SampleConfig, TrainConfig
from minigpt_core.devices import Facts, decide
from minigpt_core.errors import UsageError, UserError
from minigpt_core.plan import Request, prepare, prepare_resume, resumed_devices
from minigpt_core.stored import read_config, read_tokens, validation_text
from tests.conftest import TINY


@pytest.fixture
def run(text_file, tmp_path):
    """A short run, trained to its end without pictures."""
    settings = {"steps": 6, "batch_size": 2, "eval_every": 3, "device": "cpu", "threads": 1}
    plan = prepare(Request(data=str(text_file), model=TINY, train=settings, name="run", out=str(tmp_path / "runs")))
    list(plan.build())
    plan.release()
    return plan.run


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (TrainConfig, {"steps": 0}, "--steps 0: expected a whole number >= 1"),
        (TrainConfig, {"batch_size": -1}, "--batch-size -1: expected a whole number >= 1"),
        (TrainConfig, {"epochs": 0.0}, "--epochs 0: expected a number > 0"),
        (TrainConfig, {"learning_rate": math.nan}, "--learning-rate nan: expected a number > 0"),
        (TrainConfig, {"minutes": math.inf}, "--minutes inf: expected a number <= 1000000000"),
        (TrainConfig, {"threads": 2.5}, "--threads 2.5: expected a whole number, got a number"),
        (TrainConfig, {"steps": 5, "epochs": 1.0}, "--steps 5 and --epochs 1 contradict each other; give one of them"),
        (
            TrainConfig,
            {"device": "cud"},
            "unknown device 'cud'; did you mean 'cuda'? known: auto, cpu, cuda, cuda:0, mps",
        ),
        (TrainConfig, {"precision": "bf17"}, "unknown precision 'bf17'; did you mean 'bf16'? known: auto, fp32, bf16"),
        (SampleConfig, {"top_p": 1.5}, "--top-p 1.5: expected a number <= 1"),
        (
            ModelConfig,
            {"vocab_size": 9, "embed_dim": 10, "num_heads": 3},
            "--embed-dim 10 is not divisible by --num-heads 3; try --num-heads 2 or --embed-dim 12",
        ),
    ],
)
def test_a_setting_out_of_range_is_named_as_it_is_typed(kind, settings, message):
    with pytest.raises(UsageError) as caught:
        kind(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "clasic"}, "did you mean 'classic'"),
        ({"ablate": ("no-layernrm",)}, "did you mean 'no-layernorm'"),
        ({"vocab_size": 1}, "--vocab-size 1: expected a whole number >= 2"),
        ({"model": {"embed_dim": 10, "num_heads": 3}}, "--embed-dim 10"),
        ({"train": {"steps": 0}}, "--steps 0"),
        ({"data": "nowhere.txt"}, "no such file or corpus"),
        ({"model": {"seq_len": 10_000}}, "too short"),
        ({"name": "a/b"}, "--out chooses the folder"),
    ],
)
def test_a_request_that_is_refused_creates_nothing(text_file, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        prepare(Request(**{"data": str(text_file), "model": TINY, "out": str(tmp_path / "runs"), **change}))
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_a_run_that_cannot_start_leaves_no_folder_and_one_that_trained_stays(text_file, tmp_path, run):
    plan = prepare(Request(data=str(text_file), model=TINY, name="new", out=str(tmp_path / "runs")))
    assert plan.run.path.is_dir()
    plan.build()
    plan.discard()
    assert not plan.run.path.exists()

    before = files(run.path)
    prepare_resume("run", {}, str(tmp_path / "runs")).discard()
    assert files(run.path) == before


def test_sizes_nobody_asked_for_are_those_of_the_device(run):
    config = read_config(run)
    assert config["model"]["ff_mult"] == 4
    assert config["train"]["batch_size"] == 2
    assert DEFAULT_SIZES["cpu"]["n_layers"] == 4
    assert config["devices"]["reasons"].keys() >= {"device", "precision", "attention", "threads"}


def test_a_resume_changes_the_length_and_nothing_else(tmp_path, run):
    runs = str(tmp_path / "runs")
    for name, value in {"n_layers": 3, "batch_size": 4, "preset": "classic", "data": "x", "seed": 1}.items():
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} cannot change"):
            prepare_resume("run", {name: value}, runs)
    before = files(run.path)
    plan = prepare_resume("run", {"steps": 5}, runs)
    with pytest.raises(UsageError, match="--steps 5: the run has made 6 steps"):
        plan.build()
    plan.release()
    assert files(run.path) == before

    plan = prepare_resume("run", {"steps": 9}, runs)
    assert [row.step for row in plan.build()] == [7, 8, 9]
    plan.release()


def test_a_run_from_before_several_processes_is_resumed_by_one(tmp_path, run):
    config = read_config(run)
    del config["devices"]["nproc"]
    run.config.write_text(json.dumps(config))
    plan = prepare_resume("run", {}, str(tmp_path / "runs"))
    plan.release()
    assert plan.place.size == 1


def test_a_resumed_run_stays_on_its_gpu_or_knows_the_one_it_is_on():
    def found(*free, uuids):
        return Facts(cuda_free=free, cuda_bf16=(True,) * len(free), cuda_names=uuids, cuda_uuids=uuids)

    def resumed(facts, device="auto"):
        train = TrainConfig(device=device)
        config = {"devices": msgspec.to_builtins(decide(found(9, 1, uuids=("A", "B")), TrainConfig(), 64))}
        devices = resumed_devices(facts, config, train, 64)
        assert devices.gpu == devices.gpu_uuid
        return devices.device, devices.gpu

    assert resumed(found(1, 9, uuids=("A", "B"))) == ("cuda:0", "A")
    assert resumed(found(9, 1, uuids=("B", "A"))) == ("cuda:1", "A")
    assert resumed(found(9, 1, uuids=("A", "B")), "cuda:1") == ("cuda:1", "B")
    assert resumed(found(9, 1, uuids=("C", "D"))) == ("cuda:0", "C")


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path, run):
    plan = prepare_resume("run", {}, str(tmp_path / "runs"))
    with pytest.raises(UserError, match="being trained already"):
        prepare_resume("run", {}, str(tmp_path / "runs"))
    plan.release()


def test_a_resume_without_a_checkpoint_or_with_a_damaged_one_is_refused(tmp_path, run):
    good = run.checkpoint.read_bytes()
    flipped = bytearray(good)
    middle = len(good) // 2
    flipped[middle : middle + 200] = bytes(200)  # more than the padding between two tensors
    for bad in (b"", b"\x80\x02random", good[: len(good) // 2], bytes(flipped)):
        run.checkpoint.write_bytes(bad)
        plan = prepare_resume("run", {}, str(tmp_path / "runs"))
        with pytest.raises(UserError, match=r"is not a minigpt-tui checkpoint|is damaged"):
            plan.build()
        plan.discard()
        assert run.checkpoint.read_bytes() == bad
    run.checkpoint.unlink()
    with pytest.raises(UserError, match="has no checkpoint yet"):
        prepare_resume("run", {}, str(tmp_path / "runs"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": 1, "train": 2, "corpus": 3, "devices": 4}'])
def test_a_damaged_configuration_is_one_clear_error(run, content):
    run.config.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        read_config(run)


def test_the_text_of_a_run_comes_from_the_run_else_from_an_unchanged_source(text, text_file, run):
    from minigpt_core.stored import read_tokenizer

    tokenizer, corpus, stored = read_tokenizer(run), read_config(run)["corpus"], run.tokens / "tokens.npy"
    tokens = read_tokens(run, tokenizer, corpus)
    assert tokenizer.decode(tokens) == text
    assert text[int(len(text) * 0.9) :].startswith(validation_text(run, 20))

    stored.write_bytes(b"damaged")
    for read in (lambda: read_tokens(run, tokenizer, corpus), lambda: validation_text(run, 20)):
        with pytest.raises(UserError, match=r"cannot read .*tokens\.npy"):
            read()
    stored.unlink()
    assert validation_text(run, 20) is None
    assert np.array_equal(read_tokens(run, tokenizer, corpus), tokens)
    text_file.write_text(text + "more", encoding="utf-8")
    with pytest.raises(UserError, match="has changed since"):
        read_tokens(run, tokenizer, corpus)


def test_104_symbols_and_a_small_vocabulary(tmp_path):
    symbols = "".join(chr(0x400 + i) for i in range(104)) * 40
    (tmp_path / "symbols.txt").write_text(symbols, encoding="utf-8")
    for vocab_size, expected in ((None, 104), (20, 20)):
        request = Request(
            data=str(tmp_path / "symbols.txt"),
            vocab_size=vocab_size,
            model=TINY,
            train={"steps": 2, "device": "cpu", "threads": 1},
            out=str(tmp_path / "runs"),
        )
        plan = prepare(request)
        assert plan.tokenizer.vocab_size == expected
        assert [row.step for row in plan.build()] == [1, 2]
        plan.release()
