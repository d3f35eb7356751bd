"""Decisions about devices, on facts made up here: no GPU is needed to know what would be chosen."""

import threading

import pytest
import torch

from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.devices import Facts, WeightGate, decide, training_bytes
from minigpt_core.errors import UserError
from minigpt_core.sizes import complete_sizes, count_parameters, decide_sizes

GIB = 2**30
CPU = Facts(cores=8)
TWO_GPUS = Facts(
    cores=8, cuda_free=(2 * GIB, 20 * GIB), cuda_bf16=(False, True), nvml_gpus=("L4", "L4"), torch_cuda="12.8"
)
CPU_WHEEL = Facts(cores=8, nvml_gpus=("NVIDIA L4",))
OLD_DRIVER = Facts(cores=8, nvml_gpus=("NVIDIA L4",), torch_cuda="13.0")


def chosen(facts, seq_len=64, **settings):
    return decide(facts, TrainConfig(**settings), seq_len)


def test_auto_takes_the_gpu_with_most_free_memory_in_bf16():
    devices = chosen(TWO_GPUS)
    assert (devices.device, devices.precision, devices.attention) == ("cuda:1", "bf16", "fused")
    assert "20.0 GiB" in devices.reasons["device"]


def test_a_named_gpu_is_honoured_and_a_missing_one_refused():
    assert chosen(TWO_GPUS, device="cuda:0").device == "cuda:0"
    with pytest.raises(UserError, match="0 to 1"):
        chosen(TWO_GPUS, device="cuda:2")
    with pytest.raises(UserError, match="no CUDA GPU found"):
        chosen(CPU, device="cuda")
    with pytest.raises(UserError, match="unknown device 'tpu'"):
        chosen(CPU, device="tpu")


@pytest.mark.parametrize(("facts", "way_out"), [(CPU_WHEEL, "CUDA build of torch"), (OLD_DRIVER, "update the NVIDIA")])
def test_a_gpu_torch_cannot_use_is_never_passed_over_in_silence(facts, way_out):
    devices = chosen(facts)
    assert devices.device == "cpu"
    assert "NVIDIA L4" in devices.warning
    assert way_out in devices.warning
    assert chosen(facts, device="cpu").warning is None
    with pytest.raises(UserError, match=way_out):
        chosen(facts, device="cuda")


def test_precision_follows_what_the_device_has():
    assert chosen(CPU).precision == "fp32"
    assert chosen(Facts(cpu_bf16=True)).precision == "bf16"
    assert chosen(CPU, precision="bf16").precision == "bf16"
    assert "emulates" in chosen(CPU, precision="bf16").reasons["precision"]
    old_gpu = Facts(cuda_free=(GIB,), cuda_bf16=(False,))
    assert chosen(old_gpu).precision == "fp32"
    assert chosen(Facts(mps=True)).device == "mps"


def test_the_attention_path_comes_from_the_table():
    bf16 = Facts(cpu_bf16=True)
    assert chosen(bf16, seq_len=64).attention == "explicit"
    assert chosen(bf16, seq_len=1024).attention == "fused"
    assert chosen(CPU).attention == "fused"
    assert chosen(CPU, attention="explicit").attention == "explicit"


def test_every_decision_has_a_reason():
    for facts in (CPU, TWO_GPUS, CPU_WHEEL):
        devices = chosen(facts)
        assert set(devices.reasons) == {"device", "precision", "attention", "compile", "threads"}
        assert all(devices.reasons.values())


def test_sizes_follow_the_device():
    small, train, _ = decide_sizes(CPU, {}, {}, 65)
    assert count_parameters(small) == 809_856
    assert train.batch_size == 12
    large, train, _ = decide_sizes(TWO_GPUS, {}, {}, 65)
    assert 10_600_000 < count_parameters(large) < 10_900_000
    assert train.batch_size == 64


def test_a_default_batch_shrinks_to_fit_a_gpu_and_a_wanted_one_does_not():
    full = Facts(cuda_free=(GIB,), cuda_bf16=(True,))
    model, train, devices = decide_sizes(full, {}, {}, 65)
    assert train.batch_size < 64
    assert training_bytes(model, count_parameters(model), train.batch_size, devices) <= 0.8 * GIB
    assert decide_sizes(full, {}, {"batch_size": 64}, 65)[1].batch_size == 64


def test_what_is_left_open_fits_what_is_given():
    assert complete_sizes("cpu", {"embed_dim": 100}, {}, 65)[0].num_heads == 4
    assert complete_sizes("cpu", {"embed_dim": 9}, {}, 65)[0].num_heads == 3
    assert complete_sizes("cpu", {"num_heads": 3}, {}, 65)[0].embed_dim == 129


def test_a_copy_never_sees_half_a_change():
    gate, weights, torn = WeightGate("cpu"), torch.zeros(1000), []
    stop = threading.Event()

    def change():
        while not stop.is_set():
            with gate.changing():
                for part in weights.chunk(50):
                    part.add_(1)

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(200):
        with gate.copying():
            copy = weights.clone()
        torn.append(copy.unique().numel() > 1)
    stop.set()
    thread.join()
    assert not any(torn)
    assert weights.max() > 10


def test_the_estimate_grows_with_everything_that_costs_memory():
    devices = chosen(CPU)
    base = ModelConfig(vocab_size=65)

    def cost(batch=12, **changes):
        config = base.replace(**changes)
        return training_bytes(config, count_parameters(config), batch, devices)

    assert cost() < cost(batch=24) < cost(batch=24, seq_len=128) < cost(batch=24, seq_len=128, n_layers=8)
