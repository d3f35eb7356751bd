"""What machine this is, read without torch: cores, memory, GPUs as the driver sees them, live readings."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from minigpt_core.status import Reading

CGROUP = Path("/sys/fs/cgroup")
READING_SECONDS = 0.5
"""Readings are no fresher than this: a screen may ask as often as it likes."""


class Gpu(msgspec.Struct, frozen=True):
    """A GPU the NVIDIA driver knows, whether torch can use it or not."""

    index: int
    name: str
    uuid: str
    total_bytes: int
    free_bytes: int


# --- processor and memory ---


def cpu_count() -> int:
    """Cores this process may keep busy: its affinity, and the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores(allowed, _read("cpu.max"))


def cores(allowed: int, cpu_max: str | None) -> int:
    """The smaller of the allowed cores and a cgroup's `cpu.max` ("200000 100000" is two cores, "max 100000" no limit)."""
    quota, _, period = (cpu_max or "max").partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return allowed
    return max(1, min(allowed, round(int(quota) / int(period))))


def available_memory() -> int:
    """Bytes that can still be taken, within the container's limit if there is one."""
    return free_memory(psutil.virtual_memory().available, _read("memory.max"), _read("memory.current"))


def free_memory(available: int, limit: str | None, used: str | None) -> int:
    """The smaller of what the machine and the cgroup (`memory.max`, `memory.current`) have left."""
    if limit is None or used is None or not limit.isdigit() or not used.isdigit():
        return available
    return max(0, min(available, int(limit) - int(used)))


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices natively."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return has_bf16(flags)


def has_bf16(cpuinfo: str) -> bool:
    """From the flags in /proc/cpuinfo: AVX512-BF16 or AMX on x86, BF16 on Arm."""
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())
    return False


def _read(name: str) -> str | None:
    try:
        return (CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


# --- GPUs ---


@functools.cache
def _nvml() -> tuple[Any, str]:
    """The NVML library, initialised once, or None and why not."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return None, "the package nvidia-ml-py is not installed"
    except Exception as error:  # NVMLError, and whatever a broken driver raises
        return None, f"no NVIDIA driver ({error})"
    return pynvml, ""


def gpus() -> tuple[list[Gpu], str]:
    """The GPUs the driver knows and CUDA_VISIBLE_DEVICES leaves; if there are none, why. Never raises."""
    nvml, reason = _nvml()
    if nvml is None:
        return [], reason
    found = []
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
            found.append(Gpu(index, name, uuid, int(memory.total), int(memory.free)))
    except nvml.NVMLError as error:
        return [], f"the NVIDIA driver does not answer ({error})"
    left = visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if left:
        return left, ""
    return [], "CUDA_VISIBLE_DEVICES hides every GPU" if found else "the NVIDIA driver knows no GPU"


def visible(found: list[Gpu], setting: str | None) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; like CUDA, it ends at the first entry that is none."""
    if setting is None:
        return found
    left: list[Gpu] = []
    for entry in (part.strip() for part in setting.split(",")):
        match = [g for g in found if entry == str(g.index) or (entry.startswith("GPU-") and g.uuid.startswith(entry))]
        if not match:
            break
        left.append(match[0])
    return left


class Monitor:
    """Live readings of this process and of one GPU."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark that the next one measures from
        self._last = Reading()
        self._taken = 0.0
        self.gpu: int | None = None
        """Which of `gpus()` to read; None reads none."""

    def reading(self) -> Reading:
        now = time.monotonic()
        if now - self._taken >= READING_SECONDS:
            self._taken = now
            self._last = Reading(
                cpu_percent=self._process.cpu_percent(),
                memory_bytes=self._process.memory_info().rss,
                **self._gpu_reading(),
            )
        return self._last

    def _gpu_reading(self) -> dict[str, Any]:
        if self.gpu is None:
            return {}
        nvml, _ = _nvml()
        known, _ = gpus()
        if nvml is None or self.gpu >= len(known):
            return {}
        gpu = known[self.gpu]
        reading: dict[str, Any] = {
            "gpu_name": gpu.name,
            "gpu_memory_bytes": gpu.total_bytes - gpu.free_bytes,
            "gpu_memory_total": gpu.total_bytes,
        }
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(gpu.index)
            reading["gpu_percent"] = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            reading["gpu_celsius"] = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        except nvml.NVMLError:  # some cards have no such sensor
            pass
        return reading
