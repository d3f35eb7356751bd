"""The thread that looks inside the model while it trains, and records what it sees.

It has replicas of its own and computes with one CPU thread, so training notices nothing. It rests `RESTS` times as long
as its last look worked: watching all run long costs about 1.5 % of one core, or of the GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.frame import Frame, RecordedSample
from minigpt_core.heads import ROLES, Births
from minigpt_core.observers import first_line, make_replica, out_of_memory
from minigpt_core.recording import PROBE_TOKENS, Recorder
from minigpt_core.rundir import RunDir
from minigpt_core.status import Event, EventKind, Stamp
from minigpt_core.weights import WeightSource

if TYPE_CHECKING:
    from minigpt_core.model import GPT

RESTS = 75
IDLE_SECONDS = 0.1
"""Between two looks at whether there is anything new."""
HEALTH_WINDOWS = 4
"""Windows of validation text on which units that never fire are counted."""
NEXT_STEP_SECONDS = 2.0
"""How long to wait for the step after the one just looked at, to compare their weights."""
SAMPLE_EVERY = 8
"""Recorded frames a sample: writing takes longer than looking."""
SAMPLE = SampleConfig(max_new_tokens=48, seed=0)
"""The same seed all run long: what changes from sample to sample is the model."""
SAMPLE_PROMPT = 16
"""Tokens of the probe text that it goes on from."""


class Prober:
    """Keeps the newest frame of the watched text as long as somebody asks for it, and records the run's own text.

    Args:
        run: where to record; None records nothing.
        say: told of births and warnings, from the prober's thread.
    """

    def __init__(
        self, source: WeightSource, run: RunDir | None = None, say: Callable[[Event], None] = lambda _: None
    ) -> None:
        self._source, self._run_dir, self._say = source, run, say
        self._text: str | None = None
        self._frame: Frame | None = None
        self._shown: tuple[str | None, int] | None = None
        """The text and step of the newest frame."""
        self.failure: str | None = None
        """Why the last look brought no frame, in a line."""
        self._ratio: float | None = None
        self._recording = False
        self._recorder: Recorder | None = None
        self._recorded = 0
        self._sampled: int | None = None
        """The step of the last sample recorded."""
        self._births = Births()
        self._asked, self._hurry = threading.Event(), threading.Event()
        self._ending, self._ended = threading.Event(), threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._thread.start()

    # --- any thread ---

    def watch(self, text: str | None) -> None:
        """Choose the text, of which the last `seq_len` tokens are looked at; None is the run's own."""
        self._text = text
        self._hurry.set()

    def frame(self) -> Frame | None:
        """The newest frame; asking keeps it fresh."""
        self._asked.set()
        return self._frame

    def record(self, births: set[tuple[int, int, str]]) -> None:
        """There are weights: record from now on, until `finish`. `births` are (layer, head, role) already told."""
        self._births = Births(births)
        self._recording = True
        self._asked.set()

    def finish(self, timeout: float) -> None:
        """Training has ended: record its last weights, then nothing more; looking goes on."""
        self._ending.set()
        self._hurry.set()
        self._asked.set()
        self._ended.wait(timeout)

    def close(self) -> None:
        self._closed = True
        self._asked.set()
        self._hurry.set()

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: wait for the look under way; True once the thread has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- the prober's thread ---

    def _run(self) -> None:
        eyes = None
        while self._asked.wait():
            self._asked.clear()
            self._hurry.clear()
            if self._closed:  # read after the clearing, since `close` writes it before the setting
                break
            ending = self._ending.is_set()
            busy = 0.0
            try:
                if eyes is None:
                    eyes = Eyes(self._source)
                started = eyes.clock()
                news = self._round(eyes)
                if ending:
                    self._sample_last(eyes)
                busy = eyes.clock() - started
                if news is not None:
                    busy += self._compare(eyes, news)
                self.failure = None
            except Exception as error:  # this look fails, the next may not
                self.failure = first_line(error)
                if out_of_memory(error) and eyes is not None:
                    eyes.move_to_cpu()
                busy = max(busy, 0.01)
            if ending:
                self._stop_recording()
            elif self._recording:
                self._asked.set()  # the run itself keeps asking
            self._hurry.wait(max(RESTS * busy, IDLE_SECONDS))
        self._stop_recording()

    def _round(self, eyes: Eyes) -> Stamp | None:
        """Look at what has changed since the last time; the stamp of the weights, or None if nothing had."""
        text, step = self._text, self._source.step
        recorder = self._open(eyes)
        last = self._ending.is_set()
        due = recorder is not None and recorder.due(step, last)
        if self._shown == (text, step) and not due:
            return None
        stamp = self._source.snapshot(eyes.replica)
        own = eyes.look(eyes.tokens, stamp, self._ratio) if due or text is None else None
        if own is not None and recorder is not None and recorder.due(stamp.step, last):
            self._keep(recorder, own, eyes)
        frame = own if text is None else eyes.look(eyes.encode(text), stamp, self._ratio)
        self._frame, self._shown = frame, (text, stamp.step)
        return stamp

    def _open(self, eyes: Eyes) -> Recorder | None:
        if self._recording and self._recorder is None and self._run_dir is not None:
            try:
                self._recorder = Recorder(self._run_dir, eyes.tokens)
            except UserError as error:
                self._give_up(error)
        return self._recorder

    def _keep(self, recorder: Recorder, frame: Frame, eyes: Eyes) -> None:
        step = frame.stamp.step
        try:
            recorder.write(frame)
            if self._recorded % SAMPLE_EVERY == 0 or self._ending.is_set():
                recorder.write_sample(eyes.sample(step))
                self._sampled = step
        except UserError as error:
            self._give_up(error)
            return
        self._recorded += 1
        for born, layer, head, role, score in self._births.update(step, frame.scores):
            message = f"layer {layer} head {head} became {ROLES[role]}"
            self._tell("birth", born, f"{message} ({score:.2f})", layer=layer, head=head, role=role, score=score)

    def _sample_last(self, eyes: Eyes) -> None:
        """A text by the last weights, if their frame was recorded before anybody knew that they are the last."""
        if self._recorder is not None and self._shown is not None and self._sampled != self._shown[1]:
            try:
                self._recorder.write_sample(eyes.sample(self._shown[1]))
            except UserError as error:
                self._give_up(error)

    def _compare(self, eyes: Eyes, stamp: Stamp) -> float:
        """Measure the update ratio with the very next step, if it comes soon; returns the seconds of work."""
        deadline = time.perf_counter() + NEXT_STEP_SECONDS
        while self._source.step == stamp.step:
            if self._closed or self._ending.is_set() or time.perf_counter() > deadline:
                return 0.0
            time.sleep(0.001)
        started = eyes.clock()
        ratio = eyes.compare(self._source, stamp)
        self._ratio = self._ratio if ratio is None else ratio
        return eyes.clock() - started

    def _stop_recording(self) -> None:
        self._recording = False
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None
        self._ended.set()

    def _give_up(self, error: UserError) -> None:
        """What cannot be recorded is no reason not to train, nor to try again every second."""
        self._recording, self._recorder = False, None
        self._tell("warning", self._source.step, f"no more frames for time travel: {error}")

    def _tell(self, kind: EventKind, step: int, message: str, **data: object) -> None:
        self._say(Event(kind=kind, step=step, time=time.time(), message=message, data=data))


