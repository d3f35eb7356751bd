"""Where a run computes and how: device, precision, attention path, compilation, threads, each with its reason.

`survey` looks at the machine, `decide` is a pure function of what was found. Decisions are made once, before step 0,
from the tables here and never from a clock, and are written to the run: looking changes nothing, and a resume repeats
them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Literal, cast

import msgspec
import torch
from torch import nn

from minigpt_core import hardware
from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.errors import UsageError, UserError

Kind = Literal["cpu", "gpu"]

EXPLICIT_UP_TO = 256
"""On a CPU in bf16 the fused kernel's backward pass is several times slower than the explicit path on short texts."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine offers."""

    cores: int = 1
    cpu_bf16: bool = False
    """The CPU multiplies bf16 matrices natively (AVX512-BF16 or AMX)."""
    cuda_free: tuple[int, ...] = ()
    """Free bytes of each CUDA device that torch can use."""
    cuda_bf16: bool = False
    mps: bool = False
    nvml_gpus: tuple[str, ...] = ()
    """GPUs the driver knows, whether torch can use them or not."""
    torch_cuda: str | None = None
    """The CUDA version torch was built for; None is a CPU build."""


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """The decisions, and in `reasons` why each was taken."""

    device: str
    precision: Literal["fp32", "bf16"]
    attention: Literal["explicit", "fused"]
    compile: bool
    threads: int
    reasons: dict[str, str]
    warning: str | None = None

    @property
    def kind(self) -> Kind:
        return "cpu" if self.device == "cpu" else "gpu"

    @property
    def autocast(self) -> torch.autocast:
        enabled = self.precision == "bf16"
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=enabled)


def survey() -> Facts:
    """Look at this machine, once, without disturbing it."""
    cuda = torch.cuda.is_available()
    visible, _ = hardware.gpus()
    return Facts(
        cores=hardware.cpu_count(),
        cpu_bf16=hardware.cpu_has_bf16(),
        cuda_free=tuple(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())) if cuda else (),
        cuda_bf16=cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        mps=torch.backends.mps.is_available(),
        nvml_gpus=tuple(gpu.name for gpu in visible),
        torch_cuda=torch.version.cuda,
    )


def decide(facts: Facts, config: TrainConfig, seq_len: int) -> Devices:
    """Choose everything a run needs to know about its device.

    Raises:
        UserError: the device asked for is not there; the message says what is.
    """
    device, why_device = _device(facts, config.device)
    kind = device.split(":")[0]
    precision, why_precision = _precision(facts, config.precision, kind)
    attention, why_attention = _attention(config.attention, kind, precision, seq_len)
    threads = config.threads or facts.cores
    return Devices(
        device=device,
        precision=precision,
        attention=attention,
        compile=config.compile == "on",
        threads=threads,
        reasons={
            "device": why_device,
            "precision": why_precision,
            "attention": why_attention,
            "compile": "asked for" if config.compile != "auto" else "off unless asked for: it delays the first step",
            "threads": "asked for" if config.threads else f"the {facts.cores} cores this process may use",
        },
        warning=_unusable_gpu(facts) if kind == "cpu" and config.device != "cpu" else None,
    )


def _device(facts: Facts, wanted: str) -> tuple[str, str]:
    name, _, index = wanted.partition(":")
    if name not in ("auto", "cpu", "cuda", "mps") or (index and (name != "cuda" or not index.isdigit())):
        raise UsageError(f"unknown device {wanted!r}; use auto, cpu, cuda, cuda:N or mps")
    if name == "cuda" and not facts.cuda_free:
        raise UserError(f"--device {wanted}: {_unusable_gpu(facts) or 'no CUDA GPU found'}; use --device cpu")
    if name == "mps" and not facts.mps:
        raise UserError("--device mps: not available here; use --device cpu")
    if index and int(index) >= len(facts.cuda_free):
        last = len(facts.cuda_free) - 1
        raise UserError(f"--device {wanted}: this process sees {len(facts.cuda_free)} CUDA GPU(s), 0 to {last}")
    if index:
        return wanted, "asked for"
    if name == "cuda" or (name == "auto" and facts.cuda_free):
        best = max(range(len(facts.cuda_free)), key=lambda i: facts.cuda_free[i])
        return f"cuda:{best}", f"the GPU with most free memory ({facts.cuda_free[best] / 2**30:.1f} GiB)"
    if name == "mps" or (name == "auto" and facts.mps):
        return "mps", "Apple's GPU"
    return "cpu", "asked for" if name == "cpu" else (_unusable_gpu(facts) or "no GPU found")


