"""Pictures: the files that are promised, what is drawn in them, and no warning on the way."""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from minigpt_core import plots
from minigpt_core.plots import attention_heads, loss_curve, token_label
from minigpt_core.status import MetricsRow


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.simplefilter("error")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, to look into."""
    saved: list[Figure] = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, path: (saved.append(figure), save(figure, path)))
    return saved


def rows(losses: list[float], val: dict[int, float] | None = None) -> list[MetricsRow]:
    return [
        MetricsRow(
            step=step, epoch=step / 100, tokens=step, time=1.0, lr=1e-3, train_loss=loss, grad_norm=1.0,
            clipped=0.0, tok_s=1.0, val_loss=(val or {}).get(step),
        )
        for step, loss in enumerate(losses, start=1)
    ]  # fmt: skip


def causal(n_layers: int, num_heads: int, n: int) -> np.ndarray:
    weights = np.random.default_rng(0).random((n_layers, num_heads, n, n)) * np.tri(n)
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def test_loss_curve_shows_steps_epochs_and_the_best_validation(tmp_path: Path, figures: list[Figure]) -> None:
    history = rows([4 - step / 200 for step in range(400)], val={100: 3.5, 200: 3.1234, 300: 3.3})
    loss_curve(history, tmp_path / "loss.png")
    (axes,) = figures[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats per token)")
    assert axes.child_axes[0].get_xlabel() == "epoch"
    assert axes.child_axes[0].get_xlim()[1] == pytest.approx(axes.get_xlim()[1] / 100)
    assert "best 3.1234\nstep 200" in [text.get_text() for text in axes.texts]
    lines = {line.get_label(): line for line in axes.lines}
    assert len(np.asarray(lines["training"].get_xdata())) == 400
    assert np.asarray(lines["validation"].get_xdata()).tolist() == [100, 200, 300]
    assert imread(tmp_path / "loss.png").shape[:2] == (780, 1350)


def test_a_long_run_is_thinned_and_keeps_its_spikes(tmp_path: Path, figures: list[Figure]) -> None:
    losses = [2.0] * 20_000
    losses[12_345], losses[6_789] = 50.0, 0.5
    loss_curve(rows(losses), tmp_path / "loss.png")
    drawn = np.asarray(figures[0].axes[0].lines[0].get_ydata())
    assert len(drawn) <= plots.MAX_POINTS
    assert (drawn.min(), drawn.max()) == (0.5, 50.0)


@pytest.mark.parametrize("losses", [[], [2.0], [math.nan], [2.0, math.inf, math.nan, 1.0]])
def test_short_and_broken_histories_still_make_a_picture(tmp_path: Path, losses: list[float]) -> None:
    loss_curve(rows(losses, val={1: math.nan}), tmp_path / "loss.png")
    assert imread(tmp_path / "loss.png").size


def test_one_map_a_head_and_an_overview(tmp_path: Path, figures: list[Figure]) -> None:
    folder = tmp_path / "assets" / "attention"
    paths = attention_heads(causal(2, 3, 5), ("a", " b", "\n", "$x$", "\t"), folder, step=7)
    expected = {f"layer{layer}_head{head}.png" for layer in range(2) for head in range(3)}
    assert {path.name for path in paths} == expected | {"attention_overview.png"}
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths}
    assert [label.get_text() for label in figures[0].axes[0].get_yticklabels()] == ["layer 0", "layer 1"]


def test_a_map_shows_query_rows_key_columns_and_hides_the_future(tmp_path: Path) -> None:
    weights = np.zeros((1, 1, 4, 4), dtype=np.float32)
    weights[0, 0, :, 0] = 1.0  # every query looks at the first key
    attention_heads(weights, ("a", "b", "c", "d"), tmp_path, step=0)
    picture = (imread(tmp_path / "layer0_head0.png")[..., :3] * 255).round().astype(int)
    cmap = plots.colour_scale()["cmap"]
    named = {
        "one": np.array(cmap(1.0)[:3]) * 255,
        "zero": np.array(cmap(0.0)[:3]) * 255,
        "future": np.array([int(plots.FUTURE[i : i + 2], 16) for i in (1, 3, 5)]),
    }
    in_map = np.arange(picture.shape[1]) < picture.shape[1] * 0.7  # the colour bar is to the right of it
    y, x = np.nonzero((abs(picture - named["one"]) <= 1).all(-1) & in_map)
    side = (np.ptp(y) + 1) / 4  # that column is as high as the map
    grid = [
        [picture[int(y.min() + (query + 0.5) * side), int(x.min() + (key + 0.5) * side)] for key in range(4)]
        for query in range(4)
    ]
    nearest = [[min(named, key=lambda name: abs(named[name] - colour).sum()) for colour in line] for line in grid]
    assert nearest == [
        ["one", "future", "future", "future"],
        ["one", "zero", "future", "future"],
        ["one", "zero", "zero", "future"],
        ["one", "zero", "zero", "zero"],
    ]


def test_heads_differ_and_long_texts_are_cut_quickly(tmp_path: Path) -> None:
    tokens = tuple("It is a truth universally acknowledged 中😀\x1b\x00 that a single man in possession of a fortune")
    started = time.perf_counter()
    paths = attention_heads(causal(3, 4, len(tokens)), tokens, tmp_path, step=12_000)
    assert (time.perf_counter() - started) / len(paths) < 0.3
    first, second = (imread(tmp_path / f"layer0_head{head}.png") for head in (0, 1))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    one = causal(1, 1, 1)
    assert len(attention_heads(one, ("x",), tmp_path / "tiny", step=0)) == 2


def test_weights_that_do_not_fit_the_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit 3 tokens"):
        attention_heads(causal(1, 1, 4), ("a", "b", "c"), tmp_path, step=0)


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("a", "a"), (" the", "␣the"), ("\n", "⏎"), ("\t", "⇥"), ("é", "é"), ("中", "U+4E2D"), ("\x1b", "U+001B"),
        ("\u202e", "U+202E"), ("internationally", "interna…"), ("", ""),
    ],
)  # fmt: skip
def test_labels_make_white_space_visible(token: str, label: str) -> None:
    assert token_label(token) == label
