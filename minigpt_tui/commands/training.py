"""Commands that train: a run, and a lesson."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

import sys
from typing import Annotated

import typer

from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_tui.commands.options import (
    LENGTH,
    MODEL,
    RUN,
    TEXT,
    TRAINING,
    Ascii,
    Color,
    Data,
    Device,
    Encoding,
    LowBandwidth,
    Mouse,
    Name,
    Out,
    TextField,
    Theme,
    given,
    likes,
)
from minigpt_tui.preferences import Preferences


def file_of_options(context: typer.Context, config: str | None) -> str | None:
    """`--config`: what it names stands behind the options that were given."""
    if config is not None:
        from minigpt_tui import run_file

        run_file.use(context, config, train)
    return config


def train(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(
            help="A TOML file of these options (n_layers = 2); those given here win.",
            metavar="FILE",
            rich_help_panel="Run",
            is_eager=True,
            callback=file_of_options,
        ),
    ] = None,
    data: Data = None,
    encoding: Encoding = None,
    text_field: TextField = None,
    tokenizer: Annotated[
        str | None, TEXT("char, byte, bpe, gpt2, or the folder of a GPT-2 vocabulary.", metavar="NAME")
    ] = None,
    vocab_size: Annotated[
        int | None, TEXT("char: keep the N-1 most frequent; bpe: learn N tokens (1,024).", metavar="N")
    ] = None,
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
    device: Device = None,
    precision: Annotated[str | None, RUN("auto, fp32 or bf16.")] = None,
    compile: Annotated[bool | None, RUN("Use torch.compile (off).", "--compile/--no-compile", metavar="")] = None,
    deterministic: Annotated[bool | None, RUN("Repeat to the bit on CUDA too.", "--deterministic", metavar="")] = None,
    threads: Annotated[int | None, RUN("CPU threads of training (all cores).")] = None,
    nproc: Annotated[int | None, RUN("Processes that share each batch, on GPUs of their own (1).")] = None,
    name: Name = None,
    out: Out = "runs",
    resume: Annotated[str | None, RUN("Go on with a run where it was saved.", metavar="RUN")] = None,
    from_run: Annotated[
        str | None,
        RUN(
            "Begin a new run with the weights of this one (learning rate {tuned[learning_rate]:g}, adamw).",
            "--from",
            "--from-run",
            metavar="RUN",
        ),
    ] = None,
    headless: Annotated[bool, RUN("No app: progress on the terminal.", "--headless", metavar="")] = False,
    detach: Annotated[bool, RUN("In a process of its own; see attach.", "--detach", metavar="")] = False,
    paused: Annotated[bool, RUN("Begin paused.", "--paused", metavar="")] = False,
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
    minigpt-tui train --detach
    minigpt-tui train --from gpt2 --data letters.txt --batch-size 2
    minigpt-tui train --nproc 8
    minigpt-tui train --config run.toml --name again
    """
    options = {name: value for name, value in given(locals()).items() if name not in ("context", "config")}
    from minigpt_core.ranks import launched

    if (place := launched()) is not None and place.rank:  # what is asked for, rank 0 will say
        from minigpt_core.follower import run_launched

        run_launched(place)
    if config is not None:
        from minigpt_tui import run_file

        options = run_file.settled(context, options)
    if detach:
        from minigpt_tui import launch

        return launch.train_detached([*(word for word in sys.argv[1:] if word != "--detach"), "--headless"])
    from minigpt_core.plan import Request, prepare, prepare_resume
    from minigpt_tui import launch

    look = likes(options, from_file=not headless)
    if compile is not None:
        options["compile"] = "on" if compile else "off"
    if save_every is not None and save_every.isdecimal():
        options["save_every"] = int(save_every)
    if resume is not None:
        about_this_call = ("resume", "out", "nproc", "headless", "detach", "paused", *Preferences.__struct_fields__)
        plan = prepare_resume(
            resume, {k: v for k, v in options.items() if k not in about_this_call}, out, options.get("nproc")
        )
    else:
        sizes = {name: value for name, value in given(options, of=ModelConfig).items() if name != "vocab_size"}
        request = Request(**given(options, of=Request), model=sizes, train=given(options, of=TrainConfig))
        from minigpt_tui.encoding import EncodingProgress

        with EncodingProgress() as progress:
            plan = prepare(request, progress)
    return launch.train(plan, headless=headless, likes=look, text_on_stdin=data == "-", paused=paused)


def tour(
    lesson: Annotated[
        str, typer.Argument(metavar="[LESSON]", help="first: from guessing to words. heads: how heads learn to copy.")
    ] = "first",
    steps: Annotated[int | None, LENGTH("Train this many steps (the lesson's own).")] = None,
    name: Name = None,
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
