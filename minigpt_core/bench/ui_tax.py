"""Section `ui-tax`: training steps a second in the app, drawn into a pseudo-terminal, and headless."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from minigpt_core.bench.result import Comparison, Result
from minigpt_core.bench.screen import Metrics, Screen, folder_of_runs, program_of
from minigpt_core.bench.timing import alternate
from minigpt_core.bench.workbench import Program, Workbench


@dataclass(frozen=True)
class Settings:
    pairs: int = 3
    settled: int = 300
    """Steps after which the first evaluation and the first looks into the model are past."""
    steps: int = 600
    """Timed after that."""
    options: tuple[str, ...] = ()
    """Further ones of `train`."""


QUICK = Settings(pairs=1, settled=10, steps=60)


def measure(bench: Workbench, settings: Settings) -> Result:
    program = program_of(bench.program)
    options = (*(("--data", bench.data) if bench.data else ()), "--device", "cpu", *settings.options)

    def pace(*more: str) -> float:
        return steps_per_second(program, settings, *options, *more)

    found = alternate({"app": lambda _: pace(), "headless": lambda _: pace("--headless")}, settings.pairs, bench.say)
    return Result(
        section="ui-tax",
        peer="the same run headless",
        comparisons=(
            Comparison(
                what="training in the app",
                unit="steps/s",
                better="more",
                ours=tuple(found["app"]),
                peer=tuple(found["headless"]),
            ),
        ),
        settings=asdict(settings),
    )


def steps_per_second(program: Program, settings: Settings, *options: str) -> float:
    """Of one run, by the clock on the wall, from one row of its metrics to another."""
    with folder_of_runs() as folder:
        metrics = Metrics(Path(folder))
        words = ("train", "--steps", "1000000", "--out", folder, "--name", "run", *options)
        with Screen(program, *words) as screen:
            begun = screen.wait_until(lambda: metrics.steps() >= settings.settled)
            first = metrics.steps()
            ended = screen.wait_until(lambda: metrics.steps() >= first + settings.steps, timeout=begun + 600)
            made = metrics.steps() - first
            screen.leave(None if "--headless" in options else program.quit_key)
    return made / (ended - begun)
