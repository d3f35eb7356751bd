"""Section `startup`: how long a person waits for the program, with warm caches; the peer is importing torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from minigpt_core.bench.result import Comparison, Result
from minigpt_core.bench.screen import Metrics, Screen, folder_of_runs, program_of
from minigpt_core.bench.timing import alternate
from minigpt_core.bench.workbench import Program, Workbench


@dataclass(frozen=True)
class Settings:
    starts: int = 10
    options: tuple[str, ...] = ()
    """Further ones of `train`."""


QUICK = Settings(starts=3)


def measure(bench: Workbench, settings: Settings) -> Result:
    program = program_of(bench.program)
    options = (*(("--data", bench.data) if bench.data else ()), *settings.options)
    rows: list[float] = []

    def app(number: int) -> float:
        frame, row = one_start(program, *options)
        if number:
            rows.append(row)
        return frame

    torch = Program(command=(sys.executable, "-c", "import torch"))
    sides: dict[str, Callable[[int], float]] = {
        "first frame": app,
        "help": lambda _: until_end(program, "--help"),
        "import torch": lambda _: until_end(torch),
    }
    bench.say("warming the caches")
    for side in sides.values():
        side(0)
    found = {name: tuple(values) for name, values in alternate(sides, settings.starts, bench.say).items()}

    def wait(what: str, ours: tuple[float, ...]) -> Comparison:
        return Comparison(what=what, unit="s", better="less", ours=ours, peer=found["import torch"])

    return Result(
        section="startup",
        peer='python -c "import torch"',
        comparisons=(
            wait("first frame of the app", found["first frame"]),
            wait("first training step, in the same starts", tuple(rows)),
            wait("--help", found["help"]),
        ),
        settings=asdict(settings),
    )


def one_start(program: Program, *options: str) -> tuple[float, float]:
    """Seconds from the app's start to its first full screen, and to the first row of its metrics."""
    with folder_of_runs() as folder:
        metrics = Metrics(Path(folder))
        with Screen(program, "train", "--out", folder, "--name", "run", *options) as screen:
            frame = screen.wait_for(program.first_frame)
            row = screen.wait_until(lambda: metrics.steps() > 0)
            screen.leave(program.quit_key)
    return frame, row


def until_end(program: Program, *words: str) -> float:
    with Screen(program, *words) as screen:
        return screen.wait_end()
