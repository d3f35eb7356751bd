"""Commands that take weights from other programs, and hand ours to them."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

import shlex
from pathlib import Path
from typing import Annotated

import typer

from minigpt_tui.commands.options import OUTPUT, TEXT, Name, Out, RunArgument
from minigpt_tui.safetext import on_terminal


def import_weights(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A Hugging Face folder of a GPT-2, its id (fetched if not here), or nanoGPT's ckpt.pt.",
        ),
    ],
    data: Annotated[
        str | None, TEXT("What to train it on; for nanoGPT's characters, what it learned from.", metavar="TEXT")
    ] = None,
    tokenizer: Annotated[
        str | None, TEXT("A folder with GPT-2's vocabulary, where it does not lie with the weights.", metavar="FOLDER")
    ] = None,
    name: Name = None,
    out: Out = "runs",
) -> None:
    r"""Make a run of a GPT-2 from Hugging Face, or of a nanoGPT checkpoint.

    It stands at step 0: chat, generate, report and train --from take it like
    any other; with --data, train --resume does. Ids need the network, and
    pip install 'minigpt-tui\[hf]'.

    [bold]Examples[/bold]
    minigpt-tui import gpt2
    minigpt-tui import ~/models/distilgpt2 --name small
    minigpt-tui import out-shakespeare-char/ckpt.pt --data input.txt
    """
    from minigpt_core.interchange.load import import_run

    run = import_run(source, data, tokenizer, Path(out), name)
    place = on_terminal(shlex.quote(str(run.path)))
    print(f"run {place}")
    print(f"Talk to it: minigpt-tui chat {place}")


def export_weights(
    run: RunArgument = None,
    format: Annotated[
        str, OUTPUT("safetensors, or hf: a folder that transformers loads (classic only).")
    ] = "safetensors",
    best: Annotated[bool, OUTPUT("The weights of the lowest validation loss.", "--best", metavar="")] = False,
    output: Annotated[str | None, OUTPUT("Where to (RUN/export-FORMAT).", metavar="FOLDER")] = None,
    force: Annotated[bool, OUTPUT("Replace files that are there already.", "--force", metavar="")] = False,
    out: Out = "runs",
) -> None:
    """Write a run's weights for other programs, with a model card.

    hf has config.json, model.safetensors and a tokenizer with the same ids:
    AutoModelForCausalLM and AutoTokenizer load it, and it writes the same.

    [bold]Examples[/bold]
    minigpt-tui export my-run
    minigpt-tui export my-run --format hf --output my-model
    minigpt-tui export my-run --best --force
    """
    from minigpt_core.interchange.export import export

    folder = export(run, Path(out), format, best=best, output=Path(output) if output else None, overwrite=force)
    print(on_terminal(str(folder)))
