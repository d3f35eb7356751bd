"""`minigpt-tui runs compare`: runs as a table, their curves, and what each writes after the same words."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from minigpt_core.comparison import Compared, Comparison, compare
from minigpt_core.config import SampleConfig, option
from minigpt_core.errors import UserError
from minigpt_core.reading import encode_json
from minigpt_tui import plain_chart, run_file
from minigpt_tui.commands.training import train
from minigpt_tui.listing import PIPE_WIDTH
from minigpt_tui.safetext import on_terminal, safe
from minigpt_tui.widgets.format import UNKNOWN, count, duration, number, short, size

GAP = 2
MOST = 28
"""Columns of a run in the table; what is longer is folded."""
NARROWEST = 26
"""Columns of a text beside another one; where there is no room, they follow one another."""
OPTIONS = run_file.kinds(train).keys()

Answers = list[tuple[str, str]]
"""Of each run, what it wrote and, if it cannot write, why."""


def run(
    refs: Sequence[str],
    parent: Path,
    *,
    prompt: str,
    settings: SampleConfig,
    samples: bool,
    output: Path | None,
    overwrite: bool,
    json: bool,
) -> int:
    """Compare and print; `settings` has a seed."""
    found = compare(refs, parent)
    if output is not None:
        write_picture(found, output, overwrite)
    if json:
        answers = [answer(each, prompt, settings) for each in found.runs] if samples else None
        print(encode_json(as_json(found, prompt, settings, answers)).decode())
        return 0
    print_table(found)
    title = {"val_loss": "validation loss", "smoothed": "training loss, smoothed"}[found.metric]
    unit = "bits a byte" if found.per_byte else "nats a token"
    print(f"\n{chart(found, f'{title}, {unit}')}")
    if output is not None:
        print(f"\npicture: {on_terminal(str(output))}")
    if samples:
        sys.stdout.flush()  # torch takes a moment to load
        print_samples(found, prompt, [answer(each, prompt, settings) for each in found.runs], settings)
    return 0


# --- the table ---


def print_table(found: Comparison) -> None:
    """What came out, then the settings that differ; as many runs beside one another as there is room for."""
    outcomes = [(label, [tell(each) for each in found.runs]) for label, tell in facts(found)]
    settings = [(name_of(name), [worded(value) for value in row]) for name, row in found.differences.items()]
    rows = [(label, [safe(cell, newlines=False) for cell in cells]) for label, cells in [*outcomes, *settings]]
    names = [safe(each.label, newlines=False) for each in found.runs]
    width = page_width()
    first = max(len(label) for label, _ in rows)
    wide = [min(MOST, max(cell_len(name), *(cell_len(cells[i]) for _, cells in rows))) for i, name in enumerate(names)]
    console, shown = Console(width=width, highlight=False), 0
    while shown < len(names):
        end, taken = shown, first
        while end < len(names) and (end == shown or taken + GAP + wide[end] <= width):
            taken, end = taken + GAP + wide[end], end + 1
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
        table.add_column("", no_wrap=True)
        for name in names[shown:end]:
            table.add_column(Text(name), justify="right", overflow="fold", max_width=MOST)
        for i, (label, cells) in enumerate(rows):
            table.add_row(Text(label), *map(Text, cells[shown:end]), end_section=i == len(outcomes) - 1)
            if i == len(outcomes) - 1 and settings:
                table.add_row()
        if shown:
            print()
        put(console, table)
        shown = end
    for note in ["", *notes(found, bool(settings))]:
        print(textwrap.fill(note, min(width, 100)))


def facts(found: Comparison) -> list[tuple[str, Callable[[Compared], str]]]:
    """What is told of each run, and how."""
    told: list[tuple[str, Callable[[Compared], str]]] = [
        ("state", lambda run: run.summary.state),
        ("step", lambda run: f"{count(run.summary.step)}/{count(run.summary.total_steps)}"),
        ("train loss", lambda run: number(run.train_loss, 4)),
        ("last val loss", lambda run: number(run.summary.val_loss, 4)),
        ("best val loss", lambda run: number(run.summary.best_val_loss, 4)),
        ("final val loss", lambda run: number(run.final_val_loss, 4)),
    ]
    if any(run.tokens_per_byte is not None for run in found.runs):
        told.append(("best, bits a byte", lambda run: number(run.bits_per_byte(run.summary.best_val_loss), 4)))
    return [
        *told,
        ("tokens a second", lambda run: short(run.tok_s)),
        ("trained for", lambda run: duration(run.summary.last.time if run.summary.last else None)),
        ("parameters", lambda run: count(run.summary.n_params)),
        ("vocabulary", lambda run: count(run.vocab_size)),
        ("on disk", lambda run: size(run.summary.n_bytes)),
    ]


def notes(found: Comparison, differ: bool) -> list[str]:
    """What there is to say below the table."""
    said = ["All other settings are the same." if differ else "All settings are the same."]
    if not found.same_vocabulary:
        said.append(
            "The vocabularies differ: compare in bits a byte."
            if found.per_byte
            else "The vocabularies differ, so their losses a token do not compare."
        )
    return said


def name_of(setting: str) -> str:
    """As the user writes it on the command line, where there is such an option."""
    return option(setting) if setting in OPTIONS else setting


def worded(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# --- curves ---


def chart(found: Comparison, title: str) -> str:
    lines = []
    for each in found.runs:
        curve = each.curve(found.metric, 2 * plain_chart.columns(), per_byte=found.per_byte)
        lines.append(plain_chart.Line(each.label, curve.step, curve.mean))
    return plain_chart.draw(title, lines)


def write_picture(found: Comparison, path: Path, overwrite: bool) -> None:
    """The curves as a PNG file.

    Raises:
        UserError: it is there already, or the disk refuses.
    """
    from minigpt_core.comparison_plot import picture
    from minigpt_core.metrics_export import check_free

    check_free(path, overwrite)
    try:
        picture(found, path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from None


# --- samples ---


def answer(run: Compared, prompt: str, settings: SampleConfig) -> tuple[str, str]:
    """What the run writes after the prompt, and no reason; or nothing, and why it cannot write."""
    from minigpt_core.checkpoint import Run
    from minigpt_core.sampler import encode_prompt, sample

    try:
        loaded = Run(run.dir, run.checkpoint)
    except UserError as error:
        return "", str(error)
    for warning in encode_prompt(loaded.tokenizer, prompt)[1]:
        print(f"minigpt-tui: {safe(f'{run.label}: {warning}', newlines=False)}", file=sys.stderr)
    model = loaded.model.use_attention("fused")
    return sample(model, loaded.tokenizer, prompt, **settings.to_dict()), ""


def print_samples(found: Comparison, prompt: str, answers: Answers, settings: SampleConfig) -> None:
    """Side by side on a terminal that is wide enough, else one after the other."""
    start = f"after {prompt!r}" if prompt else "from the beginning of a line"
    print(f"\nsamples {safe(start, newlines=False)}, seed {settings.seed}, temperature {settings.temperature:g}\n")
    names = [safe(each.label, newlines=False) for each in found.runs]
    texts = [
        Text(safe(prompt), style="dim").append(Text(safe(text), style="not dim"))
        if not why
        else Text(safe(why, newlines=False), style="italic")
        for text, why in answers
    ]
    width = page_width()
    if sys.stdout.isatty() and len(names) * (NARROWEST + GAP) <= width:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0), expand=True)
        for name in names:
            table.add_column(Text(name), overflow="fold", ratio=1)
        table.add_row(*texts)
        put(Console(width=width, highlight=False), table)
        return
    for name, text in zip(names, texts, strict=True):
        print(f"--- {name} ---\n{text.plain}\n")


# --- output ---


def page_width() -> int:
    """That of the terminal; a pipe has no width, so there nothing is folded."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return PIPE_WIDTH if piped else shutil.get_terminal_size().columns


