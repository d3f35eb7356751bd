"""Where a benchmark ran: without this a figure says little."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minigpt_core import hardware


def facts() -> dict[str, Any]:
    """Plain JSON types; what is not there is None."""
    import psutil

    return {
        "cpu": cpu_model(),
        "cores": hardware.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "bf16": hardware.cpu_has_bf16(),
        "gpu": [gpu.name for gpu in hardware.gpus()[0]],
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: installed(package) for package in ("minigpt-tui", "torch", "transformers")},
    }


def cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return model_name(text) or platform.processor() or platform.machine()


def model_name(cpuinfo: str) -> str:
    """From /proc/cpuinfo, the first "model name"; empty where it tells none, as on Arm."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
