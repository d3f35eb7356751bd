"""What a run leaves behind for people: pictures, samples and a page in `assets/`, made from its directory alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minigpt_core import heads, plots
from minigpt_core.atomic import write_atomic
from minigpt_core.checkpoint import Run, load_run
from minigpt_core.errors import UserError
from minigpt_core.page import Attention, page
from minigpt_core.probe import attention_maps, repeated_tokens
from minigpt_core.rundir import RunDir
from minigpt_core.sampler import encode_prompt, sample
from minigpt_core.stored import validation_text

TEMPERATURES = (0.2, 0.5, 0.8, 1.0, 1.2)
SAMPLE_TOKENS = 300
ATTENTION_TOKENS = 64
NO_TEXT = "The "
"""What is looked at, and gone on from, where a run kept no text."""


def write_assets(run_dir: RunDir, progress: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Write `loss_curve.png`, one PNG a head, their overview, samples at several temperatures, and `report.html`.

    Args:
        progress: told what is being made.

    Returns:
        The files written.

    Raises:
        UserError: the run has no usable checkpoint, or the disk refuses.
    """
    run = load_run(run_dir.checkpoint)
    assets = run_dir.assets
    text, problem = probe_text(run)
    try:
        assets.mkdir(exist_ok=True)
        progress("loss curve")
        if run.history:
            plots.loss_curve(run.history, assets / "loss_curve.png")
        progress("attention maps")
        attention = look(run, text, problem)
        plots.attention_heads(attention.weights, attention.tokens, assets / "attention", step=run.state["step"])
        progress("samples")
        prompt = text.partition("\n")[0].strip() or NO_TEXT
        answers = samples(run, prompt)
        write_atomic(assets / "sample_generation.txt", as_text(run, prompt, answers))
        progress("report")
        write_atomic(assets / "report.html", page(run, attention, prompt, answers))
    except OSError as error:
        raise UserError(f"cannot write {str(assets)!r}: {error.strerror or error}") from None
    return sorted(path for path in assets.rglob("*") if path.is_file())


def probe_text(run: Run) -> tuple[str, str]:
    """The beginning of the validation split; or else what stands in for it, and why."""
    try:
        text = validation_text(run.dir, ATTENTION_TOKENS)
    except UserError as error:
        return NO_TEXT, f"The stored text cannot be used: {error}. So this is some other text."
    if text:
        return text, ""
    return NO_TEXT, "The run kept no copy of its text, so this is some other text."


def look(run: Run, text: str, problem: str = "") -> Attention:
    """What every head attends to on a text."""
    tokens, _ = encode_prompt(run.tokenizer, text)
    tokens = tokens[: min(ATTENTION_TOKENS, run.model.config.seq_len)]
    weights = attention_maps(run.model, tokens)  # (L, H, T, T)
    repeated = attention_maps(run.model, repeated_tokens(run.model))  # (L, H, 2S, 2S)
    return Attention(weights, heads.scores(weights, repeated), run.tokenizer.token_labels(tokens), problem)


def samples(run: Run, prompt: str) -> list[tuple[float, str]]:
    """(temperature, answer): the prompt continued at each temperature, from the same seed."""
    return [
        (
            temperature,
            sample(
                run.model,
                run.tokenizer,
                prompt,
                temperature=temperature,
                max_new_tokens=SAMPLE_TOKENS,
                seed=run.config.seed,
            ),
        )
        for temperature in TEMPERATURES
    ]


def as_text(run: Run, prompt: str, answers: list[tuple[float, str]]) -> str:
    parts = [f"step {run.state['step']:,}, prompt {prompt!r}, seed {run.config.seed}\n"]
    parts += [f"=== temperature {temperature} ===\n{prompt}{answer}\n" for temperature, answer in answers]
    return "\n".join(parts)
