"""An answer, or two to the same prompt, as a text file, for whoever wants to keep it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from minigpt_core.errors import UserError
from minigpt_core.generation import Generation
from minigpt_core.status import Stamp
from minigpt_tui.widgets.settings_editor import summary

FOLDER = "answers"


def keep(generations: Sequence[Generation], place: Path, name: str) -> Path:
    """Write an answer, or the old and the new one to a prompt, as they are now; never over another file.

    `place` is the directory of the run of this name, or a folder here if the run is elsewhere.
    Those that no weights have answered yet are left out.

    Raises:
        UserError: it cannot be written, or there is nothing to write yet.
    """
    answered = [(each, each.stamp) for each in generations if each.stamp is not None]
    if not answered:
        raise UserError("no answer to save yet")
    steps = "-and-".join(str(stamp.step) for _, stamp in answered)
    stem = f"step-{steps}-seed-{answered[0][1].seed}"
    folder = place / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        for number in count(1):
            path = folder / (f"{stem}.txt" if number == 1 else f"{stem}-{number}.txt")
            try:
                with open(path, "x", encoding="utf-8", errors="replace", newline="") as file:
                    file.write(document(answered, name))
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(f"cannot save the answer in {str(folder)!r}: {error.strerror}") from None
    raise AssertionError("numbers do not end")


def document(answered: Sequence[tuple[Generation, Stamp]], run: str) -> str:
    """Where an answer came from, then each sample after its prompt; of two answers, what they share comes first."""
    first, stamp = answered[0]
    request = f"# seed {stamp.seed}, {summary(first.config.replace(seed=None))}"
    if len(answered) == 1:
        return "\n".join([f"# run {run}, {weights(stamp)}", request, "", *texts(first)])
    lines = [f"# run {run}, then and now: one prompt, two answers", request]
    for name, (generation, stamp) in zip(("then", "now"), answered, strict=True):
        lines += ["", f"# {name}: {weights(stamp)}", "", *texts(generation)]
    return "\n".join(lines)


def weights(stamp: Stamp) -> str:
    """Which weights answered, and how good they were."""
    loss = "" if stamp.val_loss is None else f", validation loss {stamp.val_loss:.4f} at step {stamp.val_step:,}"
    return f"step {stamp.step:,}{loss}"


def texts(generation: Generation) -> list[str]:
    """The lines of all samples."""
    prompt = generation.prompt if generation.shown is None else generation.shown
    lines = []
    for sample, temperature in enumerate(generation.config.rows):
        if len(generation.config.rows) > 1:
            lines.append(f"# sample {sample + 1}, temperature {temperature:g}")
        lines += [prompt + generation.text(sample), ""]
    return lines
