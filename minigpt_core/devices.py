"""Where a run computes and how: device, precision, attention path, compilation, threads, each with its reason.

`survey` looks at the machine, `decide` is a pure function of what was found. Decisions are made once, before step 0,
from the tables here and never from a clock, and are written to the run: looking changes nothing, and a resume repeats
them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Literal, cast

import msgspec
import torch
from torch import Tensor, nn

from minigpt_core import hardware
from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_core.errors import UsageError, UserError
from minigpt_core.ranks import ALONE, Place

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
    cuda_bf16: tuple[bool, ...] = ()
    """Whether each multiplies bf16 matrices natively."""
    cuda_names: tuple[str, ...] = ()
    cuda_uuids: tuple[str, ...] = ()
    """Each one's name to the driver."""
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
    """Of each process."""
    reasons: dict[str, str]
    nproc: int = 1
    """Processes that share each batch."""
    warning: str | None = None
    gpu: str | None = None
    """The chosen CUDA device, as people call it."""
    gpu_uuid: str | None = None
    """The chosen CUDA device's name to the driver, for live readings."""

    @property
    def kind(self) -> Kind:
        """What the default sizes go by."""
        return "cpu" if self.device == "cpu" else "gpu"

    @property
    def replica_device(self) -> str:
        """Where prompts and probes compute: beside training, but on MPS, which serves one thread only, on the CPU."""
        return "cpu" if self.device == "mps" else self.device

    @property
    def autocast(self) -> torch.autocast:
        enabled = self.precision == "bf16"
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=enabled)


def survey() -> Facts:
    """Look at this machine, once, without disturbing it: no context is made on a GPU nobody chose."""
    cuda = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    uuids = tuple(f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in cuda)
    driver = {gpu.uuid: gpu for gpu in hardware.driver_gpus()[0]}
    native = torch.version.hip is not None
    return Facts(
        cores=hardware.cpu_count(),
        cpu_bf16=hardware.cpu_has_bf16(),
        cuda_free=tuple(
            driver[uuid].free_bytes if uuid in driver else torch.cuda.mem_get_info(i)[0] for i, uuid in enumerate(uuids)
        ),
        cuda_bf16=tuple(native or torch.cuda.get_device_capability(i)[0] >= 8 for i in cuda),
        cuda_names=tuple(torch.cuda.get_device_name(i) for i in cuda),
        cuda_uuids=uuids,
        mps=torch.backends.mps.is_available(),
        nvml_gpus=tuple(gpu.name for gpu in hardware.gpus()[0]),
        torch_cuda=torch.version.cuda,
    )


