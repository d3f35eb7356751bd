"""One viewer of a run that trains here: what it asked for, and what waits to be told to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt_core.frame import Frame
from minigpt_core.generation import Generation
from minigpt_core.series import METRICS
from minigpt_tui.link import messages as m
from minigpt_tui.local import LocalSession
from minigpt_tui.past import Past

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

STALL_SECONDS = 10.0
"""After which a viewer that takes nothing is dropped."""
MAX_WAITING, MAX_WAITING_BYTES = 256, 32 * 2**20
"""Messages that wait for a viewer, and how long they may be together; what is more than it can take ends it as well."""
MAX_PROMPTS = 8
"""Answers under way for one viewer."""
MAX_ROWS = 64
"""Samples of one answer."""
MAX_TOKENS = 1_000_000
"""Of one answer, all its samples together."""
PIECES_SECONDS = 0.02
PAST_SECONDS = 0.1
"""Between two looks whether a recorded frame has been read."""
REQUESTS_A_SECOND = 100.0
MALFORMED = 1007
"""A close code of RFC 6455, section 7.4.1."""


class Viewer:
    """Lives in the server's event loop.

    Args:
        hurry: has the server tell its viewers now what is new.

    Attributes:
        wants_frame: it shows the present attention, so looking at the weights is worth the while.
        frame_sent: the newest it was told.
    """

    def __init__(self, session: LocalSession, connection: ServerConnection, hurry: Callable[[], None]) -> None:
        self._session, self._connection, self._hurry = session, connection, hurry
        self.wants_frame = False
        self.frame_sent: Frame | None = None
        self._waiting: dict[object, bytes] = {}
        """In order; of what is only ever shown in its newest form, the newest."""
        self._ready, self._idle = asyncio.Event(), asyncio.Event()
        self._answers: dict[int, Generation] = {}
        self._past: Past | None = None
        self._showing: asyncio.Task[None] | None = None
        self._shown: Frame | None = None
        """The recorded frame it was told last, since it looks back."""
        self._beta: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, key: object, message: bytes) -> None:
        """Have a message sent; one that still waits under the same key is replaced."""
        too_many = len(self._waiting) >= MAX_WAITING and key not in self._waiting
        if too_many or sum(map(len, self._waiting.values())) > MAX_WAITING_BYTES:
            self._connection.transport.abort()
            return
        self._waiting[key] = message
        self._idle.clear()
        self._ready.set()

    async def told(self) -> None:
        """Wait until all is sent, or the viewer is too slow."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), 1.0)

    async def serve(self) -> None:
        """Until the viewer goes, or is dropped."""
        from websockets.exceptions import ConnectionClosed

        self._begin(self._send())
        try:
            budget, then = REQUESTS_A_SECOND, time.monotonic()
            async for data in self._connection:
                now = time.monotonic()
                budget, then = min(REQUESTS_A_SECOND, budget + (now - then) * REQUESTS_A_SECOND) - 1, now
                if budget < 0:  # not read any faster: what it says next waits in its own buffers
                    await asyncio.sleep(-budget / REQUESTS_A_SECOND)
                self._take(m.read_request(data))
        except m.MalformedError:
            await self._connection.close(MALFORMED, "not a message of this protocol")
        except ConnectionClosed:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            for generation in self._answers.values():
                generation.cancel()
            if self._past is not None:
                self._past.let_go()

    # --- sending ---

    async def _send(self) -> None:
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._ready.wait()
                while self._waiting:
                    key = next(iter(self._waiting))
                    try:
                        async with asyncio.timeout(STALL_SECONDS):
                            await self._connection.send(self._waiting.pop(key))
                    except TimeoutError:
                        self._connection.transport.abort()
                        return
                self._ready.clear()
                self._idle.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- what it asks for ---

    def _take(self, request: m.Request) -> None:
        match request:
            case m.Do(command):
                self._session.send(command)
            case m.Prompt():
                self._prompt(request)
            case m.Cancel(number):
                if number in self._answers:
                    self._answers[number].cancel()
            case m.Watch(text):
                self._session.watch(text)
            case m.Look(wanted, None):
                self.wants_frame = wanted
                self.frame_sent = None
                if self._past is not None:
                    self._past.look_back(None)
                self._hurry()
            case m.Look(_, step):
                looking_back = self._past is not None and self._past.looking_back
                self.wants_frame = False
                self._read_past().look_back(step)
                if not looking_back:
                    self._shown = None
                    if self._showing is None or self._showing.done():  # one that has not noticed yet goes on
                        self._showing = self._begin(self._show_past(self._read_past()))
            case m.Ask(number, question):
                self.put(("answer", number), m.encode(m.Answer(number, self._found(question))))

    def _prompt(self, request: m.Prompt) -> None:
        config, number = request.config, request.number
        rows = len(config.temperatures) or config.num_samples
        problem = None
        if number in self._answers:
            return  # asked for again by a viewer that was not sure
        if len(self._answers) >= MAX_PROMPTS:
            problem = f"at most {MAX_PROMPTS} answers at a time; wait for one to end"
        elif rows > MAX_ROWS or rows * config.max_new_tokens > MAX_TOKENS:
            problem = f"at most {MAX_ROWS} samples and {MAX_TOKENS:,} tokens in all; ask for less"
        if problem is not None:
            self.put(("pieces", number), m.encode(m.Pieces(number, [], 0, None, (), "failed", problem)))
            return
        generation = self._answers[number] = self._session.generate(request.prompt, config)
        generation.shown = request.shown
        self._begin(self._pass_on(number, generation))

    async def _pass_on(self, number: int, generation: Generation) -> None:
        """An answer, piece by piece; a viewer that is slow to take them gets longer pieces, not more of them."""
        key = "pieces", number
        while True:
            if key not in self._waiting:
                done = generation.done  # before the last pieces are taken
                if (pieces := generation.take()) or done:
                    news = m.Pieces(
                        number,
                        pieces,
                        generation.n_tokens,
                        generation.stamp,
                        generation.warnings,
                        generation.finish_reason if done else None,
                        generation.error,
                    )
                    self.put(key, m.encode(news))
                if done:
                    del self._answers[number]
                    return
            await asyncio.sleep(PIECES_SECONDS)

    # --- the past, for who cannot read the run's directory ---

    def _read_past(self) -> Past:
        if self._past is None:
            self._past = Past(self._session.run)
            self._past.follow()
        return self._past

    def _found(self, question: m.Question) -> m.Envelopes | m.Events | m.HeadScores | m.Array | m.Found | None:
        match question:
            case m.Excerpt(number):
                return m.Found(text=self._session.excerpt(number))
            case m.Speakers():
                return m.Found(names=self._session.speakers())
            case m.LadderOf():
                return m.Found(ladder=self._session.ladder())
        past = self._read_past()
        match question:
            case m.SeriesOf(metric, lo, hi, buckets, beta) if metric in METRICS:
                if beta != self._beta:
                    self._beta = beta
                    past.smooth(beta)
                return m.pack_envelope(past.series(metric, lo, hi, buckets))
            case m.EventsFrom(first):
                return m.Events(past.events(first)[:1000])
            case m.RecordedSteps():
                return m.pack_array(np.asarray(past.recorded()))
            case m.Heads():
                history = past.head_history()
                return None if history is None else m.pack_heads(history)
        return None

    async def _show_past(self, past: Past) -> None:
        """Recorded frames as they are read, until the viewer comes back to the present."""
        while past.looking_back:
            frame = past.past_frame()
            if frame is not None and frame is not self._shown:
                self._shown, sample = frame, past.recorded_sample()
                self.put("past", m.encode(await asyncio.to_thread(m.pack_frame, frame, True, sample)))
            await asyncio.sleep(PAST_SECONDS)
