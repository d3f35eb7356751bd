"""What a chart's cursor says of its step."""

from __future__ import annotations

from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.chart_axes import Series

REACH = 20
"""Steps, at least, from the cursor back to the value that it shows."""
VALUES = 256
"""Points asked for to find the one at the cursor: so many that each is a bucket of its own."""
METRICS = (("train_loss", "train"), ("smoothed", "smoothed"), ("val_loss", "val"))


def readout(source: Series, step: int, reach: int) -> list[str]:
    """The step, the losses there and the time, as far as they are known.

    Args:
        reach: how many steps before it a value may have been logged.
    """
    words = [f"step {step:,}"]
    for metric, name in METRICS:
        value = _near(source, metric, step, reach)
        if value is not None:
            words.append(f"{name} {fmt.number(value)}")
    seconds = _near(source, "time", step, reach)
    if seconds is not None:
        words.append(fmt.duration(seconds))
    return words


def _near(source: Series, metric: str, step: int, reach: int) -> float | None:
    found = source.series(metric, max(0, step - max(REACH, reach)), step, buckets=VALUES)
    return float(found.mean[-1]) if len(found) else None
