"""What a run leaves behind for people: pictures and samples in `assets/`, made from its directory alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minigpt_core import plots
from minigpt_core.atomic import write_atomic
from minigpt_core.checkpoint import Run, load_run
from minigpt_core.errors import UserError
from minigpt_core.probe import attention_maps
from minigpt_core.rundir import RunDir
from minigpt_core.sampler import encode_prompt, sample
from minigpt_core.stored import validation_text

TEMPERATURES = (0.2, 0.5, 0.8, 1.0, 1.2)
SAMPLE_TOKENS = 300
ATTENTION_TOKENS = 64


def write_assets(run_dir: RunDir, progress: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Write `loss_curve.png`, one PNG a head, their overview, and samples at several temperatures.

    Args:
        progress: told what is being made.

    Returns:
        The files written.

    Raises:
        UserError: the run has no usable checkpoint, or the disk refuses.
    """
    run = load_run(run_dir.checkpoint)
    assets = run_dir.assets
    try:
        assets.mkdir(exist_ok=True)
        progress("loss curve")
        if run.history:
            plots.loss_curve(run.history, assets / "loss_curve.png")
        progress("attention maps")
        write_attention(run, assets / "attention")
        progress("samples")
        write_atomic(assets / "sample_generation.txt", samples(run))
    except OSError as error:
        raise UserError(f"cannot write {str(assets)!r}: {error.strerror or error}") from None
    return sorted(path for path in assets.rglob("*") if path.is_file())


def write_attention(run: Run, folder: Path) -> None:
    """The maps of every head on the beginning of the validation split."""
    length = min(ATTENTION_TOKENS, run.model.config.seq_len)
    tokens, _ = encode_prompt(run.tokenizer, validation_text(run.dir, length) or "The ")
    weights = attention_maps(run.model, tokens[:length])  # (L, H, T, T)
    labels = run.tokenizer.token_labels(tokens[:length])
    plots.attention_heads(weights, labels, folder, step=run.state["step"])


def samples(run: Run) -> str:
    """The same prompt continued at each temperature, from the same seed."""
    text = validation_text(run.dir, 64) or "The "
    prompt = text.partition("\n")[0].strip() or "The "
    parts = [f"step {run.state['step']:,}, prompt {prompt!r}, seed {run.config.seed}\n"]
    for temperature in TEMPERATURES:
        answer = sample(
            run.model,
            run.tokenizer,
            prompt,
            temperature=temperature,
            max_new_tokens=SAMPLE_TOKENS,
            seed=run.config.seed,
        )
        parts.append(f"=== temperature {temperature} ===\n{prompt}{answer}\n")
    return "\n".join(parts)
