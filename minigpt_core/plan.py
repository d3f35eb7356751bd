"""From what a user asked for to a trainer that can start, new or resumed.

`prepare` and `prepare_resume` check all that can be checked without torch, so a bad option ends the program before the
app opens. `Plan.build` loads torch, takes the decisions that depend on the device and writes them to the run.
"""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from minigpt_core.atomic import write_atomic
from minigpt_core.config import (
    DEFAULT_SIZES,
    PRESETS,
    ModelConfig,
    TrainConfig,
    ablated,
    lookup,
    round_up,
)
from minigpt_core.corpus import Corpus, load_corpus, split, token_dtype
from minigpt_core.errors import UsageError, UserError
from minigpt_core.lock import RunLock
from minigpt_core.rundir import RunDir, find_run, new_run_dir
from minigpt_core.tokenizer import CharTokenizer, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from minigpt_core.devices import Devices, Facts
    from minigpt_core.trainer import Boundary, Trainer

STORED_TOKENS = 64 * 2**20
"""Bytes of encoded text that a run keeps, so that it can be resumed without its text."""

RESUMABLE = ("steps", "epochs", "minutes", "eval_every", "log_every", "save_every", "device")
"""Training settings that a resume may change; anything else would make it another run."""


class Request(msgspec.Struct, kw_only=True):
    """What a user asked for. Only settings that were given are in `model` and `train`; the rest is decided later."""

    data: str | None = None
    preset: str = "classic"
    ablate: tuple[str, ...] = ()
    vocab_size: int | None = None
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    name: str | None = None
    out: str = "runs"


class Plan:
    """A run about to start.

    Attributes:
        run: its directory, reserved.
        tokens: (n,) the whole encoded text.
        settings: `model` and `train` settings as given.
        resumed: the run's stored configuration if this is a resume.
    """

    def __init__(
        self,
        run: RunDir,
        tokenizer: Tokenizer,
        tokens: np.ndarray,
        corpus: dict[str, Any],
        model: dict[str, Any],
        train: dict[str, Any],
        resumed: dict[str, Any] | None = None,
    ) -> None:
        self.run, self.tokenizer, self.tokens, self.corpus = run, tokenizer, tokens, corpus
        self.model, self.train, self.resumed = model, train, resumed
        self._lock = RunLock(run)

    def discard(self) -> None:
        """Nothing came of it: let go, and leave no empty run behind."""
        self.release()
        if self.resumed is None and not self.run.checkpoint.exists() and not self.run.metrics.exists():
            for file in (self.run.config, self.run.tokenizer, self.run.tokens / "tokens.npy", self.run.train_log):
                file.unlink(missing_ok=True)
            for folder in (self.run.tokens, self.run.path):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def release(self) -> None:
        self._lock.release()

    def build(self, boundary: Boundary | None = None) -> Trainer:
        """Load torch, decide, and make the trainer; a resumed one stands where its checkpoint was taken."""
        import torch

        from minigpt_core import checkpoint
        from minigpt_core.devices import enter_thread, survey
        from minigpt_core.model import GPT
        from minigpt_core.runlog import RunLog
        from minigpt_core.trainer import Trainer

        facts = survey()
        saved = checkpoint.load(self.run.checkpoint) if self.resumed else None
        if self.resumed and saved:
            model_config = ModelConfig.from_dict(saved["model_config"])
            train = resumed_train_config(TrainConfig.from_dict(saved["train_config"]), self.train)
            devices = resumed_devices(facts, self.resumed, train, model_config.seq_len)
        else:
            model_config, train, devices = decide_sizes(facts, self.model, self.train, self.tokenizer.vocab_size)
            self._write(model_config, train, devices)
        enter_thread(devices.device, devices.threads)
        torch.manual_seed(train.seed)  # initial weights
        log = RunLog(self.run)
        trainer = Trainer(
            GPT(model_config),
            self.tokenizer,
            split(self.tokens, model_config.seq_len),
            train,
            run=log,
            devices=devices,
            boundary=boundary,
        )
        if saved:
            log.truncate(saved["state"]["step"])
            trainer.restore(saved)
            trainer.event("resumed", f"resumed from step {trainer.state.step:,}")
        if devices.warning:
            trainer.event("warning", devices.warning)
        return trainer

    def _write(self, model: ModelConfig, train: TrainConfig, devices: Devices) -> None:
        """The run directory's record of everything that was decided."""
        config = {
            "format": 1,
            "name": self.run.name,
            "created": time.time(),
            "command": sys.argv,
            "model": model.to_dict(),
            "train": train.to_dict(),
            "devices": msgspec.to_builtins(devices),
            "corpus": self.corpus,
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("minigpt-tui", "torch", "numpy")},
        }
        write_atomic(self.run.config, msgspec.json.format(msgspec.json.encode(config), indent=2))
        write_atomic(self.run.tokenizer, msgspec.json.encode(self.tokenizer.to_dict()))
        if self.tokens.nbytes <= STORED_TOKENS:
            self.run.tokens.mkdir(exist_ok=True)
            np.save(self.run.tokens / "tokens.npy", self.tokens)


