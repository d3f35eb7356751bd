"""What machine this is, read without torch: cores, memory, GPUs as the driver sees them, live readings."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

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
    """The smaller of the allowed cores and a cgroup's `cpu.max` ("200000 100000" is two, "max 100000" no limit)."""
    quota, _, period = (cpu_max or "max").partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return allowed
    return max(1, min(allowed, round(int(quota) / int(period))))


def available_memory() -> int:
    """Bytes that can still be taken, within the container's limit if there is one."""
    files = _read("memory.max"), _read("memory.current"), _read("memory.stat")
    import psutil

    return free_memory(psutil.virtual_memory().available, *files)


def memory_taken() -> float | None:
    """Share of the memory that is taken, 0 to 1: of the container's limit, or else of the machine's."""
    import psutil

    limit = _read("memory.max")
    total = psutil.virtual_memory().total
    if limit is not None and limit.isdigit():
        total = min(total, int(limit))
    return 1 - available_memory() / total if total else None


def free_memory(available: int, limit: str | None, used: str | None, stat: str | None = None) -> int:
    """The smaller of what the machine and the cgroup (`memory.max`, `memory.current`, `memory.stat`) have left."""
    if limit is None or used is None or not limit.isdigit() or not used.isdigit():
        return available
    # `used` counts cached files too, which the kernel drops when memory is needed.
    cached = next((int(n) for n in _values(stat or "", "inactive_file")), 0)
    return max(0, min(available, int(limit) - int(used) + cached))


def _values(table: str, name: str) -> list[str]:
    """The numbers that stand after a name in the kernel's "name number" lines."""
    rows = (line.split() for line in table.splitlines())
    return [row[1] for row in rows if len(row) == 2 and row[0] == name and row[1].isdigit()]


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


def driver_gpus() -> tuple[list[Gpu], str]:
    """All GPUs the driver knows; if there are none, why. Never raises."""
    nvml, reason = _nvml()
    if nvml is None:
        return [], reason
    found = []
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                total, free = int(memory.total), int(memory.free)
            except nvml.NVMLError:  # shares the machine's memory, as GB10 does
                import psutil

                total, free = psutil.virtual_memory().total, psutil.virtual_memory().available
            found.append(Gpu(index, name, uuid, total, free))
    except nvml.NVMLError as error:
        return [], f"the NVIDIA driver does not answer ({error})"
    return found, "" if found else "the NVIDIA driver knows no GPU"


def gpus() -> tuple[list[Gpu], str]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves; if there are none, why."""
    found, reason = driver_gpus()
    left = visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return left, reason if left or not found else "CUDA_VISIBLE_DEVICES hides every GPU"


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


def give_way() -> None:
    """Let every other thread of this process go first: what the calling thread and its helpers compute can wait.

    For a trainer somebody watches: a key press or a token then need not wait for its cores. Linux only, where a thread
    has a priority of its own.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)


class Monitor:
    """Live readings of this process and of one GPU.

    Attributes:
        gpu_uuid: the GPU to read; None reads none.
    """

    def __init__(self) -> None:
        self.gpu_uuid: str | None = None
        import psutil  # not at the top: it would delay the first frame

        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark that the next one measures from
        self._last = Reading()
        self._taken = 0.0

    def reading(self) -> Reading:
        now = time.monotonic()
        if now - self._taken >= READING_SECONDS:
            self._taken = now
            self._last = Reading(
                cpu_percent=self._process.cpu_percent(),
                memory_bytes=self._process.memory_info().rss,
                cores=cpu_count(),
                machine_memory=memory_taken(),
                **gpu_reading(self.gpu_uuid),
            )
        return self._last


def gpu_reading(uuid: str | None) -> dict[str, Any]:
    """The fields of `Reading` about one GPU; those it has no sensor for are left out."""
    if uuid is None:
        return {}
    nvml, _ = _nvml()
    if nvml is None:
        return {}
    reading: dict[str, Any] = {}
    with contextlib.suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        reading["gpu_name"] = nvml.nvmlDeviceGetName(handle)
        with contextlib.suppress(nvml.NVMLError):
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            reading["gpu_memory_bytes"], reading["gpu_memory_total"] = int(memory.used), int(memory.total)
        with contextlib.suppress(nvml.NVMLError):
            reading["gpu_percent"] = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        with contextlib.suppress(nvml.NVMLError):
            reading["gpu_celsius"] = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return reading
