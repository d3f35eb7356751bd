"""Statistics of a paired experiment: what each variant cost, seed by seed against the baseline of the same seed.

Runs of one seed see the same batches, so most of what a seed does to a loss is in both runs and cancels in their
difference. The interval of the mean difference is Student's: with n seeds, mean ± t(0.975, n − 1) · s / √n.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

BASELINE = "baseline"
TRANSPOSED = "transposed scores"
"""The row without training: the trained baseline, evaluated with query and key exchanged."""

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 0.975 quantile, for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook of Statistical Methods,
section 1.3.6.7.2)."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one run came to. Losses are in nats a token."""

    variant: str
    seed: int
    learning_rate: float
    n_params: int
    steps: int
    """Steps made."""
    val_loss: float | None = None
    """Over the whole validation split at the run's end; None if the run diverged."""
    train_loss: float | None = None
    """Smoothed, at the end."""
    transposed_val_loss: float | None = None
    """Of a baseline: `val_loss` with the attention scores transposed."""
    diverged: str | None = None
    """Why the run ended early, in a line."""


class Interval(msgspec.Struct, frozen=True):
    """A mean and half the width of its 95 % t-interval, which takes two values at least."""

    mean: float
    half_width: float | None
    n: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One variant over all seeds. Means are over the seeds that did not diverge."""

    variant: str
    learning_rate: float
    n_params: int
    seeds: int
    """Runs that have ended, diverged ones included."""
    val_loss: float | None
    train_loss: float | None
    difference: Interval | None
    """Validation loss minus the baseline's, over the seeds where neither diverged; None for the baseline itself."""
    diverged: tuple[int, ...]
    """The seeds that did."""

    @property
    def gap(self) -> float | None:
        """The generalisation gap: validation minus training loss."""
        return None if self.val_loss is None or self.train_loss is None else self.val_loss - self.train_loss


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The experiment's result.

    Attributes:
        baseline_spread: standard deviation of the baseline's validation loss over seeds; None for fewer than two.
        rows: the baseline first; of several learning rates, each variant's best.
        all_rates: every learning rate of every variant; empty if there was only one.
    """

    baseline_spread: float | None
    rows: tuple[Row, ...]
    all_rates: tuple[Row, ...]


def t_quantile(degrees: int) -> float:
    """The 0.975 quantile; beyond the table its last value, which makes an interval a little too wide (at most 4 %)."""
    return T_975[min(degrees, len(T_975)) - 1]


def interval(values: Sequence[float]) -> Interval:
    """The mean of at least one value and, from two values on, its 95 % interval."""
    n = len(values)
    half_width = t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n) if n > 1 else None
    return Interval(statistics.fmean(values), half_width, n)


def paired_difference(variant: Mapping[int, float], baseline: Mapping[int, float]) -> Interval | None:
    """Variant minus baseline, {seed: loss} each, over the seeds that both have; None if there are none."""
    differences = [loss - baseline[seed] for seed, loss in sorted(variant.items()) if seed in baseline]
    return interval(differences) if differences else None


def tabulate(outcomes: Iterable[Outcome], variants: Sequence[str]) -> Table:
    """Sum up an experiment, or what there is of it yet.

    Of several learning rates a variant's best is the one with the fewest divergences, then the lowest mean loss.
    Every difference is to the baseline at its own best rate.

    Args:
        variants: in the order of the rows, without the baseline.
    """
    groups: dict[tuple[str, float], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.variant, outcome.learning_rate), []).append(outcome)
    best: dict[str, list[Outcome]] = {}
    for (variant, _), group in sorted(groups.items()):
        best[variant] = min(best.get(variant, group), group, key=_rank)
    baseline = _losses(best.get(BASELINE, []))

    rows = [_row(best[variant], baseline) for variant in (BASELINE, *variants) if variant in best]
    twins = [
        msgspec.structs.replace(o, variant=TRANSPOSED, val_loss=o.transposed_val_loss, train_loss=None)
        for o in best.get(BASELINE, [])
        if o.transposed_val_loss is not None
    ]
    if twins:
        rows.append(_row(twins, baseline))
    every = [
        _row(groups[key], baseline) for variant in (BASELINE, *variants) for key in sorted(groups) if key[0] == variant
    ]
    losses = list(baseline.values())
    return Table(
        baseline_spread=statistics.stdev(losses) if len(losses) > 1 else None,
        rows=tuple(rows),
        all_rates=tuple(every) if len(every) > len(best) else (),
    )


def _losses(group: Iterable[Outcome]) -> dict[int, float]:
    return {outcome.seed: outcome.val_loss for outcome in group if outcome.val_loss is not None}


def _rank(group: list[Outcome]) -> tuple[int, float]:
    losses = _losses(group).values()
    return sum(outcome.diverged is not None for outcome in group), statistics.fmean(losses) if losses else math.inf


def _row(group: list[Outcome], baseline: Mapping[int, float]) -> Row:
    first, losses = group[0], _losses(group)
    train = [o.train_loss for o in group if o.val_loss is not None and o.train_loss is not None]
    return Row(
        variant=first.variant,
        learning_rate=first.learning_rate,
        n_params=first.n_params,
        seeds=len(group),
        val_loss=statistics.fmean(losses.values()) if losses else None,
        train_loss=statistics.fmean(train) if train else None,
        difference=None if first.variant == BASELINE and losses == baseline else paired_difference(losses, baseline),
        diverged=tuple(sorted(outcome.seed for outcome in group if outcome.diverged is not None)),
    )


# --- the table in words ---


def headings(table: Table) -> list[str]:
    rate = ["rate"] if table.all_rates else []
    return ["variant", *rate, "params", "val", "vs baseline", "train", "gap", "diverged"]


def cells(row: Row, table: Table) -> list[str]:
    """A row as text, one cell a heading."""
    rate = [f"{row.learning_rate:g}"] if table.all_rates else []
    diverged = f"{len(row.diverged)} of {row.seeds}"
    if row.diverged:
        diverged += f" (seed {', '.join(map(str, row.diverged))})"
    return [
        row.variant,
        *rate,
        f"{row.n_params:,}",
        _number(row.val_loss),
        difference(row),
        _number(row.train_loss),
        _number(row.gap),
        "" if row.variant == TRANSPOSED else diverged,
    ]


def difference(row: Row) -> str:
    """`+0.0312 ± 0.0054`; the baseline has none."""
    if row.difference is None:
        return ""
    mean, half_width = row.difference.mean, row.difference.half_width
    return f"{mean:+.4f}" + ("" if half_width is None else f" ± {half_width:.4f}")


def spread(table: Table) -> str:
    """The baseline's own spread, which says what a difference is worth, in a sentence."""
    baseline = next((row for row in table.rows if row.variant == BASELINE), None)
    if baseline is None or baseline.val_loss is None:
        return "The baseline has not finished a run yet."
    if table.baseline_spread is None:
        return f"Baseline: {baseline.val_loss:.4f}. One seed: no spread and no interval can be given."
    n = baseline.seeds - len(baseline.diverged)
    return f"Baseline: {baseline.val_loss:.4f}, standard deviation over {n} seeds {table.baseline_spread:.4f}."


def markdown(table: Table) -> str:
    """The table, and below it every learning rate if there were several, as Markdown."""
    text = _markdown_rows(table, table.rows)
    if table.all_rates:
        text += "\nEvery learning rate:\n\n" + _markdown_rows(table, table.all_rates)
    return text


def _markdown_rows(table: Table, rows: Iterable[Row]) -> str:
    head = headings(table)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *([*cells(row, table)] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"