# --- a new run ---


def prepare(request: Request) -> Plan:
    """Read the text, check every setting, reserve the run's directory.

    Raises:
        UserError, UsageError: something is not as it must be; nothing was created.
    """
    architecture = lookup(PRESETS, request.preset, "preset") | request.model | ablated(request.ablate)
    for kind in DEFAULT_SIZES:  # whichever device it will be, a bad setting is found now
        complete_sizes(kind, architecture, request.train, vocab_size=2)
    corpus = load_corpus(request.data)
    tokenizer = CharTokenizer.from_text(corpus.text, request.vocab_size)
    tokens = tokenizer.encode(corpus.text).astype(token_dtype(tokenizer.vocab_size))
    split(tokens, architecture.get("seq_len", DEFAULT_SIZES["cpu"]["seq_len"]))
    run = new_run_dir(Path(request.out), request.name, corpus.name)
    return Plan(run, tokenizer, tokens, describe(corpus), architecture, request.train)


def describe(corpus: Corpus) -> dict[str, Any]:
    """A corpus's identity, as a run records it."""
    return {"name": corpus.name, "source": corpus.source, "sha256": corpus.sha256, "n_bytes": corpus.n_bytes}


def complete_sizes(
    kind: str, model: dict[str, Any], train: dict[str, Any], vocab_size: int
) -> tuple[ModelConfig, TrainConfig]:
    """Fill in what the user left open with the sizes for this kind of device ("cpu", "gpu").

    Raises:
        UsageError: a setting is out of range, or two contradict each other.
    """
    sizes = dict(DEFAULT_SIZES[kind])
    batch_size = sizes.pop("batch_size")
    heads, width = model.get("num_heads"), model.get("embed_dim")
    if isinstance(width, int) and width > 0 and heads is None:
        sizes["num_heads"] = max(n for n in range(1, sizes["num_heads"] + 1) if width % n == 0)
    elif isinstance(heads, int) and heads > 0 and width is None:
        sizes["embed_dim"] = round_up(sizes["embed_dim"], heads)
    return (
        ModelConfig(**{"vocab_size": vocab_size, **sizes, **model}),
        TrainConfig(**{"batch_size": batch_size, **train}),
    )


