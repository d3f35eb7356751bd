"""`minigpt-tui ablate`: runs a paired experiment with its progress in sight, then says what came out."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from minigpt_core.errors import UsageError, UserError
from minigpt_core.lab import paired
from minigpt_core.lab.expectations import expected
from minigpt_core.lab.experiment import Experiment
from minigpt_core.lab.overlay import Curves, mean_curve
from minigpt_core.lab.schedule import Progress as Status
from minigpt_tui import plain_chart, terminal
from minigpt_tui.launch import SAVE_SECONDS, SWITCH_SECONDS
from minigpt_tui.listing import show
from minigpt_tui.preferences import Preferences
from minigpt_tui.safetext import safe
from minigpt_tui.widgets.format import count, duration, number

if TYPE_CHECKING:
    from minigpt_tui.lab.app import LabApp
    from minigpt_tui.lab.local import LocalLab

LINE_SECONDS = 30.0
"""Between two progress lines where nobody watches a bar."""


def rates(text: str | None) -> tuple[float, ...]:
    """The numbers of `--learning-rates 1e-3,3e-3`.

    Raises:
        UsageError: one of them is none.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--learning-rates {text}: expected numbers with commas between, such as 1e-3,3e-3") from None


def ablate(experiment: Experiment, *, json: bool) -> int:
    """Run it to the end, or until a signal asks to stop: then everything is saved, and the way on is said.

    Returns:
        The exit code.
    """
    received = terminal.stop_on_signal(experiment.stop)
    watch = Bar() if sys.stderr is not None and sys.stderr.isatty() else Lines()
    status: Status | None = None
    with watch:
        for status in experiment.run():
            watch.update(status)
    if not experiment.finished:
        say_how_to_go_on(experiment, (status.finished, status.total) if status else None)
        return 128 + received[0] if received else 1
    say_results(experiment, json=json)
    return 0


def screen(likes: Preferences) -> terminal.Terminal:
    """The terminal that the experiment screen draws on; asked for before anything is made.

    Raises:
        UserError: there is none.
    """
    found = terminal.inspect(likes)
    if not found.interactive:
        raise UserError(f"--tui needs a terminal, but {found.why_not_interactive}; leave it out for plain progress")
    return found


def in_app(experiment: Experiment, found: terminal.Terminal, *, json: bool) -> int:
    """Run it behind the experiment screen; leaving the screen saves and stops it. Returns the exit code."""
    sys.setswitchinterval(SWITCH_SECONDS)
    lab, app, log = draw(experiment, found)
    if log and experiment.path.is_dir():
        with open(experiment.path / "train.log", "ab") as file:
            file.write(log)
    try:
        if app.return_code and lab.error is None:
            raise UserError(f"the app failed; the reason is in {str(experiment.path / 'train.log')!r}")
        if lab.error is not None:
            raise lab.error
        if experiment.finished:
            say_results(experiment, json=json)
        else:
            ended = [trial.outcome() is not None for trial in experiment.trials]
            say_how_to_go_on(experiment, (sum(ended), len(ended)) if ended else None)
        code = 128 + app.signal_received if app.signal_received else 0
    except UserError as error:
        code = terminal.complain(str(error), error.exit_code)
    if not lab.join(0):
        terminal.leave_at_once(code)
    return code


def draw(experiment: Experiment, found: terminal.Terminal) -> tuple[LocalLab, LabApp, bytes]:
    """Run the app until it ends, however it ends; all is saved then. Also returns what was printed meanwhile."""
    from minigpt_tui.lab.local import LocalLab

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "screen.log"
        with terminal.protect_screen(path):
            from minigpt_tui.lab.app import LabApp

            lab = LocalLab(experiment)
            app = LabApp(lab, found)
            try:
                app.run(mouse=found.mouse)
            finally:
                if not app.insisted:
                    lab.stop()
                    lab.join(SAVE_SECONDS)
        return lab, app, path.read_bytes()


def say_results(experiment: Experiment, *, json: bool) -> None:
    if json:
        print((experiment.path / "results.json").read_text(encoding="utf-8").rstrip())
    else:
        print_results(experiment)


def say_how_to_go_on(experiment: Experiment, finished: tuple[int, int] | None) -> None:
    """After an early end; `finished` is how many runs of how many, None if there are none yet."""
    again = shlex.join(["minigpt-tui", "ablate", "--resume", str(experiment.path)])
    done = f"{finished[0]} of {finished[1]} runs are finished" if finished else "no run has begun"
    print(f"{done}; what was under way is saved. Go on: {safe(again, newlines=False)}", file=sys.stderr)


# --- progress ---


def summary(status: Status) -> str:
    """`4 of 18 runs  ETA 12m 05s  no-residual-seed1 step 340/1,000 loss 2.311`"""
    parts = [f"{status.finished} of {status.total} runs"]
    if status.eta is not None and status.finished < status.total:
        parts.append(f"ETA {duration(status.eta)}")
    for run in status.running:
        loss = "" if run.train_loss is None else f" loss {number(run.train_loss)}"
        parts.append(f"{run.name} step {count(run.step)}/{count(run.steps)}{loss}")
    return "  ".join(parts)


class Lines:
    """A line now and then, and one for each run that has ended, on standard error."""

    def __init__(self) -> None:
        self._last, self._finished = -LINE_SECONDS, 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, status: Status) -> None:
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS or status.finished != self._finished:
            self._last, self._finished = now, status.finished
            print(summary(status), file=sys.stderr, flush=True)


class Bar:
    """Rich's progress bar on standard error, over the steps of all runs."""

    def __init__(self) -> None:
        columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False))
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("loading torch", total=1.0)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, status: Status) -> None:
        self._bar.update(self._task, completed=status.share, description=summary(status))


# --- results ---


def print_results(experiment: Experiment) -> None:
    """The baseline's spread, the table, the curves, what was expected, and where everything lies."""
    table = experiment.table()
    print(paired.spread(table) + "\n")
    show(as_rich(table, table.rows))
    if table.all_rates:
        print("\nEvery learning rate:\n")
        show(as_rich(table, table.all_rates))
    print(f"\n{plot(experiment.curves())}\n")
    width = min(100, shutil.get_terminal_size().columns)
    print("What is expected, and why\n")
    for row in table.rows:
        for name, expectation in expected(row.variant):
            print(textwrap.fill(f"{name}: {expectation.text}", width, subsequent_indent="  "))
            for source in expectation.sources:
                print(textwrap.fill(source, width, initial_indent="    ", subsequent_indent="      "))
    print(f"\ntable, picture and numbers: {safe(str(experiment.path), newlines=False)}/")


def as_rich(table: paired.Table, rows: tuple[paired.Row, ...]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(paired.headings(table)):
        made.add_column(heading, justify="right" if i else "left", overflow="fold", no_wrap=bool(i))
    for row in rows:
        made.add_row(*(Text(cell) for cell in paired.cells(row, table)))
    return made


def plot(curves: Curves) -> str:
    """The mean validation curve of every variant."""
    means = {variant: mean_curve(runs) for variant, runs in curves.items()}
    return plain_chart.draw(
        "validation loss over steps, mean of the seeds",
        [plain_chart.Line(variant, curve.steps, curve.mean) for variant, curve in means.items()],
    )


def difference(a: str, b: str, out: str) -> int:
    """Draw the attention of two runs and the first minus the second."""
    from minigpt_core.lab.experiment import write_difference

    print(write_difference(a, b, parent=Path(out)))
    return 0
