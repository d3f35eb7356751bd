"""From what a user asked for to a trainer that can start, new or resumed.

`prepare` and `prepare_resume` check all that can be checked without torch, so a bad option ends the program before the
app opens. `Plan.build` loads torch, takes the decisions that depend on the device and writes them to the run.
"""

from __future__ import annotations

import platform
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from minigpt_core.bits import tokens_per_byte
from minigpt_core.config import (
    DEFAULT_PRESET,
    DEFAULT_SIZES,
    PRESETS,
    ModelConfig,
    Settings,
    TrainConfig,
    ablated,
    lookup,
    option,
)
from minigpt_core.corpus import BUILT_IN, UNREPEATABLE, load_encoded, split
from minigpt_core.errors import UsageError, UserError
from minigpt_core.lock import RunLock
from minigpt_core.ranks import ALONE, MOST_RANKS, Children, Place, check_batch, launched, leading
from minigpt_core.rundir import RunDir, find_checkpoint, new_run_dir
from minigpt_core.sizes import complete_sizes, decide_sizes
from minigpt_core.stored import read_config, read_tokenizer, read_tokens, update_config, write_run
from minigpt_core.token_store import Progress
from minigpt_core.tokenizer import Tokenizer
from minigpt_core.tokenizer_spec import CHARACTERS, TokenizerSpec

if TYPE_CHECKING:
    from minigpt_core.devices import Devices, Facts
    from minigpt_core.distributed import Group
    from minigpt_core.fine_tuning import Start
    from minigpt_core.runlog import RunLog
    from minigpt_core.trainer import Boundary, Trainer

RESUMABLE = (
    "steps",
    "epochs",
    "minutes",
    "eval_every",
    "log_every",
    "save_every",
    "patience",
    "on_divergence",
    "device",
)
"""Training settings that a resume may change; anything else would make it another run."""


class Request(Settings, frozen=True):
    """What a user asked for. Only settings that were given are in `model` and `train`; the rest is decided later."""

    data: str | None = None
    encoding: str | None = None
    text_field: str | None = None
    preset: str | None = None
    ablate: tuple[str, ...] = ()
    tokenizer: str | None = None
    """One of `tokenizer_spec.KINDS`, or the path of a folder with a GPT-2 vocabulary; `char` if left out."""
    vocab_size: Annotated[int, msgspec.Meta(ge=2)] | None = None
    """What it means and what it may be depends on the tokenizer: `TokenizerSpec`."""
    model: dict[str, Any] = msgspec.field(default_factory=dict)
    train: dict[str, Any] = msgspec.field(default_factory=dict)
    name: str | None = None
    out: str = "runs"
    from_run: str | None = None
    """A run whose weights, architecture and vocabulary are those to begin with; see `fine_tuning`."""
    nproc: Annotated[int, msgspec.Meta(ge=1, le=MOST_RANKS)] | None = None
    """Processes that share each batch."""