def decide_sizes(
    facts: Facts, model: dict[str, Any], train: dict[str, Any], vocab_size: int
) -> tuple[ModelConfig, TrainConfig, Devices]:
    """Settle device and sizes together; on a GPU a batch size nobody asked for shrinks until it fits."""
    from minigpt_core.devices import decide, training_bytes

    kind = decide(facts, TrainConfig(**train), seq_len=1).kind
    model_config, train_config = complete_sizes(kind, model, train, vocab_size)
    devices = decide(facts, train_config, model_config.seq_len)
    if kind == "gpu" and facts.cuda_free and "batch_size" not in train:
        free = facts.cuda_free[int(devices.device.partition(":")[2] or 0)]
        n_params = count_parameters(model_config)
        while (
            train_config.batch_size > 1
            and training_bytes(model_config, n_params, train_config.batch_size, devices) > 0.8 * free
        ):
            train_config = train_config.replace(batch_size=train_config.batch_size // 2)
    return model_config, train_config, devices


def count_parameters(config: ModelConfig) -> int:
    """Parameters of a model, without making it."""
    import torch

    from minigpt_core.model import GPT

    with torch.device("meta"):
        return GPT(config).num_parameters()


# --- a resumed run ---


def prepare_resume(ref: str, train: dict[str, Any], out: str = "runs") -> Plan:
    """Find a run and read its directory; its text is needed only if it was too large to keep.

    Raises:
        UserError, UsageError: there is no such run, it cannot be resumed, or a setting may not change.
    """
    for name in train:
        if name not in RESUMABLE:
            allowed = ", ".join(option(name) for name in RESUMABLE)
            raise UsageError(
                f"{option(name)} cannot change when a run is resumed (only {allowed} can); start a new run"
            )
    run = find_run(ref, Path(out))
    config = read_config(run)
    if not run.checkpoint.is_file():
        raise UserError(f"run {run.name!r} has no checkpoint yet to resume from; start a new run")
    resumed_train_config(TrainConfig.from_dict(config["train"]), train)
    tokenizer = read_tokenizer(run)
    return Plan(run, tokenizer, read_tokens(run, tokenizer, config["corpus"]), config["corpus"], {}, train, config)


def resumed_train_config(saved: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """The stored settings with the given changes; a new length replaces whatever kind of length there was."""
    if any(name in changes for name in ("steps", "epochs", "minutes")):
        changes = {"steps": None, "epochs": None, "minutes": None, **changes}
    return saved.replace(**changes)


def resumed_devices(facts: Facts, config: dict[str, Any], train: TrainConfig, seq_len: int) -> Devices:
    """The stored decisions if they can be kept, else new ones with a warning that names what differs."""
    from minigpt_core.devices import Devices, decide

    saved: Devices = msgspec.convert(config["devices"], Devices)
    now = decide(facts, train, seq_len)
    if now.device.split(":")[0] == saved.device.split(":")[0]:
        return msgspec.structs.replace(saved, device=now.device, warning=None)
    return msgspec.structs.replace(now, warning=f"resumed on {now.device} ({now.precision}), trained on {saved.device}")


# --- reading a run directory ---


def read_config(run: RunDir) -> dict[str, Any]:
    """`config.json` of a run.

    Raises:
        UserError: it is missing or broken.
    """
    try:
        config = msgspec.json.decode(run.config.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {str(run.config)!r}: {error.strerror}") from None
    except msgspec.DecodeError:
        raise UserError(f"{str(run.config)!r} is damaged: not JSON") from None
    if not isinstance(config, dict) or not {"model", "train", "corpus", "devices"} <= config.keys():
        raise UserError(f"{str(run.config)!r} is no run's configuration")
    return config


def read_tokenizer(run: RunDir) -> Tokenizer:
    """`tokenizer.json` of a run."""
    try:
        return load_tokenizer(msgspec.json.decode(run.tokenizer.read_bytes(), type=dict))
    except OSError as error:
        raise UserError(f"cannot read {str(run.tokenizer)!r}: {error.strerror}") from None
    except msgspec.DecodeError:
        raise UserError(f"{str(run.tokenizer)!r} is damaged: not JSON") from None


def read_tokens(run: RunDir, tokenizer: Tokenizer, corpus: dict[str, Any]) -> np.ndarray:
    """The encoded text of a run: (n,), from the run itself or, where it was too large to keep, from its source.

    Raises:
        UserError: neither is there, or the source is no longer the same text.
    """
    stored = run.tokens / "tokens.npy"
    try:
        return np.load(stored, allow_pickle=False)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {str(stored)!r}: {error}") from None
    try:
        text = load_corpus(corpus["source"])
    except UserError as error:
        raise UserError(f"run {run.name!r} kept no copy of its text, and {error}") from None
    if text.sha256 != corpus["sha256"]:
        raise UserError(f"run {run.name!r} kept no copy of its text, and {corpus['source']!r} has changed since")
    return tokenizer.encode(text.text).astype(token_dtype(tokenizer.vocab_size))


def validation_text(run: RunDir, length: int) -> str | None:
    """The beginning of the validation split as text; None if the run kept no tokens."""
    stored = run.tokens / "tokens.npy"
    if not stored.is_file():
        return None
    tokens = np.load(stored, mmap_mode="r", allow_pickle=False)
    _, val = split(tokens, 1)
    return read_tokenizer(run).decode(val[:length])


def option(name: str) -> str:
    """A setting's name as the command line writes it."""
    return "--" + name.replace("_", "-")
