"""The options that commands share, and what a command makes of those it was given."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

from collections.abc import Callable
from typing import Annotated, Any

import typer

from minigpt_core.config import (
    ABLATIONS,
    DEFAULT_SIZES,
    DEFAULT_STEPS,
    FINE_TUNING,
    PRESETS,
    RECIPES,
    ModelConfig,
    SampleConfig,
    TrainConfig,
)
from minigpt_core.lab.design import SEEDS, STEPS
from minigpt_tui.preferences import Preferences, load

DEFAULTS: dict[str, Any] = {
    **ModelConfig(vocab_size=1).to_dict(),
    **SampleConfig().to_dict(),
    **TrainConfig().to_dict(),
    **DEFAULT_SIZES,
    **RECIPES,
    "steps": DEFAULT_STEPS,
    "tuned": FINE_TUNING,
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
Data = Annotated[
    str | None,
    TEXT("A file, a folder, a pattern ('docs/**/*.md'), - for stdin, or pydocs, repeats, shakespeare, enwik8."),
]
Encoding = Annotated[str | None, TEXT("Of the text files (utf-8).")]
TextField = Annotated[str | None, TEXT("Which field of a .jsonl line is the text (text).", metavar="NAME")]
Name = Annotated[str | None, RUN("Of the run (date, time and text).")]
Device = Annotated[str | None, RUN("auto, cpu, cuda, cuda:N or mps.")]
Out = Annotated[str, RUN("The folder that runs lie in.", metavar="FOLDER")]
Theme = Annotated[str | None, LOOK("dark or light.")]
Color = Annotated[str | None, LOOK("auto, truecolor, 256, 16 or none.")]
Ascii = Annotated[bool | None, LOOK("Draw with ASCII characters only.", "--ascii/--no-ascii", metavar="")]
Mouse = Annotated[bool | None, LOOK("Take the mouse (yes).", "--mouse/--no-mouse", metavar="")]
LowBandwidth = Annotated[
    bool | None, LOOK("Repaint less often, for slow links.", "--low-bandwidth/--no-low-bandwidth", metavar="")
]

Temperature = Annotated[
    list[float] | None,
    SAMPLING("0 is greedy; repeat it for several answers ({temperature:g}).", metavar="<float>"),
]
TopK = Annotated[int | None, SAMPLING("Keep the k most likely tokens; 0 keeps all ({top_k}).")]
TopP = Annotated[float | None, SAMPLING("Keep the likeliest tokens that make up p ({top_p:g}).")]
MinP = Annotated[float | None, SAMPLING("Drop tokens below this share of the best ({min_p:g}).")]
RepetitionPenalty = Annotated[float | None, SAMPLING("Above 1 discourages repeating ({repetition_penalty:g}).")]
MaxNewTokens = Annotated[int | None, SAMPLING("Length of an answer ({max_new_tokens}).")]
StopText = Annotated[list[str] | None, SAMPLING("End an answer at this text (repeatable).", metavar="<str>")]
Seed = Annotated[int | None, SAMPLING("For the same answer again (random).")]
NumSamples = Annotated[int | None, SAMPLING("Answers at each temperature ({num_samples}).")]
Stream = Annotated[bool, OUTPUT("Show tokens as they are drawn.", "--stream/--no-stream", metavar="")]


def sampling(options: dict[str, Any]) -> list[SampleConfig]:
    """The settings to answer with, one for each temperature that was given."""
    one = given(options, of=SampleConfig) | {"stop": tuple(options["stop"] or ())}
    return [SampleConfig(**one | {"temperature": t}) for t in options["temperature"] or [SampleConfig().temperature]]


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
