"""`minigpt-tui generate`: a model's text on standard output, as it is drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError, UserError
from minigpt_tui.safetext import SafeStream, safe


def generate(
    ref: str | None, parent: Path, prompt: str | None, settings: list[SampleConfig], *, stream: bool, json: bool
) -> int:
    """Answer `prompt` (standard input if None) once for each of `settings`."""
    prompt = read_prompt() if prompt is None else prompt
    from minigpt_core.checkpoint import load_run
    from minigpt_core.sampler import encode_prompt, fresh_seed
    from minigpt_core.sampler import stream as draw
    from minigpt_core.status import Piece

    # A shell may pass bytes that are no text; JSON could not hold them.
    prompt = prompt.encode(errors="replace").decode()
    run = load_run(ref, parent)
    model = run.model.use_attention("fused")
    tokens, warnings = encode_prompt(run.tokenizer, prompt)
    for warning in warnings:
        print(f"minigpt-tui: {safe(warning, newlines=False)}", file=sys.stderr)
    several = len(settings) > 1 or len(settings[0].rows) > 1
    live = stream and not json and len(settings[0].rows) == 1
    # Control characters from a model could steer the terminal; a file or a pipe gets the text as it is.
    terminal = sys.stdout.isatty()
    shown = safe if terminal else str
    for config in settings:
        seed = fresh_seed() if config.seed is None else config.seed
        answers = [""] * len(config.rows)
        reason = "length"
        if live:
            if several:
                print(f"--- temperature {config.temperature:g}, seed {seed} ---")
            safely = SafeStream()
            print(safely.feed(prompt) if terminal else prompt, end="", flush=True)
        for item in draw(model, run.tokenizer, tokens, config, seed):
            if isinstance(item, Piece):
                answers[item.sample] += item.text
                if live:
                    print(safely.feed(item.text) if terminal else item.text, end="", flush=True)
            else:
                reason = item
        if live:
            print(safely.flush() if terminal else "")
        for i, answer in enumerate(answers):
            if json:
                row = {
                    "run": run.dir.name,
                    "step": run.state["step"],
                    "val_loss": run.state["val_loss"],
                    "prompt": prompt,
                    "answer": answer,
                    "sample": i,
                    "seed": seed,
                    "settings": config.to_dict(),
                    "finish_reason": reason,
                }
                print(msgspec.json.encode(row).decode())
            elif not live:
                if several:
                    print(f"--- temperature {config.temperature:g}, seed {seed}, sample {i} ---")
                print(shown(prompt + answer))
    return 0


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