def put(console: Console, table: Table) -> None:
    """Print without the spaces at the ends of lines."""
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def as_json(found: Comparison, prompt: str, settings: SampleConfig, answers: Answers | None) -> dict[str, Any]:
    """Everything as one object; losses in nats a token."""
    runs = []
    for i, each in enumerate(found.runs):
        summary = each.summary
        told: dict[str, Any] = {
            "run": each.label,
            "path": str(each.dir.path),
            "state": summary.state,
            "step": summary.step,
            "total_steps": summary.total_steps,
            "train_loss": each.train_loss,
            "last_val_loss": summary.val_loss,
            "best_val_loss": summary.best_val_loss,
            "final_val_loss": each.final_val_loss,
            "best_val_bits_per_byte": each.bits_per_byte(summary.best_val_loss),
            "tokens_per_s": each.tok_s,
            "time_s": summary.last.time if summary.last else None,
            "parameters": summary.n_params,
            "vocab_size": each.vocab_size,
            "bytes": summary.n_bytes,
            "settings": each.options,
        }
        if answers is not None:
            text, why = answers[i]
            told["sample"] = {"error": why} if why else {"text": text}
        runs.append(told)
    asked = {"prompt": prompt, "seed": settings.seed, "max_new_tokens": settings.max_new_tokens}
    return {
        "runs": runs,
        "differences": found.differences,
        "same_vocabulary": found.same_vocabulary,
        **({} if answers is None else {"samples": asked}),
    }