class Plan:
    """A run about to start.

    Attributes:
        run: its directory, reserved.
        tokens: (n,) the whole encoded text.
        model, train: the settings as given.
        spec: how the tokenizer was asked for; of a new run.
        tokens_per_byte: of the validation split.
        resumed: the run's stored configuration if this is a resume, which starts from `checkpoint`.
        start: where the first weights of a new run come from, if it does not draw them.
        warnings: what its log says at once.
        place: this process's, among those that train the run; it is the first.
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
        checkpoint: Path | None = None,
        spec: TokenizerSpec = CHARACTERS,
        start: Start | None = None,
        warnings: tuple[str, ...] = (),
        place: Place = ALONE,
    ) -> None:
        self.run, self.tokenizer, self.tokens, self.corpus = run, tokenizer, tokens, corpus
        self.model, self.train, self.resumed = model, train, resumed
        self.checkpoint = checkpoint or run.checkpoint
        self.spec = spec
        self.tokens_per_byte = tokens_per_byte(tokenizer, tokens)
        self.start, self.warnings = start, warnings
        self.place = place
        self._lock = RunLock(run)
        self._log: RunLog | None = None
        self._children: Children | None = None
        self._group: Group | None = None

    def discard(self) -> None:
        """Nothing came of it: let go, and leave no empty run behind."""
        self.release()
        run = self.run
        trained = run.checkpoint.exists() or (run.metrics.exists() and run.metrics.stat().st_size)
        if self.resumed is None and not trained:
            shutil.rmtree(run.path, ignore_errors=True)  # made by `prepare` for this plan alone

    def release(self) -> None:
        """Let go of the run: end its other processes, close its logs, unlock it. A second time does nothing."""
        for others in (self._group, self._children):
            if others is not None:
                others.close()
        if self._log is not None:
            self._log.close()
        self._lock.release()

    def announce(self, socket: str) -> None:
        """Say where the run can be attached to while it trains."""
        self._lock.announce(socket)

    def build(self, boundary: Boundary | None = None) -> Trainer:
        """Load torch, decide, and make the trainer; a resumed one stands where its checkpoint was taken."""
        if self.place.size > 1 and launched() is None:
            self._children = Children(self.place.size, self.run.train_log)  # they load torch while this one does
        import torch

        from minigpt_core import checkpoint
        from minigpt_core.devices import survey
        from minigpt_core.fit import check_memory
        from minigpt_core.hardware import available_memory
        from minigpt_core.model import GPT
        from minigpt_core.runlog import RunLog
        from minigpt_core.trainer import Trainer

        facts, model = survey(), None
        saved = checkpoint.load(self.checkpoint) if self.resumed else None
        if self.resumed and saved:
            model_config = ModelConfig.from_dict(saved["model_config"])
            train = resumed_train_config(TrainConfig.from_dict(saved["train_config"]), self.train)
            if train.steps is not None and train.steps < saved["state"]["step"]:
                raise UsageError(f"--steps {train.steps}: the run has made {saved['state']['step']} steps; give more")
            devices = resumed_devices(facts, self.resumed, train, model_config.seq_len, self.place)
            check_batch(train, self.place.size)
            check_memory(model_config, train, devices, available_memory(), resumed=True)
        else:
            vocab_size = self.tokenizer.vocab_size
            model_config, train, devices = decide_sizes(facts, self.model, self.train, vocab_size, self.place)
            check_batch(train, self.place.size)
            check_memory(model_config, train, devices, available_memory(), fixed=self.start is not None)
            if self.start:
                model = self.start.model(model_config)
            self._record(model_config, train, devices)
        self._log = RunLog(self.run)
        world = self._gather(model_config, train, devices)
        torch.manual_seed(train.seed)  # initial weights
        trainer = Trainer(
            model or GPT(model_config),
            self.tokenizer,
            split(self.tokens, model_config.seq_len),
            train,
            run=self._log,
            devices=devices,
            boundary=boundary,
            world=world,
        )
        if saved:
            trainer.resume(saved)
            changes = self._record_resume(train, devices)
            trainer.event("resumed", f"resumed from step {trainer.state.step:,}{changes and ', with ' + changes}")
        for warning in (devices.warning, *self.warnings):
            if warning:
                trainer.event("warning", warning)
        return trainer

    def _gather(self, model: ModelConfig, train: TrainConfig, devices: Devices) -> Group | None:
        """The processes that train together, told what; None if this one is alone."""
        if self.place.size == 1:
            return None
        from minigpt_core.distributed import Group

        children = self._children
        self._group = group = Group.spawned(self.place, children) if children else Group(self.place)
        settings = {"model": model.to_dict(), "train": train.to_dict(), "devices": msgspec.to_builtins(devices)}
        group.invite({"run": str(self.run.path.resolve()), **settings}, devices.device)
        return group

    def _record(self, model: ModelConfig, train: TrainConfig, devices: Devices) -> None:
        """Write everything that was decided for a new run."""
        from importlib.metadata import version  # takes its time, and is needed only now

        config = {
            "format": 1,
            "name": self.run.name,
            "created": time.time(),
            "command": sys.argv,
            "model": model.to_dict(),
            "train": train.to_dict(),
            "devices": msgspec.to_builtins(devices),
            "corpus": self.corpus,
            "tokenizer": self.spec.to_dict(),
            "tokens_per_byte": self.tokens_per_byte,
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("minigpt-tui", "torch", "numpy")},
        }
        if self.start:
            config["origin"] = msgspec.to_builtins(self.start.origin)
        keep = bool(self.start) or self.corpus["source"] in UNREPEATABLE or self.corpus["name"] in BUILT_IN
        write_run(self.run, config, self.tokenizer, self.tokens, keep)

    def _record_resume(self, train: TrainConfig, devices: Devices) -> str:
        """Write what a resume changes; the changes in words."""
        config = self.resumed or {}
        new = {"train": train.to_dict(), "devices": msgspec.to_builtins(devices)}
        changes = [
            f"{option(name)} {value} (was {old})"
            for part in new
            for name, value in new[part].items()
            if name not in ("reasons", "warning", "gpu", "gpu_uuid") and value != (old := config[part].get(name))
        ]
        update_config(self.run, **new)
        return ", ".join(changes)


# --- a new run ---


def prepare(request: Request, progress: Progress | None = None) -> Plan:
    """Read the text, check every setting, reserve the run's directory.

    `progress` is told how much of a long text is encoded, 0 to 1.

    Raises:
        UserError, UsageError: something is not as it must be; nothing was created.
    """
    if request.from_run is not None:
        from minigpt_core.fine_tuning import prepare_from

        return prepare_from(request)
    architecture = lookup(PRESETS, request.preset or DEFAULT_PRESET, "preset") | request.model | ablated(request.ablate)
    where = leading(request.nproc)
    for kind in DEFAULT_SIZES:  # whichever device it will be, a bad setting is found now
        _, train = complete_sizes(kind, architecture, request.train, vocab_size=2)
        if "batch_size" in request.train:
            check_batch(train, where.size)
    spec = TokenizerSpec.parse(request.tokenizer or CHARACTERS.kind, request.vocab_size)
    text = load_encoded(request.data, spec, progress=progress, encoding=request.encoding, text_field=request.text_field)
    split(text.tokens, architecture.get("seq_len", DEFAULT_SIZES["cpu"]["seq_len"]))
    run = new_run_dir(Path(request.out), request.name, text.identity["name"])
    return Plan(run, text.tokenizer, text.tokens, text.identity, architecture, request.train, spec=spec, place=where)


# --- a resumed run ---


def prepare_resume(ref: str, train: dict[str, Any], out: str = "runs", nproc: int | None = None) -> Plan:
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
    run, path = find_checkpoint(ref, Path(out))
    config = read_config(run)
    if not path.is_file():
        raise UserError(f"run {run.name!r} has no checkpoint yet to resume from; start a new run")
    where = leading(nproc, before=config["devices"].setdefault("nproc", 1))  # absent before there was a choice
    check_batch(resumed_train_config(TrainConfig.from_dict(config["train"]), train), where.size)
    tokenizer = read_tokenizer(run)
    tokens = read_tokens(run, tokenizer, config["corpus"])
    return Plan(run, tokenizer, tokens, config["corpus"], {}, train, config, path, place=where)


def resumed_train_config(saved: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """The stored settings with the given changes; a new length replaces whatever kind of length there was."""
    if any(name in changes for name in ("steps", "epochs", "minutes")):
        changes = {"steps": None, "epochs": None, "minutes": None, **changes}
    return saved.replace(**changes)


def resumed_devices(
    facts: Facts, config: dict[str, Any], train: TrainConfig, seq_len: int, place: Place = ALONE
) -> Devices:
    """The stored decisions if they can be kept, else new ones with a warning that names what differs."""
    from minigpt_core.devices import Devices, decide

    saved: Devices = msgspec.convert(config["devices"], Devices)
    now = decide(facts, _on_its_gpu(facts, saved, train, place), seq_len, place)
    if now.device.split(":")[0] == saved.device.split(":")[0]:
        threads = saved.threads if now.nproc == saved.nproc else now.threads
        return msgspec.structs.replace(
            saved,
            device=now.device,
            gpu=now.gpu,
            gpu_uuid=now.gpu_uuid,
            nproc=now.nproc,
            threads=threads,
            warning=None,
        )
    return msgspec.structs.replace(now, warning=f"resumed on {now.device} ({now.precision}), trained on {saved.device}")


def _on_its_gpu(facts: Facts, saved: Devices, train: TrainConfig, place: Place) -> TrainConfig:
    """Unless a GPU was asked for, the one that it trained on, where that is here: free memory says little just then.

    It may be the process that the run is taken over from which still holds some.
    """
    if place.size == 1 and train.device in ("auto", "cuda") and saved.gpu_uuid in facts.cuda_uuids:
        return train.replace(device=f"cuda:{facts.cuda_uuids.index(saved.gpu_uuid)}")
    return train
