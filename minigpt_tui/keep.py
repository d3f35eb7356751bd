"""An answer as a text file in its run's directory, for whoever wants to keep it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from minigpt_core.errors import UserError
from minigpt_core.generation import Generation
from minigpt_tui.widgets.settings_editor import summary

FOLDER = "answers"


def keep(generation: Generation, run: Path) -> Path:
    """Write an answer as it is now to a new file in the run's folder `answers`; never over another.

    Raises:
        UserError: it cannot be written, or no weights have answered yet.
    """
    if generation.stamp is None:
        raise UserError("no answer to save yet")
    stem = f"step-{generation.stamp.step}-seed-{generation.stamp.seed}"
    folder = run / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        for number in count(1):
            path = folder / (f"{stem}.txt" if number == 1 else f"{stem}-{number}.txt")
            try:
                with open(path, "x", encoding="utf-8", errors="replace", newline="") as file:
                    file.write(document(generation, run.name))
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(f"cannot save the answer in {str(folder)!r}: {error.strerror}") from None
    raise AssertionError("numbers do not end")


def document(generation: Generation, run: str) -> str:
    """Where an answer came from, then each sample after its prompt."""
    stamp, config = generation.stamp, generation.config
    assert stamp is not None
    loss = "" if stamp.val_loss is None else f", validation loss {stamp.val_loss:.4f} at step {stamp.val_step:,}"
    lines = [f"# run {run}, step {stamp.step:,}{loss}", f"# seed {stamp.seed}, {summary(config)}", ""]
    for sample, temperature in enumerate(config.rows):
        if len(config.rows) > 1:
            lines.append(f"# sample {sample + 1}, temperature {temperature:g}")
        lines += [(generation.prompt if generation.shown is None else generation.shown) + generation.text(sample), ""]
    return "\n".join(lines)
