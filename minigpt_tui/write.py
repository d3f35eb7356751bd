"""A model's text on standard output, as it is drawn: of a run that has ended, or of the weights that train now."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError, UserError
from minigpt_core.generation import Generation
from minigpt_core.lock import holder
from minigpt_core.status import Piece, Stamp
from minigpt_tui.safetext import SafeStream, safe

if TYPE_CHECKING:
    from minigpt_tui.link.remote import AttachedSession

POLL_SECONDS = 0.01


def generate(
    ref: str | None, parent: Path, prompt: str | None, settings: list[SampleConfig], *, stream: bool, json: bool
) -> int:
    """Answer `prompt` (standard input if None) once for each of `settings`, from a run's checkpoint."""
    prompt = given_prompt(prompt)
    from minigpt_core.checkpoint import load_run
    from minigpt_core.sampler import encode_prompt, fresh_seed
    from minigpt_core.sampler import stream as draw

    run = load_run(ref, parent)
    model = run.model.use_attention("fused")
    tokens, warnings = encode_prompt(run.tokenizer, prompt)
    warn(warnings)
    page = Page(run.dir.name, prompt, len(settings) > 1, stream, json)
    for config in settings:
        seed = fresh_seed() if config.seed is None else config.seed
        stamp = Stamp(step=run.state["step"], val_loss=run.state["val_loss"], seed=seed)
        page.write(config, stamp, draw(model, run.tokenizer, tokens, config, seed))
    return 0


def prompt(
    session: AttachedSession, name: str, text: str | None, settings: list[SampleConfig], *, stream: bool, json: bool
) -> int:
    """Answer `text` (standard input if None) once for each of `settings`, from the weights of this moment.

    Raises:
        UserError: there was no answer.
    """
    text = given_prompt(text)
    page = Page(name, text, len(settings) > 1, stream, json)
    for config in settings:
        generation = session.generate(text, config)
        try:
            while generation.stamp is None and not generation.done:
                if not session.connected and holder(session.run) is None:
                    raise UserError(f"run {name!r} has ended before it answered")
                time.sleep(POLL_SECONDS)
            warn(generation.warnings)
            if generation.stamp is not None:
                page.write(config, generation.stamp, drawn(generation))
        finally:
            generation.cancel()
        if generation.finish_reason == "failed":
            raise UserError(generation.error or "the answer failed")
    return 0


def drawn(generation: Generation) -> Iterator[Piece | str]:
    """What an answer brings as it brings it, and then why it ended."""
    while True:
        done = generation.done  # before the last pieces are taken
        yield from generation.take()
        if done:
            yield generation.finish_reason or "failed"
            return
        time.sleep(POLL_SECONDS)


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"minigpt-tui: {safe(warning, newlines=False)}", file=sys.stderr)


class Page:
    """Standard output: answers as they are drawn, or each as a whole, or one JSON object each.

    Args:
        name: of the run.
        several: more than one setting is asked for, so each answer has a heading.
    """

    def __init__(self, name: str, prompt: str, several: bool, stream: bool, json: bool) -> None:
        self._name, self._prompt, self._several, self._stream, self._json = name, prompt, several, stream, json
        # Control characters from a model could steer the terminal; a file or a pipe gets the text as it is.
        self._terminal = sys.stdout.isatty()

    def write(self, config: SampleConfig, stamp: Stamp, items: Iterable[Piece | str]) -> None:
        """One answer, all its samples: pieces, and then why it ended."""
        several = self._several or len(config.rows) > 1
        live = self._stream and not self._json and len(config.rows) == 1
        heading = f"--- temperature {config.temperature:g}, seed {stamp.seed}"
        answers, reason, safely = [""] * len(config.rows), "length", SafeStream()
        if live:
            if several:
                print(f"{heading} ---")
            print(safely.feed(self._prompt) if self._terminal else self._prompt, end="", flush=True)
        for item in items:
            if isinstance(item, Piece):
                answers[item.sample] += item.text
                if live:
                    print(safely.feed(item.text) if self._terminal else item.text, end="", flush=True)
            else:
                reason = item
        if live:
            print(safely.flush() if self._terminal else "")
        for i, answer in enumerate(answers):
            if self._json:
                row = {
                    "run": self._name,
                    "step": stamp.step,
                    "val_loss": stamp.val_loss,
                    "prompt": self._prompt,
                    "answer": answer,
                    "sample": i,
                    "seed": stamp.seed,
                    "settings": config.to_dict(),
                    "finish_reason": reason,
                }
                print(msgspec.json.encode(row).decode())
            elif not live:
                if several:
                    print(f"{heading}, sample {i} ---")
                print((safe if self._terminal else str)(self._prompt + answer))


def given_prompt(prompt: str | None) -> str:
    """The text to go on from; a shell may pass bytes that are no text, which JSON could not hold."""
    prompt = read_prompt() if prompt is None else prompt
    return prompt.encode(errors="replace").decode()


def read_prompt() -> str:
    """Standard input to its end, without the line break that `echo` adds.

    Raises:
        UsageError: nobody pipes anything in.
        UserError: it is not UTF-8.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError('give a text to go on from: --prompt "The meaning of life", or pipe one in')
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"the prompt on standard input is not UTF-8 (byte offset {error.start:,})") from None
