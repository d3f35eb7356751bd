"""The command line: parses, checks, calls. No logic of its own, and torch only where a command needs it."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from minigpt_core.config import (
    ABLATIONS,
    DEFAULT_SIZES,
    DEFAULT_STEPS,
    PRESETS,
    RECIPES,
    ModelConfig,
    SampleConfig,
    TrainConfig,
)
from minigpt_core.errors import UserError
from minigpt_core.lab.design import SEEDS, STEPS
from minigpt_tui.command import App
from minigpt_tui.preferences import Preferences, load
from minigpt_tui.safetext import on_terminal
from minigpt_tui.terminal import complain

app = App(
    name="minigpt-tui",
    help="Train a small GPT in a terminal, watch it learn, and talk to the weights it has right now.\n\n"
    "[bold]minigpt-tui[/bold] alone is [bold]minigpt-tui train[/bold]: it opens the app and trains.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = App()
app.add_typer(runs_app, name="runs")


def main() -> None:
    """Entry point: one clear line for every foreseeable error, and its exit code."""
    if sys.stdout is None:  # started with its standard output closed
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the program runs
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a locale without some character costs that character only
    try:
        code = app(args=normalised(sys.argv[1:]), prog_name="minigpt-tui", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        code = complain(error.format_message().rstrip(".") + help_hint(error), 2)
    except UserError as error:
        code = complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # whoever read our output has left, as `head` does; Typer leaves with 1 as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except OSError as error:
        code = complain(f"{error.strerror or error}{f': {error.filename!r}' if error.filename else ''}", 1)
    sys.exit(code or 0)


def help_hint(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"; see {context.command_path} --help" if context else ""


def normalised(arguments: list[str]) -> list[str]:
    """`--batch_size` is `--batch-size`, and options without a command belong to `train`."""
    result = []
    for i, argument in enumerate(arguments):
        if argument == "--":
            result += arguments[i:]
            break
        name, equals, value = argument.partition("=")
        result.append(name.replace("_", "-") + equals + value if argument.startswith("--") else argument)
    asks_for_itself = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
    if not result or (result[0].startswith("-") and result[0] not in asks_for_itself):
        result.insert(0, "train")
    return result


@app.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", metavar="")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"minigpt-tui {installed('minigpt-tui')}")
        raise typer.Exit


# --- options ---

DEFAULTS: dict[str, Any] = {
    **ModelConfig(vocab_size=1).to_dict(),
    **SampleConfig().to_dict(),
    **TrainConfig().to_dict(),
    **DEFAULT_SIZES,
    **RECIPES,
    "steps": DEFAULT_STEPS,
    "ablation_steps": STEPS,
    "ablation_seeds": SEEDS,
    "ablations": ", ".join(ABLATIONS),
    "presets": " or ".join(PRESETS),
}
"""What a help text may name in braces, so that it cannot differ from what is true."""


def panel(title: str) -> Callable[..., Any]:
    """A maker of options for one panel of `--help`."""

    def option(help: str, *names: str, metavar: str | None = None) -> Any:
        return typer.Option(*names, help=help.format_map(DEFAULTS), metavar=metavar, rich_help_panel=title)

    return option


TEXT, LENGTH, TRAINING, MODEL = panel("Text"), panel("Length"), panel("Training"), panel("Model")
RUN, LOOK, SAMPLING, OUTPUT = panel("Run"), panel("Appearance"), panel("Sampling"), panel("Output")
EXPERIMENT = panel("Experiment")

RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run's name, its directory or a checkpoint file; the newest if left out."),
]
Out = Annotated[str, RUN("The folder that runs lie in.", metavar="FOLDER")]
Theme = Annotated[str | None, LOOK("dark or light.")]
Color = Annotated[str | None, LOOK("auto, truecolor, 256, 16 or none.")]
Ascii = Annotated[bool | None, LOOK("Draw with ASCII characters only.", "--ascii/--no-ascii", metavar="")]
Mouse = Annotated[bool | None, LOOK("Take the mouse (yes).", "--mouse/--no-mouse", metavar="")]
LowBandwidth = Annotated[
    bool | None, LOOK("Repaint less often, for slow links.", "--low-bandwidth/--no-low-bandwidth", metavar="")
]


def given(options: dict[str, Any], of: type | None = None) -> dict[str, Any]:
    """The options that were given; with `of`, those among its fields."""
    names = of.__struct_fields__ if of else options  # type: ignore[attr-defined]
    return {name: options[name] for name in names if options.get(name) not in (None, [])}


def likes(options: dict[str, Any], from_file: bool = True) -> Preferences:
    """The appearance options, over the user's preferences file unless nothing will be drawn.

    Raises:
        UsageError: one of them cannot be.
    """
    said = Preferences(**given(options, of=Preferences))
    return load(said) if from_file else said


# --- train ---


@app.command()
def train(
    data: Annotated[str | None, TEXT("A text file, a folder of them, - for stdin, pydocs or repeats.")] = None,
    vocab_size: Annotated[int | None, TEXT("Keep the N-1 most frequent characters.", metavar="N")] = None,
    steps: Annotated[int | None, LENGTH("Train this many steps ({steps:,}).")] = None,
    epochs: Annotated[float | None, LENGTH("Or this many passes through the text.")] = None,
    minutes: Annotated[float | None, LENGTH("Or about this long.")] = None,
    batch_size: Annotated[
        int | None, TRAINING("Windows of text a step ({cpu[batch_size]} on a CPU, {gpu[batch_size]} on a GPU).")
    ] = None,
    accumulate: Annotated[
        int | None, TRAINING("Pieces in which a batch goes through the model, to save memory ({accumulate}).")
    ] = None,
    optimizer: Annotated[str | None, TRAINING("muon (for the blocks' matrices, AdamW for the rest) or adamw.")] = None,
    learning_rate: Annotated[
        float | None, TRAINING("Peak learning rate ({muon[learning_rate]:g}, adamw {adamw[learning_rate]:g}).")
    ] = None,
    warmup_steps: Annotated[
        int | None, TRAINING("Steps until it is reached ({muon[warmup_steps]}, adamw {adamw[warmup_steps]}).")
    ] = None,
    weight_decay: Annotated[float | None, TRAINING("Of matrices ({weight_decay:g}).")] = None,
    grad_clip: Annotated[float | None, TRAINING("Largest gradient norm ({grad_clip:g}); 0 is off.")] = None,
    dropout: Annotated[float | None, TRAINING("Probability ({dropout:g} on a CPU, {gpu[dropout]:g} on a GPU).")] = None,
    eval_every: Annotated[int | None, TRAINING("Steps between evaluations ({eval_every:,}).")] = None,
    patience: Annotated[
        int | None,
        TRAINING("Evaluations above the best that end the run; its best weights are restored ({patience}; 0 is off)."),
    ] = None,
    log_every: Annotated[int | None, TRAINING("Steps a metrics row covers (1 on a CPU, 10 on a GPU).")] = None,
    save_every: Annotated[
        str | None, TRAINING("Steps between checkpoints ({save_every:,}), or minutes: 10m.", metavar="N")
    ] = None,
    on_divergence: Annotated[
        str | None, TRAINING("Where the loss becomes nan: stop, or rollback to the last checkpoint at half the rate.")
    ] = None,
    seed: Annotated[int | None, TRAINING("Of weights, batches and dropout ({seed}).")] = None,
    preset: Annotated[str | None, MODEL("Architecture: {presets}.")] = None,
    seq_len: Annotated[
        int | None, MODEL("Context in tokens ({cpu[seq_len]} on a CPU, {gpu[seq_len]} on a GPU).")
    ] = None,
    n_layers: Annotated[int | None, MODEL("Blocks ({cpu[n_layers]} on a CPU, {gpu[n_layers]} on a GPU).")] = None,
    num_heads: Annotated[
        int | None, MODEL("Attention heads a block ({cpu[num_heads]} on a CPU, {gpu[num_heads]} on a GPU).")
    ] = None,
    embed_dim: Annotated[
        int | None, MODEL("Width of the model ({cpu[embed_dim]} on a CPU, {gpu[embed_dim]} on a GPU).")
    ] = None,
    ff_mult: Annotated[int | None, MODEL("Feed-forward width as a multiple of it ({ff_mult}).")] = None,
    ablate: Annotated[
        list[str] | None, MODEL("Take something away (repeatable): {ablations}.", metavar="<str>")
    ] = None,
    device: Annotated[str | None, RUN("auto, cpu, cuda, cuda:N or mps.")] = None,
    precision: Annotated[str | None, RUN("auto, fp32 or bf16.")] = None,
    compile: Annotated[bool | None, RUN("Use torch.compile (off).", "--compile/--no-compile", metavar="")] = None,
    deterministic: Annotated[bool | None, RUN("Repeat to the bit on CUDA too.", "--deterministic", metavar="")] = None,
    threads: Annotated[int | None, RUN("CPU threads of training (all cores).")] = None,
    name: Annotated[str | None, RUN("Of the run (date, time and text).")] = None,
    out: Out = "runs",
    resume: Annotated[str | None, RUN("Go on with a run where it was saved.", metavar="RUN")] = None,
    headless: Annotated[bool, RUN("No app: progress on the terminal.", "--headless", metavar="")] = False,
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
) -> int:
    """Train a model, in the app or headless.

    With no size options the model fits the device: about 0.8 M parameters on a
    CPU, 10.7 M on a GPU. Underscores do as well: --batch_size.

    [bold]Examples[/bold]
    minigpt-tui train
    minigpt-tui train --data book.txt --epochs 10 --batch-size 32
    minigpt-tui train --minutes 5 --ablate no-positions --name blind
    cat *.md | minigpt-tui train --data - --headless
    minigpt-tui train --resume blind --steps 8000
    """
    options = given(locals())
    from minigpt_core.plan import Request, prepare, prepare_resume
    from minigpt_tui import launch

    look = likes(options, from_file=not headless)
    if compile is not None:
        options["compile"] = "on" if compile else "off"
    if save_every is not None and save_every.isdecimal():
        options["save_every"] = int(save_every)
    if resume is not None:
        about_this_call = ("resume", "out", "headless", *Preferences.__struct_fields__)
        plan = prepare_resume(resume, {k: v for k, v in options.items() if k not in about_this_call}, out)
    else:
        sizes = {name: value for name, value in given(options, of=ModelConfig).items() if name != "vocab_size"}
        request = Request(**given(options, of=Request), model=sizes, train=given(options, of=TrainConfig))
        from minigpt_tui.encoding import EncodingProgress

        with EncodingProgress() as progress:
            plan = prepare(request, progress)
    return launch.train(plan, headless=headless, likes=look, text_on_stdin=data == "-")


@app.command()
def tour(
    lesson: Annotated[
        str, typer.Argument(metavar="[LESSON]", help="first: from guessing to words. heads: how heads learn to copy.")
    ] = "first",
    steps: Annotated[int | None, LENGTH("Train this many steps (the lesson's own).")] = None,
    name: Annotated[str | None, RUN("Of the run (date, time and text).")] = None,
    out: Out = "runs",
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
) -> int:
    """Watch a model learn, and be told what happens: a lesson in the app, of about three minutes.

    It trains for real, on a CPU and a text of its own. The run is one like any other:
    it stays when the lesson is over.

    [bold]Examples[/bold]
    minigpt-tui tour
    minigpt-tui tour heads
    minigpt-tui tour --steps 500 --name short
    """
    look = likes(locals())
    from minigpt_tui import launch

    return launch.tour(lesson, steps, name, out, look)


# --- experiments ---


@app.command()
def ablate(
    variants: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VARIANT]...",
            help="An ablation ({ablations}), a setting (n-layers=2), or several with commas between; "
            "all ablations if left out.".format_map(DEFAULTS),
        ),
    ] = None,
    seeds: Annotated[
        int | None, EXPERIMENT("Seeds every variant is run with ({ablation_seeds}); 5 for a claim.")
    ] = None,
    learning_rates: Annotated[
        str | None, EXPERIMENT("Try each of these, and compare every variant at its best.", metavar="A,B,...")
    ] = None,
    jobs: Annotated[int, EXPERIMENT("Runs at a time, in processes that share the cores.")] = 1,
    name: Annotated[str | None, EXPERIMENT("Of the experiment (date and time); an existing one goes on.")] = None,
    out: Out = "runs",
    resume: Annotated[str | None, EXPERIMENT("Go on with an experiment, or print its table.", metavar="NAME")] = None,
    data: Annotated[str | None, TEXT("A text file, a folder of them, - for stdin, pydocs or repeats.")] = None,
    steps: Annotated[int | None, TRAINING("Steps of every run ({ablation_steps:,}).")] = None,
    batch_size: Annotated[int | None, TRAINING("Windows of text a step ({cpu[batch_size]} on a CPU).")] = None,
    learning_rate: Annotated[float | None, TRAINING("Peak learning rate ({adamw[learning_rate]:g}).")] = None,
    preset: Annotated[str | None, MODEL("Architecture of the baseline: {presets}.")] = None,
    seq_len: Annotated[int | None, MODEL("Context in tokens ({cpu[seq_len]} on a CPU).")] = None,
    n_layers: Annotated[int | None, MODEL("Blocks ({cpu[n_layers]} on a CPU).")] = None,
    num_heads: Annotated[int | None, MODEL("Attention heads a block ({cpu[num_heads]} on a CPU).")] = None,
    embed_dim: Annotated[int | None, MODEL("Width of the model ({cpu[embed_dim]} on a CPU).")] = None,
    device: Annotated[str | None, RUN("auto, cpu, cuda, cuda:N or mps.")] = None,
    threads: Annotated[int | None, RUN("CPU threads of a run (all cores, shared by the jobs).")] = None,
    tui: Annotated[bool, RUN("Watch it in an app: table, curves, what to expect.", "--tui", metavar="")] = False,
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
    json: Annotated[bool, OUTPUT("Print the results as JSON.", "--json", metavar="")] = False,
    diff: Annotated[
        tuple[str, str] | None,
        OUTPUT("No training: draw the attention of two runs and their difference.", metavar="RUN RUN"),
    ] = None,
) -> int:
    """Measure what each part of the model is worth, on the same batches, seed by seed.

    A run of 1,000 steps takes about a minute and a half on two CPU cores, so
    all five ablations with 3 seeds take half an hour; --jobs 2 is quicker
    there. Ctrl+C saves, and the same --name goes on. Every run in it is an
    ordinary one, of about 20 MB: minigpt-tui chat runs/lab/baseline-seed1

    [bold]Examples[/bold]
    minigpt-tui ablate
    minigpt-tui ablate no-residual single-head --seeds 5 --jobs 2 --name lab
    minigpt-tui ablate n-layers=2 n-layers=8,embed-dim=96 --steps 500
    minigpt-tui ablate no-layernorm --learning-rates 1e-3,3e-3,1e-2
    minigpt-tui ablate --resume lab --tui
    minigpt-tui ablate --diff lab/baseline-seed1 lab/baseline-seed2
    """
    options = given(locals())
    from minigpt_core.lab.design import Design, find_experiment
    from minigpt_core.lab.experiment import Experiment
    from minigpt_tui import ablate as lab

    if diff is not None:
        return lab.difference(*diff, out)
    design = Design(
        variants=tuple(variants or ()),
        learning_rates=lab.rates(learning_rates),
        model=given(options, of=ModelConfig),
        train=given(options, of=TrainConfig),
        **{key: options[key] for key in ("seeds", "data", "preset") if key in options},
    )
    if resume is not None:
        path = find_experiment(resume, Path(out))
        name, out = path.name, str(path.parent)
    if tui:
        screen = lab.screen(likes(options))  # before anything is made
        return lab.in_app(Experiment(design, name, out, jobs), screen, json=json)
    return lab.ablate(Experiment(design, name, out, jobs), json=json)


# --- a finished run ---


@app.command()
def chat(
    run: RunArgument = None,
    out: Out = "runs",
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
) -> int:
    """Open the app on a finished run: prompt it, see its attention and curves.

    [bold]Examples[/bold]
    minigpt-tui chat
    minigpt-tui chat my-run
    minigpt-tui chat runs/my-run/best.pt
    """
    look = likes(locals())
    from minigpt_tui import launch

    return launch.chat(run, out, look)


@app.command()
def generate(
    run: RunArgument = None,
    prompt: Annotated[str | None, SAMPLING("What to go on from; else stdin, less its last line break.")] = None,
    temperature: Annotated[
        list[float] | None,
        SAMPLING("0 is greedy; repeat it for several answers ({temperature:g}).", metavar="<float>"),
    ] = None,
    top_k: Annotated[int | None, SAMPLING("Keep the k most likely tokens; 0 keeps all ({top_k}).")] = None,
    top_p: Annotated[float | None, SAMPLING("Keep the likeliest tokens that make up p ({top_p:g}).")] = None,
    min_p: Annotated[float | None, SAMPLING("Drop tokens below this share of the best ({min_p:g}).")] = None,
    repetition_penalty: Annotated[
        float | None, SAMPLING("Above 1 discourages repeating ({repetition_penalty:g}).")
    ] = None,
    max_new_tokens: Annotated[int | None, SAMPLING("Length of an answer ({max_new_tokens}).")] = None,
    stop: Annotated[list[str] | None, SAMPLING("End an answer at this text (repeatable).", metavar="<str>")] = None,
    seed: Annotated[int | None, SAMPLING("For the same answer again (random).")] = None,
    num_samples: Annotated[int | None, SAMPLING("Answers at each temperature ({num_samples}).")] = None,
    stream: Annotated[bool, OUTPUT("Show tokens as they are drawn.", "--stream/--no-stream", metavar="")] = True,
    json: Annotated[bool, OUTPUT("One JSON object a line and answer.", "--json", metavar="")] = False,
    out: Out = "runs",
) -> int:
    """Write text with a trained model.

    [bold]Examples[/bold]
    minigpt-tui generate --prompt "The meaning of life"
    minigpt-tui generate my-run --prompt "To be" --temperature 0.5 --seed 7
    echo "Once upon" | minigpt-tui generate --max-new-tokens 500 --json
    """
    options = given(locals(), of=SampleConfig) | {"stop": tuple(stop or ())}
    from minigpt_tui import write

    settings = [SampleConfig(**options | {"temperature": one}) for one in temperature or [SampleConfig().temperature]]
    return write.generate(run, Path(out), prompt, settings, stream=stream, json=json)


@app.command()
def report(run: RunArgument = None, out: Out = "runs") -> None:
    """Write a run's pictures, samples and report.html to its assets folder.

    The report is one page that opens in any browser, offline: curves, attention, samples, and how to repeat the run.

    [bold]Examples[/bold]
    minigpt-tui report
    minigpt-tui report my-run
    """
    from minigpt_core.rundir import find_run

    found = find_run(run, Path(out))
    from minigpt_core.report import write_assets

    for path in write_assets(found, lambda what: print(f"writing {what}", file=sys.stderr)):
        print(on_terminal(str(path)))


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    out: Out = "runs",
    tui: Annotated[
        bool, LOOK("Browse them in an app: curves, filter, open, resume, compare, delete.", "--tui", metavar="")
    ] = False,
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
) -> int:
    """List runs, newest first, show one, or browse them.

    [bold]Examples[/bold]
    minigpt-tui runs
    minigpt-tui runs --tui
    minigpt-tui runs show my-run
    """
    if context.invoked_subcommand is not None:
        return 0
    if tui:
        look = likes(locals())
        from minigpt_tui import launch

        return launch.browse(out, look)
    from minigpt_tui import listing

    listing.print_runs(Path(out))
    return 0


@runs_app.command("show")
def show(run: RunArgument = None, out: Out = "runs") -> None:
    """Show a run: how it was made, how far it came, how to go on.

    [bold]Examples[/bold]
    minigpt-tui runs show
    minigpt-tui runs show my-run
    """
    from minigpt_core.rundir import find_run
    from minigpt_tui import listing

    listing.print_run(find_run(run, Path(out)))


@app.command()
def bench(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]", help="step, time-to-loss, sample, ui-tax, startup or scale; all if left out."
        ),
    ] = None,
    json: Annotated[bool, OUTPUT("Print one object; its ratio is the headline.", "--json", metavar="")] = False,
    quick: Annotated[bool, EXPERIMENT("Two minutes in all: to see that it works.", "--quick", metavar="")] = False,
    data: Annotated[str | None, TEXT("A text file, a folder of them, pydocs or repeats.")] = None,
    preset: Annotated[str | None, EXPERIMENT("Of ours in time-to-loss: {presets}.")] = None,
    pairs: Annotated[int | None, EXPERIMENT("Alternating rounds of ours and the peer.")] = None,
    peer_best: Annotated[
        bool | None, EXPERIMENT("In step: the peer in bf16 and compiled, too.", "--peer-best", metavar="")
    ] = None,
) -> None:
    r"""Measure how fast it is, each figure beside a peer's in the same run.

    The peer is GPT-2 of the same shape in transformers (pip install
    'minigpt-tui\[bench]'): plain AdamW in fp32, no dropout, the same batches; and
    its generate. Ratios are the peer's time over ours. Leave the machine alone
    meanwhile; a second bench waits.

    [bold]Examples[/bold]
    minigpt-tui bench --quick
    minigpt-tui bench step
    minigpt-tui bench time-to-loss --preset classic --pairs 3 --json
    """
    from minigpt_tui.bench import run

    run(section, as_json=json, quick=quick, data=data, preset=preset, pairs=pairs, peer_best=peer_best)


@app.command()
def notebook(
    destination: Annotated[
        str, typer.Argument(metavar="[DEST]", help="A file that is not there yet, or a folder to put it into.")
    ] = "MiniTransformer.ipynb",
) -> None:
    """Put the walkthrough notebook here: a transformer by hand, trained and taken apart.

    It is stored with all its results, so it can be read without running it.

    [bold]Examples[/bold]
    minigpt-tui notebook
    minigpt-tui notebook ~/lessons
    minigpt-tui notebook mine.ipynb
    """
    from minigpt_tui.notebook import place, print_place

    print_place(place(destination))


@app.command()
def doctor(
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
) -> None:
    """Show what was found here and what would be chosen, each with its reason.

    [bold]Examples[/bold]
    minigpt-tui doctor
    minigpt-tui doctor --color 16
    """
    look = likes(locals(), from_file=False)  # first: a bad option must not wait for torch
    from minigpt_tui.doctor import print_findings

    print_findings(look)


@app.command()
def keys() -> None:
    """Print every key of the app, as lines for the preferences file.

    Paste the ones you change into that file, whose name is printed first and by doctor.

    [bold]Examples[/bold]
    minigpt-tui keys
    minigpt-tui keys > keys.toml
    """
    from minigpt_tui.keymap import toml
    from minigpt_tui.preferences import found, path

    own, problem = found()
    if problem:
        complain(f"{problem}; these are the keys without that file", 0)
    print(f"# for {path()}\n{toml(own.keys)}")


if __name__ == "__main__":
    main()
