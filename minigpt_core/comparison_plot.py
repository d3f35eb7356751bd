"""Runs compared as a picture: validation and training loss over steps, one line a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minigpt_core import plots
from minigpt_core.comparison import Comparison
from minigpt_core.lab.overlay import PALETTE, STYLES
from minigpt_core.plots import GRID, INK, MUTED

PANELS = {"val_loss": "Validation loss", "smoothed": "Training loss, smoothed"}


def picture(found: Comparison, path: Path) -> None:
    """Write it as a PNG file.

    Raises:
        OSError: the disk refuses.
    """
    figure = plots.new_figure(12, 5.2, dpi=130)
    unit = "bits per byte" if found.per_byte else "nats per token"
    for axes, (metric, title) in zip(figure.subplots(1, 2, sharex=True, sharey=True), PANELS.items(), strict=True):
        axes.set_title(title, loc="left", color=INK, fontsize=12, pad=8)
        axes.set_xlabel("step")
        axes.set_ylabel(f"loss ({unit})")
        drawn = 0
        for i, run in enumerate(found.runs):
            curve = run.curve(metric, plots.MAX_POINTS, per_byte=found.per_byte)
            finite = np.isfinite(curve.mean)
            drawn += int(finite.sum())
            few = finite.sum() <= 30
            axes.plot(
                curve.step[finite],
                curve.mean[finite],
                STYLES[i // len(PALETTE) % len(STYLES)],
                color=PALETTE[i % len(PALETTE)],
                marker="o" if few else None,
                markersize=3.5,
                linewidth=1.6,
                label=run.label.replace("$", r"\$"),  # it would be read as a formula
            )
        if not drawn:
            axes.text(0.5, 0.5, "none was logged", transform=axes.transAxes, ha="center", color=MUTED)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=3, labelleft=True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    axes.legend(frameon=False)
    if not found.same_vocabulary and not found.per_byte:
        figure.suptitle("The vocabularies differ: these losses do not compare", color=MUTED, fontsize=10)
    plots.save(figure, path)
