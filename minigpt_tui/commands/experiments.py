"""Commands that measure: what each part of a model is worth, and how fast the program is."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

from pathlib import Path
from typing import Annotated

import typer

from minigpt_core.config import ModelConfig, TrainConfig
from minigpt_tui.commands.options import (
    DEFAULTS,
    EXPERIMENT,
    MODEL,
    OUTPUT,
    RUN,
    TEXT,
    TRAINING,
    Ascii,
    Color,
    Data,
    Device,
    LowBandwidth,
    Mouse,
    Out,
    Theme,
    given,
    likes,
)


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
    data: Data = None,
    steps: Annotated[int | None, TRAINING("Steps of every run ({ablation_steps:,}).")] = None,
    batch_size: Annotated[int | None, TRAINING("Windows of text a step ({cpu[batch_size]} on a CPU).")] = None,
    learning_rate: Annotated[float | None, TRAINING("Peak learning rate ({adamw[learning_rate]:g}).")] = None,
    preset: Annotated[str | None, MODEL("Architecture of the baseline: {presets}.")] = None,
    seq_len: Annotated[int | None, MODEL("Context in tokens ({cpu[seq_len]} on a CPU).")] = None,
    n_layers: Annotated[int | None, MODEL("Blocks ({cpu[n_layers]} on a CPU).")] = None,
    num_heads: Annotated[int | None, MODEL("Attention heads a block ({cpu[num_heads]} on a CPU).")] = None,
    embed_dim: Annotated[int | None, MODEL("Width of the model ({cpu[embed_dim]} on a CPU).")] = None,
    device: Device = None,
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