def decide(facts: Facts, config: TrainConfig, seq_len: int, place: Place = ALONE) -> Devices:
    """Choose everything a run needs to know about its device; `place` is this process's among those that train it.

    Raises:
        UserError: the device asked for is not there; the message says what is.
    """
    device, why_device = _device(facts, config.device) if place.size == 1 else _own_device(facts, config.device, place)
    backend, _, index = device.partition(":")
    native = facts.cuda_bf16[int(index)] if backend == "cuda" else facts.cpu_bf16 if backend == "cpu" else False
    precision, why_precision = _precision(native, config.precision)
    attention, why_attention = _attention(config.attention, backend, precision, seq_len)
    threads = config.threads or max(1, facts.cores // place.local_size)
    return Devices(
        device=device,
        precision=precision,
        attention=attention,
        compile=config.compile == "on",
        threads=threads,
        nproc=place.size,
        reasons={
            "device": why_device,
            "precision": why_precision,
            "attention": why_attention,
            "compile": "asked for" if config.compile != "auto" else "off unless asked for: it delays the first step",
            "threads": "asked for" if config.threads else _why_threads(facts.cores, place.local_size),
        },
        warning=_unusable_gpu(facts) if backend == "cpu" and config.device != "cpu" else None,
        gpu=facts.cuda_names[int(index)] if backend == "cuda" and facts.cuda_names else None,
        gpu_uuid=facts.cuda_uuids[int(index)] if backend == "cuda" and facts.cuda_uuids else None,
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


def _own_device(facts: Facts, wanted: str, place: Place) -> tuple[str, str]:
    """Of one of several processes: each has a GPU of its own, or its share of the CPU."""
    name = _device(facts, wanted)[0].partition(":")[0]
    if name == "cpu":
        return _device(facts, wanted)
    if name == "mps":
        raise UserError(f"--nproc {place.size}: there is one Apple GPU; use --nproc 1 or --device cpu")
    if ":" in wanted:
        raise UsageError(f"--device {wanted} is one GPU, for --nproc {place.size}; use --device cuda")
    found = len(facts.cuda_free)
    if (index := place.gpu(found)) is not None:
        return f"cuda:{index}", f"one of {place.local_size}, each process has its own"
    if place.launched:
        raise UserError(
            f"{place.local_size} processes were started on this machine, but this one sees {found} CUDA GPU(s); "
            "start one for each GPU, or use --device cpu"
        )
    raise UserError(f"--nproc {place.local_size}: this process sees {found} CUDA GPU(s); use --nproc {found}")


def _why_threads(cores: int, processes: int) -> str:
    whole = f"the {cores} cores this process may use"
    return whole if processes == 1 else f"{whole}, shared by {processes}"


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


def _precision(native: bool, wanted: str) -> tuple[Literal["fp32", "bf16"], str]:
    if wanted == "bf16":
        return "bf16", "asked for" if native else "asked for, though this device only emulates it"
    if wanted == "fp32":
        return "fp32", "asked for"
    return ("bf16", "native on this device") if native else ("fp32", "this device has no native bf16")


def _attention(wanted: str, backend: str, precision: str, seq_len: int) -> tuple[Literal["explicit", "fused"], str]:
    if wanted == "explicit":
        return "explicit", "asked for"
    if wanted == "fused":
        return "fused", "asked for"
    if backend == "cpu" and precision == "bf16" and seq_len <= EXPLICIT_UP_TO:
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


def compiled(model: nn.Module, inputs: Tensor) -> tuple[Callable[[Tensor], Tensor], str | None]:
    """`torch.compile(model)`, tried forwards and backwards on `inputs`; or the model itself and, in a line, why not.

    Compilation is lazy, so only a trial shows whether it works. It leaves no gradient and no random number behind.
    """
    module = cast(nn.Module, torch.compile(model))
    device = RandomState(str(inputs.device))
    before = device.state_dict()
    try:
        module(inputs).float().sum().backward()
    except Exception as error:  # a missing compiler, an operator without a kernel, a driver too old ...
        return model, next(iter(str(error).splitlines()), type(error).__name__)
    finally:
        model.zero_grad(set_to_none=True)
        device.load_state_dict(before)
    return module, None


def enter_thread(device: str, threads: int, own_stream: bool = False, deterministic: bool | None = None) -> None:
    """First thing in every thread that computes: its CPU thread count and its place on the GPU.

    `torch.set_num_threads` sets the caller's count and the default of threads started later, so each sets its own.
    A replica computes on a stream of its own, so that it need not queue behind the trainer's kernels.

    Args:
        deterministic: the trainer's choice, for the whole process; None leaves it.
    """
    torch.set_num_threads(threads)
    torch.get_num_threads()  # makes the count this thread's own: its first parallel operation would read the default
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
        if own_stream:
            torch.cuda.set_stream(torch.cuda.Stream())
    if deterministic is not None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with a fixed workspace
        if torch.are_deterministic_algorithms_enabled() != deterministic:  # the call loads the compiler: 1.7 s
            torch.use_deterministic_algorithms(deterministic)


class RandomState:
    """Torch's global generators, which training owns: the CPU's and the training device's."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def state_dict(self) -> dict[str, Tensor | None]:
        device = None
        if self._device.type == "cuda":
            device = torch.cuda.get_rng_state(self._device)
        elif self._device.type == "mps":
            device = torch.mps.get_rng_state()
        return {"cpu": torch.get_rng_state(), "device": device}

    def load_state_dict(self, saved: dict[str, Tensor | None]) -> None:
        """A state from another kind of device leaves this one's generator as it is."""
        if saved["cpu"] is not None:
            torch.set_rng_state(saved["cpu"])
        if saved["device"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(saved["device"], self._device)
        elif saved["device"] is not None and self._device.type == "mps":
            torch.mps.set_rng_state(saved["device"])


class WeightGate:
    """Keeps a copy of the weights whole: no reader sees a step half done, no step overwrites what is being copied.

    On a CPU a lock says it all. On CUDA launches are asynchronous, so readers' streams wait for an event recorded after
    the last change and the next change waits for the readers' events; the lock only orders the launches. A change also
    waits for the one before the last: the CPU never runs far ahead, so a pause, a stop or a prompt is soon obeyed.
    """

    def __init__(self, device: str) -> None:
        self._lock = threading.Lock()
        self._device = torch.device(device)
        self._earlier: torch.cuda.Event | None = None
        self._written: torch.cuda.Event | None = None
        self._copied: list[torch.cuda.Event] = []

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Around every change of weights: an optimizer step, a load, a restore."""
        if self._earlier is not None:
            self._earlier.synchronize()
        with self._lock:
            for copied in self._copied:
                torch.cuda.current_stream(self._device).wait_event(copied)
            self._copied.clear()
            yield
            self._earlier, self._written = self._written, self._record()

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        """Around a copy of the weights; on CUDA the copy runs on the calling thread's current stream."""
        with self._lock:
            if self._written is not None:
                torch.cuda.current_stream(self._device).wait_event(self._written)
            yield
            if (copied := self._record()) is not None:
                self._copied.append(copied)

    def _record(self) -> torch.cuda.Event | None:
        """An event after everything this thread has launched; None where nothing is asynchronous."""
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event(blocking=True)  # whoever waits for it sleeps instead of spinning
        torch.cuda.current_stream(self._device).record_event(event)
        return event


def give_back_memory() -> None:
    """Return what a run that ended here left unused on the device, so that another process can have it."""
    import gc

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