class Eyes:
    """The replicas of one thread, and the run's own text."""

    def __init__(self, source: WeightSource) -> None:
        self.replica: GPT = make_replica(source)
        self._next: GPT | None = None
        """The weights a step later, where the source trains."""
        self._source, self._tokenizer = source, source.tokenizer
        self._device = source.device()
        on_cpu = self._device == "cpu"
        # Work is CPU time of this thread: waiting for a busy core costs training nothing. A GPU's work takes wall time.
        self.clock: Callable[[], float] = time.thread_time if on_cpu else time.perf_counter
        seq_len = self.replica.config.seq_len
        text = source.validation(HEALTH_WINDOWS * seq_len)  # (n,)
        self.tokens: list[int] = text[: min(seq_len, PROBE_TOKENS)].tolist() or [0]
        windows = max(1, min(HEALTH_WINDOWS, len(text) // seq_len))
        self._validation = text[: windows * seq_len].reshape(windows, -1) if len(text) else np.zeros((1, 1), np.int64)

    def move_to_cpu(self) -> None:
        """The GPU has no memory left for a look: from now on they cost the CPU's time instead."""
        self._device = "cpu"
        for replica in (self.replica, self._next):
            if replica is not None:
                replica.to("cpu")

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).tolist()[-self.replica.config.seq_len :] or [0]

    def look(self, tokens: list[int], stamp: Stamp, ratio: float | None) -> Frame:
        from minigpt_core.probe import look

        seen = look(self.replica, tokens, self._validation, ratio)
        return Frame(
            stamp=stamp,
            tokens=self._tokenizer.token_labels(tokens),
            weights=seen.weights,
            scores=seen.scores,
            lens=seen.lens,
            lens_labels=seen.lens.labelled(self._tokenizer.token_labels),
            health=seen.health,
        )

    def sample(self, step: int) -> RecordedSample:
        from minigpt_core.sampler import stream
        from minigpt_core.status import Piece

        prompt = self.tokens[:SAMPLE_PROMPT]
        items = stream(self.replica, self._tokenizer, prompt, SAMPLE, SAMPLE.seed or 0)
        text = "".join(item.text for item in items if isinstance(item, Piece))
        return RecordedSample(step, self._tokenizer.decode(prompt), text)

    def compare(self, source: WeightSource, stamp: Stamp) -> float | None:
        """The update ratio between the replica and the weights of this moment, if they are one step apart."""
        from minigpt_core.probe import update_ratio

        if self._next is None:
            self._next = source.replica().to(self._device)
        if source.snapshot(self._next).step != stamp.step + 1:
            return None
        return update_ratio(self.replica, self._next)


def born(event: Event) -> tuple[int, int, str]:
    """(layer, head, role) of an event of kind "birth"."""
    return event.data["layer"], event.data["head"], event.data["role"]
