"""Commands on a run that was trained: talk to it, write with it, report on it, list it."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

import sys
from pathlib import Path
from typing import Annotated

import typer

from minigpt_tui.commands.options import (
    LOOK,
    OUTPUT,
    SAMPLING,
    Ascii,
    Color,
    LowBandwidth,
    MaxNewTokens,
    MinP,
    Mouse,
    NumSamples,
    Out,
    RepetitionPenalty,
    RunArgument,
    Seed,
    StopText,
    Stream,
    Temperature,
    Theme,
    TopK,
    TopP,
    likes,
    sampling,
)
from minigpt_tui.safetext import on_terminal


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


def generate(
    run: RunArgument = None,
    prompt: Annotated[str | None, SAMPLING("What to go on from; else stdin, less its last line break.")] = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    max_new_tokens: MaxNewTokens = None,
    stop: StopText = None,
    seed: Seed = None,
    num_samples: NumSamples = None,
    stream: Stream = True,
    json: Annotated[bool, OUTPUT("One JSON object a line and answer.", "--json", metavar="")] = False,
    out: Out = "runs",
) -> int:
    """Write text with a trained model.

    [bold]Examples[/bold]
    minigpt-tui generate --prompt "The meaning of life"
    minigpt-tui generate my-run --prompt "To be" --temperature 0.5 --seed 7
    echo "Once upon" | minigpt-tui generate --max-new-tokens 500 --json
    """
    settings = sampling(locals())
    from minigpt_tui import write

    return write.generate(run, Path(out), prompt, settings, stream=stream, json=json)


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


def show(
    run: RunArgument = None,
    toml: Annotated[
        bool, OUTPUT("Print a file for train --config that makes the same run again.", "--toml", metavar="")
    ] = False,
    out: Out = "runs",
) -> None:
    """Show a run: how it was made, how far it came, how to go on.

    [bold]Examples[/bold]
    minigpt-tui runs show
    minigpt-tui runs show my-run
    minigpt-tui runs show my-run --toml > run.toml
    """
    from minigpt_core.rundir import find_run

    found = find_run(run, Path(out))
    if toml:
        from minigpt_tui import run_file

        print(run_file.of_run(found), end="")
        return
    from minigpt_tui import listing

    listing.print_run(found)
