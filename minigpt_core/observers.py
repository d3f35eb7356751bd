"""The thread that answers prompts with the weights of this moment.

It has a replica of its own, computes with one CPU thread, and draws from generators of its own, so training notices
nothing. It waits for weights, and loads torch, only when first asked.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.generation import Generation
from minigpt_core.weights import WeightSource

if TYPE_CHECKING:
    from minigpt_core.model import GPT


def make_replica(source: WeightSource) -> GPT:
    """A replica for the calling thread, which becomes a computing thread first: on CUDA memory belongs to a stream."""
    device = source.device()
    from minigpt_core.devices import enter_thread

    enter_thread(device, threads=1, own_stream=True)
    return source.replica().use_attention("fused")


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def out_of_memory(error: Exception) -> bool:
    """Of a GPU: a CPU's own ends the process."""
    return type(error).__name__ == "OutOfMemoryError"


class Sampler:
    """Answers prompts one after another, each from one snapshot of the weights.

    Args:
        on_answer: told of every answer that has ended, from the sampler's thread; it must not raise.
    """

    def __init__(self, source: WeightSource, on_answer: Callable[[Generation], None] = lambda _: None) -> None:
        self._source, self._on_answer = source, on_answer
        self._queue: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._current: Generation | None = None
        self._replica: GPT | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def generate(self, prompt: str, config: SampleConfig) -> Generation:
        generation = Generation(prompt, config)
        self._queue.put(generation)
        if self._closed:
            generation.finish("cancelled")
        return generation

    def close(self) -> None:
        self._closed = True
        if (current := self._current) is not None:
            current.cancel()
        self._queue.put(None)

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: wait for the token under way; True once the thread has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (generation := self._queue.get()) is not None:
            self._current = generation
            if self._closed:  # asked after `_current` is set, which `close` cancels
                generation.cancel()
            try:
                self._answer(generation)
            except UserError as error:
                generation.finish("failed", str(error))
            except Exception as error:  # one request fails, the next may not
                reason = f"sampling failed: {first_line(error)}"
                if out_of_memory(error) and self._replica is not None:
                    self._replica.to("cpu")
                    reason = "the GPU has no memory left for this; ask again, and the CPU answers"
                generation.finish("failed", reason)
            self._current = None
            self._on_answer(generation)

    def _answer(self, generation: Generation) -> None:
        if self._replica is None and not generation.cancelled:
            self._replica = make_replica(self._source)
        if self._replica is None or generation.cancelled:
            generation.finish("cancelled")
            return
        from minigpt_core.sampler import answer, encode_prompt, fresh_seed

        tokens, generation.warnings = encode_prompt(self._source.tokenizer, generation.prompt)
        seed = fresh_seed() if generation.config.seed is None else generation.config.seed
        stamp = self._source.snapshot(self._replica)
        generation.stamp = msgspec.structs.replace(stamp, seed=seed)
        answer(generation, self._replica, self._source.tokenizer, tokens, seed)
