"""Facts about the machine, on facts made up here and on this machine."""

import os
from types import SimpleNamespace

import pytest

from minigpt_core import hardware
from minigpt_core.hardware import Gpu, Monitor, cores, free_memory, has_bf16, visible

GPUS = [Gpu(i, "NVIDIA L4", f"GPU-{i}abc", 24 * 2**30, 20 * 2**30) for i in range(3)]


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [(None, 8), ("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8), ("rubbish", 8)],
)
def test_cores_respect_the_container(cpu_max, expected):
    assert cores(8, cpu_max) == expected


def test_memory_respects_the_container():
    assert free_memory(100, None, None) == 100
    assert free_memory(100, "max", "10") == 100
    assert free_memory(100, "50", "20") == 30
    assert free_memory(100, "50", "60") == 0
    assert free_memory(100, "50", "45", "anon 5\ninactive_file 30\n") == 35  # cached files can be dropped


def test_bf16_is_read_from_the_flags():
    assert has_bf16("model name\t: x\nflags\t\t: avx2 avx512_bf16 fma\n")
    assert has_bf16("Features\t: fp asimd bf16\n")
    assert not has_bf16("flags\t\t: avx2 avx512f\nbugs\t\t: amx_bf16\n")


def test_cuda_visible_devices_is_followed_as_cuda_does():
    assert visible(GPUS, None) == GPUS
    assert visible(GPUS, "") == []
    assert [g.index for g in visible(GPUS, "2,0")] == [2, 0]
    assert [g.index for g in visible(GPUS, "GPU-1abc")] == [1]
    assert [g.index for g in visible(GPUS, "1,-1,0")] == [1]


def test_a_gpu_without_memory_of_its_own_is_still_a_gpu(monkeypatch):
    class NVMLError(Exception):
        pass

    def not_supported(handle):
        raise NVMLError("Not Supported")

    driver = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=not_supported,
        nvmlDeviceGetName=lambda handle: "NVIDIA GB10",
        nvmlDeviceGetUUID=lambda handle: "GPU-1",
    )
    monkeypatch.setattr(hardware, "_nvml", lambda: (driver, ""))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found, reason = hardware.gpus()
    assert [gpu.name for gpu in found] == ["NVIDIA GB10"]
    assert reason == ""


def test_this_machine_answers():
    assert 1 <= hardware.cpu_count() <= (os.cpu_count() or 1)
    assert hardware.available_memory() > 2**20
    found, reason = hardware.gpus()
    assert bool(found) != bool(reason)


def test_readings_are_live_and_cheap_to_ask_for():
    monitor = Monitor()
    first = monitor.reading()
    assert first.memory_bytes > 2**20
    assert first.gpu_name is None
    assert monitor.reading() is first
