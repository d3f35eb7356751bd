"""Commands that hand on what runs brought: their metrics to other programs, and several runs side by side."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

from pathlib import Path
from typing import Annotated

import typer

from minigpt_core.config import SampleConfig, TrainConfig
from minigpt_tui.commands.options import OUTPUT, SAMPLING, Out, RunArgument
from minigpt_tui.safetext import on_terminal

Force = Annotated[bool, OUTPUT("Replace a file that is there already.", "--force", metavar="")]


def export(
    run: RunArgument = None,
    format: Annotated[str, OUTPUT("csv, json (with configuration and events) or tensorboard.")] = "csv",
    output: Annotated[
        str | None, OUTPUT("Where to (stdout; tensorboard: a folder, RUN/tensorboard).", metavar="PATH")
    ] = None,
    force: Force = False,
    out: Out = "runs",
) -> None:
    r"""Write a run's metrics for other programs, also while it trains.

    Columns name their units: step, epoch, tokens, time_s, learning_rate,
    train_loss_nats, val_loss_nats (a token; empty between evaluations),
    grad_norm, clipped_share (0 to 1), tokens_per_s. tensorboard needs
    pip install 'minigpt-tui\[tensorboard]'.

    [bold]Examples[/bold]
    minigpt-tui runs export > metrics.csv
    minigpt-tui runs export my-run --format json --output my-run.json
    minigpt-tui runs export --format tensorboard; tensorboard --logdir runs
    """
    from minigpt_core import metrics_export
    from minigpt_core.rundir import find_run

    found = find_run(run, Path(out))
    made = metrics_export.export(found, format, Path(output) if output else None, overwrite=force)
    print(on_terminal(str(made))) if isinstance(made, Path) else print(made, end="")


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Names, directories or checkpoints; two or more.")],
    prompt: Annotated[str, SAMPLING("What each run goes on from (a line begins).")] = "",
    seed: Annotated[int, SAMPLING("The same for all.")] = TrainConfig().seed,
    max_new_tokens: Annotated[int, SAMPLING("Length of a sample.")] = SampleConfig().max_new_tokens,
    samples: Annotated[bool, SAMPLING("Let each run write (yes).", "--samples/--no-samples", metavar="")] = True,
    output: Annotated[str | None, OUTPUT("Write the curves as a picture, too.", metavar="FILE.png")] = None,
    force: Force = False,
    json: Annotated[bool, OUTPUT("Print one object.", "--json", metavar="")] = False,
    out: Out = "runs",
) -> int:
    """Compare runs: results, the settings that differ, curves, samples.

    Each run goes on from the same prompt with the same seed, from its last
    checkpoint. Runs that read different tokens compare in bits a byte.

    [bold]Examples[/bold]
    minigpt-tui runs compare one another
    minigpt-tui runs compare one another --prompt "The king" --seed 7
    minigpt-tui runs compare one another third --no-samples --output curves.png
    """
    settings = SampleConfig(seed=seed, max_new_tokens=max_new_tokens)
    from minigpt_tui import comparing

    return comparing.run(
        runs,
        Path(out),
        prompt=prompt,
        settings=settings,
        samples=samples,
        output=Path(output) if output else None,
        overwrite=force,
        json=json,
    )
