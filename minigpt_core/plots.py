"""Pictures of a run as PNG files: the loss curve, and what each attention head looks at.

matplotlib is imported on use, since it takes most of a second, and always through `Figure`: pyplot would choose a
window system and keep every figure alive.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt_core.atomic import atomic_file
from minigpt_core.series import Pyramid, Smoother
from minigpt_core.status import MetricsRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.text import Text

MAX_POINTS = 4000
"""Points of a curve beyond which it is drawn as a minimum and a maximum per bucket."""
MAX_TOKENS = 64
"""Tokens on each side of an attention map: more labels than that cannot be read."""
MAX_LABEL = 8
"""Characters of a token's label."""

# Blue and orange: told apart with every common kind of colour blindness, and in grey.
TRAIN, SMOOTHED, VALIDATION = "#a9c6e3", "#1f5f99", "#d1660a"
INK, MUTED, GRID, FUTURE = "#222222", "#666666", "#e6e6e6", "#ececec"
MONO = "DejaVu Sans Mono"


def loss_curve(rows: list[MetricsRow], path: Path) -> None:
    """Training loss (raw and smoothed) and validation loss over steps, with the epochs along the top."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(9, 5.2, dpi=150)
    axes = figure.add_subplot()
    axes.set_title("Loss over training", loc="left", color=INK, fontsize=13, pad=10)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")

    rows = sorted(rows, key=lambda row: row.step)
    smoother = Smoother()
    smoothed = []
    for row in rows:
        smoother.update(row.train_loss)
        smoothed.append((row.step, smoother.value if smoother.value is not None else math.nan))
    train = [(row.step, row.train_loss) for row in rows]
    dot = "." if len(rows) == 1 else None  # a single point makes no line
    axes.plot(*_thinned(train), color=TRAIN, linewidth=0.8, marker=dot, label="training", zorder=2)
    axes.plot(*_thinned(smoothed), color=SMOOTHED, linewidth=1.8, label="training, smoothed", zorder=3)

    measured = [(row.val_loss, row.step) for row in rows if row.val_loss is not None and math.isfinite(row.val_loss)]
    if measured:
        few = len(measured) <= 60
        axes.plot(
            *_thinned([(step, loss) for loss, step in measured]),
            color=VALIDATION,
            linewidth=1.3,
            marker="o" if few else None,
            markersize=4,
            label="validation",
            zorder=4,
        )
        _mark_best(axes, *min(measured))
    if rows and rows[-1].step and rows[-1].epoch > 0:
        per_step = rows[-1].epoch / rows[-1].step
        top = axes.secondary_xaxis(
            "top", functions=(partial(np.multiply, per_step), partial(np.multiply, 1 / per_step))
        )
        top.set_xlabel("epoch", color=MUTED)
        top.tick_params(colors=MUTED, length=3)
        top.spines["top"].set_color(GRID)
    if not any(math.isfinite(loss) for _, loss in train):
        axes.text(0.5, 0.5, "no finite loss was logged", transform=axes.transAxes, ha="center", color=MUTED)
    elif axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper right")

    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, 1.01 * max([1, *(row.step for row in rows)]))
    axes.tick_params(length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save(figure, path)


def attention_heads(weights: np.ndarray, tokens: tuple[str, ...], folder: Path, *, step: int) -> list[Path]:
    """One map per head, `layer{l}_head{h}.png`, and all of them side by side in `attention_overview.png`.

    A longer text is cut to its first `MAX_TOKENS` tokens: with a causal mask they attend to nothing after them, so
    the rows shown are complete.

    Args:
        weights: (n_layers, num_heads, T, T), rows are queries, columns are keys, each row sums to 1.
        tokens: T texts.
        folder: made if it is not there.
        step: the step of the weights that the maps belong to.

    Returns:
        The files written.
    """
    from matplotlib.image import imsave

    if weights.ndim != 4 or weights.shape[2:] != (len(tokens), len(tokens)):
        raise ValueError(f"weights of shape {weights.shape} do not fit {len(tokens)} tokens")
    folder.mkdir(parents=True, exist_ok=True)
    n_layers, num_heads, n_tokens = weights.shape[:3]
    shown = min(n_tokens, MAX_TOKENS)
    note = f"first {shown} of {n_tokens} tokens" if shown < n_tokens else ""
    weights = weights[:, :, :shown, :shown]

    overview = folder / "attention_overview.png"
    _overview(weights, step, note, overview)
    paths = [overview]
    canvas, image, title = _head_figure([token_label(token) for token in tokens[:shown]], note)
    axes = image.axes
    # The labels are the same for every head and take most of the time: they are drawn once, and each map over them.
    canvas.draw()
    labels_only = canvas.copy_from_bbox(axes.figure.bbox)
    for layer in range(n_layers):
        for head in range(num_heads):
            image.set_data(visible(weights[layer, head]))
            title.set_text(f"layer {layer} head {head}, step {step:,}")
            canvas.restore_region(labels_only)
            axes.draw_artist(image)
            axes.draw_artist(title)
            paths.append(folder / f"layer{layer}_head{head}.png")
            with atomic_file(paths[-1]) as file:
                imsave(file, canvas.buffer_rgba(), format="png")
    return paths


def token_label(token: str) -> str:
    """A token as it is written along an axis: white space visible, short, and only characters the font has."""
    label = "".join(_shown(character) for character in token[: MAX_LABEL + 1])
    return label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"


def _shown(character: str) -> str:
    if (mark := {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(character)) is not None:
        return mark
    return character if character.isprintable() and ord(character) in _glyphs() else f"U+{ord(character):04X}"


def _glyphs() -> Any:
    """The code points that the font of the labels can draw; matplotlib warns about every other one."""
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont(MONO)).get_charmap()


def _thinned(points: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values for drawing; of many points, each bucket's minimum and maximum, so that spikes stay."""
    if len(points) <= MAX_POINTS:
        steps = np.array([step for step, _ in points], dtype=np.float64)
        values = np.array([value for _, value in points], dtype=np.float64)
        return steps, np.where(np.isfinite(values), values, np.nan)
    pyramid = Pyramid()
    for step, value in points:
        pyramid.append(step, value)
    envelope = pyramid.envelope(None, None, MAX_POINTS // 2)
    return np.repeat(envelope.step, 2), np.stack([envelope.low, envelope.high], axis=1).ravel()


def _mark_best(axes: Axes, loss: float, step: int) -> None:
    axes.plot([step], [loss], "o", color="white", markeredgecolor=VALIDATION, markeredgewidth=2, markersize=8, zorder=5)
    axes.annotate(
        f"best {loss:.4f}\nstep {step:,}",
        (step, loss),
        xytext=(0, 22),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=VALIDATION,
        fontsize=10,
        arrowprops={"arrowstyle": "-", "color": VALIDATION, "linewidth": 0.8, "shrinkB": 5},
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        zorder=6,
    )


def colour_scale() -> dict[str, Any]:
    """The scale of every map: fixed at 0 to 1, so that maps compare; a square root, so that small weights show."""
    import matplotlib
    from matplotlib.colors import PowerNorm

    return {"norm": PowerNorm(0.5, vmin=0, vmax=1), "cmap": matplotlib.colormaps["cividis"].with_extremes(bad=FUTURE)}


def visible(weights: np.ndarray) -> np.ma.MaskedArray:
    """A map whose masked future is no value at all: it must not look like a weight of zero."""
    return np.ma.masked_array(weights, np.triu(np.ones(weights.shape, dtype=bool), 1))


def colour_bar(figure: Figure, image: Any, axes: Axes) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, pad=0.02, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", ".01", ".1", ".25", ".5", "1"], color=MUTED)
    bar.set_label("attention weight\n(square-root scale)", color=MUTED)
    bar.outline.set_visible(False)


def _head_figure(labels: list[str], note: str) -> tuple[FigureCanvasAgg, AxesImage, Text]:
    """The canvas of a figure with the labels of a map, and the image and title that are drawn over it, head by head."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    n = len(labels)
    side = min(9.0, 3.4 + 0.11 * n)
    figure = new_figure(side + 0.9, side, dpi=120)
    axes = figure.add_subplot()
    image = axes.imshow(visible(np.zeros((n, n))), interpolation="nearest", **colour_scale())
    title = axes.set_title("layer 0 head 0, step 0", loc="left", color=INK, fontsize=12, pad=8)
    # A token may hold "$": without parse_math=False it would be read as a formula.
    text: dict[str, Any] = {"fontfamily": MONO, "fontsize": 7 if n > 32 else 8, "color": INK, "parse_math": False}
    axes.set_xticks(range(n), labels, rotation=90, **text)
    axes.set_yticks(range(n), labels, **text)
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("key (attended to)" + (f" · {note}" if note else ""), color=MUTED)
    axes.set_ylabel("query (attending)", color=MUTED)
    axes.spines[:].set_visible(False)
    colour_bar(figure, image, axes)
    figure.draw_without_rendering()  # settles the layout; what is animated would not be given room
    figure.set_layout_engine("none")
    image.set_animated(True)
    title.set_animated(True)
    return FigureCanvasAgg(figure), image, title


def _overview(weights: np.ndarray, step: int, note: str, path: Path) -> None:
    """All heads as one mosaic: layers downwards, heads across."""
    from matplotlib.cm import ScalarMappable

    n_layers, num_heads, n = weights.shape[:3]
    gap = max(1, n // 12)
    pitch = n + gap
    colours = colour_scale()
    mosaic = np.ones((n_layers * pitch - gap, num_heads * pitch - gap, 4))
    for layer in range(n_layers):
        for head in range(num_heads):
            tile = colours["cmap"](colours["norm"](visible(weights[layer, head])))
            mosaic[layer * pitch : layer * pitch + n, head * pitch : head * pitch + n] = tile

    tile_inches = min(1.8, 14 / max(n_layers, num_heads))
    figure = new_figure(max(5.0, num_heads * tile_inches + 1.9), max(3.6, n_layers * tile_inches + 1.2), dpi=130)
    axes = figure.add_subplot()
    axes.imshow(mosaic)
    axes.set_title(f"attention, step {step:,}", loc="left", color=INK, fontsize=12, pad=8)
    axes.set_xticks([head * pitch + n / 2 - 0.5 for head in range(num_heads)], [f"head {h}" for h in range(num_heads)])
    axes.set_yticks([layer * pitch + n / 2 - 0.5 for layer in range(n_layers)], [f"layer {i}" for i in range(n_layers)])
    axes.tick_params(length=0, colors=MUTED, top=False, labeltop=True, labelbottom=False)
    axes.set_xlabel("rows = query, columns = key" + (f" · {note}" if note else ""), color=MUTED)
    axes.spines[:].set_visible(False)
    colour_bar(figure, ScalarMappable(**colours), axes)
    save(figure, path)


def new_figure(width: float, height: float, dpi: int) -> Figure:
    """An empty figure of `width` by `height` inches with a little air around it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return figure


def save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
