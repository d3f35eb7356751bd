"""Pictures that compare runs: validation curves over one another, and the difference of two attention maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigpt_core import plots
from minigpt_core.lab.paired import BASELINE
from minigpt_core.plots import FUTURE, GRID, INK, MUTED

PALETTE = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours for every kind of colour vision; the baseline is the dark one."""
STYLES = ("-", "--", ":")
"""Of the lines, once the colours are used up."""
SMALL = 0.02
"""Nats: differences below this are drawn on a linear scale, larger ones on a logarithmic one."""

Curves = dict[str, list[dict[int, float]]]
"""Of each variant, {step: loss} for every seed, the seeds in the same order."""


class Mean(NamedTuple):
    """A curve over seeds, (n,) each: the mean and the extremes at every step."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean_curve(runs: list[dict[int, float]]) -> Mean:
    """Over the runs that have a finite value at a step; a run that diverged ends early."""
    steps = sorted({step for run in runs for step, loss in run.items() if np.isfinite(loss)})
    at = [[run[step] for run in runs if np.isfinite(run.get(step, np.nan))] for step in steps]
    mean, low, high = (np.array([summary(values) for values in at]) for summary in (np.mean, np.min, np.max))
    return Mean(np.array(steps), mean, low, high)


def paired_curves(curves: Curves) -> Curves:
    """Each variant minus the baseline of the same seed, where both have a value."""
    baseline = curves.get(BASELINE, [])
    return {
        variant: [
            {step: loss - other[step] for step, loss in run.items() if step in other}
            for run, other in zip(runs, baseline, strict=False)
        ]
        for variant, runs in curves.items()
        if variant != BASELINE
    }


def overlay(curves: Curves, path: Path) -> None:
    """Validation loss of every variant over steps, and beside it the paired difference to the baseline."""
    figure = plots.new_figure(13, 5.4, dpi=130)
    left, right = figure.subplots(1, 2)
    looks = {variant: i for i, variant in enumerate(curves)}
    for axes, title, label, drawn in (
        (left, "Validation loss", "loss (nats per token)", curves),
        (right, "Difference to the baseline, same seed", "difference (nats per token)", paired_curves(curves)),
    ):
        axes.set_title(title, loc="left", color=INK, fontsize=12, pad=8)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        for variant, runs in drawn.items():
            curve = mean_curve(runs)
            colour, style = PALETTE[looks[variant] % len(PALETTE)], STYLES[looks[variant] // len(PALETTE) % len(STYLES)]
            marker = "o" if len(curve.steps) < 30 else None
            width = 3.5 if variant == BASELINE else 1.5  # a variant that equals the baseline does not hide it
            axes.plot(
                curve.steps,
                curve.mean,
                style,
                color=colour,
                marker=marker,
                markersize=3,
                linewidth=width,
                label=variant,
            )
            axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    right.axhline(0, color=INK, linewidth=1)
    right.set_yscale("symlog", linthresh=SMALL)
    right.yaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    n_seeds = max((len(runs) for runs in curves.values()), default=0)
    left.legend(frameon=False, title=f"mean and range of {n_seeds} seeds" if n_seeds > 1 else None)
    plots.save(figure, path)


def attention_difference(a: np.ndarray, b: np.ndarray, names: tuple[str, str], path: Path) -> None:
    """All heads of two runs, and the first minus the second: layers downwards, heads across.

    Heads are compared by number. Runs of one seed start with the same heads; of different seeds, head 2 of one has
    nothing to do with head 2 of the other.

    Args:
        a, b: (n_layers, num_heads, T, T) each, on the same text.
    """
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import FuncNorm

    if a.shape != b.shape:
        raise ValueError(f"maps of shape {a.shape} and {b.shape} cannot be subtracted")
    n_layers, num_heads = a.shape[:2]
    weights = plots.colour_scale()
    signed: dict[str, Any] = {
        "norm": FuncNorm((_signed_root, _signed_square), vmin=-1, vmax=1),
        "cmap": matplotlib.colormaps["PuOr"].with_extremes(bad=FUTURE),
    }
    side = min(5.0, max(2.4, 1.1 * max(n_layers, num_heads)))
    figure = plots.new_figure(3 * side * num_heads / max(n_layers, num_heads) + 2.4, side + 1.2, dpi=130)
    panels = figure.subplots(1, 3)
    for axes, maps, colours, title in zip(
        panels, (a, b, a - b), (weights, weights, signed), (*names, "first − second"), strict=True
    ):
        shares = colours["norm"](plots.visible(maps).ravel()).reshape(maps.shape)  # it takes two dimensions at most
        axes.imshow(mosaic(colours["cmap"](shares)))
        axes.set_title(title, loc="left", color=INK, fontsize=10, pad=6)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("layers downwards, heads across", color=MUTED)
    panels[0].set_xlabel("rows = query, columns = key", color=MUTED)
    plots.colour_bar(figure, ScalarMappable(**weights), panels[1])
    bar = figure.colorbar(ScalarMappable(**signed), ax=panels[2], shrink=0.8, aspect=30, ticks=[-1, -0.25, 0, 0.25, 1])
    bar.ax.set_yticklabels(["−1", "−.25", "0", ".25", "1"], color=MUTED)
    bar.set_label("difference\n(square-root scale)", color=MUTED)
    bar.outline.set_visible(False)
    plots.save(figure, path)


def mosaic(tiles: np.ndarray) -> np.ndarray:
    """(n_layers, num_heads, T, T, 4) colours as one picture of tiles with gaps between: (height, width, 4)."""
    n_layers, num_heads, n = tiles.shape[:3]
    pitch = n + max(1, n // 12)
    picture = np.ones(((n_layers - 1) * pitch + n, (num_heads - 1) * pitch + n, 4))
    for layer in range(n_layers):
        for head in range(num_heads):
            y, x = layer * pitch, head * pitch
            picture[y : y + n, x : x + n] = tiles[layer, head]
    return picture


def _signed_root(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.sqrt(np.abs(x))


def _signed_square(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * x**2
