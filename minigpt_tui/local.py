"""`LocalSession`: a run in this process, training under an engine or finished and opened from its directory."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from minigpt_core.config import ModelConfig, SampleConfig
from minigpt_core.engine import Engine
from minigpt_core.errors import UserError
from minigpt_core.frame import Frame
from minigpt_core.generation import Generation
from minigpt_core.hardware import Monitor
from minigpt_core.ladder import Ladder
from minigpt_core.landmarks import Landmarks
from minigpt_core.observers import Sampler
from minigpt_core.plan import Plan
from minigpt_core.prober import Prober
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.status import Command, Event, Reading, Stamp, Status, Stop
from minigpt_core.stored import read_config, read_tokenizer, stored_tokens
from minigpt_core.summary import parameters
from minigpt_core.tokenizer import excerpt
from minigpt_core.weights import StoredWeights
from minigpt_tui.past import Past

PROGRESS = ("total_steps", "val_loss", "val_step", "best_val_loss", "best_step", "final_val_loss", "lr_scale")
"""What of a checkpoint's state a status shows."""


class LocalSession(Past):
    """Answers every screen's question from the run's directory, plus the engine's live status.

    Use `LocalSession.training(plan)` or `LocalSession.finished(run, checkpoint)`.
    """

    owned = True

    def __init__(self, run: RunDir, source: Engine | StoredWeights, status: Status) -> None:
        super().__init__(run, source.plan.tokens if isinstance(source, Engine) else None)
        self._engine = source if isinstance(source, Engine) else None
        self.trains = self._engine is not None
        self._source, self._stored = source, status
        self._log: RunLog | None = None
        self._sampler = Sampler(source, self._keep)
        self._prober = source.prober if isinstance(source, Engine) else Prober(source)
        self._landmarks: Landmarks | None = source.landmarks if isinstance(source, Engine) else None
        self._monitor: Monitor | None = None

    @classmethod
    def training(cls, plan: Plan, watched: bool = True) -> LocalSession:
        """A run that trains here, once it is started; `watched` by a screen in this process, or by none yet."""
        engine = Engine(plan, watched)
        return cls(plan.run, engine, engine.status())

    @classmethod
    def finished(cls, run: RunDir, checkpoint: Path) -> LocalSession:
        """A run nobody trains: its charts, its weights, no steering."""
        return cls(run, StoredWeights(run, checkpoint), stored_status(run))

    def start(self) -> None:
        self.follow()
        self.begin()
        if self._engine is None:
            self._landmarks = stored_landmarks(self.run)

    def begin(self) -> None:
        """Train without reading the past, which nobody looks at."""
        if self._engine is not None:
            self._engine.start()

    def status(self) -> Status:
        status = self._finished(self._source) if isinstance(self._source, StoredWeights) else self._source.status()
        return self.smoothed(status)

    def _finished(self, source: StoredWeights) -> Status:
        """Of a run nobody trains: its last row and, once they are loaded, what its checkpoint says."""
        status, last = self._stored, self._history.last
        if last is not None:
            status = msgspec.structs.replace(
                status,
                step=last.step,
                epoch=last.epoch,
                tokens=last.tokens,
                train_loss=last.train_loss,
                lr=last.lr,
                grad_norm=last.grad_norm,
                clipped=last.clipped,
                tok_s=last.tok_s,
                elapsed=last.time,
            )
        if source.state:
            known = {name: source.state[name] for name in PROGRESS}
            phase = status.phase if known["final_val_loss"] is None else "done"
            status = msgspec.structs.replace(status, phase=phase, **known)
        return status

    @property
    def paused(self) -> bool:
        """Whether the trainer stands still, or stood still when it ended, until told to go on."""
        return self._engine is not None and self._engine.paused

    def send(self, command: Command) -> None:
        if self._engine is not None:
            self._engine.send(command)

    def generate(self, prompt: str, config: SampleConfig) -> Generation:
        return self._sampler.generate(prompt, config)

    def watch(self, text: str | None) -> None:
        self._prober.watch(text)

    def excerpt(self, number: int) -> str | None:
        length = self._source.seq_len
        tokens = None if length is None else self._source.validation(length, number * length)
        return excerpt(self._source.tokenizer, tokens) if tokens is not None and len(tokens) else None

    def frame(self) -> Frame | None:
        return self.past_frame() if self.looking_back else self.live_frame()

    def live_frame(self) -> Frame | None:
        """The newest look into the weights, wherever whoever sits here is looking."""
        return self._prober.frame()

    def probe_failure(self) -> str | None:
        return self.past_failure() if self.looking_back else self.live_failure()

    def live_failure(self) -> str | None:
        return self._prober.failure

    def ladder(self) -> Ladder | None:
        return self._landmarks.ladder if self._landmarks is not None else None

    def reading(self) -> Reading:
        if self._monitor is None:
            self._monitor = Monitor()
        if self._engine is not None:
            self._monitor.gpu_uuid = self._engine.gpu_uuid
        return self._monitor.reading()

    def close(self) -> None:
        self._sampler.close()
        self._prober.close()
        self.let_go()
        self.send(Stop())

    def ended(self, timeout: float) -> bool:
        """Whether the trainer has ended, if there is one, within so many seconds; what observes it may go on."""
        return self._engine is None or self._engine.join(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the trainer, and for the observers: a thread left in native code would abort the program's end."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        trained = self._engine is None or self._engine.join(left())
        return trained and all(thread.join(left()) for thread in (self._sampler, self._prober)) and self.gone(left())

    def _keep(self, generation: Generation) -> None:
        """Write an answer to the run's events."""
        if generation.stamp is not None:  # else it ended before it had weights
            self._tell(sample_event(generation, generation.stamp))

    def warn(self, message: str) -> None:
        """Have the run's log say what is wrong around it."""
        self._tell(Event(kind="warning", step=self.status().step, time=time.time(), message=message))

    def _tell(self, event: Event) -> None:
        """Add to the run's events; a run that cannot be written loses nothing but these lines."""
        with contextlib.suppress(UserError):
            if self._log is None:
                self._log = RunLog(self.run)
            self._log.event(event)


def sample_event(generation: Generation, stamp: Stamp) -> Event:
    """An answer, all its samples, as the run remembers it."""
    config = generation.config
    prompt = f" after {generation.prompt[:40]!r}" if generation.prompt else ""
    return Event(
        kind="sample",
        step=stamp.step,
        time=time.time(),
        message=f"sampled {generation.n_tokens} tokens{prompt}",
        data={
            "prompt": generation.prompt,
            "shown": generation.shown,
            "answers": [generation.text(row) for row in range(len(config.rows))],
            "val_loss": stamp.val_loss,
            "val_step": stamp.val_step,
            "seed": stamp.seed,
            "settings": config.to_dict(),
            "finish_reason": generation.finish_reason,
        },
    )


def stored_status(run: RunDir) -> Status:
    """What the directory says of a run that nobody trains here."""
    try:
        config = read_config(run)
        model = ModelConfig.from_dict(config["model"])
    except UserError as error:
        return Status(phase="failed", message=str(error), name=run.name, run_dir=str(run.path.resolve()))
    return Status(
        phase="stopped",
        name=run.name,
        run_dir=str(run.path.resolve()),
        device="cpu",  # where its weights answer, whatever trained them
        precision="fp32",
        n_params=parameters(model),
        tokens_per_byte=config.get("tokens_per_byte"),
    )


def stored_landmarks(run: RunDir) -> Landmarks | None:
    """The ladder of a run nobody trains, being read or fitted; None where the run kept no text."""
    try:
        tokens, tokenizer = stored_tokens(run), read_tokenizer(run)
    except UserError:
        return None
    if tokens is None:
        return None
    landmarks = Landmarks(run, tokens, tokenizer.vocab_size)
    landmarks.start()
    return landmarks
