"""Paired ablation experiments: a baseline and its variants, each trained on the same batches, seed by seed.

An experiment is a folder: `experiment.json` says what was asked, each `<variant>-seed<k>/` in it is an ordinary run,
and `results.json`, `table.md` and the pictures are made from those. So it can be stopped, killed, resumed, extended.

    experiment = Experiment(Design(variants=("no-residual",), seeds=3, train={"steps": 200}), name="lab")
    for progress in experiment.run():
        print(progress.finished, "of", progress.total)
    print(experiment.markdown())
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from minigpt_core.atomic import write_atomic
from minigpt_core.config import DEFAULT_SIZES, option
from minigpt_core.corpus import load_encoded, split
from minigpt_core.errors import UsageError, UserError
from minigpt_core.hardware import cpu_count
from minigpt_core.lab import overlay
from minigpt_core.lab.design import OTHER_BATCHES, Design, Stored, read_experiment
from minigpt_core.lab.paired import BASELINE, Row, Table, markdown, spread, tabulate
from minigpt_core.lab.schedule import Pace, Progress, at_once, in_turn
from minigpt_core.lab.trial import Source, Trial
from minigpt_core.lock import RunLock
from minigpt_core.rundir import RunDir, new_run_dir
from minigpt_core.stored import read_config, read_tokenizer, read_tokens
from minigpt_core.tail import read_metrics


class Experiment:
    """A paired experiment: a new one, or an existing one of that name, to go on with or extend.

    Args:
        name: its folder under `out`; date and time by default.
        jobs: runs at a time. 1 trains in this process, more in processes of their own that share the cores.

    Attributes:
        design: what is asked, complete.
        path: its folder, reserved.

    Raises:
        UsageError, UserError: something is not as it must be; nothing was created or changed.
    """

    def __init__(self, design: Design, name: str | None = None, out: str = "runs", jobs: int = 1) -> None:
        if not 1 <= jobs <= cpu_count():
            raise UsageError(f"--jobs {jobs}: expected a whole number from 1 to {cpu_count()}, the number of cores")
        self.jobs = jobs
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-ablation" if name is None else name
        self.path = Path(out) / name
        self._stored = read_experiment(self.path)
        self.design = self._stored.design.extended(design) if self._stored else design.completed()
        self._source = self._read_source()
        self._stopping = False
        if self._stored is None:
            with suppress(OSError):
                self.path.rmdir()  # only if it is empty: reserved before, and nothing came of it
            new_run_dir(Path(out), name, BASELINE)

    @property
    def trials(self) -> list[Trial]:
        """Every run, seed by seed, so that an interrupted experiment has whole pairs; none before it has begun."""
        stored, design = self._stored, self.design
        if stored is None:
            return []
        return [
            Trial(
                variant.name,
                seed,
                stored.model | variant.model,
                stored.train | ({"learning_rate": rate} if rate else {}) | variant.train | {"seed": seed},
                RunDir(self.path / f"{variant.name}{f'-lr{rate:g}' if rate else ''}-seed{seed}"),
            )
            for seed in range(1, (design.seeds or 0) + 1)
            for variant in design.compared
            for rate in design.rates(variant)
        ]

    @property
    def finished(self) -> bool:
        return bool(self.trials) and all(trial.outcome() for trial in self.trials)

    # --- running ---

    def run(self) -> Iterator[Progress]:
        """Train what is not trained yet; once nothing is left, write the table and the pictures.

        Raises:
            UserError: a run cannot go on, or somebody runs this experiment already.
        """
        try:
            self._begin()
        except UserError:
            with suppress(OSError):
                self.path.rmdir()  # only if nothing is in it yet
            raise
        lock = RunLock(RunDir(self.path))
        try:
            waiting = [trial for trial in self.trials if trial.outcome() is None]
            pace = Pace(self.trials)
            yield pace.progress()
            if self.jobs == 1:
                yield from in_turn(waiting, self._source, pace, lambda: self._stopping)
            else:
                yield from at_once(waiting, self._source, pace, lambda: self._stopping, self.jobs)
            if self.finished:
                self.write()
        finally:
            lock.release()
            self._stopping = False  # the next call goes on

    def stop(self) -> None:
        """Save the runs under way and return from `run`; a signal handler may call this."""
        self._stopping = True

    def _read_source(self) -> Source:
        """The text: from a run of this experiment if there is one, as it was then, else read and checked anew."""
        for trial in self.trials:
            if trial.run.checkpoint.is_file():
                corpus = read_config(trial.run)["corpus"]
                tokenizer = read_tokenizer(trial.run)
                return Source(tokenizer, read_tokens(trial.run, tokenizer, corpus), corpus)
        text = load_encoded(self.design.data)
        if self._stored and self._stored.corpus["sha256"] != text.identity["sha256"]:
            raise UserError(
                f"{text.identity['source']!r} is not the text that {self.path.name!r} began with; choose another --name"
            )
        for variant in self.design.compared:
            sizes = DEFAULT_SIZES["cpu"] | self.design.architecture | variant.model
            split(text.tokens, sizes["seq_len"])
        return Source(text.tokenizer, text.tokens, text.identity)

    def _begin(self) -> None:
        """Write down what is asked, or what has been added to it."""
        if self._stored is None:
            self._stored = self._decided()
        elif self._stored.design != self.design:
            self._stored = msgspec.structs.replace(self._stored, design=self.design)
        write_json(self.path / "experiment.json", self._stored)

    def _decided(self) -> Stored:
        from minigpt_core.devices import survey
        from minigpt_core.sizes import decide_sizes

        source, design = self._source, self.design
        model, train, _ = decide_sizes(survey(), design.architecture, design.train, source.tokenizer.vocab_size)
        return Stored(design=design, corpus=source.corpus, model=model.to_dict(), train=train.to_dict())

    # --- results ---

    def table(self) -> Table:
        """The result, or what there is of it yet."""
        outcomes = [outcome for trial in self.trials if (outcome := trial.outcome())]
        return tabulate(outcomes, self.design.variants)

    def curves(self) -> dict[str, list[dict[int, float]]]:
        """Of each variant at its best rate: {step: validation loss} for every seed."""
        return {
            row.variant: [
                {metrics.step: metrics.val_loss for metrics in read_metrics(trial.run) if metrics.val_loss is not None}
                for trial in trials
            ]
            for row in self.table().rows
            if (trials := self._trials_of(row))
        }

    def markdown(self) -> str:
        """The table with all that must be known to read it, ready for a README."""
        table, stored, design = self.table(), self._stored, self.design
        if stored is None:
            raise UserError("the experiment has not begun")
        model, train = stored.model, stored.train
        lines = [
            f"{spread(table)} {stored.corpus['name']}, {model['n_layers']} layers, {model['num_heads']} heads, "
            f"{model['embed_dim']} wide, context {model['seq_len']}, batch {train['batch_size']}, "
            f"{train['steps']:,} steps, seeds 1 to {design.seeds}.\n",
            markdown(table),
            "Losses in nats a token: `val` over the whole validation split, `train` smoothed, both at the end. "
            "Differences are paired (same seed, same batches), ± is the 95 % t-interval of their mean. "
            "`gap`: `val` minus `train`.",
        ]
        others = [f"`{variant.name}`" for variant in design.compared if not variant.same_batches]
        if others:
            settings = ", ".join(option(name)[2:] for name in OTHER_BATCHES)
            lines.append(f"{', '.join(others)}: other batches than the baseline's ({settings}), same seed and text.")
        return "\n".join([*lines, f"\n```sh\n{self.command}\n```\n"])

    @property
    def command(self) -> str:
        """What makes this experiment again."""
        design = self.design
        options = {"data": design.data, "preset": design.preset, "seeds": design.seeds, **design.model, **design.train}
        words = ["minigpt-tui", "ablate", *design.variants]
        for name, value in options.items():
            if value is not None and name not in ("save_every", "eval_every"):
                words += [option(name), str(value)]
        if design.learning_rates:
            words += ["--learning-rates", ",".join(f"{rate:g}" for rate in design.learning_rates)]
        return shlex.join(words)

    def write(self) -> list[Path]:
        """Write `results.json`, `table.md`, `overlay.png`, and the first seed's attention minus the baseline's.

        Returns:
            The files written.
        """
        table = self.table()
        outcomes = [outcome for trial in self.trials if (outcome := trial.outcome())]
        write_json(self.path / "results.json", {"table": table, "outcomes": outcomes, "command": self.command})
        write_atomic(self.path / "table.md", self.markdown())
        overlay.overlay(self.curves(), self.path / "overlay.png")
        written = [self.path / name for name in ("results.json", "table.md", "overlay.png")]
        first = {row.variant: self._trials_of(row)[:1] for row in table.rows}
        for variant, trials in first.items():
            if variant == BASELINE or not trials or not first.get(BASELINE):
                continue
            path = self.path / f"attention-{variant}.png"
            with suppress(UsageError):  # another number of heads or layers: there is nothing to subtract
                write_difference(trials[0].run.path, first[BASELINE][0].run.path, path)
                written.append(path)
        return written

    def _trials_of(self, row: Row) -> list[Trial]:
        return [
            trial
            for trial in self.trials
            if (outcome := trial.outcome())
            and (outcome.variant, outcome.learning_rate) == (row.variant, row.learning_rate)
        ]


def write_difference(a: str | Path, b: str | Path, path: Path | None = None, parent: str | Path = "runs") -> Path:
    """Draw the attention of two runs and their difference, on the beginning of the first one's validation text.

    Args:
        path: the picture; by default `attention_minus_<b>.png` among the first run's assets.

    Raises:
        UsageError: there is no such run, or the two have not the same layers and heads.
    """
    from minigpt_core.checkpoint import load_run
    from minigpt_core.probe import attention_maps
    from minigpt_core.report import ATTENTION_TOKENS, NO_TEXT
    from minigpt_core.sampler import encode_prompt
    from minigpt_core.stored import validation_text

    runs = load_run(a, parent), load_run(b, parent)
    shapes = [(run.model.config.n_layers, run.model.config.num_heads) for run in runs]
    if shapes[0] != shapes[1]:
        has = (f"{run.dir.name} has {n} layers of {h} heads" for run, (n, h) in zip(runs, shapes, strict=True))
        raise UsageError(f"attention cannot be subtracted: {', '.join(has)}")
    length = min(ATTENTION_TOKENS, *(run.model.config.seq_len for run in runs))
    text = validation_text(runs[0].dir, length) or NO_TEXT
    tokens = [encode_prompt(run.tokenizer, text)[0] for run in runs]
    length = min(length, *map(len, tokens))  # a character that one of them does not know is left out there
    first, second = (attention_maps(run.model, ids[:length]) for run, ids in zip(runs, tokens, strict=True))
    if path is None:
        runs[0].dir.assets.mkdir(exist_ok=True)
        path = runs[0].dir.assets / f"attention_minus_{runs[1].dir.name}.png"
    overlay.attention_difference(first, second, (runs[0].dir.name, runs[1].dir.name), path)
    return path


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, msgspec.json.format(msgspec.json.encode(value), indent=2))
