"""The command line: parses, checks, calls. No logic of its own, and torch only where a command needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from minigpt_core.errors import UserError

app = typer.Typer(
    name="minigpt-tui",
    help="Train a small GPT in a terminal, watch it learn, and talk to the weights it has right now.\n\n"
    "[dim]minigpt-tui[/dim] alone is [dim]minigpt-tui train[/dim]: it opens the app and trains.",
    rich_markup_mode="rich",
    no_args_is_help=False,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = typer.Typer(help="List runs, or show one.", rich_markup_mode="rich")
app.add_typer(runs_app, name="runs")

DEFAULT_COMMAND = "train"
COMMANDS = ("train", "generate", "chat", "runs", "report", "doctor")

RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run's name, its directory or a checkpoint file; the newest if left out."),
]
OutOption = Annotated[str, typer.Option("--out", help="The folder that runs lie in.", rich_help_panel="Run")]
ColorOption = Annotated[
    str, typer.Option("--color", help="auto, truecolor, 256, 16 or none.", rich_help_panel="Appearance")
]
AsciiOption = Annotated[
    bool, typer.Option("--ascii", help="Draw with ASCII characters only.", rich_help_panel="Appearance")
]
NO_SAMPLING = "Sampling"


def main() -> None:
    """Entry point: one clear line for every foreseeable error, and its exit code."""
    try:
        code = app(args=normalised(sys.argv[1:]), prog_name="minigpt-tui", standalone_mode=False)
    except TyperException as error:
        code = complain(error.format_message(), getattr(error, "exit_code", 2))
    except UserError as error:
        code = complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code or 0)


def complain(message: str, code: int) -> int:
    print(f"minigpt-tui: {' '.join(message.split())}", file=sys.stderr)
    return code


def normalised(arguments: list[str]) -> list[str]:
    """`--batch_size` is `--batch-size`, and options without a command belong to `train`."""
    result = []
    for i, argument in enumerate(arguments):
        if argument == "--":
            return result + arguments[i:]
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            argument = name.replace("_", "-") + equals + value
        result.append(argument)
    asks_for_itself = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
    if not result or (result[0].startswith("-") and result[0] not in asks_for_itself):
        result.insert(0, DEFAULT_COMMAND)
    return result


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"minigpt-tui {installed('minigpt-tui')}")
        raise typer.Exit


# --- train ---

SIZES, TRAINING, RUN, TEXT = "Model", "Training", "Run", "Text"


@app.command()
def train(
    data: Annotated[
        str | None,
        typer.Option(help="A text file, a folder of them, - for stdin, or pydocs.", rich_help_panel=TEXT),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Keep the N-1 most frequent characters.", rich_help_panel=TEXT)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train this many steps (5,000).", rich_help_panel=TRAINING)] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Or this many passes through the text.", rich_help_panel=TRAINING)
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Or about this long.", rich_help_panel=TRAINING)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows of text a step.", rich_help_panel=TRAINING)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate (3e-3).", rich_help_panel=TRAINING)] = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Steps up to it (100).", rich_help_panel=TRAINING)] = None,
    weight_decay: Annotated[float | None, typer.Option(help="On matrices (0.1).", rich_help_panel=TRAINING)] = None,
    grad_clip: Annotated[
        float | None, typer.Option(help="Largest gradient norm (1.0); 0 is off.", rich_help_panel=TRAINING)
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Probability.", rich_help_panel=TRAINING)] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations (250).", rich_help_panel=TRAINING)
    ] = None,
    log_every: Annotated[int | None, typer.Option(help="Steps a metrics row covers.", rich_help_panel=TRAINING)] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints (1,000).", rich_help_panel=TRAINING)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, batches and dropout.", rich_help_panel=TRAINING)] = None,
    preset: Annotated[str, typer.Option(help="Architecture: classic.", rich_help_panel=SIZES)] = "classic",
    seq_len: Annotated[int | None, typer.Option(help="Context in tokens.", rich_help_panel=SIZES)] = None,
    n_layers: Annotated[int | None, typer.Option(help="Blocks.", rich_help_panel=SIZES)] = None,
    num_heads: Annotated[int | None, typer.Option(help="Attention heads a block.", rich_help_panel=SIZES)] = None,
    embed_dim: Annotated[int | None, typer.Option(help="Width of the residual stream.", rich_help_panel=SIZES)] = None,
    ff_mult: Annotated[
        int | None, typer.Option(help="Feed-forward width as a multiple of it (4).", rich_help_panel=SIZES)
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            help="Take something away (repeatable): no-layernorm, no-residual, single-head, swap-qk, no-positions.",
            rich_help_panel=SIZES,
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=RUN)] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.", rich_help_panel=RUN)] = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile.", rich_help_panel=RUN)
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Repeat to the bit on CUDA too.", rich_help_panel=RUN)
    ] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads of training.", rich_help_panel=RUN)] = None,
    name: Annotated[str | None, typer.Option(help="Of the run; else date, time and text.", rich_help_panel=RUN)] = None,
    out: OutOption = "runs",
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run where it was saved.", rich_help_panel=RUN)
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="No app: progress on the terminal.", rich_help_panel=RUN)
    ] = False,
    color: ColorOption = "auto",
    ascii_: AsciiOption = False,
) -> int:
    """Train a model, in the app or headless.

    With no size options the model fits the device: about 0.8 M parameters on a CPU, 10.7 M on a GPU.

    [bold]Examples[/bold]

      minigpt-tui train

      minigpt-tui train --data book.txt --epochs 10 --batch-size 32

      minigpt-tui train --data book.txt --minutes 5 --ablate no-positions --name blind

      cat *.md | minigpt-tui train --data - --headless

      minigpt-tui train --resume blind --steps 8000
    """
    from minigpt_core.plan import Request, prepare, prepare_resume

    compile_mode = None if compile_ is None else "on" if compile_ else "off"
    training = given(
        steps=steps, epochs=epochs, minutes=minutes, batch_size=batch_size, learning_rate=learning_rate,
        warmup_steps=warmup_steps, weight_decay=weight_decay, grad_clip=grad_clip, eval_every=eval_every,
        log_every=log_every, save_every=save_every, seed=seed, device=device, precision=precision,
        compile=compile_mode, deterministic=deterministic or None, threads=threads,
    )  # fmt: skip
    model = given(
        seq_len=seq_len, n_layers=n_layers, num_heads=num_heads, embed_dim=embed_dim, ff_mult=ff_mult, dropout=dropout
    )
    if resume is not None:
        fixed = given(data=data, vocab_size=vocab_size, name=name, ablate=ablate or None) | model
        plan = prepare_resume(resume, training | fixed, out)
    else:
        plan = prepare(
            Request(
                data=data,
                preset=preset,
                ablate=tuple(ablate or ()),
                vocab_size=vocab_size,
                model=model,
                train=training,
                name=name,
                out=out,
            )
        )
    from minigpt_tui import launch

    return launch.train(plan, headless=headless, color=color, ascii_only=ascii_, text_on_stdin=data == "-")


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


# --- a finished run ---


@app.command()
def chat(
    run: RunArgument = None, out: OutOption = "runs", color: ColorOption = "auto", ascii_: AsciiOption = False
) -> int:
    """Open the app on a finished run: prompt it, look at its attention and its curves. No training.

    [bold]Examples[/bold]

      minigpt-tui chat

      minigpt-tui chat my-run

      minigpt-tui chat runs/my-run/best.pt
    """
    from minigpt_tui import launch

    return launch.chat(run, out, color=color, ascii_only=ascii_)


@app.command()
def generate(
    run: RunArgument = None,
    prompt: Annotated[str | None, typer.Option(help="What to go on from; else read from stdin.")] = None,
    temperature: Annotated[
        list[float] | None, typer.Option(help="0 is greedy; repeat it for several answers (0.8).")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Keep the k most likely tokens; 0 keeps all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest tokens that make up p.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Drop tokens less likely than this share of the best.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 discourages repeating.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Length of an answer.")] = 200,
    stop: Annotated[list[str] | None, typer.Option(help="End the answer at this text (repeatable).")] = None,
    seed: Annotated[int | None, typer.Option(help="For the same answer again.")] = None,
    num_samples: Annotated[int, typer.Option(help="Answers to each prompt.")] = 1,
    stream: Annotated[bool, typer.Option(help="Show tokens as they are drawn.")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object an answer.")] = False,
    out: OutOption = "runs",
) -> int:
    """Write text with a trained model.

    [bold]Examples[/bold]

      minigpt-tui generate --prompt "The meaning of life"

      minigpt-tui generate my-run --prompt "To be" --temperature 0.5 --temperature 1.0 --seed 7

      echo "Once upon" | minigpt-tui generate my-run --max-new-tokens 500 --json
    """
    from minigpt_core.config import SampleConfig
    from minigpt_tui import write

    settings = [
        SampleConfig(
            temperature=one,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            max_new_tokens=max_new_tokens,
            stop=tuple(stop or ()),
            seed=seed,
            num_samples=num_samples,
        )
        for one in temperature or [0.8]
    ]
    return write.generate(run, Path(out), prompt, settings, stream=stream, json=json)


@app.command()
def report(run: RunArgument = None, out: OutOption = "runs") -> int:
    """Write a run's pictures and samples to its assets/ folder.

    [bold]Examples[/bold]

      minigpt-tui report

      minigpt-tui report my-run
    """
    from minigpt_core.report import write_assets
    from minigpt_core.rundir import find_run

    def progress(what: str) -> None:
        print(f"drawing {what} …", file=sys.stderr)

    for path in write_assets(find_run(run, Path(out)), progress):
        print(path)
    return 0


@runs_app.callback(invoke_without_command=True)
def runs(context: typer.Context, out: OutOption = "runs") -> None:
    """List runs, newest first, or show one.

    [bold]Examples[/bold]

      minigpt-tui runs

      minigpt-tui runs show my-run
    """
    if context.invoked_subcommand is None:
        from minigpt_tui import listing

        listing.print_runs(Path(out))


@runs_app.command("show")
def show(run: RunArgument = None, out: OutOption = "runs") -> None:
    """Show a run: how it was made, how far it came, how to go on.

    [bold]Examples[/bold]

      minigpt-tui runs show

      minigpt-tui runs show my-run
    """
    from minigpt_core.rundir import find_run
    from minigpt_tui import listing

    listing.print_run(find_run(run, Path(out)))


@app.command()
def doctor(color: ColorOption = "auto", ascii_: AsciiOption = False) -> None:
    """Show what was found here and what would be chosen, each with its reason.

    [bold]Examples[/bold]

      minigpt-tui doctor

      minigpt-tui doctor --color 16
    """
    from minigpt_tui.doctor import print_findings

    print_findings(color, ascii_)


if __name__ == "__main__":
    main()