def _unusable_gpu(facts: Facts) -> str | None:
    """Why a GPU that the driver knows cannot be used, and the way out; None if there is no such GPU."""
    if not facts.nvml_gpus or facts.cuda_free:
        return None
    if facts.torch_cuda is None:
        return f"{facts.nvml_gpus[0]} is there, but this torch is a CPU build: install a CUDA build of torch"
    return (
        f"{facts.nvml_gpus[0]} is there, but torch (CUDA {facts.torch_cuda}) cannot use it: "
        "update the NVIDIA driver, install a torch for an older CUDA, or check CUDA_VISIBLE_DEVICES"
    )


def _precision(facts: Facts, wanted: str, kind: str) -> tuple[Literal["fp32", "bf16"], str]:
    native = facts.cuda_bf16 if kind == "cuda" else facts.cpu_bf16 if kind == "cpu" else False
    if wanted == "bf16":
        return "bf16", "asked for" if native else "asked for, though this device only emulates it"
    if wanted == "fp32":
        return "fp32", "asked for"
    return ("bf16", "native on this device") if native else ("fp32", "this device has no native bf16")


def _attention(wanted: str, kind: str, precision: str, seq_len: int) -> tuple[Literal["explicit", "fused"], str]:
    if wanted == "explicit":
        return "explicit", "asked for"
    if wanted == "fused":
        return "fused", "asked for"
    if kind == "cpu" and precision == "bf16" and seq_len <= EXPLICIT_UP_TO:
        return "explicit", f"faster than the fused kernel in bf16 on a CPU up to {EXPLICIT_UP_TO} tokens"
    return "fused", "the fused kernel never forms the attention matrix"


def training_bytes(model: ModelConfig, n_params: int, batch_size: int, devices: Devices) -> int:
    """Roughly what training takes: weights, gradients and AdamW's two moments, and the activations kept for backward.

    Source for the activations of a block: Korthikanti et al. 2022, arXiv 2205.05198, equation 1, in half precision.
    """
    width = 2 if devices.precision == "fp32" else 1
    tokens = batch_size * model.seq_len
    block = 34 * model.embed_dim + (5 * model.num_heads * model.seq_len if devices.attention == "explicit" else 0)
    logits = 3 * 4 * model.vocab_size
    return 16 * n_params + tokens * (width * model.n_layers * block + logits)


def compiled(model: nn.Module) -> tuple[nn.Module, str | None]:
    """`torch.compile(model)`, or the model itself and why not."""
    try:
        return cast(nn.Module, torch.compile(model)), None
    except Exception as error:
        return model, f"not compiled: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


class WeightGate:
    """Keeps a copy of the weights whole: no reader sees a step half done, no step overwrites what is being copied.

    On a CPU a lock says it all. On CUDA launches are asynchronous, so readers' streams wait for an event recorded after
    the last change and the next change waits for the readers' events; the lock only orders the launches.
    """

    def __init__(self, device: str) -> None:
        self._lock = threading.Lock()
        self._cuda = torch.device(device).type == "cuda"
        self._written: torch.cuda.Event | None = None
        self._copied: list[torch.cuda.Event] = []

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Around every change of weights: an optimizer step, a load, a restore."""
        with self._lock:
            for copied in self._copied:
                torch.cuda.current_stream().wait_event(copied)
            self._copied.clear()
            yield
            if self._cuda:
                self._written = torch.cuda.current_stream().record_event()

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        """Around a copy of the weights; on CUDA the copy runs on the calling thread's current stream."""
        with self._lock:
            if self._written is not None:
                torch.cuda.current_stream().wait_event(self._written)
            yield
            if self._cuda:
                self._copied.append(torch.cuda.current_stream().record_event())


def enter_thread(device: str, threads: int, own_stream: bool = False) -> None:
    """First thing in every thread that computes: its CPU thread count and its place on the GPU.

    `torch.set_num_threads` sets the caller's count and the default of threads started later, so each sets its own.
    A replica computes on a stream of its own, so that it need not queue behind the trainer's kernels.
    """
    torch.set_num_threads(threads)
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
        if own_stream:
            torch.cuda.set_stream(torch.cuda.Stream())
